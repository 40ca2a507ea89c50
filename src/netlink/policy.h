/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Policy routing: rules and the routes of any table, both families (UAPI fib_rules.h, rtnetlink.h).
 * A rule or route that says more than these structures hold is read with "other" set, so that it
 * never compares equal to one of ours. Requests are idempotent: adding what is there and deleting
 * what is not are success.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "netlink/nl.h"
#include "netlink/rt.h"

#define RULE_SAID_MAX 320 /* every attribute that kernel 6.18 knows, once */
struct rule {
    uint8_t family;   /* AF_INET, AF_INET6 */
    uint8_t action;   /* FR_ACT_TO_TBL, FR_ACT_BLACKHOLE, ... */
    uint8_t protocol; /* RTPROT_* */
    bool other;       /* has conditions or effects beyond these */
    bool has_uid;
    uint32_t priority;
    uint32_t table;
    uint32_t mark, mask; /* mask 0: whatever mark */
    uint32_t uid;        /* with has_uid: this one user */
    /* With other: all that the kernel said. Deleting by less would hit the first rule that has as
     * much, which may be one of ours or the kernel's own. */
    uint16_t said_len;
    uint8_t said[RULE_SAID_MAX];
};

struct path {
    uint8_t family;
    uint8_t type;     /* RTN_UNICAST, RTN_BLACKHOLE, ... */
    uint8_t protocol; /* RTPROT_* */
    uint8_t scope;    /* RT_SCOPE_*; 0 for IPv6 */
    bool onlink;
    bool other; /* several next hops, metrics, encapsulation ... */
    uint32_t table, metric;
    struct prefix dst;   /* family as above, len 0: default */
    struct addr gateway; /* family 0: none */
    uint32_t oif;        /* 0: none */
};

int rule_parse(const struct nlmsghdr *nlh, struct rule *ret);
/* 0; 1: not of our business (cached, local or multicast tables' kinds stay: type tells); -EBADMSG */
int path_parse(const struct nlmsghdr *nlh, struct path *ret);

bool rule_equal(const struct rule *a, const struct rule *b);
bool path_equal(const struct path *a, const struct path *b);

typedef int (*rule_fn)(const struct rule *rule, void *user);
typedef int (*path_fn)(const struct path *path, void *user);
int rule_dump(struct nl_sock *s, rt_begin_fn begin, rule_fn fn, void *user);
/* Every route of every table of one family; begin forgets what was collected. */
int path_dump(struct nl_sock *s, uint8_t family, rt_begin_fn begin, path_fn fn, void *user);

int rule_add(struct nl_sock *s, const struct rule *rule);
int rule_del(struct nl_sock *s, const struct rule *rule);
/* Adds beside other routes; the same one again is success. */
int path_add(struct nl_sock *s, const struct path *path);
int path_del(struct nl_sock *s, const struct path *path);
