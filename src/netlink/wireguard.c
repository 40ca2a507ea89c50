/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/wireguard.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/attr.h"

/* Time of day as the kernel gives it (struct __kernel_timespec). */
struct kernel_time {
    int64_t sec, nsec;
};

#define NS_PER_S 1000000000

void wg_device_wipe(struct wg_device *d)
{
    explicit_bzero(d, sizeof(*d));
}

static struct nlmsghdr *put_header(void *buf, uint16_t family, uint8_t command, uint8_t version)
{
    const struct genlmsghdr genl = {.cmd = command, .version = version};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

    nlh->nlmsg_type = family;
    memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(genl)), &genl, sizeof(genl));
    return nlh;
}

static int take_family(const struct nlmsghdr *nlh, void *user)
{
    static const struct attr_rule policy[] = {[CTRL_ATTR_FAMILY_ID] = {2, 2}};
    struct attr tb[ARRAY_SIZE(policy)];
    struct genlmsghdr genl;
    uint16_t *ret = user;
    int r = attr_parse_message(nlh, &genl, sizeof(genl), policy, ARRAY_SIZE(policy), tb);

    if (r < 0)
        return r;
    if (tb[CTRL_ATTR_FAMILY_ID].p == NULL)
        return -EBADMSG;
    memcpy(ret, tb[CTRL_ATTR_FAMILY_ID].p, sizeof(*ret));
    return 0;
}

int wg_find_family(struct nl_sock *s, uint16_t *ret)
{
    char buf[128] = {0};
    struct nlmsghdr *nlh = put_header(buf, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
    uint16_t family = 0;
    int r;

    mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
    r = nl_query(s, nlh, take_family, &family);
    if (r == -ENOENT)
        return -EOPNOTSUPP;
    if (r < 0)
        return r;
    if (family < GENL_MIN_ID)
        return -EBADMSG;
    *ret = family;
    return 0;
}

static bool put_endpoint(struct nlmsghdr *nlh, size_t size, const struct wg_peer *p)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(p->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->port)};

    switch (p->endpoint.family) {
    case AF_INET:
        memcpy(&v4.sin_addr, p->endpoint.bytes, sizeof(v4.sin_addr));
        return mnl_attr_put_check(nlh, size, WGPEER_A_ENDPOINT, sizeof(v4), &v4);
    case AF_INET6:
        memcpy(&v6.sin6_addr, p->endpoint.bytes, sizeof(v6.sin6_addr));
        return mnl_attr_put_check(nlh, size, WGPEER_A_ENDPOINT, sizeof(v6), &v6);
    default:
        return true;
    }
}

static bool put_allowed(struct nlmsghdr *nlh, size_t size, const struct wg_peer *p)
{
    struct nlattr *list = mnl_attr_nest_start_check(nlh, size, WGPEER_A_ALLOWEDIPS);
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < p->n_allowed; i++) {
        const struct prefix *a = &p->allowed[i];
        struct nlattr *one = mnl_attr_nest_start_check(nlh, size, 0);

        ok = one != NULL &&
             mnl_attr_put_u16_check(nlh, size, WGALLOWEDIP_A_FAMILY, a->addr.family) &&
             mnl_attr_put_check(nlh, size, WGALLOWEDIP_A_IPADDR, addr_size(a->addr.family),
                                a->addr.bytes) &&
             mnl_attr_put_u8_check(nlh, size, WGALLOWEDIP_A_CIDR_MASK, a->len);
        if (ok)
            mnl_attr_nest_end(nlh, one);
    }
    if (ok)
        mnl_attr_nest_end(nlh, list);
    return ok;
}

static bool put_peer(struct nlmsghdr *nlh, size_t size, const struct wg_peer *p, enum wg_set what)
{
    struct nlattr *one = mnl_attr_nest_start_check(nlh, size, 0);
    uint32_t flags = what == WG_SET_KEEPALIVE ? WGPEER_F_UPDATE_ONLY : WGPEER_F_REPLACE_ALLOWEDIPS;
    bool ok = one != NULL &&
              mnl_attr_put_check(nlh, size, WGPEER_A_PUBLIC_KEY, WG_KEY_SIZE, p->public_key) &&
              mnl_attr_put_u32_check(nlh, size, WGPEER_A_FLAGS, flags);

    /* the interval comes last: with all else in place it makes the kernel send at once */
    if (ok && what != WG_SET_KEEPALIVE)
        ok = mnl_attr_put_check(nlh, size, WGPEER_A_PRESHARED_KEY, WG_KEY_SIZE, p->preshared_key) &&
             put_endpoint(nlh, size, p) && put_allowed(nlh, size, p);
    ok = ok && mnl_attr_put_u16_check(nlh, size, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL,
                                      p->keepalive);
    if (ok)
        mnl_attr_nest_end(nlh, one);
    return ok;
}

