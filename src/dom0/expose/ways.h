/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of a packet to an exposed qube, hop by hop from the LAN inwards: what is wished, what
 * stands in QubesDB, what the hop reports; and the first reason why a packet does not arrive. Pure:
 * everything was gathered before.
 */
#pragma once

#include "dom0/expose/ask.h"
#include "dom0/expose/look.h"
#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

#define WAY_WHY_MAX 1000

enum place { /* of a key in a QubesDB */
    PLACE_NOT_WISHED,
    PLACE_AS_WISHED,
    PLACE_MISSING,
    PLACE_OTHER,
    PLACE_UNREADABLE,
};

struct way_hop {
    const struct qube *hop;
    const struct wish *wished;   /* the record; NULL: none */
    const char *present;         /* what stands there; NULL: nothing */
    enum place record, firewall; /* firewall: the block of an upper hop */
    const struct look *look;     /* NULL: not running */
    const struct ask *ask;       /* NULL: was not asked */
    const json_t *reported;      /* about this address; NULL: nothing */
    bool cut;                    /* nothing, but the answer is not whole */
};

struct way { /* to one address */
    struct addr addr;
    struct way_hop hops[TREE_HOPS_MAX]; /* [0] faces the LAN */
    size_t n_hops;
    bool wished;     /* it has a record at each hop */
    char why[WAY_WHY_MAX]; /* first reason why not; "": nothing stands in the way */
};

struct ways { /* to one qube */
    const struct qube *q;
    struct way ways[2];
    size_t n;
    enum place inbound; /* the qube's own door */
    char why[WAY_WHY_MAX]; /* of all its addresses; "": at least one way is free */
};

struct ways_input {
    const struct tree *t;
    const struct wishes *w;
    const struct look *looks;
    size_t n_looks;
    const struct ask *asks; /* NULL: nobody was asked */
    size_t n_asks;
};

void ways_find(const struct ways_input *in, const struct qube *q, struct ways *ret);

const char *place_words(enum place p); /* "as wished", "missing", ... */
