/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tunnel device SEAL_TUNNEL: made before its client starts, set up with what the judge let
 * pass. All by netlink and ioctl, needs CAP_NET_ADMIN. Group 0 always (1 would be taken for an
 * uplink, 2 for a qube).
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "netlink/nl.h"
#include "vpn/profile/pushed.h"

/* A persistent tun device that uid may attach to; one that is there already is removed first. */
int device_make_tun(struct nl_sock *s, uid_t uid);
/* A kernel WireGuard device. -EOPNOTSUPP: this kernel has none. */
int device_make_wireguard(struct nl_sock *s);
/* MTU, addresses (others are removed), no IPv6 autoconfiguration, up. */
int device_configure(struct nl_sock *s, const struct tunnel_facts *facts);
/* 1: it is up, in no group, has MTU and addresses; 0: something is not so; -ENODEV. Only reads. */
int device_is_configured(struct nl_sock *s, const struct tunnel_facts *facts);
int device_down(struct nl_sock *s);   /* addresses off, link down; the device stays */
int device_remove(struct nl_sock *s); /* 0 also when there is none */
/* 1: it exists as ours (tun or WireGuard, right name); 0: none; -EEXIST: something else is. */
int device_find(struct nl_sock *s, bool *ret_wireguard);
