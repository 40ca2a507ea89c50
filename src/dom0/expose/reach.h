/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Would the rules let this host in at this port, and which one; in words for people. Pure. */
#pragma once

#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

#define REACH_MAX 1000

struct question {
    struct addr from;
    uint8_t proto; /* IPPROTO_* */
    uint16_t port; /* 0 for ICMP */
};

struct reach {
    bool own, published;            /* under its own address; by a port of the net qube */
    uint16_t inside;                /* of the published port */
    char how[REACH_MAX];            /* what lets it in */
    char why[REACH_MAX];            /* neither: why not, and what to do */
};

void reach_judge(const struct tree *t, const struct qube *q, const struct exposure *e,
                 const struct question *question, struct reach *ret);
