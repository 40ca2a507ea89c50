/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forgetting flows, between two namespaces: this one (192.0.2.1) and the qube's (10.137.0.11). */
#include "test_netlink_sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "netlink/ct.h"

static struct nl_sock *sock;
static int here = -1, there = -1;

struct seen {
    struct ct_flow flows[64];
    size_t count;
    uint16_t port; /* forget those to this port; 0: none, 1: all */
};

static bool judge(const struct ct_flow *flow, size_t which, void *user)
{
    struct seen *s = user;

    (void)which;
    assert_true(s->count < ARRAY_SIZE(s->flows));
    s->flows[s->count++] = *flow;
    return s->port == 1 || (s->port != 0 && flow->orig.dst_port == s->port);
}

static const struct ct_forget_ops judge_ops = {.judge = judge};

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

/* Number forgotten; what was seen is in s. */
static int forget(const char *text, uint16_t port, struct seen *s)
{
    struct addr a = addr_of(text);

    *s = (struct seen){.port = port};
    return ct_forget(sock, &a, 1, &judge_ops, s);
}

static size_t count(const char *text)
{
    struct seen s;

    assert_int_equal(forget(text, 0, &s), 0);
    return s.count;
}

static void send_udp(const char *to, uint16_t port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct addr a = addr_of(to);
    _cleanup_(closep) int fd = socket(a.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ssize_t n;

    assert_true(fd >= 0);
    memcpy(&four.sin_addr, a.bytes, 4);
    memcpy(&six.sin6_addr, a.bytes, 16);
    if (a.family == AF_INET)
        n = sendto(fd, "x", 1, 0, (const struct sockaddr *)&four, sizeof(four));
    else
        n = sendto(fd, "x", 1, 0, (const struct sockaddr *)&six, sizeof(six));
    assert_int_equal(n, 1);
}

static int setup(void **state)
{
    (void)state;
    sandbox_run("/usr/sbin/nft 'flush ruleset;"
                "table inet track {"
                " chain zone { type filter hook output priority raw;"
                "  udp dport 5555 ct zone set 9; };"
                " chain out { type filter hook output priority 0; ct state new accept; };"
                " chain nat { type nat hook output priority -100;"
                "  ip daddr 198.51.100.1 udp dport 8443 dnat ip to 10.137.0.11:443; }; }'");
    return 0;
}

static int teardown(void **state)
{
    struct seen s;

    (void)state;
    (void)forget("192.0.2.1", 1, &s);
    (void)forget("2001:db8::1", 1, &s);
    return 0;
}

static void test_udp(void **state)
{
    struct addr own = addr_of("192.0.2.1"), qube = addr_of("10.137.0.11");
    struct seen s;

    (void)state;
    send_udp("10.137.0.11", 1001);
    send_udp("10.137.0.11", 1002);
    send_udp("10.137.0.12", 1001);
    assert_int_equal(forget("10.137.0.11", 1002, &s), 1);
    assert_int_equal(s.count, 2); /* each once, though it is found as orig and as reply */
    assert_true(addr_equal(&s.flows[0].orig.src, &own));
    assert_true(addr_equal(&s.flows[0].orig.dst, &qube));
    assert_true(addr_equal(&s.flows[0].reply.src, &qube));
    assert_int_equal(s.flows[0].orig.protocol, IPPROTO_UDP);
    assert_int_equal(s.flows[0].orig.dst_port, s.flows[0].reply.src_port);
    assert_int_equal(count("10.137.0.11"), 1);
    assert_int_equal(count("10.137.0.12"), 1);
    assert_int_equal(count("192.0.2.1"), 2);
    assert_int_equal(forget("10.137.0.11", 1, &s), 1);
    assert_int_equal(forget("10.137.0.11", 1, &s), 0);
    assert_int_equal(count("192.0.2.1"), 1);
}

static void test_six(void **state)
{
    struct seen s;

    (void)state;
    send_udp("2001:db8::11", 1001);
    send_udp("2001:db8::12", 1001);
    assert_int_equal(forget("2001:db8::11", 1, &s), 1);
    assert_int_equal(s.count, 1);
    assert_int_equal(count("2001:db8::1"), 1);
}

/* A published port: only the reply knows the qube. */
static void test_translated(void **state)
{
    struct seen s;

    (void)state;
    send_udp("198.51.100.1", 8443);
    assert_int_equal(count("192.0.2.1"), 1);
    assert_int_equal(forget("10.137.0.11", 1, &s), 1);
    assert_int_equal(s.count, 1);
    assert_true((s.flows[0].status & IPS_DST_NAT) != 0);
    assert_int_equal(s.flows[0].orig.dst_port, 8443);
    assert_int_equal(s.flows[0].reply.src_port, 443);
    assert_int_equal(count("192.0.2.1"), 0);
}

static void test_zone(void **state)
{
    struct seen s;

    (void)state;
    send_udp("10.137.0.11", 5555);
    assert_int_equal(forget("10.137.0.11", 1, &s), 1);
    assert_int_equal(s.flows[0].zone, 9);
    assert_int_equal(count("10.137.0.11"), 0);
}

/* A protocol without ports: its own numbers are in the tuple and must come back to the kernel. */
static void test_icmp(void **state)
{
    _cleanup_(closep) int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct addr a = addr_of("10.137.0.11");
    struct icmphdr echo = {.type = ICMP_ECHO, .un.echo.id = htons(77)};
    struct seen s;

    (void)state;
    assert_true(fd >= 0);
    memcpy(&to.sin_addr, a.bytes, 4);
    echo.checksum = (uint16_t)~(htons(ICMP_ECHO << 8) + htons(77));
    assert_int_equal(sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&to, sizeof(to)),
                     sizeof(echo));
    assert_int_equal(forget("10.137.0.11", 1, &s), 1);
    assert_int_equal(s.flows[0].orig.protocol, IPPROTO_ICMP);
    assert_int_equal(s.flows[0].orig.dst_port, 0);
    assert_int_equal(count("10.137.0.11"), 0);
}

