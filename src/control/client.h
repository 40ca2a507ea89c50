/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks a control socket (control/server.h) from a program that has nothing else to do: these
 * functions wait, up to 10 s for each piece of the answer.
 */
#pragma once

#include <jansson.h>

/* *ret: connected, blocking, the caller's. -ENOENT and -ECONNREFUSED: nobody serves there. */
int control_connect(const char *path, int *ret);

/*
 * question: with its end of line. 0: *ret is the answer, the caller's. -EAGAIN: none in time,
 * -E2BIG: over 64 MiB, -EBADMSG: no JSON (a question that the server does not know), or as above.
 */
int control_ask(const char *path, const char *question, json_t **ret);
