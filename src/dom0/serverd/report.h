/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon says, once for each change, with the fields of the journal. */
#pragma once

#include "adminapi/wire.h"
#include "dom0/serverd/hop.h"
#include "dom0/serverd/plan.h"
#include "dom0/serverd/wished.h"

/* Which exposures and problems are new, and which have gone. */
void report_changes(const struct wished *before, const struct wished *after);
void report_op(const char *hop, const struct op *op, const char *whose);
/* n keys /qubes-routing-method/ADDR were removed. */
void report_older(const char *hop, size_t n);
void report_event(const struct admin_event *e); /* debug */
void report_repair(const struct hop *h);
void report_hop_ready(const struct hop *h);
void report_hop_lost(const struct hop *h, int error);
