/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket filter in front of the watch: only frames that can be about a watched address wake
 * the program, so that a busy LAN costs it nothing. Classic BPF, run by the kernel.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "base/addr.h"

/* Up to here each address is compared in the kernel; beyond, by kind of frame only. */
#define FILTER_MAX_ADDRESSES 100
#define FILTER_MAX           512

/* Fills program with a filter for these addresses. Returns its length, at most FILTER_MAX. */
size_t filter_build(const struct addr *addrs, size_t n, struct sock_filter program[static FILTER_MAX]);
/* The same without ARP, for a socket that sees every frame. */
size_t filter_build_nd(const struct addr *addrs, size_t n,
                       struct sock_filter program[static FILTER_MAX]);
