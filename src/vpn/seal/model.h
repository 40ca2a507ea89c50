/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel has that concerns the seal, as it was read: links, addresses, routes, rules, and
 * of our nftables tables the elements and the chains on devices. Lists are owned and grow; reading
 * again begins with model_clear(). Pure.
 *
 * A vif is named vif* and is in group 2, where the platform puts it; the tunnel has its fixed name
 * and no link layer (tun, WireGuard); lo is lo. Everything else is an uplink, by whatever name and
 * in whatever group.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink/policy.h"
#include "netlink/rt.h"
#include "nft/nft.h"
#include "vpn/wish/wish.h"

#define SEAL_TABLE_VIFS   77u /* host routes of vifs, copied from table main */
#define SEAL_TABLE_TUNNEL 78u /* the tunnel, or nothing */
#define SEAL_TABLE_UPLINK 79u /* the only place with a way by an uplink: for carriers */
#define SEAL_TABLE_MAIN   254u
#define SEAL_TABLE_LOCAL  255u
#define SEAL_VIF_GROUP    2u
#define SEAL_NFT_TABLE    "qubes-vpn"

enum seal_layer { /* bits */
    LAYER_ROUTES = 1, /* R */
    LAYER_INET = 2,   /* N */
    LAYER_EGRESS = 4, /* G */
    LAYERS_ALL = 7,
};

enum link_kind { LINK_LO, LINK_VIF, LINK_TUNNEL, LINK_UPLINK };
enum link_kind link_kind(const struct rt_link *link);

/* The sets and maps of both tables, in the order of the table in elements.c. */
enum seal_set {
    SET_CLIENT,
    SET_PROXY,
    SET_CARRIER4,
    SET_CARRIER6,
    SET_MARKED4,
    SET_MARKED6,
    SET_RESOLVER4,
    SET_RESOLVER6,
    SET_TUNNEL,
    SET_TUNNEL4,
    SET_TUNNEL6,
    SET_QUBE4,
    SET_QUBE6,
    SET_OWN4,
    SET_OWN6,
    SET_HERE4,
    SET_HERE6,
    SET_LOOKUP,
    SET_DNS,
    SET_MSS4,
    SET_MSS6,
    SET_G_CLIENT, /* from here on in table netdev */
    SET_G_PROXY,
    SET_G_CARRIER4,
    SET_G_CARRIER6,
    SET_G_MARKED4,
    SET_G_MARKED6,
    SET_G_RESOLVER4,
    SET_G_RESOLVER6,
    SET_G_OWN4,
    SET_G_OWN6,
    SET_G_FAR4,
    SET_G_FAR6,
    SET_G_NEAR4,
    SET_G_NEAR6,
    SEAL_SETS
};

struct seal_element {
    enum seal_set set;
    uint8_t data_len;
    uint8_t data[4];
    struct nft_key key;
};

struct seal_chain {
    struct nft_device_chain chain;
    bool whole; /* exactly one rule that leads to the common chain */
};

/* A list that grows: items are copied in. The element type is fixed by the accessor macros. */
struct items {
    void *p;
    size_t n, room;
};
int items_add(struct items *list, const void *item, size_t size);
void items_free(struct items *list);
#define ITEMS(list, type) ((type *)(list)->p)

struct seal_model {
    struct items links;    /* struct rt_link */
    struct items addrs;    /* struct rt_addr */
    struct items paths;    /* struct path, of tables main and ours */
    struct items rules;    /* struct rule */
    struct items elements; /* struct seal_element */
    struct items chains;   /* struct seal_chain */
    unsigned loaded;       /* layers whose rules are as they should be (LAYER_INET, LAYER_EGRESS) */
    unsigned owned;        /* that have an owner: nobody else can change them */
    unsigned foreign;      /* whose owner is another socket than the one that reads */
    uint32_t generation;   /* of the ruleset, when it was read */
    unsigned proved;       /* layers whose rules were read back since we own them (skeleton_read) */
    uint64_t proved_us;
};

void model_free(struct seal_model *m);
const struct rt_link *model_link(const struct seal_model *m, uint32_t index);
const struct rt_link *model_tunnel(const struct seal_model *m); /* NULL: there is none */
/* A route of table main by nothing but one device of that kind. */
bool model_goes_by(const struct seal_model *m, const struct path *path, enum link_kind kind);
/* A host route of table main by a vif: behind it is the qube of that address. */
bool model_leads_to_qube(const struct seal_model *m, const struct path *path);
