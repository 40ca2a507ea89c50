/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links, addresses, routes, proxies and the monitor against the running kernel. */
#include "test_netlink_sandbox.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "netlink/rt.h"

static struct nl_sock *sock;

struct table {
    struct rt_link links[32];
    struct rt_addr addrs[64];
    struct rt_route routes[64];
    struct rt_proxy proxies[64];
    struct rt_neighbour neighbours[64];
    size_t count, begins;
    int stop; /* given back by the function */
};

static void table_begin(void *user)
{
    struct table *t = user;

    t->count = 0;
    t->begins++;
}

static int take_link(const struct rt_link *link, void *user)
{
    struct table *t = user;

    assert_true(t->count < ARRAY_SIZE(t->links));
    t->links[t->count++] = *link;
    return t->stop;
}

static int take_addr(const struct rt_addr *addr, void *user)
{
    struct table *t = user;

    assert_true(t->count < ARRAY_SIZE(t->addrs));
    t->addrs[t->count++] = *addr;
    return 0;
}

static int take_route(const struct rt_route *route, void *user)
{
    struct table *t = user;

    assert_true(t->count < ARRAY_SIZE(t->routes));
    t->routes[t->count++] = *route;
    return 0;
}

static int take_proxy(const struct rt_proxy *proxy, void *user)
{
    struct table *t = user;

    assert_true(t->count < ARRAY_SIZE(t->proxies));
    t->proxies[t->count++] = *proxy;
    return 0;
}

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static bool find_link(const char *name, struct rt_link *ret)
{
    struct table t = {0};

    assert_int_equal(rt_dump_links(sock, table_begin, take_link, &t), 0);
    for (size_t i = 0; i < t.count; i++)
        if (strcmp(t.links[i].name, name) == 0) {
            *ret = t.links[i];
            return true;
        }
    return false;
}

static uint32_t index_of(const char *name)
{
    struct rt_link link;

    assert_true(find_link(name, &link));
    return link.index;
}

static bool find_proxy(uint32_t index, const char *addr, struct rt_proxy *ret)
{
    struct table t = {0};
    struct addr a = addr_of(addr);

    assert_int_equal(rt_dump_proxies(sock, table_begin, take_proxy, &t), 0);
    for (size_t i = 0; i < t.count; i++)
        if (t.proxies[i].index == index && addr_equal(&t.proxies[i].addr, &a)) {
            *ret = t.proxies[i];
            return true;
        }
    return false;
}

static void test_links(void **state)
{
    struct rt_link link, again;
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};

    (void)state;
    sandbox_run("ip link add up0 address 02:00:00:00:00:07 type veth peer name far0");
    sandbox_run("ip link set up0 group 2");
    assert_true(find_link("up0", &link));
    assert_int_equal(link.group, 2);
    assert_int_equal(link.arptype, ARPHRD_ETHER);
    assert_false(link.carrier);
    assert_false(link.gone);
    assert_memory_equal(link.mac, mac, sizeof(mac));
    assert_true(find_link("lo", &again));
    assert_true((again.flags & IFF_LOOPBACK) != 0);

    sandbox_run("ip link set up0 up; ip link set far0 up");
    assert_true(find_link("up0", &link));
    assert_true(link.carrier);

    /* renamed: the same link; made again under the same name: another one */
    sandbox_run("ip link set up0 down; ip link set up0 name up9");
    assert_true(find_link("up9", &again));
    assert_int_equal(again.index, link.index);
    assert_false(find_link("up0", &again));
    sandbox_run("ip link del up9; ip link add up0 type veth peer name far0");
    assert_true(find_link("up0", &again));
    assert_int_not_equal(again.index, link.index);
    sandbox_run("ip link del up0");
}

static void test_dump_stops_and_goes_on(void **state)
{
    struct table t = {.stop = -ECANCELED};

    (void)state;
    assert_int_equal(rt_dump_links(sock, table_begin, take_link, &t), -ECANCELED);
    assert_int_equal(t.count, 1);
    /* the rest of a dump that was stopped does not disturb the next */
    t.stop = 0;
    assert_int_equal(rt_dump_links(sock, table_begin, take_link, &t), 0);
    assert_true(t.count >= 1);
    assert_int_equal(t.begins, 2);
}

