/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links, addresses and the tunnel device, by a kernel; the reader of links on made-up messages. */
#include "test_netlink_sandbox.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "netlink/link.h"
#include "netlink/rt.h"
#include "vpn/client/device.h"

#define CLIENT_UID 4978

static bool have_sandbox;
static struct nl_sock *nl;

static int group_setup(void **state)
{
    (void)state;
    have_sandbox = sandbox_enter() && access("/dev/net/tun", F_OK) == 0;
    if (have_sandbox)
        assert_int_equal(nl_open(NETLINK_ROUTE, &nl), 0);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    nl = nl_free(nl);
    return 0;
}

static void need_sandbox(void)
{
    if (!have_sandbox)
        skip();
}

static struct prefix prefix(const char *text, uint8_t len)
{
    struct prefix p = {.len = len};

    assert_int_equal(addr_parse(str_from(text), &p.addr), 0);
    return p;
}

static struct link_facts look(const char *name)
{
    struct link_facts link = {0};

    assert_int_equal(link_find(nl, name, &link), 0);
    return link;
}

/* Addresses of a link as "a/n b/n " in the kernel's order. */
struct listing {
    uint32_t index;
    char text[512];
};

static void listing_begin(void *user)
{
    ((struct listing *)user)->text[0] = '\0';
}

static int listing_take(const struct rt_addr *addr, void *user)
{
    struct listing *l = user;
    char text[PREFIX_STR_MAX];
    size_t len = strlen(l->text);

    if (addr->index == l->index)
        (void)snprintf(l->text + len, sizeof(l->text) - len, "%s ",
                       prefix_format(&addr->prefix, text));
    return 0;
}

static void assert_addresses(const char *name, const char *expected)
{
    struct listing l = {.index = look(name).index};

    assert_int_equal(rt_dump_addrs(nl, listing_begin, listing_take, &l), 0);
    assert_string_equal(l.text, expected);
}

static void test_link_requests(void **state)
{
    const struct link_change change = {
        .flags = IFF_UP, .flags_mask = IFF_UP, .mtu = 1300, .set_group = true, .group = 7};
    const struct link_change down = {.flags_mask = IFF_UP, .set_group = true};
    struct prefix p4 = prefix("10.9.8.7", 24), p6 = prefix("fd00:9::7", 64);
    struct link_facts link;

    (void)state;
    need_sandbox();
    sandbox_run("ip link add v0 type veth peer name v1");
    link = look("v0");
    assert_string_equal(link.kind, "veth");
    assert_int_equal(link.arptype, ARPHRD_ETHER);
    assert_int_equal(link_set(nl, link.index, &change), 0);
    link = look("v0");
    assert_int_equal(link.mtu, 1300);
    assert_int_equal(link.group, 7);
    assert_true((link.flags & IFF_UP) != 0);

    for (int i = 0; i < 2; i++) {
        assert_int_equal(link_add_address(nl, link.index, &p4), 0);
        assert_int_equal(link_add_address(nl, link.index, &p6), 0);
    }
    sandbox_run("ip -o addr show dev v0 | grep -q 'inet 10.9.8.7/24 .*noprefixroute'");
    sandbox_run("ip -o addr show dev v0 | grep -q 'inet6 fd00:9::7/64 .*nodad.*noprefixroute'");
    sandbox_run("! ip route show table main | grep -q v0");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(link_delete_address(nl, link.index, &p4), 0);
        assert_int_equal(link_delete_address(nl, link.index, &p6), 0);
    }
    sandbox_run("! ip -o addr show dev v0 | grep -q 'inet 10\\|inet6 fd'");

    assert_int_equal(link_set(nl, link.index, &down), 0);
    assert_int_equal(look("v0").group, 0);
    assert_true((look("v0").flags & IFF_UP) == 0);
    assert_int_equal(link_delete(nl, link.index), 0);
    assert_int_equal(link_delete(nl, link.index), 0);
    assert_int_equal(link_find(nl, "v0", &link), -ENODEV);
    assert_int_equal(link_find(nl, "a-name-that-is-too-long", &link), -EINVAL);
    assert_int_equal(link_add(nl, "v9", "no-such-kind"), -EOPNOTSUPP);
    assert_int_equal(link_set(nl, 0, &down), -EINVAL);
}

