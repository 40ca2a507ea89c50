/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor's end of seal.sock. It holds one wish, the newest; whatever was said before is
 * void. After a reconnection the wish is sent again, whole. Nothing is in force before granted()
 * says so for just that wish; until the first seal_link_set() the seal keeps what it has.
 *
 * Connected by sd-event, one request at a time. What does not come in SEAL_ANSWER_USEC, or is no
 * answer, ends the connection. Reconnection after 50 ms, doubling to 2 s. Callbacks come from the
 * loop only, never from inside a call, and must not free the link. One thread.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "vpn/wish/wish.h"

#define SEAL_ANSWER_USEC 2000000

struct seal_link;

struct seal_link_ops {
    /* The newest wish is in force. */
    void (*granted)(const struct wish *wish, void *user);
    /* It is not; why is printable. What was in force before still is. */
    void (*refused)(const char *why, void *user);
    /* No owner answers from now on (-errno); once for each loss, and once when there was none. */
    void (*lost)(int error, void *user);
    /* It does (again); a wish that was set is on its way. */
    void (*back)(void *user);
    void *user;
};

int seal_link_new(sd_event *loop, const char *path, const struct seal_link_ops *ops,
                  struct seal_link **ret);
struct seal_link *seal_link_free(struct seal_link *l); /* NULL is fine */
void seal_link_freep(struct seal_link **l);

/* 0; -EINVAL and why: it is no wish, and the old one stays. A wish that is in force already is
 * granted all the same. */
int seal_link_set(struct seal_link *l, const struct wish *wish, const char **ret_why);
bool seal_link_is_connected(const struct seal_link *l);
/* The newest wish was granted on this connection. */
bool seal_link_is_settled(const struct seal_link *l);
/* The wish that is in force by this connection, NULL: none. Borrowed, until the next call. */
const struct wish *seal_link_wish(const struct seal_link *l);

/* The seal's report on itself, JSON; text NULL: it gave none. -EBUSY, -ENOTCONN. */
typedef void (*seal_link_report_fn)(const char *text, void *user);
int seal_link_check(struct seal_link *l, seal_link_report_fn fn, void *user);
