/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few link-layer frames that claim, defend and announce an address: ARP (RFC 826, RFC 5227) and
 * IPv6 neighbour discovery (RFC 4861 section 7, RFC 4862 section 5.4). Pure. Frames begin with
 * the Ethernet header.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define FRAME_MAX 96
#define MAC_SIZE  6

struct frame {
    uint8_t bytes[FRAME_MAX];
    size_t len;
};

/* "Does anybody have it?", from nobody: ARP probe, or neighbour solicitation from ::. */
void frame_probe(const struct addr *addr, const uint8_t mac[static MAC_SIZE], struct frame *ret);
/* "It is here": ARP announcement, or unsolicited neighbour advertisement with override. */
void frame_announce(const struct addr *addr, const uint8_t mac[static MAC_SIZE], struct frame *ret);
/* The answer to another host's ARP probe. IPv6 needs none of ours: the kernel answers for proxies. */
void frame_defend(const struct addr *addr, const uint8_t mac[static MAC_SIZE],
                  const uint8_t asker[static MAC_SIZE], struct frame *ret);

enum frame_kind {
    FRAME_OTHER, /* nothing to do with claiming an address */
    FRAME_CLAIM, /* the sender has addr */
    FRAME_PROBE, /* the sender asks whether it may take addr */
};

/*
 * What a received frame says. ret_mac: who has the address, by the message (the Ethernet source may
 * be a bridge's). Malformed frames are FRAME_OTHER, for which nothing is written.
 */
enum frame_kind frame_parse(const void *bytes, size_t len, struct addr *ret_addr,
                            uint8_t ret_mac[static MAC_SIZE]);
