/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configurator without a window: the same steps by plain prompts, and the editor. Both talk on
 * standard input and output and return when done. socket: NULL for the system bus. They return an
 * exit status: 0 done, 1 not done (said why), 2 wrong use.
 */
#pragma once

/* From a provider's file to a connection, asked for line by line. Secrets are read without echo. */
int terminal_run(const char *socket);
/* The profile in the person's editor, then imported again; or how to do that where a profile may
 * not be read by who asks. */
int terminal_edit(const char *socket, const char *profile);
