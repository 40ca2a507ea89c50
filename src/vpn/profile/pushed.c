/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Collecting. Names of variables: openvpn(8), "Environmental Variables", 2.6 and 2.7. */
#include "vpn/profile/pushed.h"

#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/wireguard.h"

/* What wg-quick takes where the path has 1500: 20 to 40 for IP, 8 for UDP, 32 for WireGuard. */
#define WIREGUARD_MTU 1420

/* "dns" comes before "dhcp-option": the client prefers it, too. */
#define ORDER_DHCP_OPTION 1000000u

static void drop_dns(struct pushed *p, size_t at)
{
    p->n_dns--;
    memmove(&p->dns[at], &p->dns[at + 1], (p->n_dns - at) * sizeof(p->dns[0]));
    memmove(&p->dns_order[at], &p->dns_order[at + 1], (p->n_dns - at) * sizeof(p->dns_order[0]));
}

/* Keeps the list sorted by order; the same server may come as "dns" and as "dhcp-option". */
static void add_dns(struct pushed *p, uint32_t order, const struct addr *a)
{
    size_t at = 0;

    for (size_t i = 0; i < p->n_dns; i++) {
        if (!addr_equal(&p->dns[i], a))
            continue;
        if (p->dns_order[i] <= order)
            return;
        drop_dns(p, i);
        break;
    }
    if (p->n_dns == PUSHED_DNS_MAX) {
        p->more_dns++;
        if (p->dns_order[PUSHED_DNS_MAX - 1] <= order)
            return;
        p->n_dns--;
    }
    while (at < p->n_dns && p->dns_order[at] <= order)
        at++;
    memmove(&p->dns[at + 1], &p->dns[at], (p->n_dns - at) * sizeof(p->dns[0]));
    memmove(&p->dns_order[at + 1], &p->dns_order[at], (p->n_dns - at) * sizeof(p->dns_order[0]));
    p->dns[at] = *a;
    p->dns_order[at] = order;
    p->n_dns++;
}

static void malformed(struct findings *findings, struct str name, struct str value,
                      const char *what)
{
    char shown[64];

    findings_add(findings, FINDING_LEFT_OUT, 0, name, "is not %s: %s", what,
                 str_escape(value, shown, sizeof(shown)));
}

static void take_addr(struct str name, struct str value, int family, struct addr *ret,
                      struct findings *findings)
{
    struct addr a;

    if (addr_parse(value, &a) < 0 || a.family != family)
        malformed(findings, name, value, family == AF_INET ? "an IPv4 address" : "an IPv6 address");
    else
        *ret = a;
}

/* The length of "255.255.255.0"; ones must come before zeros. */
static void take_netmask(struct str name, struct str value, uint8_t *ret, struct findings *findings)
{
    struct addr a;
    uint32_t mask = 0;
    uint8_t len = 0;

    if (addr_parse(value, &a) == 0 && a.family == AF_INET)
        for (size_t i = 0; i < 4; i++)
            mask = mask << 8 | a.bytes[i];
    while (len < 32 && (mask & UINT32_C(1) << (31 - len)) != 0)
        len++;
    if (len == 0 || (len < 32 && mask << len != 0))
        malformed(findings, name, value, "a netmask");
    else
        *ret = len;
}

static bool take_number(struct str name, struct str value, uint32_t max, uint32_t *ret,
                        struct findings *findings)
{
    if (str_to_u32(value, max, ret) == 0)
        return true;
    malformed(findings, name, value, "a number that can be");
    return false;
}

/* Cuts "PREFIXn" or "PREFIXn_" off *name; n has at most five digits. */
static bool cut_numbered(struct str *name, const char *prefix, uint32_t *ret)
{
    struct str rest = *name, number;
    size_t len = strlen(prefix);

    if (rest.len < len || memcmp(rest.p, prefix, len) != 0)
        return false;
    rest.p += len;
    rest.len -= len;
    if (!str_next(&rest, '_', &number) || str_to_u32(number, 99999, ret) < 0)
        return false;
    *name = rest.p != NULL ? rest : (struct str){"", 0};
    return true;
}

/* "dhcp-option DNS 10.8.0.1"; more than DNS is the affair of the qube that asks. */
static void take_foreign(struct pushed *p, uint32_t n, struct str name, struct str value,
                         struct findings *findings)
{
    struct str option, type, text;
    struct addr a;

