/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The points of a traffic plot, made from counters that somebody reads now and then. Pure: no
 * clock, no toolkit. Bytes and bytes a second; times are microseconds of CLOCK_MONOTONIC. A counter
 * that went back (another tunnel), a time that did not go on, or a pause longer than RATE_PAUSE_US
 * begins a new line in the plot: nothing is drawn over what nobody saw.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RATE_POINTS   120
#define RATE_PAUSE_US UINT64_C(5000000)

struct rate_point {
    uint64_t at_us;
    uint64_t in, out; /* bytes a second, since the reading before */
    bool begins;      /* no line leads here from the point before */
};

struct rate {
    struct rate_point ring[RATE_POINTS];
    size_t first, n;
    uint64_t last_us, last_in, last_out;
    bool has_last, broken;
};

/* {0} is empty too. */
void rate_clear(struct rate *r);
/* The tunnel ended, or nobody looks for a while: the next reading only begins. */
void rate_break(struct rate *r);
void rate_add(struct rate *r, uint64_t now_us, uint64_t bytes_in, uint64_t bytes_out);
/* The oldest is 0; NULL behind the last one. */
const struct rate_point *rate_at(const struct rate *r, size_t i);
/* Bytes a second at the top of a plot of what is newer than since_us: a round number of at least
 * 1024, not smaller than any point. */
uint64_t rate_top(const struct rate *r, uint64_t since_us);
