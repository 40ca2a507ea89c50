/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of a qube in words, for tables and drawings. Pure; results are printable ASCII. */
#pragma once

#include <stdint.h>

#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

#define WORDS_MAX 3400 /* the longest value of a record, and a little */

/* "every port, for everybody", "nothing", or the rules as they were written. */
const char *words_allow(const struct tree *t, const struct qube *q, const struct exposure *e,
                        char buf[static WORDS_MAX]);
/* The maps as they were written. */
const char *words_publish(const struct tree *t, const struct qube *q, char buf[static WORDS_MAX]);
/* "until ..., 10 new connections a second, new peers are logged"; "" when there is nothing */
const char *words_rest(const struct exposure *e, int64_t now, char buf[static WORDS_MAX]);

/* Addresses that count: live ones of a running qube, else the properties. */
const char *words_addresses(const struct qube *q, char buf[static 2 * ADDR_STR_MAX + 4]);
const struct addr *words_address(const struct qube *q, unsigned family_index);
const char *words_power(enum power power);
/* The net qube that faces the LAN for this one; "no net qube". */
const char *words_edge(const struct tree *t, const struct qube *q);
