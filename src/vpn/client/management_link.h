/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection to OpenVPN's management socket in the loop: waits until the socket is there, makes
 * sure that the process at its other end is the one meant (SO_PEERCRED), and hands out what it says
 * message by message. A client that floods is read at a bounded rate, so the flood stays with it.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "vpn/client/management.h"

struct management_link;

struct management_link_ops {
    /* false: the link was freed meanwhile. */
    bool (*message)(const struct management_message *m, void *user);
    /* Once; error: -EPIPE closed by the other end, -ETIMEDOUT, -EPERM: another process ... */
    void (*gone)(int error, void *user);
};

/* limit_ms: until the first line has come. ops are borrowed. */
int management_link_new(sd_event *loop, const char *path, pid_t pid, uid_t uid, unsigned limit_ms,
                        const struct management_link_ops *ops, void *user,
                        struct management_link **ret);
struct management_link *management_link_free(struct management_link *l);
/* See management_write(). Before the connection stands commands wait. -ENOTCONN, -ENOBUFS. */
int management_link_send(struct management_link *l, const char *verb, const char *name,
                         const char *value);
/* Reads what has come already: for the last words of a process that ended. False as above. */
bool management_link_drain(struct management_link *l);
