/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QubesDB says and what the kernel has, compared now; nothing is changed, and nobody asked but
 * these two. Prints for people or as JSON.
 */
#pragma once

#include <stdbool.h>

/*
 * dry_run: the differences alone. Exit status: 0 everything is as it should be, 1 something differs,
 * is refused or cannot be read (a dry run: could not be made).
 */
int status_print(const char *qubesdb, bool dry_run, bool json);
