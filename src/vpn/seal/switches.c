/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/switches.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define ROOT "/proc/sys/net/"

struct value {
    const char *folder, *name;
    char wanted;
};

/*
 * For the whole machine and for devices to come. arp_ignore 1: no ARP for the tunnel's address on
 * an uplink (2 would stop the answers for the uplink's own /32). src_valid_mark: the carrier's
 * answers are checked with their mark, which finds the uplink.
 */
static const struct value for_all[] = {
    {"ipv4/conf", "accept_redirects", '0'}, {"ipv4/conf", "secure_redirects", '0'},
    {"ipv4/conf", "send_redirects", '0'},   {"ipv4/conf", "accept_source_route", '0'},
    {"ipv4/conf", "arp_ignore", '1'},       {"ipv4/conf", "arp_announce", '2'},
    {"ipv4/conf", "src_valid_mark", '1'},   {"ipv4/conf", "route_localnet", '0'},
    {"ipv6/conf", "accept_redirects", '0'}, {"ipv6/conf", "accept_source_route", '0'},
};
static const struct value for_uplinks[] = {
    {"ipv4/conf", "accept_redirects", '0'}, {"ipv4/conf", "secure_redirects", '0'},
    {"ipv4/conf", "send_redirects", '0'},   {"ipv4/conf", "accept_source_route", '0'},
    {"ipv4/conf", "route_localnet", '0'},   {"ipv6/conf", "accept_redirects", '0'},
    {"ipv6/conf", "accept_source_route", '0'},
};
/* The platform's own uplink has its addresses by hand; others may live from advertisements. */
static const struct value for_platform[] = {
    {"ipv6/conf", "accept_ra", '0'},
    {"ipv6/conf", "autoconf", '0'},
};
static const char *const once[][2] = {
    {"ipv4/tcp_fwmark_accept", "0"},
    {"ipv4/fwmark_reflect", "0"},
    {"ipv6/fwmark_reflect", "0"},
    {"ipv4/icmp_errors_use_inbound_ifaddr", "1"},
};

struct pass {
    bool write;
    unsigned changed;
    char *first; /* SWITCH_TEXT */
};

static void handle(struct pass *p, const char *path, char wanted)
{
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    char now = 0;

    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (read(fd, &now, 1) == 1 && now == wanted))
        return;
    if (p->write && pwrite(fd, &wanted, 1, 0) == 1) {
        p->changed++;
        return;
    }
    if (p->first[0] == '\0')
        (void)snprintf(p->first, SWITCH_TEXT, "%s is not %c", path + strlen("/proc/sys/"), wanted);
}

static void handle_device(struct pass *p, const struct value *list, size_t n, const char *device)
{
    char path[160];

    for (size_t i = 0; i < n; i++) {
        (void)snprintf(path, sizeof(path), ROOT "%s/%s/%s", list[i].folder, device, list[i].name);
        handle(p, path, list[i].wanted);
    }
}

static void pass(const struct seal_model *m, struct pass *p)
{
    char path[160];

    for (size_t i = 0; i < ARRAY_SIZE(once); i++) {
        (void)snprintf(path, sizeof(path), ROOT "%s", once[i][0]);
        handle(p, path, once[i][1][0]);
    }
    handle_device(p, for_all, ARRAY_SIZE(for_all), "all");
    handle_device(p, for_all, ARRAY_SIZE(for_all), "default");
    for (size_t i = 0; i < m->links.n; i++) {
        const struct rt_link *link = &ITEMS(&m->links, struct rt_link)[i];

        /* names of devices cannot hold '/', and "." and ".." are refused by the kernel */
        if (link_kind(link) != LINK_UPLINK && link_kind(link) != LINK_TUNNEL)
            continue;
        handle_device(p, for_uplinks, ARRAY_SIZE(for_uplinks), link->name);
        if (link->group == 1 || link_kind(link) == LINK_TUNNEL)
            handle_device(p, for_platform, ARRAY_SIZE(for_platform), link->name);
    }
}

void switches_set(const struct seal_model *m, unsigned *ret_changed,
                  char ret_first[static SWITCH_TEXT])
{
    struct pass p = {.write = true, .first = ret_first};

    ret_first[0] = '\0';
    pass(m, &p);
    *ret_changed = p.changed;
}

void switches_check(const struct seal_model *m, char ret_first[static SWITCH_TEXT])
{
    struct pass p = {.first = ret_first};

    ret_first[0] = '\0';
    pass(m, &p);
}

const char *switches_close_forwarding(void)
{
    static const char *const files[] = {ROOT "ipv4/ip_forward", ROOT "ipv6/conf/all/forwarding"};
    struct pass p = {.write = true, .first = (char[SWITCH_TEXT]){""}};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        handle(&p, files[i], '0');
    return p.first[0] == '\0' ? "is off, qubes stay without network"
                              : "CANNOT BE SWITCHED OFF, qubes may leave unprotected";
}
