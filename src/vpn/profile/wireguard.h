/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard's file in the format of wg-quick(8) and wg(8), read as data. PostUp and its like,
 * Table, SaveConfig and FwMark are left out or refused by name and line; nothing is ever run.
 */
#pragma once

#include "vpn/profile/profile.h"

#define WIREGUARD_PEERS_MAX   16
#define WIREGUARD_ALLOWED_MAX 128 /* "everything but private ranges" takes about 60 */
#define WIREGUARD_DNS_MAX     16
#define WIREGUARD_KEY_SIZE    32

struct wireguard_peer {
    uint8_t public_key[WIREGUARD_KEY_SIZE];
    uint8_t preshared_key[WIREGUARD_KEY_SIZE];
    bool has_preshared;
    uint16_t keepalive; /* seconds, 0: off */
    size_t endpoint;    /* place in profile->endpoints; SIZE_MAX: none */
    struct prefix allowed[WIREGUARD_ALLOWED_MAX];
    size_t n_allowed;
};

struct wireguard_file {
    uint8_t private_key[WIREGUARD_KEY_SIZE]; /* clamped as the kernel does it */
    struct prefix addresses[8]; /* host bits kept */
    size_t n_addresses;
    struct addr dns[WIREGUARD_DNS_MAX];
    size_t n_dns;
    uint16_t mtu; /* 0: default */
    uint16_t listen_port;
    struct wireguard_peer peers[WIREGUARD_PEERS_MAX];
    size_t n_peers;
};

int wireguard_read(const char *text, size_t len, struct findings *findings, struct profile *p);
struct wireguard_file *wireguard_free(struct wireguard_file *f); /* wipes */
