/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the control socket (control/server.h) answers: "status" and "check". Nobody can change
 * anything by it; "check" has everything read again.
 */
#pragma once

#include <jansson.h>

#include "control/server.h"
#include "dom0/serverd/manager.h"

int status_serve(struct manager *m, const char *path, struct control_server **ret);

/* NULL: no memory. The caller owns it. */
json_t *status_json(const struct manager *m);
/* Array of "QUBE: OPERATION" for all that would be written now. */
json_t *status_json_ops(const struct manager *m);