static void test_addrs(void **state)
{
    struct table t = {0};
    struct addr own4 = addr_of("192.0.2.9"), own6 = addr_of("2001:db8::9");
    struct addr peer = addr_of("198.51.100.1");
    unsigned found = 0;
    uint32_t index;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up;"
                "ip addr add 192.0.2.9/24 dev up0; ip addr add 2001:db8::9/64 dev up0 nodad;"
                "ip addr add 198.51.100.1 peer 198.51.100.2/24 dev up0");
    index = index_of("up0");
    assert_int_equal(rt_dump_addrs(sock, table_begin, take_addr, &t), 0);
    for (size_t i = 0; i < t.count; i++) {
        const struct rt_addr *a = &t.addrs[i];

        if (a->index != index || a->gone)
            continue;
        if (addr_equal(&a->prefix.addr, &own4) && a->prefix.len == 24)
            found |= 1;
        if (addr_equal(&a->prefix.addr, &own6) && a->prefix.len == 64)
            found |= 2;
        if (addr_equal(&a->prefix.addr, &peer) && a->prefix.len == 32)
            found |= 4;
    }
    assert_int_equal(found, 7);
    sandbox_run("ip link del up0");
}

static bool has_route(const struct table *t, const char *dst, const char *gateway, uint32_t oif,
                      uint32_t metric)
{
    struct prefix p = {0};

    assert_int_equal(prefix_parse(str_from(dst), &p), 0);
    for (size_t i = 0; i < t->count; i++) {
        const struct rt_route *r = &t->routes[i];
        struct addr via = {0};

        if (gateway != NULL)
            via = addr_of(gateway);
        if (addr_equal(&r->dst.addr, &p.addr) && r->dst.len == p.len && r->oif == oif &&
            r->metric == metric && addr_equal(&r->gateway, &via))
            return true;
    }
    return false;
}

static void test_routes(void **state)
{
    struct table t = {0};
    uint32_t a, b;

    (void)state;
    sandbox_run("ip link add a0 type veth peer name a1; ip link add b0 type veth peer name b1;"
                "for i in a0 a1 b0 b1; do ip link set $i up; done;"
                "ip addr add 192.0.2.1/24 dev a0; ip addr add 198.51.100.1/24 dev b0;"
                "ip addr add 2001:db8:a::1/64 dev a0 nodad;"
                "ip route add default via 192.0.2.254 metric 50;"
                "ip route add 10.137.0.11 dev b0 metric 32752;"
                "ip route add 203.0.113.0/24 nexthop via 192.0.2.2 nexthop via 198.51.100.2;"
                "ip route add blackhole 10.9.0.0/16; ip route add 10.8.0.0/16 dev a0 table 78;"
                "ip route add 10.7.0.0/16 via inet6 2001:db8:a::2 dev a0;"
                "ip -6 route add default via 2001:db8:a::fe metric 7;"
                "ip -6 route add 2001:db8:c::/64 from 2001:db8:a::/64 via 2001:db8:a::3;"
                "ip -6 route add 2001:db8:d::/64 nexthop via 2001:db8:a::4 dev a0"
                " nexthop via 2001:db8:a::5 dev a0");
    a = index_of("a0");
    b = index_of("b0");
    assert_int_equal(rt_dump_routes(sock, table_begin, take_route, &t), 0);
    assert_true(has_route(&t, "0.0.0.0/0", "192.0.2.254", a, 50));
    assert_true(has_route(&t, "10.137.0.11", NULL, b, 32752));
    assert_true(has_route(&t, "203.0.113.0/24", "192.0.2.2", a, 0));
    assert_true(has_route(&t, "203.0.113.0/24", "198.51.100.2", b, 0));
    assert_true(has_route(&t, "10.7.0.0/16", "2001:db8:a::2", a, 0));
    assert_true(has_route(&t, "::/0", "2001:db8:a::fe", a, 7));
    assert_true(has_route(&t, "2001:db8:d::/64", "2001:db8:a::4", a, 1024));
    assert_true(has_route(&t, "2001:db8:d::/64", "2001:db8:a::5", a, 1024));
    assert_true(has_route(&t, "192.0.2.0/24", NULL, a, 0));
    /* other tables and types, and routes for some sources only */
    assert_false(has_route(&t, "10.8.0.0/16", NULL, a, 0));
    for (size_t i = 0; i < t.count; i++) {
        struct prefix hole, some;

        assert_int_equal(prefix_parse(str_from("10.9.0.0/16"), &hole), 0);
        assert_int_equal(prefix_parse(str_from("2001:db8:c::/64"), &some), 0);
        assert_false(addr_equal(&t.routes[i].dst.addr, &hole.addr));
        assert_false(addr_equal(&t.routes[i].dst.addr, &some.addr));
    }
    sandbox_run("ip link del a0; ip link del b0; ip route flush table 78; ip route flush root 0/0");
}

