/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the router says in the journal: one line per event, with the fields of base/log.h. Of a
 * flood the first twenty are said one by one, the rest as a number.
 */
#pragma once

#include "router/model.h"
#include "router/plan.h"

/* The verdict of an address, or its reason, is another one than before. */
void report_change(const struct model *m, const struct slot *slot, enum verdict before);
void report_burst_end(void); /* after a series of changes */
/* Keys that name no address, and addresses beyond the limit: said when their number changed. */
void report_refusals(const struct model *m);
/* The platform's rules of a family came or went. error: what nft said, or "". */
void report_platform(const struct model *m, enum family_index family, const char *error);
/* Something that is not of one address could not be done and is tried again. */
void report_failure(int error);
void report_success(void); /* so that the next failure is said again */