static void test_alternative_names_do_not_count(void **state)
{
    struct link_facts link;

    (void)state;
    need_sandbox();
    sandbox_run("ip link add w0 type veth peer name w1");
    sandbox_run("ip link property add dev w0 altname qubes-vpn");
    assert_int_equal(link_find(nl, "qubes-vpn", &link), -ENODEV);
    sandbox_run("ip link del w0");
}

static void test_tun(void **state)
{
    struct link_facts link;
    bool wireguard = true;

    (void)state;
    need_sandbox();
    assert_int_equal(device_find(nl, &wireguard), 0);
    assert_int_equal(device_remove(nl), 0);
    assert_int_equal(device_make_tun(nl, CLIENT_UID), 0);
    assert_int_equal(device_find(nl, &wireguard), 1);
    assert_false(wireguard);
    link = look("qubes-vpn");
    assert_string_equal(link.kind, "tun");
    assert_int_equal(link.group, 0);
    sandbox_run("ip -d link show dev qubes-vpn |"
                "grep -q 'tun type tun pi off.*persist on user 4978'");
    assert_int_equal(device_make_tun(nl, 0), 0); /* a stale one is replaced */
    assert_int_not_equal(look("qubes-vpn").index, link.index);
    assert_int_equal(device_remove(nl), 0);
    assert_int_equal(device_find(nl, &wireguard), 0);
}

static void test_foreign_device_is_left_alone(void **state)
{
    static const char *const others[] = {"ip link add qubes-vpn type veth peer name q1",
                                         "ip tuntap add qubes-vpn mode tap"};
    const struct tunnel_facts facts = {.mtu = 1400};
    bool wireguard;

    (void)state;
    need_sandbox();
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        sandbox_run(others[i]);
        assert_int_equal(device_find(nl, &wireguard), -EEXIST);
        assert_int_equal(device_remove(nl), -EEXIST);
        assert_int_equal(device_make_tun(nl, CLIENT_UID), -EEXIST);
        assert_int_equal(device_configure(nl, &facts), -EEXIST);
        assert_int_equal(device_down(nl), -EEXIST);
        sandbox_run("ip link del qubes-vpn");
    }
}

static void test_configure(void **state)
{
    struct tunnel_facts facts = {.addr4 = prefix("10.8.0.2", 32),
                                 .addr6 = prefix("fd00:8::2", 128),
                                 .mtu = 1400};

    (void)state;
    need_sandbox();
    assert_int_equal(device_configure(nl, &facts), -ENODEV);
    assert_int_equal(device_make_tun(nl, CLIENT_UID), 0);
    sandbox_run("ip link set qubes-vpn group 2");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(device_configure(nl, &facts), 0);
        assert_addresses("qubes-vpn", "10.8.0.2 fd00:8::2 ");
        assert_int_equal(look("qubes-vpn").mtu, 1400);
        assert_int_equal(look("qubes-vpn").group, 0);
        assert_true((look("qubes-vpn").flags & IFF_UP) != 0);
    }
    sandbox_run("test $(cat /proc/sys/net/ipv6/conf/qubes-vpn/accept_ra) = 0");
    sandbox_run("test $(cat /proc/sys/net/ipv6/conf/qubes-vpn/addr_gen_mode) = 1");
    sandbox_run("! ip route show table all dev qubes-vpn |"
                "grep -v '^local\\|^multicast\\|^anycast' | grep .");

    /* another tunnel: no address of the old one stays */
    sandbox_run("ip addr add 192.0.2.9/32 dev qubes-vpn");
    facts.addr4 = prefix("10.8.0.77", 32);
    facts.addr6 = (struct prefix){0};
    facts.mtu = 1280;
    assert_int_equal(device_configure(nl, &facts), 0);
    assert_addresses("qubes-vpn", "10.8.0.77 ");
    sandbox_run("test $(cat /proc/sys/net/ipv6/conf/qubes-vpn/disable_ipv6) = 1");

    assert_int_equal(device_down(nl), 0);
    assert_int_equal(device_down(nl), 0);
    assert_addresses("qubes-vpn", "");
    assert_true((look("qubes-vpn").flags & IFF_UP) == 0);
    facts.addr6 = prefix("fd00:8::2", 128);
    assert_int_equal(device_configure(nl, &facts), 0);
    assert_addresses("qubes-vpn", "10.8.0.77 fd00:8::2 ");
    assert_int_equal(device_remove(nl), 0);
    assert_int_equal(device_down(nl), 0);
}