static size_t ways(const char *dst, struct rt_route *ret)
{
    struct table t = {0};
    struct addr a = addr_of(dst);
    size_t n = 0;

    assert_int_equal(rt_dump_routes(sock, table_begin, take_route, &t), 0);
    for (size_t i = 0; i < t.count; i++)
        if (t.routes[i].dst.len == addr_bits(a.family) && addr_equal(&t.routes[i].dst.addr, &a)) {
            *ret = t.routes[i];
            n++;
        }
    return n;
}

/* A route to one address by a gateway that only the link knows; by the same metric it is replaced. */
static void test_host_routes(void **state)
{
    static const char *const of[][2] = {{"192.168.16.25", "10.137.0.6"},
                                        {"2001:db8:16::25", "fd09::6"}};
    struct rt_route got;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up; ip link set far0 up");
    for (size_t i = 0; i < ARRAY_SIZE(of); i++) {
        struct addr dst = addr_of(of[i][0]);
        struct rt_route r = {.dst = {dst, addr_bits(dst.family)}, .gateway = addr_of(of[i][1]),
                             .oif = index_of("up0"), .metric = 40078, .protocol = 78};

        assert_int_equal(rt_route_add(sock, &r), 0);
        assert_int_equal(rt_route_add(sock, &r), 0);
        assert_int_equal(ways(of[i][0], &got), 1);
        assert_true(addr_equal(&got.gateway, &r.gateway) && got.oif == r.oif &&
                    got.metric == 40078 && got.protocol == 78);
        r.oif = index_of("far0");
        assert_int_equal(rt_route_add(sock, &r), 0);
        assert_int_equal(ways(of[i][0], &got), 1);
        assert_int_equal(got.oif, r.oif);
        r.protocol = 4; /* another's is left alone */
        assert_int_equal(rt_route_del(sock, &r), 0);
        assert_int_equal(ways(of[i][0], &got), 1);
        r.protocol = 78;
        assert_int_equal(rt_route_del(sock, &r), 0);
        assert_int_equal(rt_route_del(sock, &r), 0);
        assert_int_equal(ways(of[i][0], &got), 0);
        r.oif = 9999;
        assert_int_equal(rt_route_add(sock, &r), -ENODEV);
        assert_int_equal(rt_route_del(sock, &r), 0);
        r.dst.len--;
        assert_int_equal(rt_route_add(sock, &r), -EINVAL);
    }
    sandbox_run("ip link del up0");
}

