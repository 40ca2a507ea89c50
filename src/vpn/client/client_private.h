/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What client.c and the drivers (openvpn.c, wireguard.c) share; for this folder only.
 *
 * client.c owns struct client: it copies the setup, makes the folder, opens the netlink socket,
 * then calls the driver of the profile's kind. A driver keeps its own state in c->driver.
 * Order at a start: client.c sweeps what an earlier life left (process, device, files), then
 * ops->start() makes the device (device_make_tun(), device_make_wireguard()), starts what has to
 * run and returns; the rest happens in the loop. Setting the device up is not a driver's task.
 *
 * Events go out by client_emit() only, from the loop, never from within start, adopt, give_secret,
 * restart, end or leave: a driver that has to say something at once arms c->later (see below).
 */
#pragma once

#include "netlink/nl.h"
#include "vpn/client/client.h"
#include "vpn/client/spawn.h"
#include "vpn/profile/openvpn.h"
#include "vpn/profile/profile.h"

#define CLIENT_TEXT_MAX 256

struct client_ops {
    const char *program; /* looked for when the setup names none; NULL: needs none */
    int (*start)(struct client *c);
    int (*adopt)(struct client *c); /* -ENOENT: nothing to adopt; then it has changed nothing */
    int (*give_secret)(struct client *c, enum client_secret kind, const char *name,
                       const char *value);
    void (*restart)(struct client *c);
    int (*poll)(struct client *c); /* may be NULL; see client_poll() */
    /* Frees c->driver (NULL after a failed start is fine). stop: client.c ends c->process and
     * removes the device afterwards; a driver does only what has to come before. */
    void (*release)(struct client *c, bool stop);
};

extern const struct client_ops client_openvpn_ops;
extern const struct client_ops client_wireguard_ops;

struct client {
    const struct client_ops *ops;
    sd_event *loop;                 /* referenced */
    const struct profile *profile;  /* borrowed */
    struct openvpn_target *targets; /* owned */
    size_t n_targets;
    char *folder;  /* owned: RUNTIME/client, see runtime.h */
    char *sockets; /* owned: RUNTIME/client/sockets */
    char *program; /* owned */
    uid_t uid;
    gid_t gid;
    struct nl_sock *nl; /* owned; NETLINK_ROUTE, for device.h */
    struct process process; /* the client's process, when it has one; kept by spawn.h */
    client_event_fn fn;
    void *user;
    void *driver;    /* owned by the driver */
    bool *ret_freed; /* set while the callback runs */
    sd_event_source *later; /* one posted event, see client_post() */
    enum client_event_kind later_kind;
    enum client_secret later_secret;
    char later_text[CLIENT_TEXT_MAX];
};

/* Calls the supervisor. false: it freed the client meanwhile, touch nothing any more. */
bool client_emit(struct client *c, const struct client_event *e);
/* An event of a kind and a text; the text is escaped here, whatever is in it. NULL: "". */
__attribute__((format(printf, 3, 4))) bool client_say(struct client *c, enum client_event_kind kind,
                                                      const char *format, ...);
/* The same in the next round of the loop, for use within the calls of client_ops. One at a time:
 * a later one replaces it. */
__attribute__((format(printf, 3, 4))) int client_post(struct client *c, enum client_event_kind kind,
                                                      const char *format, ...);
/* CLIENT_SECRET by the same way; the text is the question. */
__attribute__((format(printf, 3, 4))) int client_post_secret(struct client *c,
                                                             enum client_secret secret,
                                                             const char *format, ...);
