/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * explain: where a packet of a qube would go, and why. The kernel's own routing is asked, as it
 * would decide for a packet that comes in by the qube's vif; then the seal, what it lets through.
 * Source: UAPI rtnetlink.h (RTM_GETROUTE with RTA_IIF), rtnetlink(7).
 */
#include "vpn/command/explain.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/attr.h"
#include "netlink/nl.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/command/sealed.h"
#include "vpn/wish/wish.h"

struct route {
    int error; /* 0, or what the kernel says: -EINVAL is a blackhole */
    uint8_t type;
    uint32_t oif, table;
    char device[IFNAMSIZ];
};

static const struct attr_rule policy[] = {
    [RTA_OIF] = {4, 4},
    [RTA_TABLE] = {4, 4},
};

static int take_route(const struct nlmsghdr *nlh, void *user)
{
    struct attr tb[ARRAY_SIZE(policy)];
    struct route *route = user;
    struct rtmsg rtm;
    int r;

    if (nlh->nlmsg_type != RTM_NEWROUTE)
        return 0;
    r = attr_parse_message(nlh, &rtm, sizeof(rtm), policy, ARRAY_SIZE(policy), tb);
    if (r < 0)
        return r;
    route->type = rtm.rtm_type;
    route->oif = attr_u32(tb[RTA_OIF]);
    route->table = tb[RTA_TABLE].p != NULL ? attr_u32(tb[RTA_TABLE]) : rtm.rtm_table;
    return 0;
}

/* src, iif: as of a packet that is forwarded; both absent: this qube's own. */
static int ask_route(struct nl_sock *s, const struct addr *dst, const struct addr *src,
                     uint32_t iif, struct route *ret)
{
    uint8_t buf[256] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
    struct route route = {0};

    nlh->nlmsg_type = RTM_GETROUTE;
    rtm->rtm_family = dst->family;
    rtm->rtm_dst_len = addr_bits(dst->family);
    rtm->rtm_src_len = src != NULL ? addr_bits(src->family) : 0;
    rtm->rtm_flags = dst->family == AF_INET ? RTM_F_LOOKUP_TABLE : 0; /* IPv6 always tells it */
    mnl_attr_put(nlh, RTA_DST, addr_size(dst->family), dst->bytes);
    if (src != NULL)
        mnl_attr_put(nlh, RTA_SRC, addr_size(src->family), src->bytes);
    if (iif != 0)
        mnl_attr_put_u32(nlh, RTA_IIF, iif);
    route.error = nl_query(s, nlh, take_route, &route);
    if (route.error == -EPERM || route.error == -ENOMEM || route.error == -EAGAIN)
        return route.error;
    if (route.oif != 0 && if_indextoname(route.oif, route.device) == NULL)
        (void)snprintf(route.device, sizeof(route.device), "%" PRIu32, route.oif);
    *ret = route;
    return 0;
}

/* ---- what it means ---- */

enum way { WAY_TUNNEL, WAY_NOWHERE, WAY_HERE, WAY_QUBE, WAY_UPLINK };

static const char *const way_names[] = {
    [WAY_TUNNEL] = "tunnel",     [WAY_NOWHERE] = "nowhere", [WAY_HERE] = "this-qube",
    [WAY_QUBE] = "another-qube", [WAY_UPLINK] = "uplink",
};

struct explanation {
    struct addr qube;
    struct destination to;
    const char *host;
    char vif[IFNAMSIZ];
    struct route route;
    enum way way;
    enum sealed sealed;
    char why[300];
    json_t *report; /* of the seal, may be NULL */
};

static void explanation_done(struct explanation *e)
{
    json_decref(e->report);
}

static enum way way_of(const struct route *route)
{
    if (route->error < 0 || route->type == RTN_BLACKHOLE || route->type == RTN_UNREACHABLE ||
        route->type == RTN_PROHIBIT)
        return WAY_NOWHERE;
    if (route->type == RTN_LOCAL || route->type == RTN_BROADCAST || route->type == RTN_MULTICAST)
        return WAY_HERE;
    if (strcmp(route->device, SEAL_TUNNEL) == 0)
        return WAY_TUNNEL;
    return strncmp(route->device, "vif", 3) == 0 ? WAY_QUBE : WAY_UPLINK;
}

static const char *route_words(const struct route *route, char *buf, size_t size)
{
    if (route->error == -EINVAL || (route->error == 0 && route->type == RTN_BLACKHOLE))
        (void)snprintf(buf, size, "dropped: the seal's routing leads nowhere");
    else if (route->error == -EHOSTUNREACH || route->error == -ENETUNREACH)
        (void)snprintf(buf, size, "dropped: no route, or forwarding is off");
    else if (route->error < 0)
        (void)snprintf(buf, size, "dropped: %s", strerror(-route->error));
    else
        (void)snprintf(buf, size, "%s, by table %" PRIu32,
                       route->device[0] != '\0' ? route->device : "nowhere", route->table);
    return buf;
}

static const char *dns_of(const struct explanation *e, char *buf, size_t size)
{
    return say_join(json_object_get(json_object_get(e->report, "open"), "dns"), buf, size);
}

