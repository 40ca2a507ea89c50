/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to profile: the values of a WireGuard file by themselves, as wg(8) and wg-quick(8) write
 * them. Pure; texts are borrowed; false where the text is none.
 */
#pragma once

#include "vpn/profile/wireguard.h"

/* Base64, exactly 32 bytes. */
bool wireguard_parse_key(struct str text, uint8_t key[static WIREGUARD_KEY_SIZE]);
bool wireguard_key_is_zero(const uint8_t key[static WIREGUARD_KEY_SIZE]);
/* The next piece between commas and blanks; false at the end. */
bool wireguard_next_piece(struct str *rest, struct str *ret);
/* "ADDR" or "ADDR/LEN"; host bits may be set. */
bool wireguard_parse_net(struct str text, struct prefix *ret);
bool wireguard_is_host_name(struct str s); /* RFC 1123 */
/* "NAME:PORT", "ADDR:PORT", "[ADDR6]:PORT" */
bool wireguard_split_endpoint(struct str value, struct str *ret_host, struct str *ret_port);
