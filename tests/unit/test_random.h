/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random input for property tests. The seed is printed and taken from SLUICE_SEED when that is
 * set, so that a failure can be had again.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct rnd {
    uint64_t state;
};

static inline uint64_t random_next(struct rnd *r)
{
    /* splitmix64: every state is a good one */
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 to below - 1 */
static inline uint32_t random_below(struct rnd *r, uint32_t below)
{
    return (uint32_t)(random_next(r) % below);
}

static inline void random_fill(struct rnd *r, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)random_next(r);
}

static inline struct rnd random_begin(const char *what)
{
    const char *text = getenv("SLUICE_SEED");
    struct timespec now;
    struct rnd r;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    r.state = text != NULL ? strtoull(text, NULL, 0)
                           : (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec;
    (void)fprintf(stderr, "%s: SLUICE_SEED=%llu\n", what, (unsigned long long)r.state);
    return r;
}
