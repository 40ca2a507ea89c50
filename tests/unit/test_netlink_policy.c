/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Policy rules and routes of any table against the running kernel. */
#include "test_netlink_sandbox.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "netlink/policy.h"

static struct nl_sock *sock;

struct lists {
    struct rule rules[64];
    struct path paths[256];
    size_t n_rules, n_paths;
};

static void rules_begin(void *user)
{
    ((struct lists *)user)->n_rules = 0;
}

static int rules_take(const struct rule *rule, void *user)
{
    struct lists *l = user;

    assert_true(l->n_rules < ARRAY_SIZE(l->rules));
    l->rules[l->n_rules++] = *rule;
    return 0;
}

static void paths_begin(void *user)
{
    ((struct lists *)user)->n_paths = 0;
}

static int paths_take(const struct path *path, void *user)
{
    struct lists *l = user;

    assert_true(l->n_paths < ARRAY_SIZE(l->paths));
    l->paths[l->n_paths++] = *path;
    return 0;
}

static struct lists *look(uint8_t family)
{
    static struct lists l;

    assert_int_equal(rule_dump(sock, rules_begin, rules_take, &l), 0);
    assert_int_equal(path_dump(sock, family, paths_begin, paths_take, &l), 0);
    return &l;
}

static unsigned count_rules(const struct rule *rule)
{
    const struct lists *l = look(AF_INET);
    unsigned n = 0;

    for (size_t i = 0; i < l->n_rules; i++)
        n += rule_equal(&l->rules[i], rule);
    return n;
}

static unsigned count_paths(const struct path *path)
{
    const struct lists *l = look(path->family);
    unsigned n = 0;

    for (size_t i = 0; i < l->n_paths; i++)
        n += path_equal(&l->paths[i], path);
    return n;
}

static struct rule rule_of(uint8_t family, uint32_t priority, uint32_t table)
{
    return (struct rule){.family = family, .action = FR_ACT_TO_TBL, .protocol = RTPROT_KERNEL,
                         .priority = priority, .table = table};
}

static void test_rules_there_and_back(void **state)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        struct rule list[4];

        list[0] = rule_of(families[i], 70, 78);
        list[1] = rule_of(families[i], 50, 79);
        list[1].mark = 0x79000000;
        list[1].mask = 0xff000000;
        list[2] = rule_of(families[i], 51, 79);
        list[2].has_uid = true;
        list[2].uid = 4978;
        list[3] = rule_of(families[i], 80, 0);
        list[3].action = FR_ACT_BLACKHOLE;
        for (size_t k = 0; k < ARRAY_SIZE(list); k++) {
            assert_int_equal(count_rules(&list[k]), 0);
            assert_int_equal(rule_add(sock, &list[k]), 0);
            assert_int_equal(rule_add(sock, &list[k]), 0); /* again: still one */
            assert_int_equal(count_rules(&list[k]), 1);
        }
        for (size_t k = 0; k < ARRAY_SIZE(list); k++) {
            assert_int_equal(rule_del(sock, &list[k]), 0);
            assert_int_equal(rule_del(sock, &list[k]), 0);
            assert_int_equal(count_rules(&list[k]), 0);
        }
    }
}

/* Whatever a rule says beyond ours makes it another one. */
static void test_rules_that_say_more(void **state)
{
    static const char *const words[] = {
        "from 192.0.2.0/24", "to 192.0.2.1", "iif lo",  "oif lo", "tos 0x10", "ipproto udp",
        "sport 5-6",         "dport 7",      "not fwmark 0x1", "suppress_prefixlength 0",
        "suppress_ifgroup 1", "uidrange 1-2", "tun_id 5",  "realms 1/2",
    };
    const struct rule plain = rule_of(AF_INET, 70, 78);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const struct lists *l;
        struct rule strange = {0};
        char command[160];

        (void)snprintf(command, sizeof(command), "ip rule add prio 70 %s lookup 78 protocol kernel",
                       words[i]);
        assert_int_equal(rule_add(sock, &plain), 0);
        sandbox_run(command);
        assert_int_equal(count_rules(&plain), 1);
        l = look(AF_INET);
        for (size_t k = 0; k < l->n_rules; k++)
            if (l->rules[k].priority == 70 && l->rules[k].other)
                strange = l->rules[k];
        if (strange.priority != 70)
            fail_msg("not seen as another one: %s", words[i]);
        /* the very one, not the first that has as much: ours stays */
        assert_int_equal(rule_del(sock, &strange), 0);
        if (count_rules(&plain) != 1)
            fail_msg("deleted instead of \"%s\"", words[i]);
        l = look(AF_INET);
        for (size_t k = 0; k < l->n_rules; k++)
            assert_false(l->rules[k].other);
        assert_int_equal(rule_del(sock, &plain), 0);
    }
}

