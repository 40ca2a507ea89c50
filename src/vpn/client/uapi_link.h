/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection to the socket of a userspace WireGuard, in the loop: requests go out in order, each
 * when the one before has its answer, and nothing blocks. (wireguard-go, up to 0.0.20231211 at
 * least, loses what is sent behind a request to set before its answer: IpcSetOperation() reads
 * ahead and throws away.) While an answer is owed for 5 s the link counts as broken, for the
 * first one 10 s: the program may be starting. Time that we ourselves were held up does not count
 * when the answer is there by then. An idle link wakes nobody. The socket is trusted as far as its
 * folder is (ours alone): who may connect to it may read the private key.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "netlink/wireguard.h"

struct uapi_link;

/*
 * One answer, by the tag of its request: error 0 and d (borrowed, wiped afterwards), or what the
 * other side said. tag 0 is nobody's: the link is broken (-ECONNRESET, -ETIMEDOUT, -EBADMSG ...)
 * and says nothing more. The link may be freed here.
 */
typedef void (*uapi_link_fn)(uint32_t tag, int error, const struct wg_device *d, void *user);

/* -ENOENT, -ECONNREFUSED: nobody is there. */
int uapi_link_open(sd_event *loop, const char *path, uapi_link_fn fn, void *user,
                   struct uapi_link **ret);
struct uapi_link *uapi_link_free(struct uapi_link *l); /* NULL is fine; returns NULL */

/* Other limits than those above, in microseconds: for tests. */
void uapi_link_set_patience(struct uapi_link *l, uint64_t first, uint64_t later);

/* tag: not 0. -EBUSY: eight answers are owed already. The callback is never called from here. */
int uapi_link_get(struct uapi_link *l, uint32_t tag);
int uapi_link_set(struct uapi_link *l, uint32_t tag, const struct wg_device *d, enum wg_set what);

/* A listening socket that only we may connect to; an older one of the name is removed. */
int uapi_listen(const char *path, int *ret_fd);
/* Asks once, waiting at most a second: for finding out what runs there. */
int uapi_ask_now(const char *path, struct wg_device *ret);
