/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inbound/door.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "reconcile/reconcile.h"

#define RULES_WORD "allow="

static const char *const set_names[DOOR_SETS] = {
    [DOOR_FROM] = "network-server-inbound-from",
    [DOOR_RULE] = "network-server-inbound-rule",
};

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, DOOR_WHY_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

/* "ADDR allow=RULES" */
static int parse_address(struct str field, struct door *d, char *why)
{
    struct door_address *at = &d->at[d->n];
    struct str rest = field, text;
    char shown[64], rules_why[ALLOW_WHY_MAX];
    const char *unusable;
    int r;

    (void)str_next(&rest, ' ', &text);
    if (rest.p == NULL || rest.len < strlen(RULES_WORD) ||
        memcmp(rest.p, RULES_WORD, strlen(RULES_WORD)) != 0)
        return refuse(why, "\"%s\" is not ADDRESS allow=RULES",
                      str_escape(field, shown, sizeof(shown)));
    if (addr_parse(text, &at->addr) < 0)
        return refuse(why, "\"%s\" is no address", str_escape(text, shown, sizeof(shown)));
    unusable = addr_why_unusable(&at->addr);
    if (unusable != NULL)
        return refuse(why, "%s %s", str_escape(text, shown, sizeof(shown)), unusable);
    for (size_t i = 0; i < d->n; i++) {
        if (addr_equal(&d->at[i].addr, &at->addr))
            return refuse(why, "%s stands there twice", str_escape(text, shown, sizeof(shown)));
    }
    rest.p += strlen(RULES_WORD);
    rest.len -= strlen(RULES_WORD);
    r = allow_parse(rest, &at->allow, rules_why);
    if (r == -EINVAL || r == -E2BIG)
        return refuse(why, "allow of %s: %s", str_escape(text, shown, sizeof(shown)), rules_why);
    if (r == 0)
        d->n++;
    return r;
}

int door_parse(struct str line, struct door *ret, char why[static DOOR_WHY_MAX])
{
    _cleanup_(door_done) struct door d = {.n = 0};
    struct str piece;

    why[0] = '\0';
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.p[i] < 0x20 || (unsigned char)line.p[i] > 0x7e)
            return refuse(why, "a character that is not printable ASCII");
    }
    if (!str_next(&line, '|', &piece) || !str_is(piece, "v=1"))
        return refuse(why, "it does not begin with v=1, the only version known here");
    while (str_next(&line, '|', &piece)) {
        int r = d.n < DOOR_ADDRESSES_MAX
                    ? parse_address(piece, &d, why)
                    : refuse(why, "more than %d addresses", DOOR_ADDRESSES_MAX);

        if (r < 0)
            return r;
    }
    *ret = d;
    d = (struct door){.n = 0};
    return 0;
}

void door_done(struct door *d)
{
    for (size_t i = 0; i < d->n; i++)
        allow_done(&d->at[i].allow);
    d->n = 0;
}

uint8_t door_nfproto(unsigned family)
{
    return family == 0 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

struct nft_set door_set(unsigned family, enum door_set set)
{
    return (struct nft_set){door_nfproto(family), "qubes", set_names[set]};
}

static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len != b_len ? (a_len < b_len ? -1 : 1) : memcmp(a, b, a_len);
}

int door_compare(const void *a, const void *b)
{
    const struct door_element *x = a, *y = b;
    int c;

    if (x->family != y->family)
        return x->family < y->family ? -1 : 1;
    if (x->set != y->set)
        return x->set < y->set ? -1 : 1;
    c = compare_bytes(x->key.data, x->key.len, y->key.data, y->key.len);
    if (c != 0 || x->key.has_end != y->key.has_end)
        return c != 0 ? c : x->key.has_end < y->key.has_end ? -1 : 1;
    return x->key.has_end ? memcmp(x->key.end, y->key.end, x->key.len) : 0;
}

static uint8_t l4proto(enum allow_proto proto, int family)
{
    switch (proto) {
    case ALLOW_PROTO_ANY:
        break;
    case ALLOW_PROTO_TCP:
        return IPPROTO_TCP;
    case ALLOW_PROTO_UDP:
        return IPPROTO_UDP;
    case ALLOW_PROTO_ICMP:
        return family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    }
    return 0;
}

