/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every directive of OpenVPN 2.6 and 2.7 (and those of older versions that files still have), and
 * what becomes of it. What is not in here is refused. Source: openvpn(8) of 2.6.14, "Unsupported
 * options" of the manual of 2.7, options.c for those that no manual names.
 * data/man/qubes-vpn-profiles.5 tells the same to users.
 */
#pragma once

#include <stdint.h>

#include "base/str.h"

enum openvpn_verdict {
    OPENVPN_TAKE,     /* see enum openvpn_take */
    OPENVPN_OURS,     /* the text we write has its own: nothing to tell anybody */
    OPENVPN_LEFT_OUT, /* has no effect here, and the user is told */
    OPENVPN_REFUSED,  /* the profile is not used */
};

enum openvpn_take { /* how it is taken */
    TAKE_NONE,
    TAKE_NUMBERS, /* each within low..high, written as it is; outside: left out */
    TAKE_WORDS,   /* plain characters only, written as it is */
    TAKE_TEXT,    /* names as certificates have them, written quoted */
    TAKE_CHOICE, /* one word of the list in why */
    TAKE_BLOB,    /* ca, cert, ...: block or file, see openvpn_blob.h */
    TAKE_CLIENT,
    TAKE_PULL,
    TAKE_MODE,
    TAKE_DEV,
    TAKE_DEV_TYPE,
    TAKE_REMOTE,
    TAKE_CONNECTION,
    TAKE_RANDOM,
    TAKE_PROTO,
    TAKE_PROTO_FORCE,
    TAKE_PORT,
    TAKE_LPORT,
    TAKE_CIPHER,
    TAKE_DATA_CIPHERS,
    TAKE_FALLBACK,
    TAKE_AUTH,
    TAKE_TLS_CIPHER,
    TAKE_TLS_MIN,
    TAKE_USER_PASSWORD,
    TAKE_CHALLENGE,
    TAKE_COMPRESSION,
    TAKE_TUN_MTU,
    TAKE_FRAGMENT,
    TAKE_MSSFIX,
    TAKE_PING,
    TAKE_PING_RESTART,
    TAKE_KEEPALIVE,
    TAKE_EXIT_NOTIFY,
    TAKE_DNS,
    TAKE_SETENV,
    TAKE_IGNORE_UNKNOWN,
    TAKE_DNS_SCRIPT,
};

struct openvpn_directive {
    const char *name;
    enum openvpn_verdict verdict;
    enum openvpn_take take;
    uint8_t min, max; /* arguments behind the name; for OPENVPN_TAKE */
    uint32_t low, high;
    const char *why; /* phrase for the finding, static; a list for TAKE_CHOICE */
};

/* NULL: unknown. */
const struct openvpn_directive *openvpn_directive_find(struct str name);

/* The whole table, for tests. */
const struct openvpn_directive *openvpn_directive_at(size_t i);
