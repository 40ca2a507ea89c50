/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qvm-expose, the user's command in dom0: one function for each thing it can be asked to do. They
 * talk to the person and return the exit status. The command stores features (and, when told to, a
 * qube's address); whatever is open in the end is opened by others who read them.
 */
#pragma once

#include "dom0/expose/options.h"

enum expose_status { /* documented in qvm-expose(1) */
    EXPOSE_OK = 0,
    EXPOSE_FAILED = 1,  /* could not be done, or cannot be told */
    EXPOSE_USAGE = 2,
    EXPOSE_PROBLEM = 3, /* explain, check: something stands in the way */
    EXPOSE_REFUSED = 4, /* speaks against what is already there; nothing was changed */
};

int expose_change(const struct options *o);
int expose_list(const struct options *o);
int expose_explain(const struct options *o);
int expose_check(const struct options *o);
int expose_map(const struct options *o);
