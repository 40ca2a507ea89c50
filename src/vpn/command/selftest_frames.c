/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/selftest_frames.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define ETHERNET 14
#define PAYLOAD  48 /* bytes behind the header of the transport, padded */

#define TYPE_IP4  0x0800
#define TYPE_IP6  0x86dd
#define TYPE_VLAN 0x8100

void tag_make(const char *random, unsigned number, char ret[static TAG_LEN])
{
    static const char digits[] = "0123456789abcdef";

    ret[0] = 'l';
    ret[1] = 'k';
    for (size_t i = 0; i < TAG_RANDOM; i++)
        ret[2 + i] = random[i];
    ret[2 + TAG_RANDOM] = digits[number >> 4 & 15];
    ret[3 + TAG_RANDOM] = digits[number & 15];
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tag_find(const char *random, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i + TAG_LEN <= len; i++) {
        const uint8_t *p = bytes + i;
        int high, low;

        if (p[0] != 'l' || p[1] != 'k' || memcmp(p + 2, random, TAG_RANDOM) != 0)
            continue;
        high = hex_digit(p[2 + TAG_RANDOM]);
        low = hex_digit(p[3 + TAG_RANDOM]);
        if (high >= 0 && low >= 0)
            return high * 16 + low;
    }
    return -ENOENT;
}

/* ---- bytes ---- */

static uint8_t *put(struct frame *f, size_t n)
{
    uint8_t *p = f->bytes + f->len;

    memset(p, 0, n);
    f->len += n;
    return p;
}

