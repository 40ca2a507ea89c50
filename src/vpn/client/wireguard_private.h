/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the WireGuard driver (wireguard.c: targets, timing, events) and its two ways to a device
 * share: the kernel by generic netlink (wireguard_kernel.c), wireguard-go by its socket
 * (wireguard_go.c). For these files only.
 */
#pragma once

#include "netlink/wireguard.h"
#include "vpn/client/client_private.h"
#include "vpn/client/uapi_link.h"
#include "vpn/client/wireguard_pace.h"

struct wireguard;

struct wireguard_way {
    bool later; /* set is done when wireguard_set_done() is called, not at its return */
    /* Makes the device and what serves it; link down. -EOPNOTSUPP: not on this machine. */
    int (*start)(struct wireguard *w);
    /* Opens the way to what an earlier supervisor left and reads it. -ENOENT: it is not there. */
    int (*adopt)(struct wireguard *w, struct wg_device *ret);
    /* The device is to be like this; at once, or in order with what was asked before. */
    int (*set)(struct wireguard *w, const struct wg_device *d, enum wg_set what);
    /* Asks for the state: wireguard_take() is called, from here or later. */
    int (*get)(struct wireguard *w);
    void (*release)(struct wireguard *w, bool stop);
};

extern const struct wireguard_way wireguard_kernel_way, wireguard_go_way;

struct wireguard {
    struct client *c;
    const struct wireguard_way *way;
    struct pace pace;
    sd_event_source *timer;
    size_t primary;   /* the peer whose endpoint is taken from the targets */
    size_t target;    /* the one in use */
    unsigned round;   /* of all targets */
    bool was_up;      /* CLIENT_UP was sent */
    bool adopted;     /* found running; CLIENT_UP is still to be sent */
    bool asked;       /* client_poll() waits for an answer */
    bool waiting;     /* an answer to get is owed */
    bool raised;      /* the link is up */
    bool ended;       /* CLIENT_ENDED was sent: nothing more is done */

    struct nl_sock *genl; /* kernel */
    uint16_t family;

    struct uapi_link *link; /* wireguard-go */
    sd_event_source *exit;
    uint32_t epoch; /* of settings: answers from before the last one count for nothing */
    int log;        /* a memory file of fixed size; -1: none (adopted) */
};

/* What was set holds. false: the client was freed meanwhile. */
bool wireguard_set_done(struct wireguard *w);
/* The answer to get. false: the client was freed meanwhile. */
bool wireguard_take(struct wireguard *w, const struct wg_device *d);
/* Device or process is gone; says CLIENT_ENDED once. false: the client was freed. */
__attribute__((format(printf, 2, 3))) bool wireguard_end(struct wireguard *w, const char *format,
                                                         ...);
