/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/rate.h"

#include <string.h>

#define LEAST_US UINT64_C(1000) /* two readings closer than that tell no rate */
#define TOP_MAX  (UINT64_C(1) << 62)

void rate_clear(struct rate *r)
{
    memset(r, 0, sizeof(*r));
}

void rate_break(struct rate *r)
{
    r->has_last = false;
}

static uint64_t rate_of(uint64_t bytes, uint64_t us)
{
    double rate = (double)bytes * 1e6 / (double)us;

    return rate < (double)TOP_MAX ? (uint64_t)rate : TOP_MAX;
}

static struct rate_point *next_point(struct rate *r)
{
    size_t place = (r->first + r->n) % RATE_POINTS;

    if (r->n < RATE_POINTS)
        r->n++;
    else
        r->first = (r->first + 1) % RATE_POINTS;
    return &r->ring[place];
}

void rate_add(struct rate *r, uint64_t now_us, uint64_t bytes_in, uint64_t bytes_out)
{
    bool goes_on = r->has_last && now_us >= r->last_us && now_us - r->last_us <= RATE_PAUSE_US &&
                   bytes_in >= r->last_in && bytes_out >= r->last_out;
    uint64_t us = now_us - r->last_us;

    if (goes_on && us < LEAST_US)
        return;
    if (goes_on)
        *next_point(r) = (struct rate_point){.at_us = now_us,
                                             .in = rate_of(bytes_in - r->last_in, us),
                                             .out = rate_of(bytes_out - r->last_out, us),
                                             .begins = r->broken || r->n == 0};
    r->broken = !goes_on;
    r->has_last = true;
    r->last_us = now_us;
    r->last_in = bytes_in;
    r->last_out = bytes_out;
}

const struct rate_point *rate_at(const struct rate *r, size_t i)
{
    return i < r->n ? &r->ring[(r->first + i) % RATE_POINTS] : NULL;
}

uint64_t rate_top(const struct rate *r, uint64_t since_us)
{
    uint64_t most = 0, top = 1024;

    for (size_t i = 0; i < r->n; i++) {
        const struct rate_point *p = rate_at(r, i);

        if (p->at_us < since_us)
            continue;
        most = p->in > most ? p->in : most;
        most = p->out > most ? p->out : most;
    }
    while (top < most && top < TOP_MAX)
        top *= 2;
    return top;
}
