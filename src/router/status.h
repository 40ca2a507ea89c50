/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a client sends one line, "status" or "check", and gets one JSON object, then
 * the connection ends. Anybody in the qube may ask; nobody can change anything by it.
 */
#pragma once

#include "router/manager.h"

struct status_server;

int status_new(struct manager *m, const char *path, struct status_server **ret);
struct status_server *status_free(struct status_server *s);

/* While a check runs: notes what a plan would change, which is what differed. s may be NULL. */
void status_capture(struct status_server *s, const struct plan *p);
