/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "netlink/link.h"
#include "netlink/rt.h"

#define TUN_NODE      "/dev/net/tun"
#define ADDRESSES_MAX 64

/* Of /proc/sys/net/ipv6/conf/DEVICE/: nothing is learnt and nothing asked in the tunnel. */
static const struct {
    const char *name, *value;
} ipv6_switches[] = {
    {"accept_ra", "0"},        {"autoconf", "0"},       {"router_solicitations", "0"},
    {"accept_redirects", "0"}, {"dad_transmits", "0"}, {"use_tempaddr", "0"},
};

struct addresses {
    uint32_t index;
    struct prefix list[ADDRESSES_MAX];
    size_t n;
};

/* 1: ours, with *ret filled; 0: none; -EEXIST: something else has the name. */
static int device_look(struct nl_sock *s, struct link_facts *ret)
{
    struct link_facts link;
    int r = link_find(s, SEAL_TUNNEL, &link);

    if (r == -ENODEV)
        return 0;
    if (r < 0)
        return r;
    /* a tap device is of kind "tun" too, but has an Ethernet address */
    if (link.arptype != ARPHRD_NONE ||
        (strcmp(link.kind, "tun") != 0 && strcmp(link.kind, "wireguard") != 0))
        return -EEXIST;
    *ret = link;
    return 1;
}

static int tun_create(uid_t uid)
{
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    _cleanup_(closep) int fd = open(TUN_NODE, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    memcpy(ifr.ifr_name, SEAL_TUNNEL, sizeof(SEAL_TUNNEL));
    ifr.ifr_flags = (short)(ifr.ifr_flags | (short)IFF_TUN_EXCL); /* never one that is there */
    if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETOWNER, (unsigned long)uid) < 0 ||
        ioctl(fd, TUNSETPERSIST, 1UL) < 0)
        return -errno; /* not persistent yet: gone when closed */
    return 0;
}

int device_make_tun(struct nl_sock *s, uid_t uid)
{
    int r = device_remove(s);

    return r < 0 ? r : tun_create(uid);
}

int device_make_wireguard(struct nl_sock *s)
{
    int r = device_remove(s);

    return r < 0 ? r : link_add(s, SEAL_TUNNEL, "wireguard");
}

static int switch_write(const char *name, const char *value)
{
    char path[96];
    _cleanup_(closep) int fd = -1;
    size_t len = strlen(value);

    (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", SEAL_TUNNEL, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* no IPv6 here, or no such switch */
    if (write(fd, value, len) != (ssize_t)len)
        return errno != 0 ? -errno : -EIO;
    return 0;
}

static int device_set_switches(bool ipv6)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(ipv6_switches) && r == 0; i++)
        r = switch_write(ipv6_switches[i].name, ipv6_switches[i].value);
    return r < 0 ? r : switch_write("disable_ipv6", ipv6 ? "0" : "1");
}

static void addresses_begin(void *user)
{
    ((struct addresses *)user)->n = 0;
}

static int addresses_take(const struct rt_addr *addr, void *user)
{
    struct addresses *a = user;

    if (addr->index == a->index && a->n < ADDRESSES_MAX)
        a->list[a->n++] = addr->prefix;
    return 0;
}

static bool prefix_same(const struct prefix *a, const struct prefix *b)
{
    return a->len == b->len && addr_equal(&a->addr, &b->addr);
}

/* Whatever the device has and should not; all of them where facts is NULL. */
static int device_drop_addresses(struct nl_sock *s, uint32_t index,
                                 const struct tunnel_facts *facts)
{
    struct addresses have = {.index = index};
    int r = rt_dump_addrs(s, addresses_begin, addresses_take, &have);

    for (size_t i = 0; i < have.n && r == 0; i++) {
        const struct prefix *p = &have.list[i];

        if (facts == NULL || (!prefix_same(p, &facts->addr4) && !prefix_same(p, &facts->addr6)))
            r = link_delete_address(s, index, p);
    }
    return r;
}

int device_configure(struct nl_sock *s, const struct tunnel_facts *facts)
{
    const struct link_change quiet = {
        .mtu = facts->mtu, .set_group = true, .group = 0, .no_link_local = true};
    const struct link_change up = {.flags = IFF_UP, .flags_mask = IFF_UP};
    const bool ipv6 = facts->addr6.addr.family != 0;
    struct link_facts link = {0};
    int r = device_look(s, &link);

    if (r <= 0)
        return r < 0 ? r : -ENODEV;
    r = link_set(s, link.index, &quiet);
    if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP) { /* a kernel, or a device, without IPv6 */
        struct link_change plain = quiet;

        plain.no_link_local = false;
        r = link_set(s, link.index, &plain);
    }
    if (r == 0)
        r = device_set_switches(ipv6);
    if (r == 0)
        r = device_drop_addresses(s, link.index, facts);
    if (r == 0 && facts->addr4.addr.family != 0)
        r = link_add_address(s, link.index, &facts->addr4);
    if (r == 0 && ipv6)
        r = link_add_address(s, link.index, &facts->addr6);
    return r < 0 ? r : link_set(s, link.index, &up);
}

struct presence {
    uint32_t index;
    const struct tunnel_facts *facts;
    bool four, six;
};

static void presence_begin(void *user)
{
    struct presence *a = user;

    a->four = a->six = false;
}

static int presence_look(const struct rt_addr *addr, void *user)
{
    struct presence *a = user;

    if (addr->index == a->index) {
        a->four = a->four || addr_equal(&addr->prefix.addr, &a->facts->addr4.addr);
        a->six = a->six || addr_equal(&addr->prefix.addr, &a->facts->addr6.addr);
    }
    return 0;
}

int device_is_configured(struct nl_sock *s, const struct tunnel_facts *facts)
{
    struct link_facts link = {0};
    int r = device_look(s, &link);
    struct presence a = {link.index, facts, false, false};

    if (r <= 0)
        return r < 0 ? r : -ENODEV;
    r = rt_dump_addrs(s, presence_begin, presence_look, &a);
    if (r < 0)
        return r;
    return (link.flags & IFF_UP) != 0 && link.group == 0 && link.mtu == facts->mtu &&
           (a.four || facts->addr4.addr.family == 0) && (a.six || facts->addr6.addr.family == 0);
}

int device_down(struct nl_sock *s)
{
    const struct link_change down = {.flags_mask = IFF_UP};
    struct link_facts link = {0};
    int r = device_look(s, &link);

    if (r <= 0)
        return r;
    r = link_set(s, link.index, &down);
    return r < 0 ? r : device_drop_addresses(s, link.index, NULL);
}

int device_remove(struct nl_sock *s)
{
    struct link_facts link = {0};
    int r = device_look(s, &link);

    return r <= 0 ? r : link_delete(s, link.index);
}

int device_find(struct nl_sock *s, bool *ret_wireguard)
{
    struct link_facts link = {0};
    int r = device_look(s, &link);

    if (r == 1)
        *ret_wireguard = strcmp(link.kind, "wireguard") == 0;
    return r;
}