/* Those of the kernel itself are read as what they are. */
static void test_rules_of_the_kernel(void **state)
{
    const struct rule local = {.family = AF_INET, .action = FR_ACT_TO_TBL,
                               .protocol = RTPROT_KERNEL, .table = RT_TABLE_LOCAL};

    (void)state;
    assert_int_equal(count_rules(&local), 1);
}

static struct path path_of(const char *dst, uint32_t table, uint8_t type, uint32_t metric,
                           uint32_t oif)
{
    struct path p = {.type = type, .protocol = RTPROT_KERNEL, .table = table, .metric = metric,
                     .oif = oif};

    assert_int_equal(prefix_parse(str_from(dst), &p.dst), 0);
    p.family = p.dst.addr.family;
    if (p.family == AF_INET && oif != 0)
        p.scope = RT_SCOPE_LINK;
    return p;
}

static void test_paths_there_and_back(void **state)
{
    uint32_t oif;
    struct path list[8];
    size_t n = 0;

    (void)state;
    sandbox_run(
        "ip link add up0 type veth peer name far0; ip link set up0 up; ip link set far0 up");
    oif = if_nametoindex("up0");
    assert_true(oif != 0);
    list[n++] = path_of("0.0.0.0/0", 78, RTN_BLACKHOLE, UINT32_MAX, 0);
    list[n++] = path_of("0.0.0.0/0", 78, RTN_UNICAST, 1, oif);
    list[n++] = path_of("10.137.0.21", 77, RTN_UNICAST, 32711, oif);
    list[n++] = path_of("::/0", 78, RTN_BLACKHOLE, UINT32_MAX, 0);
    list[n++] = path_of("::/0", 78, RTN_UNREACHABLE, 1024, 0);
    list[n++] = path_of("::/0", 78, RTN_UNICAST, 1, oif);
    list[n++] = path_of("fd00::21", 77, RTN_UNICAST, 32711, oif);
    list[n] = path_of("0.0.0.0/0", 79, RTN_UNICAST, 0, oif);
    list[n].scope = RT_SCOPE_UNIVERSE;
    list[n].onlink = true;
    assert_int_equal(addr_parse(str_from("10.137.0.5"), &list[n++].gateway), 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(count_paths(&list[i]), 0);
        assert_int_equal(path_add(sock, &list[i]), 0);
        assert_int_equal(path_add(sock, &list[i]), 0);
        assert_int_equal(count_paths(&list[i]), 1);
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(count_paths(&list[i]), 1); /* beside each other */
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(path_del(sock, &list[i]), 0);
        assert_int_equal(path_del(sock, &list[i]), 0);
        assert_int_equal(count_paths(&list[i]), 0);
    }
    sandbox_run("ip link del up0");
}

/* Several ways at once are no route of ours, and can be deleted. */
static void test_paths_that_say_more(void **state)
{
    const struct lists *l;
    unsigned others = 0;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0; ip link set up0 up; ip link set far0 up;"
                "ip route add table 78 default nexthop dev up0 nexthop dev far0;"
                "ip route add table 78 198.51.100.0/24 via inet6 fe80::1 dev up0;"
                "ip -6 route add table 78 2001:db8::/64 nexthop via fe80::1 dev up0"
                " nexthop via fe80::2 dev far0");
    for (unsigned family = 0; family < 2; family++) {
        l = look(family == 0 ? AF_INET : AF_INET6);
        for (size_t i = 0; i < l->n_paths; i++) {
            struct path path = l->paths[i];

            if (path.table != 78)
                continue;
            assert_true(path.other);
            assert_false(path_equal(&path, &path));
            others++;
            assert_int_equal(path_del(sock, &path), 0);
        }
        l = look(family == 0 ? AF_INET : AF_INET6);
        for (size_t i = 0; i < l->n_paths; i++)
            assert_int_not_equal(l->paths[i].table, 78);
    }
    assert_int_equal(others, 3);
    sandbox_run("ip link del up0");
}

