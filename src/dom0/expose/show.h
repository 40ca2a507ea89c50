/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One qube as it is asked to be exposed: for a qube alone, after a change, in --explain, --list. */
#pragma once

#include <jansson.h>

#include "dom0/expose/session.h"

/* "web: 192.168.16.25 behind sys-firewall, sys-net", then what is open, one line each. */
void show_qube(const struct session *s, const struct qube *q);
/* The caller's. NULL without memory. */
json_t *show_qube_json(const struct session *s, const struct qube *q);
/* What wish.h says against it, one paragraph each. Returns how many. */
size_t show_problems(const struct session *s, const struct qube *q);

struct options;
int expose_show(const struct options *o);
