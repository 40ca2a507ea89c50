/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/address.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

struct check {
    const struct tree *t;
    const struct qube *q;
    const struct addr *addr;
    const struct ask *edge;
    char text[ADDR_STR_MAX]; /* of addr */
    char *why;
};

__attribute__((format(printf, 3, 4))) static enum address_verdict
tell(struct check *c, enum address_verdict verdict, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(c->why, ADDRESS_WHY_MAX, format, args);
    va_end(args);
    return verdict;
}

/* Halted qubes too: they would be two as soon as the other one starts. */
static enum address_verdict check_qubes(struct check *c)
{
    for (size_t i = 0; i < tree_count(c->t); i++) {
        const struct qube *other = tree_at(c->t, i);
        bool live = other->live.known && (addr_equal(&other->live.ip[0], c->addr) ||
                                          addr_equal(&other->live.ip[1], c->addr));

        if (other == c->q)
            continue;
        if (addr_equal(&other->ip[0], c->addr) || addr_equal(&other->ip[1], c->addr))
            return tell(c, ADDRESS_REFUSED,
                        "%s has %s already. With two of them nobody would be reachable",
                        other->name, c->text);
        if (live)
            return tell(c, ADDRESS_REFUSED, "%s still runs with %s, until it is restarted",
                        other->name, c->text);
    }
    return ADDRESS_FINE;
}

/* The edge's own subnets: "uplinks": [{"name": "ens5", "addresses": ["192.168.16.2/24"]}]. */
static enum address_verdict check_subnet(struct check *c, const char *text, bool *ret_inside)
{
    struct str whole = str_from(text), host;
    struct prefix net = {0};
    struct addr own, first, last;
    uint32_t len;

    *ret_inside = false;
    (void)str_next(&whole, '/', &host);
    if (addr_parse(host, &own) < 0 || own.family != c->addr->family || whole.p == NULL ||
        str_to_u32(whole, addr_bits(own.family), &len) < 0)
        return ADDRESS_FINE;
    net = (struct prefix){own, (uint8_t)len};
    if (addr_equal(&own, c->addr))
        return tell(c, ADDRESS_REFUSED, "%s is the address of %s itself (reported by %s)", c->text,
                    c->edge->hop, c->edge->hop);
    *ret_inside = prefix_contains(&net, c->addr);
    prefix_range(&net, &first, &last);
    if (*ret_inside && len + 2 <= addr_bits(own.family) && own.family == AF_INET &&
        (addr_equal(&first, c->addr) || addr_equal(&last, c->addr)))
        return tell(c, ADDRESS_REFUSED, "%s is the network or broadcast address of %s's LAN",
                    c->text, c->edge->hop);
    return ADDRESS_FINE;
}

static enum address_verdict check_subnets(struct check *c)
{
    const json_t *uplinks = json_object_get(c->edge->answer, "uplinks");
    bool inside = false, any = false;
    json_t *uplink, *one;
    size_t i, k;

    json_array_foreach((json_t *)uplinks, i, uplink) {
        json_array_foreach(json_object_get(uplink, "addresses"), k, one) {
            const char *text = json_string_value(one);
            bool here;
            enum address_verdict v;

            if (text == NULL)
                continue;
            v = check_subnet(c, text, &here);
            if (v != ADDRESS_FINE)
                return v;
            inside |= here;
            any |= (strchr(text, ':') != NULL) == (c->addr->family == AF_INET6);
        }
    }
    if (any && !inside)
        return tell(c, ADDRESS_DOUBTFUL,
                    "%s is in none of the subnets that %s has on its LAN (as it reports): hosts "
                    "there reach it only if their router has a route to %s",
                    c->text, c->edge->hop, c->edge->hop);
    return ADDRESS_FINE;
}

/* A host that was not heard of for so long may have left. The kernel does not forget it. */
#define SEEN_LATELY 300 /* seconds */

static enum address_verdict tell_host(struct check *c, const json_t *host)
{
    const json_t *seen = json_object_get(host, "seen");
    char mac[40];

    (void)ask_text(host, "mac", mac, sizeof(mac));
    if (json_is_integer(seen) && json_integer_value(seen) > SEEN_LATELY)
        return tell(c, ADDRESS_DOUBTFUL,
                    "a host of the LAN had %s: %s, last heard of %" JSON_INTEGER_FORMAT " min ago "
                    "(reported by %s). If it comes back nobody is reachable",
                    c->text, mac, json_integer_value(seen) / 60, c->edge->hop);
    return tell(c, ADDRESS_REFUSED, "a host of the LAN has %s: %s (reported by %s)", c->text, mac,
                c->edge->hop);
}

/* "conflict" of an address that it serves, and "neighbours": [{"address", "mac", "seen"}]. */
static enum address_verdict check_hosts(struct check *c)
{
    const json_t *conflict = json_object_get(ask_address(c->edge, c->addr), "conflict"), *list;
    char mac[40] = "?";
    json_t *one;
    size_t i;

    if (conflict != NULL) {
        (void)ask_text(conflict, "mac", mac, sizeof(mac));
        return tell(c, ADDRESS_REFUSED, "another host on the LAN has %s: %s (reported by %s)",
                    c->text, mac, c->edge->hop);
    }
    list = json_object_get(c->edge->answer, "neighbours");
    json_array_foreach((json_t *)list, i, one) {
        const char *text = json_string_value(json_object_get(one, "address"));
        struct addr got;

        if (text == NULL || addr_parse(str_from(text), &got) < 0 || !addr_equal(&got, c->addr))
            continue;
        return tell_host(c, one);
    }
    if (ask_left_out(c->edge, "neighbours_left_out") > 0 ||
        ask_left_out(c->edge, "addresses_left_out") > 0)
        return tell(c, ADDRESS_DOUBTFUL,
                    "whether a host of the LAN has %s is not known: the answer of %s was too long "
                    "to hold its LAN's hosts",
                    c->text, c->edge->hop);
    return ADDRESS_FINE;
}

enum address_verdict address_check(const struct tree *t, const struct qube *q,
                                   const struct addr *addr, const struct ask *edge,
                                   char why[static ADDRESS_WHY_MAX])
{
    struct check c = {.t = t, .q = q, .addr = addr, .edge = edge, .why = why};
    const char *unusable = addr_why_unusable(addr);
    enum address_verdict v;

    why[0] = '\0';
    (void)addr_format(addr, c.text);
    if (unusable != NULL)
        return tell(&c, ADDRESS_REFUSED, "no qube can be reached at %s: %s", c.text, unusable);
    v = check_qubes(&c);
    if (v == ADDRESS_FINE && edge != NULL && edge->answer != NULL) {
        enum address_verdict subnets;

        v = check_hosts(&c);
        subnets = v != ADDRESS_REFUSED ? check_subnets(&c) : ADDRESS_FINE;
        v = subnets > v ? subnets : v; /* its text is the later one */
    }
    return v;
}
