/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard devices of the kernel by generic netlink (UAPI linux/wireguard.h, "wireguard" version
 * 1). struct wg_device is both what is set and what is read back, and serves the text protocol of
 * wireguard-go as well. s is a NETLINK_GENERIC socket from nl_open(); setting and getting need
 * CAP_NET_ADMIN in the namespace.
 * The structure holds keys: wg_device_wipe() after use. Messages made here are wiped here; the
 * kernel's answer to a get has the private key too and stays in the socket's buffer.
 * Errors: -errno; the parser is pure and gives -EBADMSG, or -E2BIG for too many peers.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"

#define WG_KEY_SIZE    32
#define WG_PEERS_MAX   16
#define WG_MESSAGE_MAX 32768 /* one peer with several hundred allowed prefixes */

struct wg_peer {
    uint8_t public_key[WG_KEY_SIZE];
    uint8_t preshared_key[WG_KEY_SIZE]; /* zero: none, as in the kernel */
    struct addr endpoint;               /* family 0: none, or one with a scope */
    uint16_t port;
    uint16_t keepalive; /* seconds, 0: off */
    const struct prefix *allowed; /* for setting; borrowed */
    size_t n_allowed;
    uint64_t handshake_ns; /* as read: time of day of the last one, 0: none yet */
    uint64_t rx, tx;       /* as read: bytes on the carrier, headers of WireGuard included */
};

struct wg_device {
    char name[IFNAMSIZ];
    uint8_t private_key[WG_KEY_SIZE];
    uint16_t listen_port; /* 0: any */
    uint32_t fwmark;      /* SO_MARK of its sockets, 0: none */
    struct wg_peer peers[WG_PEERS_MAX];
    size_t n_peers;
};

enum wg_set {
    WG_SET_ALL,   /* this and nothing else: peers not named go away, those named begin anew */
    WG_SET_PEERS, /* the same of the peers; key, port and mark stay as they are */
    WG_SET_KEEPALIVE, /* only the interval of the peers named, which must exist */
};

void wg_device_wipe(struct wg_device *d);

/* The number of the family; loads the module where there is one. -EOPNOTSUPP: there is none. */
int wg_find_family(struct nl_sock *s, uint16_t *ret);
int wg_set_device(struct nl_sock *s, uint16_t family, const struct wg_device *d, enum wg_set what);
/* -ENODEV; -EOPNOTSUPP: a device of another kind. */
int wg_get_device(struct nl_sock *s, uint16_t family, const char *name, struct wg_device *ret);

/*
 * The request as bytes, one message for each peer (at least one); the first also sets the device.
 * buf is aligned as malloc() does it. Length of message number i, or -EMSGSIZE.
 */
int wg_set_message(void *buf, size_t size, uint16_t family, const struct wg_device *d,
                   enum wg_set what, size_t i);
/* One message of the answer, added to io, which begins as zeroes. */
int wg_device_parse(const struct nlmsghdr *nlh, struct wg_device *io);