    (void)str_next(&value, ' ', &option);
    if (!str_is(option, "dhcp-option") || !str_next(&value, ' ', &type) ||
        !(str_is(type, "DNS") || str_is(type, "DNS6"))) {
        p->n_unknown++;
        return;
    }
    text = value.p != NULL ? value : (struct str){"", 0};
    if (addr_parse(text, &a) < 0)
        malformed(findings, name, text, "an address of a name server");
    else
        add_dns(p, ORDER_DHCP_OPTION + n, &a);
}

/* rest: "address_2", "port_2", "transport", ... of the server n. */
static void take_dns_server(struct pushed *p, uint32_t n, struct str rest, struct str name,
                            struct str value, struct findings *findings)
{
    struct addr a;
    uint32_t m;

    if (cut_numbered(&rest, "address_", &m) && rest.len == 0) {
        if (addr_parse(value, &a) < 0)
            malformed(findings, name, value, "an address of a name server");
        else
            add_dns(p, n < 1000 ? n * 1000 + (m < 1000 ? m : 999) : ORDER_DHCP_OPTION - 1, &a);
    } else if (cut_numbered(&rest, "port_", &m) && !str_is(value, "53")) {
        findings_add(findings, FINDING_LEFT_OUT, 0, name, "qubes ask at port 53");
    } else if (str_is(rest, "transport") && !str_is(value, "plain")) {
        findings_add(findings, FINDING_LEFT_OUT, 0, name, "qubes ask in plain, in the tunnel");
    } else if (cut_numbered(&rest, "resolve_domain_", &m)) {
        p->n_unknown++; /* a server for some names only: asked for all, as there is one map */
    }
}

static void take_numbered(struct pushed *p, struct str name, struct str value,
                          struct findings *findings)
{
    struct str rest = name;
    uint32_t n;

    if (cut_numbered(&rest, "foreign_option_", &n))
        take_foreign(p, n, name, value, findings);
    else if (cut_numbered(&rest, "dns_server_", &n))
        take_dns_server(p, n, rest, name, value, findings);
    else if (cut_numbered(&rest, "route_network_", &n) ||
             cut_numbered(&rest, "route_ipv6_network_", &n))
        p->n_routes++;
    else if (name.len > 8 && memcmp(name.p, "OPENVPN_", 8) == 0)
        p->n_unknown++; /* "setenv-safe" of the server */
}

void pushed_add_openvpn(struct pushed *p, struct str line, struct findings *findings)
{
    struct str name;
    uint32_t number;

    (void)str_next(&line, '=', &name);
    if (line.p == NULL)
        return;
    if (str_is(name, "ifconfig_local"))
        take_addr(name, line, AF_INET, &p->addr4.addr, findings);
    else if (str_is(name, "ifconfig_netmask"))
        take_netmask(name, line, &p->addr4.len, findings);
    else if (str_is(name, "ifconfig_remote"))
        take_addr(name, line, AF_INET, &p->peer4, findings);
    else if (str_is(name, "ifconfig_ipv6_local"))
        take_addr(name, line, AF_INET6, &p->addr6.addr, findings);
    else if (str_is(name, "ifconfig_ipv6_netbits")) {
        if (take_number(name, line, 128, &number, findings))
            p->addr6.len = (uint8_t)number;
    } else if (str_is(name, "tun_mtu")) {
        if (take_number(name, line, UINT32_MAX, &number, findings))
            p->mtu = number;
    } else if (str_is(name, "redirect_gateway"))
        p->n_routes++;
    else
        take_numbered(p, name, line, findings);
}

void pushed_from_wireguard(struct pushed *p, const struct profile *profile)
{
    const struct wireguard_file *f = profile->wireguard;

    *p = (struct pushed){.mtu = f->mtu != 0 ? f->mtu : WIREGUARD_MTU};
    for (size_t i = f->n_addresses; i-- > 0;) /* the first of a family counts */
        *(f->addresses[i].addr.family == AF_INET ? &p->addr4 : &p->addr6) = f->addresses[i];
    for (size_t i = 0; i < f->n_dns; i++)
        add_dns(p, (uint32_t)i, &f->dns[i]);
}
