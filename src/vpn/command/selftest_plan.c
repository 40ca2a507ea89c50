/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/selftest_plan.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"

#define SCTP 132
#define ND_ADVERTISEMENT 136 /* conntrack leaves it alone, so NAT does too */

enum who {
    QUBE,
    HERE,
    UPLINK,
    GATEWAY,
    TUNNEL,
    ENDPOINT,
    OUTSIDE,   /* 198.51.100.1, 2001:db8:51::1 */
    RESOLVER,  /* of somebody else, outside */
    VIRTUAL1,  /* the platform's name servers */
    VIRTUAL2,
    LAN,       /* 192.168.77.1, fd77::1 */
    LOOPBACK,
    LINK_LOCAL,
    ALL,       /* 255.255.255.255, ff02::1 */
    MDNS,
    SSDP,
    OTHER_QUBE, /* 10.137.255.1: an address as of a neighbour */
};

struct vector {
    enum test_class class;
    uint8_t six, protocol;
    enum who src, dst;
    uint16_t dport;
    uint8_t ttl; /* 0: 64 */
    enum shape shape;
};

#define TCP  IPPROTO_TCP
#define UDP  IPPROTO_UDP
#define PING IPPROTO_ICMP
#define PING6 IPPROTO_ICMPV6

static const struct vector vectors[] = {
    {CLASS_TCP, 0, TCP, QUBE, OUTSIDE, 443, 0, SHAPE_PLAIN},
    {CLASS_TCP, 0, TCP, QUBE, OUTSIDE, 80, 0, SHAPE_PLAIN},
    {CLASS_TCP, 0, TCP, QUBE, OUTSIDE, 22, 0, SHAPE_PLAIN},
    {CLASS_UDP, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_PLAIN},
    {CLASS_UDP, 0, UDP, QUBE, OUTSIDE, 123, 0, SHAPE_PLAIN},
    {CLASS_UDP, 0, UDP, QUBE, OUTSIDE, 67, 0, SHAPE_PLAIN},
    {CLASS_PING, 0, PING, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PING, 0, PING, QUBE, OUTSIDE, 13, 0, SHAPE_PLAIN},
    {CLASS_DNS, 0, UDP, QUBE, VIRTUAL1, 53, 0, SHAPE_DNS},
    {CLASS_DNS, 0, UDP, QUBE, VIRTUAL2, 53, 0, SHAPE_DNS},
    {CLASS_DNS, 0, TCP, QUBE, VIRTUAL1, 53, 0, SHAPE_PLAIN},
    {CLASS_DNS, 0, TCP, QUBE, VIRTUAL1, 853, 0, SHAPE_PLAIN},
    {CLASS_DNS, 0, UDP, QUBE, VIRTUAL2, 5353, 0, SHAPE_DNS},
    {CLASS_OTHER_DNS, 0, UDP, QUBE, RESOLVER, 53, 0, SHAPE_DNS},
    {CLASS_OTHER_DNS, 0, TCP, QUBE, RESOLVER, 853, 0, SHAPE_PLAIN},
    {CLASS_OTHER_DNS, 0, UDP, QUBE, GATEWAY, 53, 0, SHAPE_DNS},
    {CLASS_OTHER_DNS, 0, UDP, QUBE, HERE, 53, 0, SHAPE_DNS},
    {CLASS_OTHER_DNS, 1, UDP, QUBE, RESOLVER, 53, 0, SHAPE_DNS},
    {CLASS_IPV6, 1, TCP, QUBE, OUTSIDE, 443, 0, SHAPE_PLAIN},
    {CLASS_IPV6, 1, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_PLAIN},
    {CLASS_IPV6, 1, PING6, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_IPV6, 1, PING6, QUBE, OUTSIDE, ND_ADVERTISEMENT, 255, SHAPE_PLAIN},
    {CLASS_IPV6, 1, UDP, QUBE, GATEWAY, 53, 0, SHAPE_DNS},
    {CLASS_IPV6, 1, UDP, QUBE, LAN, 443, 0, SHAPE_PLAIN},
    {CLASS_IPV6, 1, UDP, LINK_LOCAL, OUTSIDE, 443, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, UDP, QUBE, GATEWAY, 9, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, TCP, QUBE, GATEWAY, 80, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, PING, QUBE, GATEWAY, 0, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, UDP, QUBE, LAN, 9, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, TCP, QUBE, UPLINK, 80, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, UDP, QUBE, LOOPBACK, 53, 0, SHAPE_PLAIN},
    {CLASS_LAN, 0, UDP, QUBE, OTHER_QUBE, 9, 0, SHAPE_PLAIN},
    {CLASS_ENDPOINT, 0, UDP, QUBE, ENDPOINT, 1, 0, SHAPE_PLAIN},
    {CLASS_ENDPOINT, 0, TCP, QUBE, ENDPOINT, 443, 0, SHAPE_PLAIN},
    {CLASS_ENDPOINT, 0, UDP, QUBE, ENDPOINT, 0, 0, SHAPE_PLAIN}, /* port 0: the carrier's own */
    {CLASS_ENDPOINT, 0, PING, QUBE, ENDPOINT, 3, 0, SHAPE_PLAIN},
    {CLASS_ENDPOINT, 1, UDP, QUBE, ENDPOINT, 0, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, OUTSIDE, RESOLVER, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, TCP, OUTSIDE, HERE, 80, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, OUTSIDE, HERE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, PING, OUTSIDE, HERE, 0, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, OUTSIDE, RESOLVER, 9, 1, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, UPLINK, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, TUNNEL, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, GATEWAY, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, ENDPOINT, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, LOOPBACK, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 0, UDP, OTHER_QUBE, OUTSIDE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 1, UDP, OUTSIDE, HERE, 9, 0, SHAPE_PLAIN},
    {CLASS_SPOOF, 1, PING6, OUTSIDE, HERE, 0, 0, SHAPE_PLAIN},
    {CLASS_FRAGMENT, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_FIRST},
    {CLASS_FRAGMENT, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_LATER},
    {CLASS_FRAGMENT, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_OPTIONS},
    {CLASS_FRAGMENT, 1, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_LATER},
    {CLASS_FRAGMENT, 1, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_OPTIONS},
    {CLASS_PROTOCOL, 0, IPPROTO_GRE, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 0, IPPROTO_IPIP, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 0, IPPROTO_IPV6, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 0, IPPROTO_ESP, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 0, SCTP, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 0, 253, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN}, /* RFC 3692 */
    {CLASS_PROTOCOL, 0, IPPROTO_IPIP, QUBE, HERE, 0, 0, SHAPE_PLAIN},
    {CLASS_PROTOCOL, 1, IPPROTO_GRE, QUBE, OUTSIDE, 0, 0, SHAPE_PLAIN},
    {CLASS_BROADCAST, 0, UDP, QUBE, ALL, 68, 0, SHAPE_BROADCAST},
    {CLASS_BROADCAST, 0, UDP, QUBE, MDNS, 5353, 1, SHAPE_BROADCAST},
    {CLASS_BROADCAST, 0, UDP, QUBE, SSDP, 1900, 4, SHAPE_BROADCAST},
    {CLASS_BROADCAST, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_BROADCAST},
    {CLASS_BROADCAST, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_VLAN},
    {CLASS_BROADCAST, 1, UDP, QUBE, MDNS, 5353, 1, SHAPE_BROADCAST},
    {CLASS_BROADCAST, 1, UDP, QUBE, ALL, 9, 1, SHAPE_BROADCAST},
    {CLASS_ERROR, 0, UDP, QUBE, OUTSIDE, 443, 1, SHAPE_PLAIN},
    {CLASS_ERROR, 0, UDP, QUBE, OUTSIDE, 443, 0, SHAPE_BIG},
    {CLASS_ERROR, 0, UDP, QUBE, HERE, 9, 0, SHAPE_PLAIN},
    {CLASS_ERROR, 0, TCP, QUBE, HERE, 8082, 0, SHAPE_PLAIN},
    {CLASS_ERROR, 1, UDP, QUBE, OUTSIDE, 443, 1, SHAPE_PLAIN},
    {CLASS_ERROR, 1, UDP, QUBE, HERE, 9, 0, SHAPE_PLAIN},
};

