/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the command line that ask a running router, or look without one. */
#pragma once

#include <stdbool.h>

#include "router/manager.h"

/* Exit statuses: 0 as it should be, 1 something differs or nobody answers, 2 wrong use. */

/* Prints the state: a table, or the JSON as it came. */
int client_status(const char *control, bool json);
/* Has everything read back from the kernel and says what differed (and was put right). */
int client_check(const char *control, bool json);
/* Reads QubesDB and the kernel itself and prints what it would change. Changes nothing. */
int client_dry_run(const struct manager_config *config, bool json);
