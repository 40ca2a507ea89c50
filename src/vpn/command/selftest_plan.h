/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the leak test tries: a table of packets by class, with addresses filled in from what is
 * here. Destinations outside are those set aside for documentation (RFC 5737, 3849): should one get
 * out, it harms nobody. Pure.
 */
#pragma once

#include "vpn/command/selftest_frames.h"

enum test_class { /* at most 200: the number is in the tag */
    CLASS_TCP,
    CLASS_UDP,
    CLASS_PING,
    CLASS_DNS,
    CLASS_OTHER_DNS,
    CLASS_IPV6,
    CLASS_LAN,
    CLASS_ENDPOINT,
    CLASS_SPOOF,
    CLASS_FRAGMENT,
    CLASS_PROTOCOL,
    CLASS_BROADCAST,
    CLASS_ERROR,
    CLASS_LOCAL,
    TEST_CLASSES
};
#define CLASS_CONTROL 255 /* of the tag that must be seen */

struct test_place { /* addresses of family 0 are not there; what needs them is left out */
    struct addr qube4, qube6; /* of the stand-in */
    struct addr here4, here6; /* this qube, as its qubes see it */
    struct addr uplink4, uplink6, gateway4, gateway6;
    struct addr tunnel4;
    struct addr endpoint;
    uint16_t endpoint_port;
    uint8_t endpoint_protocol;
    uint8_t vif_mac[6], qube_mac[6];
    char random[TAG_RANDOM + 1];
};

/* In words, for people. */
const char *test_class_name(enum test_class c);

typedef int (*test_shot_fn)(enum test_class c, const struct shot *s, void *user);
/* Calls fn for every packet of the stand-in; its negative result ends it. */
int test_plan(const struct test_place *place, test_shot_fn fn, void *user);

/* Where programs of this qube aim at: addresses of their own, so that it is known whose packet
 * asks. */
extern const struct addr test_own4, test_own6;

/* Does the plan send something to it that is no gateway, no endpoint and nobody of here? The class,
 * or -ENOENT. (A question for that neighbour on an uplink is a leak, too.) */
int test_plan_aims_at(const struct test_place *place, const struct addr *a);