/* An established connection, forgotten in the middle. */
static void test_tcp(void **state)
{
    _cleanup_(closep) int listener = -1, fd = -1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(443)};
    struct addr a = addr_of("10.137.0.11");
    struct seen s;

    (void)state;
    memcpy(&at.sin_addr, a.bytes, 4);
    assert_int_equal(setns(there, CLONE_NEWNET), 0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setns(here, CLONE_NEWNET), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);

    assert_int_equal(forget("10.137.0.11", 443, &s), 1);
    assert_int_equal(s.count, 1);
    assert_true((s.flows[0].status & IPS_ASSURED) != 0);
    assert_int_equal(count("10.137.0.11"), 0);
}

static void test_many(void **state)
{
    struct seen s;

    (void)state;
    for (uint16_t i = 0; i < 60; i++)
        send_udp("10.137.0.11", (uint16_t)(2000 + i));
    assert_int_equal(forget("10.137.0.11", 1, &s), 60);
    assert_int_equal(s.count, 60);
    assert_int_equal(count("10.137.0.11"), 0);
}

static bool judge_many(const struct ct_flow *flow, size_t which, void *user)
{
    size_t *shown = user;

    shown[which]++;
    /* the first address forgets all of its own, the last only port 2002 */
    return which == 0 || (which == 3 && flow->orig.dst_port == 2002);
}

static void ready_many(void *user)
{
    size_t *shown = user;

    shown[4]++;
}

static void test_several(void **state)
{
    static const struct ct_forget_ops ops = {judge_many, ready_many};

    struct addr addrs[] = {addr_of("2001:db8::11"), addr_of("10.137.0.12"),
                           addr_of("192.0.2.77"), addr_of("10.137.0.11"), {0}};
    size_t shown[5] = {0};

    (void)state;
    send_udp("10.137.0.11", 2001);
    send_udp("10.137.0.11", 2002);
    send_udp("10.137.0.12", 2002);
    send_udp("2001:db8::11", 2001);
    send_udp("2001:db8::11", 2003);
    send_udp("2001:db8::12", 2001);
    assert_int_equal(ct_forget(sock, addrs, 5, &ops, shown), -EINVAL);
    assert_int_equal(ct_forget(sock, addrs, 4, &ops, shown), 3);
    assert_int_equal(shown[0], 2);
    assert_int_equal(shown[1], 1);
    assert_int_equal(shown[2], 0);
    assert_int_equal(shown[3], 2);
    assert_int_equal(shown[4], 2); /* once for each family */
    assert_int_equal(count("10.137.0.11"), 1);
    assert_int_equal(count("10.137.0.12"), 1);
    assert_int_equal(count("2001:db8::11"), 0);
    assert_int_equal(count("2001:db8::12"), 1);
    assert_int_equal(ct_forget(sock, NULL, 0, &ops, shown), 0);
}

static void test_bad_address(void **state)
{
    struct addr none = {0};
    struct seen s = {0};

    (void)state;
    assert_int_equal(ct_forget(sock, &none, 1, &judge_ops, &s), -EINVAL);
}

static bool build(void)
{
    char command[256];

    here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (here < 0 || unshare(CLONE_NEWNET) < 0)
        return false;
    there = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (there < 0 || setns(here, CLONE_NEWNET) < 0)
        return false;
    (void)snprintf(command, sizeof(command),
                   "ip link add v0 type veth peer name v1 netns /proc/%d/fd/%d", (int)getpid(),
                   there);
    sandbox_run(command);
    sandbox_run("ip link set v0 up; ip addr add 192.0.2.1/24 dev v0;"
                "ip addr add 2001:db8::1/64 dev v0 nodad; ip route add 10.137.0.0/24 dev v0;"
                "ip route add 198.51.100.1 dev v0");
    if (setns(there, CLONE_NEWNET) < 0)
        return false;
    sandbox_run("ip link set lo up; ip link set v1 up; ip addr add 10.137.0.11/24 dev v1;"
                "ip addr add 10.137.0.12/24 dev v1; ip addr add 2001:db8::11/64 dev v1 nodad;"
                "ip addr add 2001:db8::12/64 dev v1 nodad; ip route add 192.0.2.1 dev v1");
    return setns(here, CLONE_NEWNET) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_udp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_six, setup, teardown),
        cmocka_unit_test_setup_teardown(test_translated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_zone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_icmp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several, setup, teardown),
        cmocka_unit_test(test_bad_address),
    };
    int r;

    if (!sandbox_enter())
        return 77;
    if (access("/usr/sbin/nft", X_OK) < 0) {
        (void)fprintf(stderr, "skipped: no /usr/sbin/nft\n");
        return 77;
    }
    if (!build() || nl_open(NETLINK_NETFILTER, &sock) < 0)
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    sock = nl_free(sock);
    here = close_fd(here);
    there = close_fd(there);
    return r;
}
