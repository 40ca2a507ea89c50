/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wishes as the daemon keeps them between two computations: with names instead of pointers into
 * the tree, whose qubes come and go, and cut by the QubesDB that they belong into.
 */
#pragma once

#include "dom0/tree/wish.h"

struct wished_hop {
    char name[QUBE_NAME_MAX];
    size_t from, n; /* of all.wishes */
};

struct wished_names { /* beside each wish */
    char whose[QUBE_NAME_MAX]; /* "" of the marker */
};

struct wished_problem {
    enum problem_kind kind;
    char whose[QUBE_NAME_MAX], hop[QUBE_NAME_MAX]; /* hop "" none */
    int family;
    char *why; /* owned */
};

struct wished {
    struct wishes all; /* where, whose and problems are not set */
    struct wished_names *names;
    struct wished_hop *hops; /* sorted by name */
    size_t n_hops;
    struct wished_problem *problems;
    size_t n_problems;
};

/* 0 or -ENOMEM. */
int wished_compute(const struct tree *t, int64_t now, struct wished *ret);
void wished_done(struct wished *w);

/* What belongs into this QubesDB; NULL: nothing. */
const struct wished_hop *wished_find(const struct wished *w, const char *hop);
/* Whose it is; "" nobody's. */
const char *wished_whose(const struct wished *w, const struct wish *wish);