static void print_meaning(const struct explanation *e)
{
    char dns[128];

    switch (e->way) {
    case WAY_TUNNEL:
        if (destination_is_dns(&e->to) && dns_of(e, dns, sizeof(dns))[0] != '\0')
            printf("It is a question for a name server: asked instead is that of the VPN (%s), "
                   "through the tunnel.\n",
                   dns);
        else if (destination_is_dns(&e->to))
            printf("It is a question for a name server, and the VPN has named none: dropped.\n");
        else
            printf("It goes into the tunnel and leaves at the VPN's server, if the qube's own "
                   "firewall rules let it.\n");
        break;
    case WAY_NOWHERE:
        printf("It goes nowhere. Nothing else is tried: without a tunnel qubes are cut off.\n");
        break;
    case WAY_HERE:
        printf("It is for this qube itself, which answers pings and refuses the rest.\n");
        break;
    case WAY_QUBE:
        printf("It is for another qube behind this one; qubes are kept apart by Qubes' own "
               "firewall.\n");
        break;
    case WAY_UPLINK:
        printf("ROUTING WOULD LET IT OUT by %s, in the clear.%s\n", e->route.device,
               e->sealed == SEALED_YES ? " The seal's other layers stop it, but this must not be."
                                       : "");
        break;
    }
}

static void print_explanation(const struct explanation *e)
{
    char text[ADDR_STR_MAX], to[300], words[128];

    printf("From %s (%s) to %s:\n", addr_format(&e->qube, text), e->vif,
           str_escape(str_from(e->host), to, sizeof(to)));
    if (e->to.addr.family == 0) {
        printf("  A name: the qube asks for its address at 10.139.1.1 first.\n"
               "  No look-up is made here; what follows holds for any address outside.\n");
    }
    printf("  routing  %s\n", route_words(&e->route, words, sizeof(words)));
    switch (e->sealed) {
    case SEALED_YES:
        printf("  seal     whole: into the tunnel or nowhere\n");
        break;
    case SEALED_NO:
        printf("  seal     NOT WHOLE: %s\n", e->why);
        break;
    case SEALED_UNKNOWN:
        printf("  seal     not known: %s\n", e->why);
        break;
    }
    print_meaning(e);
}

static int print_json(const struct explanation *e)
{
    char text[ADDR_STR_MAX], words[128], dns[128];
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:s}", "qube",
                  addr_format(&e->qube, text), "vif", e->vif, "to", e->host, "way",
                  way_names[e->way], "routing", route_words(&e->route, words, sizeof(words)),
                  "device", e->route.device, "table", (int)e->route.table, "sealed",
                  e->sealed == SEALED_UNKNOWN ? json_null() : json_boolean(e->sealed == SEALED_YES),
                  "dns", destination_is_dns(&e->to) ? dns_of(e, dns, sizeof(dns)) : "");
    int r = root != NULL ? say_json(root, false) : -ENOMEM;

    json_decref(root);
    return r;
}

static int find_vif(struct nl_sock *s, struct explanation *e)
{
    struct route route;
    int r = ask_route(s, &e->qube, NULL, 0, &route);

    if (r < 0)
        return r;
    if (route.error < 0 || route.type != RTN_UNICAST || strncmp(route.device, "vif", 3) != 0)
        return -ENODEV;
    (void)snprintf(e->vif, sizeof(e->vif), "%s", route.device);
    return (int)route.oif;
}

static int explain(struct explanation *e, const char *socket)
{
    static const struct destination any4 = {{AF_INET, {192, 0, 2, 1}}, 0}, /* RFC 5737 */
        any6 = {{AF_INET6, {0x20, 0x01, 0x0d, 0xb8, [15] = 1}}, 0};       /* RFC 3849 */
    struct addr to = e->to.addr;
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    int r = nl_open(NETLINK_ROUTE, &s), vif;

    if (r < 0)
        return r;
    vif = find_vif(s, e);
    if (vif < 0)
        return vif;
    if (to.family == 0)
        to = e->qube.family == AF_INET6 ? any6.addr : any4.addr;
    if (to.family != e->qube.family)
        return -EAFNOSUPPORT;
    r = ask_route(s, &to, &e->qube, (uint32_t)vif, &e->route);
    if (r < 0)
        return r;
    e->way = way_of(&e->route);
    e->sealed = sealed_ask(socket, &e->report, e->why, sizeof(e->why));
    return 0;
}

static int usage(const char *what)
{
    say_failed(NULL, "For example: qubes-vpn explain 10.137.0.21 198.51.100.1:443", "%s", what);
    return COMMAND_USAGE;
}

int command_explain(const struct command_options *o)
{
    _cleanup_(explanation_done) struct explanation e = {.host = o->words[1]};
    char text[ADDR_STR_MAX];
    int r;

    if (addr_parse(str_from(o->words[0]), &e.qube) < 0)
        return usage("the qube is named by its address (in dom0: qvm-ls -n)");
    if (destination_parse(o->words[1], &e.to) < 0)
        return usage("the destination is an address or a name, with :PORT if it matters");
    r = explain(&e, o->seal);
    if (r == -ENODEV)
        say_failed(NULL, "Next: in dom0, qvm-ls -n shows addresses and net qubes",
                   "no running qube behind this one has the address %s",
                   addr_format(&e.qube, text));
    else if (r == -EAFNOSUPPORT)
        say_failed(NULL, NULL, "one is an IPv4 address, the other IPv6");
    else if (r < 0)
        say_failed(NULL, NULL, "the kernel's routing cannot be read: %s", strerror(-r));
    else if (o->json)
        r = print_json(&e);
    else
        print_explanation(&e);
    if (r < 0)
        return COMMAND_FAILED;
    return e.way == WAY_UPLINK || e.sealed == SEALED_NO ? COMMAND_OPEN : COMMAND_OK;
}
