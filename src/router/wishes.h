/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wishes in QubesDB, followed: collects a full reading and hands it to the model when it is
 * complete; single changes go straight in. Says what is refused, once per change.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "router/model.h"

struct wishes;

/* changed: the model has news. lost: QubesDB cannot be read (-errno). From the event loop. */
struct wishes_ops {
    void (*changed)(void *user);
    void (*lost)(int error, void *user);
    void *user;
};

/* socket: NULL for $QUBESDB_SOCKET or the usual place. The model outlives the wishes. */
int wishes_new(sd_event *event, const char *socket, struct model *m, const struct wishes_ops *ops,
               struct wishes **ret);
struct wishes *wishes_free(struct wishes *w);
void wishes_freep(struct wishes **w);
int wishes_reread(struct wishes *w);