static void put16(uint8_t *p, size_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static uint32_t sum(uint32_t start, const uint8_t *p, size_t len)
{
    uint32_t s = start;

    for (size_t i = 0; i < len; i++)
        s += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    return s;
}

static uint16_t fold(uint32_t s)
{
    while (s > 0xffff)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

/* Over the pseudo header too, but for ICMPv4. */
static uint16_t checksum(const struct shot *s, const uint8_t *p, size_t len)
{
    uint32_t pseudo = 0;

    if (s->protocol != IPPROTO_ICMP) {
        pseudo = sum(0, s->src.bytes, addr_size(s->src.family));
        pseudo = sum(pseudo, s->dst.bytes, addr_size(s->dst.family));
        pseudo += (uint32_t)len + s->protocol;
    }
    return fold(sum(pseudo, p, len));
}

/* ---- layers ---- */

static size_t payload_len(const struct shot *s, size_t before)
{
    return s->shape == SHAPE_BIG ? FRAME_MAX - before : PAYLOAD;
}

static void add_payload(const struct shot *s, struct frame *f)
{
    static const uint8_t end[] = {7, 'i', 'n', 'v', 'a', 'l', 'i', 'd', 0, 0, 1, 0, 1};
    size_t len = payload_len(s, f->len);
    uint8_t *p = put(f, len);

    if (s->shape != SHAPE_DNS) {
        memset(p, '.', len);
        memcpy(p, s->tag, TAG_LEN);
        return;
    }
    put16(p, s->sport); /* id */
    p[2] = 1;           /* recursion desired */
    p[5] = 1;           /* one question: TAG.invalid A IN */
    p[12] = TAG_LEN;
    memcpy(p + 13, s->tag, TAG_LEN);
    memcpy(p + 13 + TAG_LEN, end, sizeof(end));
    f->len -= len - (13 + TAG_LEN + sizeof(end));
}

static void add_transport(const struct shot *s, struct frame *f)
{
    size_t start = f->len;
    uint8_t *p = f->bytes + start;

    switch (s->protocol) {
    case IPPROTO_UDP:
        (void)put(f, 8);
        add_payload(s, f);
        put16(p, s->sport);
        put16(p + 2, s->dport);
        put16(p + 4, f->len - start);
        put16(p + 6, checksum(s, p, f->len - start));
        break;
    case IPPROTO_TCP: /* a SYN that brings data along */
        (void)put(f, 20);
        add_payload(s, f);
        put16(p, s->sport);
        put16(p + 2, s->dport);
        memcpy(p + 4, s->tag + 2, 4); /* sequence number: random of this run */
        p[12] = 5 << 4;
        p[13] = 2;
        put16(p + 14, 65535);
        put16(p + 16, checksum(s, p, f->len - start));
        break;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        (void)put(f, 8);
        add_payload(s, f);
        p[0] = s->protocol == IPPROTO_ICMP ? 8 : 128; /* echo request, or dport says the type */
        if (s->dport != 0)
            p[0] = (uint8_t)s->dport;
        put16(p + 4, s->sport);
        put16(p + 6, 1);
        put16(p + 2, checksum(s, p, f->len - start));
        break;
    default:
        add_payload(s, f);
        break;
    }
}

static void add_ip4(const struct shot *s, struct frame *f)
{
    size_t start = f->len, header = s->shape == SHAPE_OPTIONS ? 28 : 20;
    uint8_t *p = put(f, header);

    add_transport(s, f);
    p[0] = (uint8_t)(0x40 | header / 4);
    put16(p + 2, f->len - start);
    put16(p + 4, s->sport);
    if (s->shape == SHAPE_FIRST)
        put16(p + 6, 0x2000);
    else if (s->shape == SHAPE_LATER)
        put16(p + 6, 8);
    else if (s->shape == SHAPE_BIG)
        put16(p + 6, 0x4000);
    p[8] = s->ttl;
    p[9] = s->protocol;
    memcpy(p + 12, s->src.bytes, 4);
    memcpy(p + 16, s->dst.bytes, 4);
    if (s->shape == SHAPE_OPTIONS) {
        p[20] = 7; /* record route, room for one */
        p[21] = 7;
        p[22] = 4;
    }
    put16(p + 10, fold(sum(0, p, header)));
}

static void add_ip6(const struct shot *s, struct frame *f)
{
    uint8_t *p = put(f, 40), *extension = NULL;
    size_t start = f->len;

    if (s->shape == SHAPE_OPTIONS || s->shape == SHAPE_FIRST || s->shape == SHAPE_LATER)
        extension = put(f, 8);
    add_transport(s, f);
    p[0] = 0x60;
    put16(p + 4, f->len - start);
    p[6] = s->protocol;
    p[7] = s->ttl;
    memcpy(p + 8, s->src.bytes, 16);
    memcpy(p + 24, s->dst.bytes, 16);
    if (extension == NULL)
        return;
    p[6] = s->shape == SHAPE_OPTIONS ? 0 : 44; /* hop-by-hop, fragment */
    extension[0] = s->protocol;
    if (s->shape == SHAPE_OPTIONS) {
        extension[2] = 1; /* padding */
        extension[3] = 4;
    } else {
        put16(extension + 2, s->shape == SHAPE_FIRST ? 1 : 8);
        put16(extension + 6, s->sport);
    }
}

int frame_build(const struct shot *s, struct frame *ret)
{
    struct frame f = {.len = 0};
    uint16_t type = s->src.family == AF_INET ? TYPE_IP4 : TYPE_IP6;
    uint8_t *p;

    if (s->src.family != s->dst.family || addr_size(s->src.family) == 0)
        return -EINVAL;
    p = put(&f, s->shape == SHAPE_VLAN ? ETHERNET + 4 : ETHERNET);
    memcpy(p, s->to_mac, 6);
    if (s->shape == SHAPE_BROADCAST)
        memset(p, 0xff, 6);
    memcpy(p + 6, s->from_mac, 6);
    put16(p + 12, s->shape == SHAPE_VLAN ? TYPE_VLAN : type);
    if (s->shape == SHAPE_VLAN) {
        p[15] = 7;
        put16(p + 16, type);
    }
    if (type == TYPE_IP4)
        add_ip4(s, &f);
    else
        add_ip6(s, &f);
    *ret = f;
    return 0;
}
