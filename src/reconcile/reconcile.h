/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Wished minus actual: the heart of every daemon here. Both sides are arrays of values that a
 * compare function orders; the difference is told as additions and removals. A changed value is a
 * removal and an addition, which a transaction makes one step. Pure: no clock, no I/O.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef int (*reconcile_compare_fn)(const void *a, const void *b);

/* Sorts in place and drops repetitions. Returns how many are left. */
size_t reconcile_sort(void *items, size_t n, size_t size, reconcile_compare_fn compare);

struct reconcile_ops {
    size_t size;
    reconcile_compare_fn compare;
    int (*add)(const void *wished, void *user);
    int (*remove)(const void *actual, void *user);
};

/*
 * Both arrays sorted and without repetitions. Removals are told before additions. The first
 * negative result ends the work and is returned.
 */
int reconcile_diff(const void *wished, size_t n_wished, const void *actual, size_t n_actual,
                   const struct reconcile_ops *ops, void *user);

/* When to try again what failed: doubling from 100 ms to 10 s, back to the start on success. */
struct reconcile_retry {
    unsigned failures;
};

uint64_t reconcile_retry_delay_us(struct reconcile_retry *retry); /* counts one more failure */
void reconcile_retry_reset(struct reconcile_retry *retry);
