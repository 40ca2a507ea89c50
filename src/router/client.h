/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the command line that ask a running router, or look without one. */
#pragma once

#include <stdbool.h>

#include "router/manager.h"

/* Exit statuses: 0 as it should be, 1 something differs or nobody answers, 2 wrong use. */

/*
 * Prints the state: a table, or the JSON as it came. max_size: of the JSON in bytes; what does not fit
 * is left out, and the object "cut" says how much. 0: no limit.
 */
int client_status(const char *control, bool json, size_t max_size);
/* Has everything read back from the kernel and says what differed (and was put right). */
int client_check(const char *control, bool json);
/* Reads QubesDB and the kernel itself and prints what it would change. Changes nothing. */
int client_dry_run(const struct manager_config *config, bool json);