/* The monitor hears rules and routes of other tables once it was asked to. */
static void test_monitor(void **state)
{
    static const struct {
        const char *command;
        int change;
    } changes[] = {
        {"ip rule add prio 70 lookup 78", RT_CHANGE_RULE},
        {"ip rule del prio 70", RT_CHANGE_RULE},
        {"ip -6 rule add prio 70 lookup 78", RT_CHANGE_RULE},
        {"ip -6 rule del prio 70", RT_CHANGE_RULE},
        {"ip route add blackhole default table 78", RT_CHANGE_ROUTE},
        {"ip -6 route add blackhole default table 78", RT_CHANGE_ROUTE},
        {"ip route flush table 78", RT_CHANGE_ROUTE},
    };
    struct rt_monitor *m = NULL;

    (void)state;
    assert_int_equal(rt_monitor_open(&m), 0);
    assert_int_equal(rt_monitor_add_policy(m), 0);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        struct pollfd p = {.fd = rt_monitor_fd(m), .events = POLLIN};
        int r, seen = 0;

        sandbox_run(changes[i].command);
        while (poll(&p, 1, seen == 0 ? 5000 : 0) > 0) {
            r = rt_monitor_read(m);
            assert_true(r >= 0);
            seen |= r;
        }
        if ((seen & changes[i].change) == 0)
            fail_msg("not heard: %s", changes[i].command);
    }
    sandbox_run("ip -6 route flush table 78");
    assert_null(rt_monitor_free(m));
}

/* Truncated and bent messages: nothing is read beyond them, and they are refused or something else.
 */
static void test_bent_messages(void **state)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[256];
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes);
    struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
    struct rule rule;
    struct path path;

    (void)state;
    nlh->nlmsg_type = RTM_NEWRULE;
    h->family = AF_INET;
    h->action = FR_ACT_TO_TBL;
    mnl_attr_put_u32(nlh, FRA_PRIORITY, 70);
    mnl_attr_put_u32(nlh, FRA_TABLE, 78);
    assert_int_equal(rule_parse(nlh, &rule), 0);
    assert_false(rule.other);
    /* an attribute that only a later kernel knows is a condition */
    mnl_attr_put_u8(nlh, 60, 1);
    assert_int_equal(rule_parse(nlh, &rule), 0);
    assert_true(rule.other && rule.said_len > 0);
    for (uint32_t len = 0; len < nlh->nlmsg_len; len++) {
        _cleanup_(freep) uint8_t *copy = malloc(len < sizeof(*nlh) ? sizeof(*nlh) : len);
        struct nlmsghdr *cut = (struct nlmsghdr *)copy;

        assert_non_null(copy);
        memcpy(copy, bytes, len < sizeof(*nlh) ? sizeof(*nlh) : len);
        cut->nlmsg_len = len < sizeof(*nlh) ? sizeof(*nlh) : len;
        (void)rule_parse(cut, &rule);
        cut->nlmsg_type = RTM_NEWROUTE;
        (void)path_parse(cut, &path);
    }
    nlh->nlmsg_type = RTM_NEWLINK;
    assert_int_equal(rule_parse(nlh, &rule), -EBADMSG);
    assert_int_equal(path_parse(nlh, &path), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_there_and_back),
        cmocka_unit_test(test_rules_that_say_more),
        cmocka_unit_test(test_rules_of_the_kernel),
        cmocka_unit_test(test_paths_there_and_back),
        cmocka_unit_test(test_paths_that_say_more),
        cmocka_unit_test(test_monitor),
        cmocka_unit_test(test_bent_messages),
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