static void test_proxies(void **state)
{
    struct addr four = addr_of("10.137.0.11"), six = addr_of("2001:db8::11");
    struct rt_proxy p;
    uint32_t index, old;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up");
    index = index_of("up0");
    assert_int_equal(rt_proxy_add(sock, index, &four, 77), 0);
    assert_int_equal(rt_proxy_add(sock, index, &four, 77), 0);
    assert_int_equal(rt_proxy_add(sock, index, &six, 77), 0);
    assert_true(find_proxy(index, "10.137.0.11", &p));
    assert_int_equal(p.protocol, 77);
    assert_true(find_proxy(index, "2001:db8::11", &p));
    assert_int_equal(p.protocol, 77);
    /* somebody else's */
    sandbox_run("ip neigh add proxy 10.137.0.12 dev up0");
    assert_true(find_proxy(index, "10.137.0.12", &p));
    assert_int_equal(p.protocol, 0);

    assert_int_equal(rt_proxy_del(sock, index, &four), 0);
    assert_int_equal(rt_proxy_del(sock, index, &four), 0);
    assert_false(find_proxy(index, "10.137.0.11", &p));

    /* entries are bound to their device: they go with it and do not come back with the name */
    old = index;
    sandbox_run("ip link del up0; ip link add up0 type veth peer name far0; ip link set up0 up");
    index = index_of("up0");
    assert_false(find_proxy(index, "2001:db8::11", &p));
    assert_false(find_proxy(old, "2001:db8::11", &p));
    assert_int_equal(rt_proxy_del(sock, old, &six), 0);
    assert_int_equal(rt_proxy_add(sock, old, &six, 77), -ENODEV);
    assert_int_equal(rt_proxy_add(sock, 0, &six, 77), -EINVAL);
    sandbox_run("ip link del up0");
}

static int take_neighbour(const struct rt_neighbour *neighbour, void *user)
{
    struct table *t = user;

    assert_true(t->count < ARRAY_SIZE(t->neighbours));
    t->neighbours[t->count++] = *neighbour;
    return 0;
}

static void test_neighbours(void **state)
{
    struct table t = {0};
    struct addr four = addr_of("10.137.0.11"), six = addr_of("2001:db8::11");
    uint32_t index;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up");
    index = index_of("up0");
    sandbox_run("ip neigh add 10.137.0.11 lladdr 02:00:00:00:00:07 dev up0 nud permanent;"
                "ip neigh add 2001:db8::11 lladdr 02:00:00:00:00:08 dev up0 nud stale;"
                "ip neigh add 10.137.0.13 dev up0 nud failed;"
                "ip neigh add proxy 10.137.0.12 dev up0");
    assert_int_equal(rt_dump_neighbours(sock, table_begin, take_neighbour, &t), 0);
    assert_int_equal(t.count, 2);
    for (size_t i = 0; i < t.count; i++) {
        bool first = addr_equal(&t.neighbours[i].addr, &four);

        assert_true(first || addr_equal(&t.neighbours[i].addr, &six));
        assert_int_equal(t.neighbours[i].index, index);
        assert_int_equal(t.neighbours[i].mac[5], first ? 7 : 8);
        assert_int_equal(t.neighbours[i].permanent, first);
        assert_true(t.neighbours[i].age < 10);
    }
    sandbox_run("ip link del up0");
}

/* All changes until nothing comes for a while, at most five seconds. */
static int monitor_collect(struct rt_monitor *m, int wanted)
{
    struct pollfd p = {.fd = rt_monitor_fd(m), .events = POLLIN};
    const int64_t end = sandbox_now_us() + 5000000;
    int all = 0;

    while ((all & wanted) != wanted && sandbox_now_us() < end) {
        int r;

        (void)poll(&p, 1, 100);
        r = rt_monitor_read(m);
        assert_true(r >= 0);
        all |= r;
    }
    do {
        int r = rt_monitor_read(m);

        assert_true(r >= 0);
        all |= r;
    } while (poll(&p, 1, 0) > 0);
    return all;
}

