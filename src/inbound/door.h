/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the exposed qube lets in, as dom0 writes it into the qube's own QubesDB (one line):
 *
 *     v=1|ADDR allow=RULES|ADDR allow=RULES       RULES: grammar of exposure/allow.h
 *
 * /network-server-inbound by dom0's daemon; /vm-config/expose-inbound, the same line, by a user of a
 * stock dom0. And the same as elements of the two sets of data/nft/inbound.nft.in. Pure.
 * Whatever does not parse refuses the whole line: the door stays shut.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"
#include "exposure/allow.h"
#include "nft/nft.h"

#define DOOR_PATH           "/network-server-inbound"
#define DOOR_VM_CONFIG_PATH "/vm-config/expose-inbound"
#define DOOR_ADDRESSES_MAX  8
#define DOOR_WHY_MAX        256

struct door_address {
    struct addr addr;
    struct allow allow; /* owned */
};

struct door {
    struct door_address at[DOOR_ADDRESSES_MAX];
    size_t n;
};

/* 0, -EINVAL (why: a phrase for people), -ENOMEM. door_done() is due after success. */
int door_parse(struct str line, struct door *ret, char why[static DOOR_WHY_MAX]);
void door_done(struct door *d);

enum door_set {
    DOOR_FROM, /* address . network: everything */
    DOOR_RULE, /* address . protocol . ports . network */
};
#define DOOR_SETS 2

#define DOOR_FAMILIES 2 /* 0 IPv4, 1 IPv6 */
uint8_t door_nfproto(unsigned family);
struct nft_set door_set(unsigned family, enum door_set set);

struct door_element {
    uint8_t family; /* 0 IPv4, 1 IPv6 */
    uint8_t set;    /* enum door_set */
    struct nft_key key;
};

int door_compare(const void *a, const void *b); /* struct door_element */
/* Sorted; *ret is the caller's to free, NULL for none. 0, -ENOMEM, -E2BIG: too many combinations. */
int door_elements(const struct door *d, struct door_element **ret, size_t *ret_n);

/* "192.168.16.25: tcp/80 from 10.0.0.0/8" for people; what is not ours is shown as such. */
#define DOOR_ELEMENT_STR_MAX 160
const char *door_format(const struct door_element *e, char buf[static DOOR_ELEMENT_STR_MAX]);
