/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the command line. Exit statuses: 0 as it should be, 1 something is not, 2 wrong use. */
#pragma once

#include <stdbool.h>

#include "dom0/serverd/manager.h"

/* Prints the state: a table, or the JSON as it came. */
int client_status(const char *runtime, bool json);
/* 0 when everything wished is in place and no problem is known; has everything read again. */
int client_check(const char *runtime, bool json);
/* Prints what a run would write now. Changes nothing. */
int client_dry_run(const struct manager_config *config);
/* Takes everything back from every QubesDB there is. Needs no qubesd; not while the daemon runs. */
int client_withdraw(const struct manager_config *config);