const struct addr test_own4 = {AF_INET, {198, 51, 100, 99}},
                  test_own6 = {AF_INET6, {0x20, 0x01, 0x0d, 0xb8, 0, 0x51, [15] = 0x99}};

const char *test_class_name(enum test_class c)
{
    static const char *const names[TEST_CLASSES] = {
        [CLASS_TCP] = "connections (TCP)",
        [CLASS_UDP] = "UDP",
        [CLASS_PING] = "pings (ICMP)",
        [CLASS_DNS] = "names, asked as Qubes does",
        [CLASS_OTHER_DNS] = "names, asked elsewhere",
        [CLASS_IPV6] = "IPv6",
        [CLASS_LAN] = "the uplink's gateway and LAN",
        [CLASS_ENDPOINT] = "the VPN server's own address",
        [CLASS_SPOOF] = "made-up senders",
        [CLASS_FRAGMENT] = "fragments and options",
        [CLASS_PROTOCOL] = "other protocols and tunnels",
        [CLASS_BROADCAST] = "broadcast, multicast, odd frames",
        [CLASS_ERROR] = "what makes this kernel answer",
        [CLASS_LOCAL] = "programs of this qube",
    };

    return c < TEST_CLASSES ? names[c] : "";
}

static struct addr fixed(const char *text)
{
    struct addr a = {0};

