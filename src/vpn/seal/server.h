/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The owner's socket (SOCK_SEQPACKET). Root and the supervisor's user may ask; a request is one
 * message and has one answer. There is no request that opens anything but what a wish can say.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "vpn/wish/wish.h"

struct server;

struct server_ops {
    /* Fills answer, at most size bytes with the NUL; the text after "ok\n" or "error=". */
    void (*request)(enum request_kind kind, const struct wish *wish, char **ret_answer,
                    char *error, size_t error_size, void *user);
    void *user;
};

int server_new(sd_event *loop, const char *path, uint32_t supervisor, const struct server_ops *ops,
               struct server **ret);
struct server *server_free(struct server *s);
void server_freep(struct server **s);
