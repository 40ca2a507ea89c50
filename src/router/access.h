/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who gets in by a record, for one address family, in the form that the kernel's sets need. It costs
 * up to a millisecond for the longest records, so it is made only for what is going to be open.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "exposure/record.h"

struct access {
    bool everything;        /* every port from anybody; else by permitted */
    struct allow permitted; /* owned; without overlaps */
    struct allow outside;   /* owned; by ports published here: the port outside; without overlaps */
};

/* 0, -ENOMEM, or -E2BIG: too many combinations of ports and networks. */
int access_settle(const struct record *record, int family, struct access *ret);
void access_done(struct access *a);

struct access_flow {
    uint8_t proto;    /* IPPROTO_* */
    uint16_t outside; /* the published port it came to; 0: to the address itself */
    uint16_t port;    /* of the qube; 0 where the protocol has none */
    const struct addr *from;
};

bool access_accepts(const struct access *a, const struct record *record, int family,
                    const struct access_flow *flow);
