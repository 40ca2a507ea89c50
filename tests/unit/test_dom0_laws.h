/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds for the wishes of any tree of qubes, told without the code that computes them; shared
 * by unit tests and the fuzzer. A broken law prints itself and aborts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dom0/tree/wish.h"

#define LAWS_NOW 1800000000 /* 2027-01-15T08:00:00Z */

void laws_check(const struct tree *t);

/*
 * A tree from any bytes, most often with somebody exposed. backwards: the qubes come in the other
 * order. Owned by the caller.
 */
struct tree *laws_make_tree(const uint8_t *bytes, size_t n, bool backwards);

void laws_feature(struct qube *q, enum feature_id id, const char *value);
struct qube *laws_qube(struct tree *t, const char *name, const char *netvm, const char *ip);
/* Every wish as text, to compare two of them; owned. */
char *laws_print(const struct tree *t);
