/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "exposure/allow.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct range {
    uint16_t lo, hi;
};

#define LIST_MAX 64 /* ports or networks in one rule */

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, ALLOW_WHY_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

static const char *show(struct str s, char *buf, size_t size)
{
    return str_escape(s, buf, size);
}

/* The next word of a blank-separated text; false at its end. */
static bool next_word(struct str *rest, struct str *ret)
{
    *rest = str_trim(*rest);
    if (rest->len == 0)
        return false;
    *ret = (struct str){rest->p, 0};
    while (ret->len < rest->len && rest->p[ret->len] != ' ' && rest->p[ret->len] != '\t')
        ret->len++;
    rest->p += ret->len;
    rest->len -= ret->len;
    return true;
}

static int parse_proto(struct str s, enum allow_proto *ret, char *why)
{
    static const struct {
        const char *name;
        enum allow_proto proto;
    } names[] = {
        {"any", ALLOW_PROTO_ANY},
        {"tcp", ALLOW_PROTO_TCP},
        {"udp", ALLOW_PROTO_UDP},
        {"icmp", ALLOW_PROTO_ICMP},
    };
    char text[40];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_is(s, names[i].name)) {
            *ret = names[i].proto;
            return 0;
        }
    }
    return refuse(why, "\"%s\" is no protocol: tcp, udp, icmp or any", show(s, text, sizeof(text)));
}

/* "n" or "n-m", 1 to 65535 */
static int parse_range(struct str s, struct range *ret, char *why)
{
    struct str rest = s, piece;
    uint32_t lo, hi;
    char text[40];
    int r;

    if (!str_next(&rest, '-', &piece) || str_to_u32(piece, UINT16_MAX, &lo) < 0)
        return refuse(why, "\"%s\" is no port or range of ports", show(s, text, sizeof(text)));
    hi = lo;
    r = rest.p != NULL ? str_to_u32(rest, UINT16_MAX, &hi) : 0;
    if (r < 0 || lo == 0 || hi < lo)
        return refuse(why, "\"%s\" is no port or range of ports", show(s, text, sizeof(text)));
    *ret = (struct range){(uint16_t)lo, (uint16_t)hi};
    return 0;
}

static int parse_ranges(struct str s, struct range *ranges, size_t *ret_n, char *why)
{
    struct str piece;
    size_t n = 0;

    while (str_next(&s, ',', &piece)) {
        int r;

        if (n == LIST_MAX)
            return refuse(why, "more than %d ports in one rule", LIST_MAX);
        r = parse_range(piece, &ranges[n], why);
        if (r < 0)
            return r;
        n++;
    }
    *ret_n = n;
    return 0;
}

/* What stands after the protocol and ports: nothing, or "from net,net". n 0: from anybody. */
static int parse_from(struct str s, struct prefix *nets, size_t *ret_n, char *why)
{
    struct str word, list, piece, extra;
    char text[PREFIX_STR_MAX];
    size_t n = 0;

    *ret_n = 0;
    if (!next_word(&s, &word))
        return 0;
    if (!str_is(word, "from"))
        return refuse(why, "\"%s\" where \"from\" was expected", show(word, text, sizeof(text)));
    if (!next_word(&s, &list))
        return refuse(why, "no network after \"from\"");
    if (next_word(&s, &extra))
        return refuse(why, "\"%s\" after the networks", show(extra, text, sizeof(text)));
    while (str_next(&list, ',', &piece)) {
        if (n == LIST_MAX)
            return refuse(why, "more than %d networks in one rule", LIST_MAX);
        if (prefix_parse(piece, &nets[n]) < 0)
            return refuse(why, "\"%s\" is no address or network", show(piece, text, sizeof(text)));
        n++;
    }
    *ret_n = n;
    return 0;
}

