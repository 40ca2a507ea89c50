/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the control socket (control/server.h) answers: "status" and "check". Anybody in the qube may
 * ask; nobody can change anything by it.
 */
#pragma once

#include "router/manager.h"

struct status_server;

int status_new(struct manager *m, const char *path, struct status_server **ret);
struct status_server *status_free(struct status_server *s);

/* While a check runs: notes what a plan would change, which is what differed. s may be NULL. */
void status_capture(struct status_server *s, const struct plan *p);