static bool put_device(struct nlmsghdr *nlh, size_t size, const struct wg_device *d,
                       enum wg_set what, size_t i)
{
    struct nlattr *peers;
    bool ok = mnl_attr_put_strz_check(nlh, size, WGDEVICE_A_IFNAME, d->name);

    if (ok && what == WG_SET_ALL && i == 0)
        ok = mnl_attr_put_check(nlh, size, WGDEVICE_A_PRIVATE_KEY, WG_KEY_SIZE, d->private_key) &&
             mnl_attr_put_u16_check(nlh, size, WGDEVICE_A_LISTEN_PORT, d->listen_port) &&
             mnl_attr_put_u32_check(nlh, size, WGDEVICE_A_FWMARK, d->fwmark);
    if (ok && what != WG_SET_KEEPALIVE && i == 0)
        ok = mnl_attr_put_u32_check(nlh, size, WGDEVICE_A_FLAGS, WGDEVICE_F_REPLACE_PEERS);
    if (i >= d->n_peers)
        return ok;
    peers = ok ? mnl_attr_nest_start_check(nlh, size, WGDEVICE_A_PEERS) : NULL;
    ok = peers != NULL && put_peer(nlh, size, &d->peers[i], what);
    if (ok)
        mnl_attr_nest_end(nlh, peers);
    return ok;
}

int wg_set_message(void *buf, size_t size, uint16_t family, const struct wg_device *d,
                   enum wg_set what, size_t i)
{
    struct nlmsghdr *nlh;

    if (size > WG_MESSAGE_MAX)
        size = WG_MESSAGE_MAX;
    if (size < NLMSG_SPACE(GENL_HDRLEN))
        return -EMSGSIZE;
    memset(buf, 0, size); /* libmnl leaves padding as it is */
    nlh = put_header(buf, family, WG_CMD_SET_DEVICE, WG_GENL_VERSION);
    if (!put_device(nlh, size, d, what, i))
        return -EMSGSIZE;
    return (int)nlh->nlmsg_len;
}

int wg_set_device(struct nl_sock *s, uint16_t family, const struct wg_device *d, enum wg_set what)
{
    void *buf = malloc(WG_MESSAGE_MAX);
    size_t i = 0;
    int r;

    if (buf == NULL)
        return -ENOMEM;
    do {
        r = wg_set_message(buf, WG_MESSAGE_MAX, family, d, what, i);
        if (r >= 0)
            r = nl_request(s, buf);
    } while (r >= 0 && ++i < d->n_peers);
    explicit_bzero(buf, WG_MESSAGE_MAX);
    free(buf);
    return r;
}

static uint64_t attr_u64(struct attr a)
{
    uint64_t value = 0;

    if (a.p != NULL && a.len >= sizeof(value))
        memcpy(&value, a.p, sizeof(value));
    return value;
}

static uint16_t attr_u16(struct attr a)
{
    uint16_t value = 0;

    if (a.p != NULL && a.len >= sizeof(value))
        memcpy(&value, a.p, sizeof(value));
    return value;
}

static void take_key(struct attr a, uint8_t key[static WG_KEY_SIZE])
{
    if (a.p != NULL)
        memcpy(key, a.p, WG_KEY_SIZE);
}

static void take_endpoint(struct attr a, struct wg_peer *p)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family = 0;

    if (a.p != NULL && a.len >= sizeof(family))
        memcpy(&family, a.p, sizeof(family));
    if (family == AF_INET && a.len >= sizeof(v4)) {
        memcpy(&v4, a.p, sizeof(v4));
        (void)addr_from_bytes(AF_INET, &v4.sin_addr, sizeof(v4.sin_addr), &p->endpoint);
        p->port = ntohs(v4.sin_port);
    } else if (family == AF_INET6 && a.len >= sizeof(v6)) {
        memcpy(&v6, a.p, sizeof(v6));
        if (v6.sin6_scope_id != 0)
            return;
        (void)addr_from_bytes(AF_INET6, &v6.sin6_addr, sizeof(v6.sin6_addr), &p->endpoint);
        p->port = ntohs(v6.sin6_port);
    }
}

/* 0 when it is before 1970 or beyond what 64 bits of nanoseconds hold: no handshake. */
static uint64_t take_time(struct attr a)
{
    struct kernel_time t = {0};

    if (a.p == NULL || a.len < sizeof(t))
        return 0;
    memcpy(&t, a.p, sizeof(t));
    if (t.sec < 0 || t.sec > INT64_MAX / NS_PER_S - 1 || t.nsec < 0 || t.nsec >= NS_PER_S)
        return 0;
    return (uint64_t)t.sec * NS_PER_S + (uint64_t)t.nsec;
}