static int make_element(const struct addr *addr, const struct allow_entry *e,
                        struct door_element *ret)
{
    struct prefix anybody = {.addr = {.family = addr->family}};
    uint8_t proto = l4proto(e->proto, addr->family);
    uint16_t lo = htons(e->port_lo), hi = htons(e->port_hi);
    size_t size = addr_size(addr->family);
    struct addr first, last;
    int r;

    *ret = (struct door_element){.family = addr->family == AF_INET6,
                                 .set = e->proto == ALLOW_PROTO_ANY ? DOOR_FROM : DOOR_RULE};
    prefix_range(e->from.addr.family != 0 ? &e->from : &anybody, &first, &last);
    r = nft_key_add_range(&ret->key, addr->bytes, addr->bytes, size);
    if (r == 0 && ret->set == DOOR_RULE)
        r = nft_key_add_range(&ret->key, &proto, &proto, sizeof(proto));
    if (r == 0 && ret->set == DOOR_RULE)
        r = nft_key_add_range(&ret->key, &lo, &hi, sizeof(lo));
    return r < 0 ? r : nft_key_add_range(&ret->key, first.bytes, last.bytes, size);
}

static int add_address(const struct door_address *at, struct door_element **elements, size_t *n)
{
    _cleanup_(allow_done) struct allow disjoint = {0};
    struct door_element *grown;
    int r = allow_disjoint(&at->allow, at->addr.family, &disjoint);

    if (r < 0 || disjoint.n == 0)
        return r;
    grown = reallocarray(*elements, *n + disjoint.n, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    *elements = grown;
    for (size_t i = 0; i < disjoint.n && r == 0; i++)
        r = make_element(&at->addr, &disjoint.entries[i], &grown[(*n)++]);
    return r;
}

int door_elements(const struct door *d, struct door_element **ret, size_t *ret_n)
{
    _cleanup_(freep) struct door_element *elements = NULL;
    size_t n = 0;

    for (size_t i = 0; i < d->n; i++) {
        int r = add_address(&d->at[i], &elements, &n);

        if (r < 0)
            return r;
    }
    *ret_n = reconcile_sort(elements, n, sizeof(*elements), door_compare);
    *ret = TAKE_PTR(elements);
    return 0;
}

struct parts { /* one end of a key */
    struct addr addr, from;
    uint8_t proto;
    uint16_t port;
};

static bool read_parts(const struct door_element *e, const uint8_t *bytes, struct parts *ret)
{
    struct cursor c = cursor_from(bytes, e->key.len);
    uint8_t family = e->family == 0 ? AF_INET : AF_INET6;
    struct parts p = {.addr.family = family, .from.family = family};

    cursor_copy(&c, p.addr.bytes, addr_size(family));
    if (e->set == DOOR_RULE) {
        p.proto = cursor_u8(&c);
        (void)cursor_take(&c, 3);
        p.port = cursor_u16be(&c);
        (void)cursor_take(&c, 2);
    }
    cursor_copy(&c, p.from.bytes, addr_size(family));
    *ret = p;
    return cursor_ok(&c) && c.left == 0;
}

const char *door_format(const struct door_element *e, char buf[static DOOR_ELEMENT_STR_MAX])
{
    char addr[ADDR_STR_MAX], from[ADDR_STR_MAX], to[ADDR_STR_MAX], what[40] = "everything";
    struct parts lo, hi;

    if (!read_parts(e, e->key.data, &lo) || !e->key.has_end || !read_parts(e, e->key.end, &hi)) {
        (void)snprintf(buf, DOOR_ELEMENT_STR_MAX, "an element of %s that is not ours",
                       set_names[e->set % DOOR_SETS]);
        return buf;
    }
    if (e->set == DOOR_RULE)
        (void)snprintf(what, sizeof(what), "protocol %u, ports %u-%u", lo.proto, lo.port, hi.port);
    (void)snprintf(buf, DOOR_ELEMENT_STR_MAX, "%s: %s from %s-%s", addr_format(&lo.addr, addr), what,
                   addr_format(&lo.from, from), addr_format(&hi.from, to));
    return buf;
}
