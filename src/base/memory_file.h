/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes as a file without a name, for a program that reads a descriptor: open at its beginning,
 * close-on-exec, and sealed, so that nobody who holds it can change it.
 */
#pragma once

#include <stddef.h>

/* name is for /proc alone. 0 or -errno; the caller owns *ret. */
int memory_file(const char *name, const void *bytes, size_t len, int *ret);