static void test_wireguard(void **state)
{
    bool wireguard = false;
    int r;

    (void)state;
    need_sandbox();
    r = device_make_wireguard(nl);
    if (r == -EOPNOTSUPP) {
        print_message("skipped: this kernel has no WireGuard\n");
        skip();
    }
    assert_int_equal(r, 0);
    assert_int_equal(device_find(nl, &wireguard), 1);
    assert_true(wireguard);
    assert_int_equal(device_make_tun(nl, CLIENT_UID), 0);
    assert_int_equal(device_remove(nl), 0);
}

/* A message of the kernel's, built by hand. */
struct made {
    _Alignas(struct nlmsghdr) char bytes[512];
};

static struct nlmsghdr *made_begin(struct made *m, int index)
{
    struct nlmsghdr *nlh;
    struct ifinfomsg *ifi;

    memset(m, 0, sizeof(*m));
    nlh = mnl_nlmsg_put_header(m->bytes);
    nlh->nlmsg_type = RTM_NEWLINK;
    ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
    ifi->ifi_index = index;
    return nlh;
}

static void put_kind(struct nlmsghdr *nlh, const char *kind, size_t len)
{
    struct nlattr *info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);

    mnl_attr_put(nlh, IFLA_INFO_KIND, len, kind);
    mnl_attr_nest_end(nlh, info);
}

static void test_parse(void **state)
{
    struct link_facts link;
    struct nlmsghdr *nlh;
    struct made m;

    (void)state;
    nlh = made_begin(&m, 5);
    assert_int_equal(link_parse(nlh, &link), -EBADMSG); /* no name */
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x0");
    assert_int_equal(link_parse(nlh, &link), 0);
    assert_string_equal(link.kind, "");
    put_kind(nlh, "tun", 4);
    assert_int_equal(link_parse(nlh, &link), 0);
    assert_string_equal(link.kind, "tun");
    for (uint32_t len = sizeof(*nlh); len < nlh->nlmsg_len; len++) { /* cut anywhere */
        struct made cut = m;
        struct nlmsghdr *c = (struct nlmsghdr *)(void *)cut.bytes;

        c->nlmsg_len = len;
        (void)link_parse(c, &link);
    }

    nlh = made_begin(&m, 5);
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x0");
    put_kind(nlh, "a\0b", 4);
    assert_int_equal(link_parse(nlh, &link), -EBADMSG);
    nlh = made_begin(&m, 5);
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x0");
    put_kind(nlh, "seventeen-letters", 17);
    assert_int_equal(link_parse(nlh, &link), -EBADMSG);
    nlh = made_begin(&m, -1);
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "x0");
    assert_int_equal(link_parse(nlh, &link), -EBADMSG);
    nlh->nlmsg_type = RTM_DELLINK;
    assert_int_equal(link_parse(nlh, &link), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_link_requests),
        cmocka_unit_test(test_alternative_names_do_not_count),
        cmocka_unit_test(test_tun),
        cmocka_unit_test(test_foreign_device_is_left_alone),
        cmocka_unit_test(test_configure),
        cmocka_unit_test(test_wireguard),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
