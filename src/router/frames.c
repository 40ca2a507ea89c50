/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/frames.h"

#include <string.h>

#include "base/cursor.h"

#define ETHERTYPE_ARP_BE  0x0806
#define ETHERTYPE_IP6_BE  0x86dd
#define ARP_REQUEST       1
#define ARP_REPLY         2
#define NEXT_HEADER_ICMP6 58
#define ND_SOLICIT        135
#define ND_ADVERTISE      136
#define ND_FLAG_ROUTER    0x80
#define ND_FLAG_SOLICITED 0x40
#define ND_FLAG_OVERRIDE  0x20
#define ND_OPTION_TARGET  2
#define IP6_HEADER        40
#define ND_BODY           24 /* type, code, checksum, flags, target */

static const uint8_t broadcast[MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void put(struct frame *f, const void *bytes, size_t len)
{
    memcpy(f->bytes + f->len, bytes, len);
    f->len += len;
}

static void put_u8(struct frame *f, unsigned v)
{
    uint8_t b = (uint8_t)v;

    put(f, &b, 1);
}

static void put_u16(struct frame *f, unsigned v)
{
    put_u8(f, v >> 8);
    put_u8(f, v & 0xff);
}

static void put_ethernet(struct frame *f, const uint8_t *to, const uint8_t *from, unsigned type)
{
    f->len = 0;
    put(f, to, MAC_SIZE);
    put(f, from, MAC_SIZE);
    put_u16(f, type);
}

static void put_arp(struct frame *f, unsigned op, const uint8_t *sender_mac,
                    const uint8_t *sender_ip, const uint8_t *target_mac, const uint8_t *target_ip)
{
    put_u16(f, 1); /* Ethernet */
    put_u16(f, 0x0800);
    put_u8(f, MAC_SIZE);
    put_u8(f, 4);
    put_u16(f, op);
    put(f, sender_mac, MAC_SIZE);
    put(f, sender_ip, 4);
    put(f, target_mac, MAC_SIZE);
    put(f, target_ip, 4);
}

static uint16_t checksum(const uint8_t *ip6, size_t icmp_len)
{
    uint32_t sum = (uint32_t)icmp_len + NEXT_HEADER_ICMP6;
    const uint8_t *p = ip6 + 8; /* both addresses and the message behind them are contiguous */
    size_t len = 32 + icmp_len;

    for (size_t i = 0; i < len; i++)
        sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Link-layer header, IPv6 header and the fixed part of an ND message without its checksum. */
static void put_nd(struct frame *f, const uint8_t *mac, const uint8_t *from, const uint8_t *to,
                   unsigned type, unsigned flags, const uint8_t *target, size_t options)
{
    uint8_t to_mac[MAC_SIZE] = {0x33, 0x33, to[12], to[13], to[14], to[15]};
    static const uint8_t zero[3];

    put_ethernet(f, to_mac, mac, ETHERTYPE_IP6_BE);
    put_u16(f, 0x6000); /* version 6 */
    put_u16(f, 0);
    put_u16(f, (unsigned)(ND_BODY + options));
    put_u8(f, NEXT_HEADER_ICMP6);
    put_u8(f, 255); /* hop limit: receivers drop anything else */
    put(f, from, 16);
    put(f, to, 16);
    put_u8(f, type);
    put_u8(f, 0);
    put_u16(f, 0);
    put_u8(f, flags);
    put(f, zero, sizeof(zero));
    put(f, target, 16);
}

static void finish_nd(struct frame *f)
{
    size_t at = 14 + IP6_HEADER;
    uint16_t sum = checksum(f->bytes + 14, f->len - at);

    f->bytes[at + 2] = (uint8_t)(sum >> 8);
    f->bytes[at + 3] = (uint8_t)(sum & 0xff);
}

static void probe_ip6(const struct addr *addr, const uint8_t *mac, struct frame *f)
{
    static const uint8_t nobody[16];
    uint8_t to[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}; /* solicited-node */

    memcpy(to + 13, addr->bytes + 13, 3);
    put_nd(f, mac, nobody, to, ND_SOLICIT, 0, addr->bytes, 0);
    finish_nd(f);
}

static void announce_ip6(const struct addr *addr, const uint8_t *mac, struct frame *f)
{
    static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

    put_nd(f, mac, addr->bytes, all_nodes, ND_ADVERTISE, ND_FLAG_ROUTER | ND_FLAG_OVERRIDE,
           addr->bytes, 8);
    put_u8(f, ND_OPTION_TARGET);
    put_u8(f, 1); /* units of 8 bytes */
    put(f, mac, MAC_SIZE);
    finish_nd(f);
}

void frame_probe(const struct addr *addr, const uint8_t mac[static MAC_SIZE], struct frame *ret)
{
    static const uint8_t nobody[4], unknown[MAC_SIZE];

    if (addr->family == AF_INET6) {
        probe_ip6(addr, mac, ret);
        return;
    }
    put_ethernet(ret, broadcast, mac, ETHERTYPE_ARP_BE);
    put_arp(ret, ARP_REQUEST, mac, nobody, unknown, addr->bytes);
}

void frame_announce(const struct addr *addr, const uint8_t mac[static MAC_SIZE], struct frame *ret)
{
    static const uint8_t unknown[MAC_SIZE];

    if (addr->family == AF_INET6) {
        announce_ip6(addr, mac, ret);
        return;
    }
    put_ethernet(ret, broadcast, mac, ETHERTYPE_ARP_BE);
    put_arp(ret, ARP_REQUEST, mac, addr->bytes, unknown, addr->bytes);
}

void frame_defend(const struct addr *addr, const uint8_t mac[static MAC_SIZE],
                  const uint8_t asker[static MAC_SIZE], struct frame *ret)
{
    static const uint8_t nobody[4];

    put_ethernet(ret, asker, mac, ETHERTYPE_ARP_BE);
    put_arp(ret, ARP_REPLY, mac, addr->bytes, asker, nobody);
}

static bool is_zero(const uint8_t *p, size_t len)
{
    while (len > 0 && *p == 0) {
        p++;
        len--;
    }
    return len == 0;
}

static bool mac_is_host(const uint8_t *mac)
{
    return !(mac[0] & 1) && !is_zero(mac, MAC_SIZE);
}

static enum frame_kind parse_arp(struct cursor *c, struct addr *ret_addr, uint8_t *ret_mac)
{
    uint8_t mac[MAC_SIZE], sender[4], target[4];
    bool shape = cursor_u16be(c) == 1;
    unsigned op;

    shape = cursor_u16be(c) == 0x0800 && shape;
    shape = cursor_u8(c) == MAC_SIZE && shape;
    shape = cursor_u8(c) == 4 && shape;
    op = cursor_u16be(c);
    cursor_copy(c, mac, sizeof(mac));
    cursor_copy(c, sender, sizeof(sender));
    (void)cursor_take(c, MAC_SIZE);
    cursor_copy(c, target, sizeof(target));
    if (!cursor_ok(c) || !shape || (op != ARP_REQUEST && op != ARP_REPLY) || !mac_is_host(mac))
        return FRAME_OTHER;
    if (is_zero(sender, sizeof(sender)) && op != ARP_REQUEST)
        return FRAME_OTHER;
    memcpy(ret_mac, mac, MAC_SIZE);
    if (!is_zero(sender, sizeof(sender))) {
        (void)addr_from_bytes(AF_INET, sender, sizeof(sender), ret_addr);
        return FRAME_CLAIM;
    }
    (void)addr_from_bytes(AF_INET, target, sizeof(target), ret_addr);
    return FRAME_PROBE;
}

/* The target link-layer address option, when there is one of the right size. */
static enum frame_kind parse_options(struct cursor *c, uint8_t *mac)
{
    while (c->left > 0) {
        uint8_t type = cursor_u8(c);
        size_t len = (size_t)cursor_u8(c) * 8;
        const uint8_t *body;

        if (len == 0) /* RFC 4861 4.6: such a message is to be dropped */
            return FRAME_OTHER;
        body = cursor_take(c, len - 2);
        if (body == NULL)
            return FRAME_OTHER;
        if (type == ND_OPTION_TARGET && len == 8 && mac_is_host(body))
            memcpy(mac, body, MAC_SIZE);
    }
    return FRAME_CLAIM;
}

static enum frame_kind parse_nd(const uint8_t *source_mac, struct cursor *c, struct addr *ret_addr,
                                uint8_t *ret_mac)
{
    const uint8_t *ip6 = c->p;
    const uint8_t *header = cursor_take(c, IP6_HEADER);
    enum frame_kind kind = FRAME_OTHER;
    uint8_t mac[MAC_SIZE], target[16];
    size_t len;
    unsigned type, code;

    if (header == NULL || header[0] >> 4 != 6 || header[6] != NEXT_HEADER_ICMP6 || header[7] != 255)
        return FRAME_OTHER;
    len = (size_t)header[4] << 8 | header[5];
    if (len < ND_BODY || len > c->left || checksum(ip6, len) != 0)
        return FRAME_OTHER;
    c->left = len; /* padding of short frames is not part of the message */
    type = cursor_u8(c);
    code = cursor_u8(c);
    (void)cursor_take(c, 6);
    cursor_copy(c, target, sizeof(target));
    if (code != 0 || target[0] == 0xff || !mac_is_host(source_mac))
        return FRAME_OTHER;
    memcpy(mac, source_mac, MAC_SIZE);
    if (type == ND_SOLICIT && is_zero(header + 8, 16))
        kind = FRAME_PROBE;
    else if (type == ND_ADVERTISE)
        kind = parse_options(c, mac);
    if (kind == FRAME_OTHER)
        return kind;
    (void)addr_from_bytes(AF_INET6, target, sizeof(target), ret_addr);
    memcpy(ret_mac, mac, MAC_SIZE);
    return kind;
}

enum frame_kind frame_parse(const void *bytes, size_t len, struct addr *ret_addr,
                            uint8_t ret_mac[static MAC_SIZE])
{
    struct cursor c = cursor_from(bytes, len);
    uint8_t source[MAC_SIZE];
    unsigned type;

    (void)cursor_take(&c, MAC_SIZE);
    cursor_copy(&c, source, sizeof(source));
    type = cursor_u16be(&c);
    if (!cursor_ok(&c))
        return FRAME_OTHER;
    if (type == ETHERTYPE_ARP_BE)
        return parse_arp(&c, ret_addr, ret_mac);
    if (type == ETHERTYPE_IP6_BE)
        return parse_nd(source, &c, ret_addr, ret_mac);
    return FRAME_OTHER;
}
