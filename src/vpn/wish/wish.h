/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the supervisor wants of the seal, and how it says so. A wish is whole: it replaces the one
 * before. It can open three things and no more: the uplink for packets of the client's own sockets
 * to the named endpoints, the uplink for look-ups of the endpoint's name, and the tunnel for qubes.
 * There is no wish that lets a qube out by an uplink.
 *
 * On the wire (SOCK_SEQPACKET, one message each way, at most WISH_TEXT_MAX bytes, ASCII lines
 * "key=value", '\n' ended): the first line names the request, see enum request_kind. The answer is
 * "ok\n" or "error=WHAT\n". The encoding has one form only, so that equal wishes are equal texts.
 * Pure. Errors: -EINVAL with a phrase in *ret_why (static), which fits a log line.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define WISH_CARRIERS_MAX  64
#define WISH_RESOLVERS_MAX 4
#define WISH_DNS_MAX       2 /* the platform has two virtual name servers */
#define WISH_TEXT_MAX      8192
#define WISH_MTU_MIN       576
#define WISH_MTU_MAX       1500

/* A mark that is part of a packet's mark: value under mask. See the table in doc/vpn.md. */
#define SEAL_MARK           0x79000000u
#define SEAL_MARK_MASK      0xff000000u
#define SEAL_TUNNEL         "qubes-vpn" /* the tunnel device; a name that no list of devices has */
#define SEAL_SOCKET_DEFAULT "/run/qubes-vpn/seal.sock"

/* One endpoint that the client may speak to. marked: by mark and not by user (kernel WireGuard). */
struct carrier {
    struct addr addr;
    uint16_t port;
    uint8_t protocol; /* IPPROTO_UDP, IPPROTO_TCP */
    bool marked;
};

struct wish {
    struct carrier carriers[WISH_CARRIERS_MAX];
    size_t n_carriers;
    struct addr resolvers[WISH_RESOLVERS_MAX]; /* on the uplink, port 53, by marked sockets */
    size_t n_resolvers;
    char tunnel[IFNAMSIZ]; /* "": qubes go nowhere */
    struct addr tunnel_addr[2]; /* IPv4, IPv6; family 0: the tunnel does not carry it */
    uint16_t mtu;               /* of the tunnel, for the MSS; 0 without a tunnel */
    struct addr dns[WISH_DNS_MAX]; /* IPv4, inside the tunnel: for the virtual servers in order */
    size_t n_dns;                  /* 0: queries of qubes are dropped */
    bool lookups; /* this qube's own look-ups by dns[], for firewall rules that name hosts */
    bool proxy;   /* the updates proxy may use the uplink */
    uint32_t proxy_uid;
};

enum request_kind {
    REQUEST_SET,       /* "set": from the supervisor; the wish follows */
    REQUEST_CHECK,     /* "check": read everything back; the answer is JSON behind "ok\n" */
    REQUEST_ON,        /* "on": arm whatever is missing, keep the wish */
    REQUEST_BLACKHOLE, /* "blackhole": arm, and forget the wish */
};

/* len: without a NUL. *ret_wish is written for REQUEST_SET only. */
int request_parse(const char *text, size_t len, enum request_kind *ret, struct wish *ret_wish,
                  const char **ret_why);
/* Bytes written (without the NUL that follows), or -ENOSPC. The wish may be NULL but for SET. */
int request_format(enum request_kind kind, const struct wish *wish, char *buf, size_t size);

/* Is the wish one that the seal may grant? -EINVAL and why. */
int wish_check(const struct wish *w, const char **ret_why);
bool wish_equal(const struct wish *a, const struct wish *b);