    (void)addr_parse(str_from(text), &a);
    return a;
}

static struct addr resolve(const struct test_place *p, enum who who, bool six)
{
    static const struct {
        const char *four, *six;
    } texts[] = {
        [OUTSIDE] = {"198.51.100.1", "2001:db8:51::1"},
        [RESOLVER] = {"192.0.2.53", "2001:db8:52::53"},
        [VIRTUAL1] = {"10.139.1.1", ""},
        [VIRTUAL2] = {"10.139.1.2", ""},
        [LAN] = {"192.168.77.1", "fd77::1"},
        [LOOPBACK] = {"127.0.0.1", "::1"},
        [LINK_LOCAL] = {"169.254.7.7", "fe80::7"},
        [ALL] = {"255.255.255.255", "ff02::1"},
        [MDNS] = {"224.0.0.251", "ff02::fb"},
        [SSDP] = {"239.255.255.250", "ff02::c"},
        [OTHER_QUBE] = {"10.137.255.1", "fd09:24ef:4179::a89:ff01"},
    };
    struct addr none = {0};

    switch (who) {
    case QUBE:
        return six ? p->qube6 : p->qube4;
    case HERE:
        return six ? p->here6 : p->here4;
    case UPLINK:
        return six ? p->uplink6 : p->uplink4;
    case GATEWAY:
        return six ? p->gateway6 : p->gateway4;
    case TUNNEL:
        return six ? none : p->tunnel4;
    case ENDPOINT:
        return p->endpoint.family == (six ? AF_INET6 : AF_INET) ? p->endpoint : none;
    case OUTSIDE:
    case RESOLVER:
    case VIRTUAL1:
    case VIRTUAL2:
    case LAN:
    case LOOPBACK:
    case LINK_LOCAL:
    case ALL:
    case MDNS:
    case SSDP:
    case OTHER_QUBE:
        return fixed(six ? texts[who].six : texts[who].four);
    }
    return none;
}

static bool take_shot(const struct test_place *p, size_t i, struct shot *ret)
{
    const struct vector *v = &vectors[i];
    struct shot s = {.protocol = v->protocol, .dport = v->dport, .shape = v->shape};

    s.src = resolve(p, v->src, v->six != 0);
    s.dst = resolve(p, v->dst, v->six != 0);
    if (s.src.family == 0 || s.dst.family == 0)
        return false;
    if (v->dst == ENDPOINT && v->dport == 0) {
        s.dport = p->endpoint_port;
        s.protocol = p->endpoint_protocol;
    }
    memcpy(s.to_mac, p->vif_mac, 6);
    memcpy(s.from_mac, p->qube_mac, 6);
    s.sport = (uint16_t)(40000 + i);
    s.ttl = v->ttl != 0 ? v->ttl : 64;
    tag_make(p->random, v->class, s.tag);
    *ret = s;
    return true;
}

int test_plan(const struct test_place *place, test_shot_fn fn, void *user)
{
    struct shot s;
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(vectors) && r >= 0; i++) {
        if (take_shot(place, i, &s))
            r = fn(vectors[i].class, &s, user);
    }
    return r < 0 ? r : 0;
}

int test_plan_aims_at(const struct test_place *place, const struct addr *a)
{
    static const enum who aims[] = {OUTSIDE, RESOLVER, LAN, OTHER_QUBE};

    if (addr_equal(a, &test_own4) || addr_equal(a, &test_own6))
        return CLASS_LOCAL;
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        struct addr dst = resolve(place, vectors[i].dst, vectors[i].six != 0);

        if (!addr_equal(&dst, a))
            continue;
        for (size_t k = 0; k < ARRAY_SIZE(aims); k++) {
            if (aims[k] == vectors[i].dst)
                return (int)vectors[i].class;
        }
    }
    return -ENOENT;
}