static void test_monitor(void **state)
{
    struct rt_monitor *m = NULL;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up; ip link set far0 up;"
                "ip addr add 192.0.2.1/24 dev up0");
    assert_int_equal(rt_monitor_open(&m), 0);
    assert_int_equal(rt_monitor_read(m), 0);

    sandbox_run("ip link set up0 group 2");
    assert_int_equal(monitor_collect(m, RT_CHANGE_LINK), RT_CHANGE_LINK);
    sandbox_run("ip route add 10.0.0.0/8 dev up0");
    assert_int_equal(monitor_collect(m, RT_CHANGE_ROUTE), RT_CHANGE_ROUTE);
    sandbox_run("echo 1 > /proc/sys/net/ipv4/conf/up0/proxy_arp");
    assert_int_equal(monitor_collect(m, RT_CHANGE_CONF), RT_CHANGE_CONF);
    sandbox_run("ip addr add 192.0.2.7/24 dev up0");
    assert_true((monitor_collect(m, RT_CHANGE_ADDR) & RT_CHANGE_ADDR) != 0);
    /* a route of another table is not worth waking up for, nor is a proxy entry */
    sandbox_run("ip route add 10.1.0.0/16 dev up0 table 78; ip neigh add proxy 10.2.2.2 dev up0");
    assert_int_equal(rt_monitor_read(m), 0);
    sandbox_run("ip link del up0");
    assert_true((monitor_collect(m, RT_CHANGE_LINK) & RT_CHANGE_LINK) != 0);
    assert_null(rt_monitor_free(m));
}

static void test_monitor_overrun(void **state)
{
    struct rt_monitor *m = NULL;
    int tiny = 1;

    (void)state;
    assert_int_equal(rt_monitor_open(&m), 0);
    assert_int_equal(setsockopt(rt_monitor_fd(m), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)), 0);
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up;"
                "for i in 1 2 3 4 5 6 7 8; do ip link set up0 group $i; done");
    assert_int_equal(rt_monitor_read(m), RT_CHANGE_ALL);
    assert_int_equal(rt_monitor_read(m), 0);
    /* and it hears on */
    sandbox_run("ip link set up0 group 77");
    assert_true(monitor_collect(m, RT_CHANGE_LINK) != 0);
    sandbox_run("ip link del up0");
    assert_null(rt_monitor_free(m));
}

/* Any process with the right can write to a netlink port; only the kernel is heard. */
static void test_monitor_stranger(void **state)
{
    struct ifinfomsg ifi = {.ifi_index = 1};
    _Alignas(struct nlmsghdr) uint8_t bytes[64];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes);
    struct sockaddr_nl to;
    socklen_t len = sizeof(to);
    struct rt_monitor *m = NULL;
    _cleanup_(closep) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    (void)state;
    assert_int_equal(rt_monitor_open(&m), 0);
    assert_int_equal(getsockname(rt_monitor_fd(m), (struct sockaddr *)&to, &len), 0);
    nlh->nlmsg_type = RTM_DELLINK;
    memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(ifi)), &ifi, sizeof(ifi));
    assert_int_equal(sendto(fd, bytes, nlh->nlmsg_len, 0, (struct sockaddr *)&to, sizeof(to)),
                     nlh->nlmsg_len);
    assert_int_equal(rt_monitor_read(m), 0);
    assert_null(rt_monitor_free(m));
}

static int take_nothing(const struct nlmsghdr *nlh, void *user)
{
    (void)nlh;
    (void)user;
    return 0;
}

/* A header that only strict checking minds; the kernel says so in words. */
static void test_error_text(void **state)
{
    static const struct nl_dump_ops ops = {.entry = take_nothing};
    _Alignas(struct nlmsghdr) uint8_t bytes[64];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes);
    struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
    struct table t = {0};

    (void)state;
    nlh->nlmsg_type = RTM_GETADDR;
    ifa->ifa_prefixlen = 24;
    assert_int_equal(nl_dump(sock, nlh, &ops, NULL), -EINVAL);
    assert_non_null(strstr(nl_error_text(sock), "header"));
    assert_int_equal(rt_dump_links(sock, table_begin, take_link, &t), 0);
    assert_string_equal(nl_error_text(sock), "");
    assert_true(nl_port(sock) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_dump_stops_and_goes_on),
        cmocka_unit_test(test_addrs),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_host_routes),
        cmocka_unit_test(test_proxies), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_monitor),
        cmocka_unit_test(test_monitor_overrun),
        cmocka_unit_test(test_monitor_stranger),
        cmocka_unit_test(test_error_text),
    };
    int r;

    if (!sandbox_enter())
        return 77;
    sandbox_run("ip link set lo up");
    if (nl_open(NETLINK_ROUTE, &sock) < 0)
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    sock = nl_free(sock);
    return r;
}
