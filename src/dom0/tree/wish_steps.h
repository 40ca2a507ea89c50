/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the wish: the steps of one computation. Pure; all pointers are borrowed from the tree
 * or the computation and live as long as it. Errors of memory stick in work.error, so that a step
 * needs no result; families are indices: 0 IPv4, 1 IPv6.
 */
#pragma once

#include "dom0/tree/wish.h"

#define FAMILIES 2

struct owner { /* of an address that is in use, or kept for a net qube */
    struct addr addr;
    const struct qube *q;
};

struct candidate { /* a qube that somebody asked to expose and that may be, as far as it alone tells */
    const struct qube *q;
    struct exposure e; /* owned */
    struct qube *hops[TREE_HOPS_MAX];
    int n_hops;
    bool open[FAMILIES];
    bool closed; /* by a rival */
};

struct work {
    const struct tree *t;
    int64_t now;
    struct wishes *out;
    struct owner *owners; /* sorted by (addr, name); owned */
    size_t n_owners;
    struct candidate *candidates; /* by name; owned */
    size_t n_candidates, candidates_capacity;
    int error;
};

__attribute__((format(printf, 6, 7))) void wish_problem(struct work *w, enum problem_kind kind,
                                                        const struct qube *whose,
                                                        const struct qube *hop, int family,
                                                        const char *format, ...);

/* The addresses in use. */
void wish_index_owners(struct work *w);
/* May it be open, as far as it alone tells? Problems are told. */
bool wish_judge(struct work *w, struct candidate *c);
/* Outside ports that two candidates want at one edge close both. */
void wish_judge_ports(struct work *w);
/* False: too long for QubesDB, nothing was appended and the problem told. */
bool wish_append_candidate(struct work *w, const struct candidate *c);
void wish_append_marker(struct work *w, const struct qube *hop);