static int take_peer(struct attr list, struct wg_device *io)
{
    static const struct attr_rule policy[] = {
        [WGPEER_A_PUBLIC_KEY] = {WG_KEY_SIZE, WG_KEY_SIZE},
        [WGPEER_A_PRESHARED_KEY] = {WG_KEY_SIZE, WG_KEY_SIZE},
        [WGPEER_A_ENDPOINT] = {sizeof(struct sockaddr_in), ATTR_LEN_ANY},
        [WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL] = {2, 2},
        [WGPEER_A_LAST_HANDSHAKE_TIME] = {sizeof(struct kernel_time), sizeof(struct kernel_time)},
        [WGPEER_A_RX_BYTES] = {8, 8},
        [WGPEER_A_TX_BYTES] = {8, 8},
    };
    struct attr tb[ARRAY_SIZE(policy)];
    struct wg_peer *p;
    int r = attr_parse(list, policy, ARRAY_SIZE(policy), tb);

    if (r < 0)
        return r;
    if (tb[WGPEER_A_PUBLIC_KEY].p == NULL)
        return -EBADMSG;
    /* a peer with many allowed addresses comes in several pieces: only the first says all else */
    if (io->n_peers > 0 && memcmp(io->peers[io->n_peers - 1].public_key,
                                  tb[WGPEER_A_PUBLIC_KEY].p, WG_KEY_SIZE) == 0)
        return 0;
    if (io->n_peers >= WG_PEERS_MAX)
        return -E2BIG;
    p = &io->peers[io->n_peers++];
    take_key(tb[WGPEER_A_PUBLIC_KEY], p->public_key);
    take_key(tb[WGPEER_A_PRESHARED_KEY], p->preshared_key);
    take_endpoint(tb[WGPEER_A_ENDPOINT], p);
    p->keepalive = attr_u16(tb[WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL]);
    p->handshake_ns = take_time(tb[WGPEER_A_LAST_HANDSHAKE_TIME]);
    p->rx = attr_u64(tb[WGPEER_A_RX_BYTES]);
    p->tx = attr_u64(tb[WGPEER_A_TX_BYTES]);
    return 0;
}

int wg_device_parse(const struct nlmsghdr *nlh, struct wg_device *io)
{
    static const struct attr_rule policy[] = {
        [WGDEVICE_A_IFNAME] = {1, IFNAMSIZ},
        [WGDEVICE_A_PRIVATE_KEY] = {WG_KEY_SIZE, WG_KEY_SIZE},
        [WGDEVICE_A_LISTEN_PORT] = {2, 2},
        [WGDEVICE_A_FWMARK] = {4, 4},
        [WGDEVICE_A_PEERS] = {0, ATTR_LEN_ANY},
    };
    struct attr tb[ARRAY_SIZE(policy)], one;
    struct genlmsghdr genl;
    struct cursor peers;
    uint16_t type;
    int r = attr_parse_message(nlh, &genl, sizeof(genl), policy, ARRAY_SIZE(policy), tb);

    if (r < 0)
        return r;
    if (tb[WGDEVICE_A_IFNAME].p != NULL &&
        attr_name(tb[WGDEVICE_A_IFNAME], io->name, sizeof(io->name)) < 0)
        return -EBADMSG;
    take_key(tb[WGDEVICE_A_PRIVATE_KEY], io->private_key);
    /* messages after the first repeat only the name */
    if (tb[WGDEVICE_A_LISTEN_PORT].p != NULL)
        io->listen_port = attr_u16(tb[WGDEVICE_A_LISTEN_PORT]);
    if (tb[WGDEVICE_A_FWMARK].p != NULL)
        io->fwmark = attr_u32(tb[WGDEVICE_A_FWMARK]);
    peers = cursor_from(tb[WGDEVICE_A_PEERS].p, tb[WGDEVICE_A_PEERS].len);
    while ((r = attr_next(&peers, &type, &one)) > 0) {
        r = take_peer(one, io);
        if (r < 0)
            return r;
    }
    return r;
}

static void begin_device(void *user)
{
    wg_device_wipe(user);
}

static int take_device(const struct nlmsghdr *nlh, void *user)
{
    return wg_device_parse(nlh, user);
}

int wg_get_device(struct nl_sock *s, uint16_t family, const char *name, struct wg_device *ret)
{
    static const struct nl_dump_ops ops = {.begin = begin_device, .entry = take_device};
    char buf[128] = {0};
    struct nlmsghdr *nlh = put_header(buf, family, WG_CMD_GET_DEVICE, WG_GENL_VERSION);
    struct wg_device d = {0};
    int r;

    if (strlen(name) >= IFNAMSIZ)
        return -ENODEV;
    mnl_attr_put_strz(nlh, WGDEVICE_A_IFNAME, name);
    r = nl_dump(s, nlh, &ops, &d);
    if (r == 0)
        *ret = d;
    wg_device_wipe(&d);
    return r;
}
