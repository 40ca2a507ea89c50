/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ends established flows that are not permitted any more. A flow is first noted in the set of cut
 * flows, so that what the qube still sends in it is not taken for a connection of its own; then the
 * kernel forgets it.
 */
#pragma once

#include "router/kernel.h"
#include "router/plan.h"

/* For all addresses of the plan that have to. Number of flows ended, or the first -errno. */
int flows_forget(struct kernel *k, const struct model *m, const struct plan *p);
