/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/addr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

size_t addr_size(int family)
{
    return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

uint8_t addr_bits(int family)
{
    return (uint8_t)(addr_size(family) * 8);
}

int addr_from_bytes(int family, const void *bytes, size_t len, struct addr *ret)
{
    if (addr_size(family) == 0 || len != addr_size(family))
        return -EINVAL;
    *ret = (struct addr){.family = (uint8_t)family};
    memcpy(ret->bytes, bytes, len);
    return 0;
}

int addr_parse(struct str text, struct addr *ret)
{
    char buf[ADDR_STR_MAX];
    uint8_t bytes[16];
    int family;

    if (text.len == 0 || text.len >= sizeof(buf) || memchr(text.p, '\0', text.len) != NULL)
        return -EINVAL;
    memcpy(buf, text.p, text.len);
    buf[text.len] = '\0';
    family = strchr(buf, ':') != NULL ? AF_INET6 : AF_INET;
    /* inet_pton takes no scope id, no leading zeros and no short forms of IPv4 */
    if (inet_pton(family, buf, bytes) != 1)
        return -EINVAL;
    return addr_from_bytes(family, bytes, addr_size(family), ret);
}

const char *addr_format(const struct addr *a, char buf[static ADDR_STR_MAX])
{
    if (addr_size(a->family) == 0 || inet_ntop(a->family, a->bytes, buf, ADDR_STR_MAX) == NULL)
        (void)snprintf(buf, ADDR_STR_MAX, "-");
    return buf;
}

int addr_compare(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    return addr_compare(a, b) == 0;
}

bool prefix_contains(const struct prefix *p, const struct addr *a)
{
    size_t whole = p->len / 8;
    unsigned rest = p->len % 8;

    if (p->addr.family != a->family || p->len > addr_bits(a->family))
        return false;
    if (memcmp(p->addr.bytes, a->bytes, whole) != 0)
        return false;
    return rest == 0 || ((p->addr.bytes[whole] ^ a->bytes[whole]) >> (8 - rest)) == 0;
}

void prefix_range(const struct prefix *p, struct addr *ret_first, struct addr *ret_last)
{
    struct addr first = p->addr, last = p->addr;

    for (size_t i = 0; i < addr_size(p->addr.family); i++) {
        unsigned bits = p->len >= (i + 1) * 8 ? 8 : p->len > i * 8 ? p->len - (unsigned)i * 8 : 0;
        uint8_t mask = (uint8_t)(0xff00u >> bits);

        first.bytes[i] = (uint8_t)(first.bytes[i] & mask);
        last.bytes[i] = (uint8_t)(last.bytes[i] | (uint8_t)~mask);
    }
    *ret_first = first;
    *ret_last = last;
}

int prefix_parse(struct str text, struct prefix *ret)
{
    const char *slash = text.len > 0 ? memchr(text.p, '/', text.len) : NULL;
    struct str head = text;
    struct prefix p = {0};
    struct addr first, last;
    uint32_t len;
    int r;

    if (slash != NULL)
        head.len = (size_t)(slash - text.p);
    r = addr_parse(head, &p.addr);
    if (r < 0)
        return r;
    len = addr_bits(p.addr.family);
    if (slash != NULL) {
        r = str_to_u32((struct str){slash + 1, text.len - head.len - 1}, len, &len);
        if (r < 0)
            return -EINVAL;
    }
    p.len = (uint8_t)len;
    prefix_range(&p, &first, &last);
    if (!addr_equal(&first, &p.addr))
        return -EINVAL;
    *ret = p;
    return 0;
}

const char *prefix_format(const struct prefix *p, char buf[static PREFIX_STR_MAX])
{
    char text[ADDR_STR_MAX];

    if (p->len == addr_bits(p->addr.family))
        (void)snprintf(buf, PREFIX_STR_MAX, "%s", addr_format(&p->addr, text));
    else
        (void)snprintf(buf, PREFIX_STR_MAX, "%s/%u", addr_format(&p->addr, text), p->len);
    return buf;
}

static const struct {
    const char *prefix;
    const char *why;
} unusable[] = {
    {"0.0.0.0/8", "is in 0.0.0.0/8, which no host can have"},
    {"127.0.0.0/8", "is a loopback address"},
    {"169.254.0.0/16", "is link-local and cannot be routed"},
    {"224.0.0.0/4", "is a multicast address"},
    {"240.0.0.0/4", "is reserved or broadcast"},
    {"10.139.1.1", "is Qubes' virtual name server"},
    {"10.139.1.2", "is Qubes' virtual name server"},
    {"::ffff:0:0/96", "is an IPv4 address written as IPv6: write it as IPv4"},
    {"::/96", "is unspecified, loopback or IPv4-compatible"},
    {"64:ff9b::/96", "is a NAT64 translation address"},
    {"fe80::/10", "is link-local and cannot be routed"},
    {"fec0::/10", "is site-local, which is not used any more"},
    {"ff00::/8", "is a multicast address"},
};

const char *addr_why_unusable(const struct addr *a)
{
    for (size_t i = 0; i < ARRAY_SIZE(unusable); i++) {
        struct prefix p;

        if (prefix_parse(str_from(unusable[i].prefix), &p) == 0 && prefix_contains(&p, a))
            return unusable[i].why;
    }
    return addr_size(a->family) == 0 ? "is no address" : NULL;
}
