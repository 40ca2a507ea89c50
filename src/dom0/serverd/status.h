/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a client sends one line, "status" or "check", and gets one JSON object, then
 * the connection ends. Nobody can change anything by it; "check" has everything read again.
 */
#pragma once

#include <jansson.h>

#include "dom0/serverd/manager.h"

struct status_server;

int status_new(struct manager *m, const char *path, struct status_server **ret);
struct status_server *status_free(struct status_server *s);

/* NULL: no memory. The caller owns it. */
json_t *status_json(const struct manager *m);
/* Array of "QUBE: OPERATION" for all that would be written now. */
json_t *status_json_ops(const struct manager *m);
