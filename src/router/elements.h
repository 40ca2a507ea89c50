/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How objects of the plan are written as elements of our nftables sets, and read back.
 * The sets themselves are made by the skeletons (data/nft/).
 */
#pragma once

#include "nft/nft.h"
#include "router/model.h"

#define TABLE_PLATFORM "qubes"
#define TABLE_OWN      "qubes-network-server"
#define CHAIN_HOOK     "custom-forward" /* the platform's, for rules of others */
#define CHAIN_ENTRY    "network-server"
#define CHAIN_SOME     "network-server-some"
#define CHAIN_PUBLISHED "network-server-published"

uint8_t elements_family(enum family_index family); /* NFPROTO_* */
const char *elements_family_name(enum family_index family); /* "ip", "ip6" */

/* The set of a kind below OBJECT_SETS. */
struct nft_set elements_set(enum object_kind kind, enum family_index family);

/* 0 or -ENOSPC. */
int elements_key(const struct addr *addr, const struct object *o, struct nft_key *ret);

/* The value of an element of a map (DNAT, RATE), else 0 bytes. ret has room for NFT_KEY_MAX bytes. */
size_t elements_data(const struct addr *addr, const struct object *o, uint8_t *ret);

/* -EBADMSG when the element is not what we would write. uplink_index of OWN stays 0. */
int elements_object(enum object_kind kind, enum family_index family, const struct nft_element *e,
                    struct addr *ret_addr, struct object *ret);

/* The set that holds values of kernel switches from before us. */
struct nft_set elements_put_back_set(void);
int elements_put_back_key(const struct sysctl_value *value, struct nft_key *ret);
int elements_put_back_value(const struct nft_key *key, struct sysctl_value *ret);

/* The set of flows that were cut: what the qube sends in them is not taken for something new. */
struct nft_set elements_cut_set(enum family_index family);
struct cut_flow {
    struct addr qube, client;
    uint8_t proto;
    uint16_t qube_port, client_port;
};
int elements_cut_key(const struct cut_flow *flow, struct nft_key *ret);

/* The set that stops forwarding between uplinks while the manager itself switched it on. */
struct nft_set elements_guard_set(void);
int elements_guard_key(struct nft_key *ret);
