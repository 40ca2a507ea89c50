/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What qubesd said of one qube, kept until all of it came, and then taken into the tree at once.
 * Part of the reader. Answers are foreign: what cannot be understood makes the qube incomplete.
 * Formats: core-admin qubes/api/admin.py, every line ends in a newline.
 */
#pragma once

#include "adminapi/wire.h"
#include "dom0/tree/tree.h"

struct heard {
    bool gone;   /* it does not exist any more */
    bool failed; /* something was refused or not understood */
    char klass[24], state[24]; /* "": not told */
    char *properties;          /* owned */
    size_t properties_len;
    char *feature[FEATURES]; /* owned; NULL: not set */
};

void heard_done(struct heard *h); /* frees, and begins again */

/* Ends in a newline, as every list; else qubesd died in the middle of it. */
bool heard_is_whole(struct str list);
/* Its own line among those of admin.vm.List. */
bool heard_find(struct str list, const char *name, struct admin_vm *ret);

void heard_state(struct heard *h, const char *name, struct str list);
void heard_properties(struct heard *h, struct str list);
void heard_feature(struct heard *h, enum feature_id id, struct str value);

/* Klass and state of a line; longer than any known word is as unknown. */
void heard_apply_vm(struct qube *q, const struct admin_vm *vm);

/* Into the tree. The qube; NULL: it is gone (*ret_error 0), or the tree does not take it. */
struct qube *heard_apply(struct heard *h, struct tree *t, const char *name, int *ret_error);