static int allow_append(struct allow *allow, const struct allow_entry *entry)
{
    if (allow->n >= ALLOW_MAX_ENTRIES)
        return -E2BIG;
    if ((allow->n & (allow->n - 1)) == 0) { /* grow at each power of two */
        size_t capacity = allow->n == 0 ? 1 : allow->n * 2;
        struct allow_entry *grown = reallocarray(allow->entries, capacity, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        allow->entries = grown;
    }
    allow->entries[allow->n++] = *entry;
    return 0;
}

/* One entry for each port range and network of a rule. */
static int append_rule(struct allow *allow, enum allow_proto proto, const struct range *ranges,
                       size_t n_ranges, const struct prefix *nets, size_t n_nets)
{
    for (size_t i = 0; i < n_ranges; i++) {
        for (size_t k = 0; k < (n_nets > 0 ? n_nets : 1); k++) {
            struct allow_entry entry = {
                .proto = proto, .port_lo = ranges[i].lo, .port_hi = ranges[i].hi};
            int r;

            if (n_nets > 0)
                entry.from = nets[k];
            r = allow_append(allow, &entry);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int parse_rule(struct str s, struct allow *allow, char *why)
{
    struct range ranges[LIST_MAX] = {{0, UINT16_MAX}};
    struct prefix nets[LIST_MAX];
    size_t n_ranges = 1, n_nets = 0;
    enum allow_proto proto;
    struct str head, name;
    int r;

    if (!next_word(&s, &head))
        return refuse(why, "an empty rule between two \";\"");
    (void)str_next(&head, '/', &name);
    r = parse_proto(name, &proto, why);
    if (r < 0)
        return r;
    if (head.p != NULL) {
        if (proto != ALLOW_PROTO_TCP && proto != ALLOW_PROTO_UDP)
            return refuse(why, "ports go with tcp and udp only");
        r = parse_ranges(head, ranges, &n_ranges, why);
        if (r < 0)
            return r;
    }
    r = parse_from(s, nets, &n_nets, why);
    if (r < 0)
        return r;
    r = append_rule(allow, proto, ranges, n_ranges, nets, n_nets);
    if (r == -E2BIG)
        (void)refuse(why, "more than %d combinations of ports and networks", ALLOW_MAX_ENTRIES);
    return r;
}

void allow_done(struct allow *allow)
{
    free(allow->entries);
    *allow = (struct allow){0};
}

int allow_parse(struct str text, struct allow *ret, char why[static ALLOW_WHY_MAX])
{
    _cleanup_(allow_done) struct allow allow = {0};
    struct str piece;

    why[0] = '\0';
    if (str_trim(text).len > 0) {
        while (str_next(&text, ';', &piece)) {
            int r = parse_rule(piece, &allow, why);

            if (r < 0)
                return r;
        }
    }
    *ret = allow;
    allow = (struct allow){0};
    return 0;
}

static bool proto_matches(enum allow_proto want, int family, uint8_t proto)
{
    switch (want) {
    case ALLOW_PROTO_ANY:
        return true;
    case ALLOW_PROTO_TCP:
        return proto == IPPROTO_TCP;
    case ALLOW_PROTO_UDP:
        return proto == IPPROTO_UDP;
    case ALLOW_PROTO_ICMP:
        return proto == (family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    }
    return false;
}

bool allow_accepts(const struct allow *allow, int family, uint8_t proto, uint16_t port,
                   const struct addr *from)
{
    for (size_t i = 0; i < allow->n; i++) {
        const struct allow_entry *e = &allow->entries[i];

        if (proto_matches(e->proto, family, proto) && port >= e->port_lo && port <= e->port_hi &&
            (e->from.addr.family == 0 || prefix_contains(&e->from, from)))
            return true;
    }
    return false;
}

/* Networks of one stretch of ports. Prefixes nest or are disjoint, so dropping nested ones does. */
struct stretch {
    struct prefix nets[ALLOW_MAX_ENTRIES];
    size_t n;
    bool anybody;
};

static int compare_prefix(const void *a, const void *b)
{
    const struct prefix *x = a, *y = b;

    return x->len != y->len ? (int)x->len - (int)y->len : addr_compare(&x->addr, &y->addr);
}

static void stretch_collect(struct stretch *s, const struct allow *allow, int family,
                            enum allow_proto proto, uint16_t port)
{
    size_t kept = 0;

    s->n = 0;
    s->anybody = false;
    for (size_t i = 0; i < allow->n; i++) {
        const struct allow_entry *e = &allow->entries[i];

        if (e->proto != proto || port < e->port_lo || port > e->port_hi)
            continue;
        if (e->from.addr.family == 0 || (e->from.addr.family == family && e->from.len == 0))
            s->anybody = true;
        else if (e->from.addr.family == family)
            s->nets[s->n++] = e->from;
    }
    if (s->anybody) {
        s->n = 0;
        return;
    }
    qsort(s->nets, s->n, sizeof(s->nets[0]), compare_prefix); /* shorter prefixes first */
    for (size_t i = 0; i < s->n; i++) {
        bool covered = false;

        for (size_t k = 0; k < kept && !covered; k++)
            covered = prefix_contains(&s->nets[k], &s->nets[i].addr);
        if (!covered)
            s->nets[kept++] = s->nets[i];
    }
    s->n = kept;
}

static bool stretch_equal(const struct stretch *a, const struct stretch *b)
{
    if (a->anybody != b->anybody || a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (compare_prefix(&a->nets[i], &b->nets[i]) != 0)
            return false;
    }
    return true;
}

static int stretch_emit(const struct stretch *s, enum allow_proto proto, uint32_t lo, uint32_t hi,
                        struct allow *out)
{
    struct allow_entry entry = {
        .proto = proto, .port_lo = (uint16_t)lo, .port_hi = (uint16_t)hi};
    int r = 0;

    if (s->anybody)
        return allow_append(out, &entry);
    for (size_t i = 0; i < s->n && r == 0; i++) {
        entry.from = s->nets[i];
        r = allow_append(out, &entry);
    }
    return r;
}

static int compare_u32(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Cuts the ports where any range begins or ends; neighbours with the same networks are joined. */
static int disjoint_proto(const struct allow *allow, int family, enum allow_proto proto,
                          struct allow *out)
{
    uint32_t cuts[2 * ALLOW_MAX_ENTRIES];
    _cleanup_(freep) struct stretch *open = calloc(2, sizeof(*open));
    struct stretch *now = open != NULL ? open + 1 : NULL;
    size_t n = 0;
    uint32_t lo = 0;
    int r;

    if (open == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < allow->n; i++) {
        if (allow->entries[i].proto == proto) {
            cuts[n++] = allow->entries[i].port_lo;
            cuts[n++] = (uint32_t)allow->entries[i].port_hi + 1;
        }
    }
    if (n == 0)
        return 0;
    qsort(cuts, n, sizeof(cuts[0]), compare_u32);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && cuts[i] == cuts[i - 1])
            continue;
        if (cuts[i] > UINT16_MAX)
            *now = (struct stretch){.n = 0};
        else
            stretch_collect(now, allow, family, proto, (uint16_t)cuts[i]);
        if (stretch_equal(open, now))
            continue;
        if (open->anybody || open->n > 0) {
            r = stretch_emit(open, proto, lo, cuts[i] - 1, out);
            if (r < 0)
                return r;
        }
        *open = *now;
        lo = cuts[i];
    }
    /* the last cut lies behind every range; only ranges up to 65535 are still open there */
    return open->anybody || open->n > 0 ? stretch_emit(open, proto, lo, UINT16_MAX, out) : 0;
}

int allow_disjoint(const struct allow *allow, int family, struct allow *ret)
{
    static const enum allow_proto protos[] = {ALLOW_PROTO_ANY, ALLOW_PROTO_TCP, ALLOW_PROTO_UDP,
                                              ALLOW_PROTO_ICMP};
    _cleanup_(allow_done) struct allow out = {0};

    for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
        int r = disjoint_proto(allow, family, protos[i], &out);

        if (r < 0)
            return r;
    }
    *ret = out;
    out = (struct allow){0};
    return 0;
}

int allow_join(const struct allow *a, const struct allow *b, struct allow *ret)
{
    _cleanup_(allow_done) struct allow out = {0};
    int r = 0;

    for (size_t i = 0; i < a->n && r == 0; i++)
        r = allow_append(&out, &a->entries[i]);
    for (size_t i = 0; i < b->n && r == 0; i++)
        r = allow_append(&out, &b->entries[i]);
    if (r < 0)
        return r;
    *ret = out;
    out = (struct allow){0};
    return 0;
}

void publish_done(struct publish *publish)
{
    free(publish->entries);
    *publish = (struct publish){0};
}

static int parse_map(struct str s, struct publish *publish, char *why)
{
    struct range outside, inside;
    struct prefix nets[LIST_MAX];
    struct str head, name, ports;
    enum allow_proto proto;
    size_t n_nets;
    int r;

    if (!next_word(&s, &head))
        return refuse(why, "an empty map between two \";\"");
    (void)str_next(&head, '/', &name);
    r = parse_proto(name, &proto, why);
    if (r < 0)
        return r;
    if (head.p == NULL || (proto != ALLOW_PROTO_TCP && proto != ALLOW_PROTO_UDP))
        return refuse(why, "a published port is tcp/PORT or udp/PORT");
    (void)str_next(&head, ':', &ports);
    r = parse_range(ports, &outside, why);
    inside = outside;
    if (r == 0 && head.p != NULL)
        r = parse_range(head, &inside, why);
    if (r < 0)
        return r;
    if (inside.hi - inside.lo != outside.hi - outside.lo)
        return refuse(why, "the range inside is not as long as the one outside");
    r = parse_from(s, nets, &n_nets, why);
    if (r < 0)
        return r;
    for (size_t k = 0; k < (n_nets > 0 ? n_nets : 1); k++) {
        struct publish_entry *grown =
            reallocarray(publish->entries, publish->n + 1, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        publish->entries = grown;
        if (publish->n >= PUBLISH_MAX_ENTRIES) {
            (void)refuse(why, "more than %d published ports and networks", PUBLISH_MAX_ENTRIES);
            return -E2BIG;
        }
        grown[publish->n] = (struct publish_entry){.proto = proto, .outside_lo = outside.lo,
            .outside_hi = outside.hi, .inside_lo = inside.lo};
        if (n_nets > 0)
            grown[publish->n].from = nets[k];
        publish->n++;
    }
    return 0;
}

bool publish_leads(const struct publish *publish, uint8_t proto, uint16_t outside, uint16_t inside,
                   const struct addr *from)
{
    for (size_t i = 0; i < publish->n; i++) {
        const struct publish_entry *e = &publish->entries[i];

        if (proto_matches(e->proto, from->family, proto) && outside >= e->outside_lo &&
            outside <= e->outside_hi && inside == e->inside_lo + (outside - e->outside_lo) &&
            (e->from.addr.family == 0 || prefix_contains(&e->from, from)))
            return true;
    }
    return false;
}

/* One port outside cannot lead to two ports inside. */
static bool contradicts(const struct publish_entry *a, const struct publish_entry *b)
{
    return a->proto == b->proto && a->outside_lo <= b->outside_hi &&
           b->outside_lo <= a->outside_hi &&
           a->inside_lo - a->outside_lo != b->inside_lo - b->outside_lo;
}

static int check_contradictions(const struct publish *publish, char *why)
{
    for (size_t i = 0; i < publish->n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (contradicts(&publish->entries[i], &publish->entries[k]))
                return refuse(why, "port %u outside leads to two ports inside",
                              publish->entries[i].outside_lo);
        }
    }
    return 0;
}

int publish_parse(struct str text, struct publish *ret, char why[static ALLOW_WHY_MAX])
{
    _cleanup_(publish_done) struct publish publish = {0};
    struct str piece;
    int r;

    why[0] = '\0';
    if (str_trim(text).len > 0) {
        while (str_next(&text, ';', &piece)) {
            r = parse_map(piece, &publish, why);
            if (r < 0)
                return r;
        }
    }
    r = check_contradictions(&publish, why);
    if (r < 0)
        return r;
    *ret = publish;
    publish = (struct publish){0};
    return 0;
}
