/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge. Only what breaks something is refused: providers use 10/8, 100.64/10, 172.16/12,
 * 192.168/16, fd00::/8, fc00::/8 and public addresses of their own, and a qube's address that is in
 * use nearby is refused one by one, not by Qubes' whole ranges (10.128/10 is some provider's, too).
 * A public IPv4 address is taken: it hides the one host that owns it, from the qubes only, and a
 * server that wanted to hide a host could as well drop its packets.
 */
#include "vpn/profile/pushed.h"

#include <errno.h>

#include "base/cleanup.h"

#define MTU_IPV6_MIN 1280 /* RFC 8200 5 */

#define leave_out(findings, word, ...)                                                             \
    findings_add(findings, FINDING_LEFT_OUT, 0, word, __VA_ARGS__)
#define note(findings, word, ...) findings_add(findings, FINDING_NOTE, 0, word, __VA_ARGS__)

/* Why the address cannot be one inside the tunnel; NULL: it can. */
static const char *why_not(const struct addr *a, const struct surroundings *around)
{
    const char *why = addr_why_unusable(a);

    for (size_t i = 0; i < around->n_taken && why == NULL; i++)
        if (addr_equal(&around->taken[i], a))
            why = "is in use outside the tunnel: by a qube, an uplink, the VPN server, a resolver";
    for (size_t i = 0; i < around->n_uplinks && why == NULL; i++)
        if (around->uplinks[i].len > 0 && prefix_contains(&around->uplinks[i], a))
            why = "is in the network of an uplink";
    return why;
}

static bool is_public4(const struct addr *a)
{
    static const struct prefix ranges[] = {
        {{AF_INET, {10}}, 8},
        {{AF_INET, {100, 64}}, 10},
        {{AF_INET, {172, 16}}, 12},
        {{AF_INET, {192, 168}}, 16},
    };

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        if (prefix_contains(&ranges[i], a))
            return false;
    return a->family == AF_INET;
}

/* One address of the tunnel; the length is ours: nothing is on the link but this end. */
static void judge_address(const struct prefix *pushed, int family, const char *word,
                          const struct surroundings *around, struct findings *findings,
                          struct prefix *ret)
{
    const struct addr *a = &pushed->addr;
    char shown[ADDR_STR_MAX];
    const char *why;

    if (a->family == 0)
        return;
    why = a->family == family ? why_not(a, around) : "is of the wrong family";
    if (why != NULL) {
        leave_out(findings, str_from(word), "%s %s", addr_format(a, shown), why);
        return;
    }
    if (is_public4(a))
        note(findings, str_from(word), "%s is public: qubes cannot reach the host that owns it",
             addr_format(a, shown));
    *ret = (struct prefix){*a, addr_bits(family)};
}

static void judge_mtu(uint32_t mtu, struct findings *findings, struct tunnel_facts *t)
{
    if (mtu == 0)
        mtu = WISH_MTU_MAX;
    t->mtu = (uint16_t)(mtu < WISH_MTU_MIN   ? WISH_MTU_MIN
                        : mtu > WISH_MTU_MAX ? WISH_MTU_MAX
                                             : mtu);
    if (t->mtu != mtu)
        note(findings, STR_LITERAL("MTU"), "%u is out of bounds: %u is used", mtu, t->mtu);
    if (t->mtu < MTU_IPV6_MIN && t->addr6.addr.family != 0) {
        leave_out(findings, STR_LITERAL("IPv6 address"), "IPv6 needs an MTU of %d, here it is %u",
                  MTU_IPV6_MIN, t->mtu);
        t->addr6 = (struct prefix){0};
    }
}

static void judge_peer(const struct addr *peer, const struct surroundings *around,
                       struct findings *findings, struct tunnel_facts *t)
{
    char shown[ADDR_STR_MAX];
    const char *why;

    if (peer->family == 0 || t->addr4.addr.family == 0)
        return;
    why = peer->family != AF_INET ? "is of the wrong family" : why_not(peer, around);
    if (why == NULL && addr_equal(peer, &t->addr4.addr))
        why = "is this end's own address";
    if (why != NULL)
        leave_out(findings, STR_LITERAL("peer address"), "%s %s", addr_format(peer, shown), why);
    else
        t->peer4 = *peer;
}

static void judge_dns(const struct pushed *p, const struct surroundings *around,
                      struct findings *findings, struct tunnel_facts *t)
{
    const struct str word = STR_LITERAL("name server");
    char shown[ADDR_STR_MAX];

    for (size_t i = 0; i < p->n_dns && i < PUSHED_DNS_MAX; i++) {
        const struct addr *a = &p->dns[i];
        const char *why = NULL;

        if (a->family == AF_INET6)
            why = "is not used: qubes ask by IPv4";
        else if (t->addr4.addr.family == 0)
            why = "is not used: the tunnel does not carry IPv4";
        else if (addr_equal(a, &t->addr4.addr))
            why = "is this end's own address";
        else
            why = why_not(a, around);
        for (size_t k = 0; k < t->n_dns && why == NULL; k++)
            if (addr_equal(a, &t->dns[k]))
                why = "is named twice";
        if (why == NULL && t->n_dns == WISH_DNS_MAX)
            why = "is not used: qubes know two name servers";
        if (why != NULL)
            leave_out(findings, word, "%s %s", addr_format(a, shown), why);
        else
            t->dns[t->n_dns++] = *a;
    }
    if (p->more_dns > 0)
        leave_out(findings, word, "%zu more than anybody needs are not used", p->more_dns);
    if (t->n_dns == 0)
        note(findings, word, "none that qubes can ask: their look-ups go nowhere");
}

int pushed_judge(const struct pushed *p, const struct surroundings *around,
                 struct findings *findings, struct tunnel_facts *ret)
{
    struct tunnel_facts t = {0};

    judge_address(&p->addr4, AF_INET, "address", around, findings, &t.addr4);
    judge_address(&p->addr6, AF_INET6, "IPv6 address", around, findings, &t.addr6);
    judge_mtu(p->mtu, findings, &t);
    if (t.addr4.addr.family == 0 && t.addr6.addr.family == 0) {
        findings_add(findings, FINDING_REFUSED, 0, STR_LITERAL("address"),
                     "none that can be used: the tunnel stays closed");
        return -EINVAL;
    }
    judge_peer(&p->peer4, around, findings, &t);
    judge_dns(p, around, findings, &t);
    if (p->n_routes > 0)
        note(findings, STR_LITERAL("routes"),
             "%zu are not used: all of the qubes' traffic goes into the tunnel", p->n_routes);
    if (p->n_unknown > 0)
        note(findings, STR_LITERAL("options"), "%zu have no use here", p->n_unknown);
    *ret = t;
    return 0;
}
