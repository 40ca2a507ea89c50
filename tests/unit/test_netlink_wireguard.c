/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WireGuard by generic netlink: the bytes of a request against the layout of linux/wireguard.h,
 * answers as the kernel cuts them up, and, where the kernel has WireGuard, a device set and read.
 */
#include <endian.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>

#include "test_netlink_sandbox.h"

#include "base/cleanup.h"
#include "netlink/attr.h"
#include "netlink/wireguard.h"

#define FAMILY 0x1d

static const struct prefix everything[] = {{{AF_INET, {0}}, 0}, {{AF_INET6, {0}}, 0}};

static void fill_key(uint8_t key[static WG_KEY_SIZE], uint8_t with)
{
    memset(key, with, WG_KEY_SIZE);
}

static struct wg_device sample(void)
{
    struct wg_device d = {.name = "qubes-vpn", .listen_port = 51821, .fwmark = 0x79000000};
    struct wg_peer *p = &d.peers[0];

    fill_key(d.private_key, 0x40);
    fill_key(p->public_key, 0x11);
    fill_key(p->preshared_key, 0x22);
    p->endpoint = (struct addr){AF_INET, {203, 0, 113, 10}};
    p->port = 51820;
    p->keepalive = 25;
    p->allowed = everything;
    p->n_allowed = ARRAY_SIZE(everything);
    d.n_peers = 1;
    return d;
}

/* A tree of attributes as text: "type[len]=hex" or "type{...}" for those with NLA_F_NESTED. */
static void print_attributes(const uint8_t *p, size_t len, char *out, size_t size)
{
    size_t at = 0, used = strlen(out);

    while (at + 4 <= len) {
        uint16_t head[2];

        memcpy(head, p + at, sizeof(head));
        assert_true(head[0] >= 4 && at + head[0] <= len);
        if (head[1] & NLA_F_NESTED) {
            used += (size_t)snprintf(out + used, size - used, "%u{", head[1] & NLA_TYPE_MASK);
            print_attributes(p + at + 4, head[0] - 4u, out, size);
            used = strlen(out);
            used += (size_t)snprintf(out + used, size - used, "}");
        } else {
            used += (size_t)snprintf(out + used, size - used, "%u=", head[1]);
            for (size_t i = 4; i < head[0]; i++)
                used += (size_t)snprintf(out + used, size - used, "%02x", p[at + i]);
            used += (size_t)snprintf(out + used, size - used, ";");
        }
        assert_true(used < size);
        at += (head[0] + 3u) / 4 * 4;
    }
    assert_int_equal(at, len);
}

#define K(b)   b b b b b b b b
#define KEY(b) K(b) K(b) K(b) K(b)

static void check_request(const struct wg_device *d, enum wg_set what, size_t i, const char *want)
{
    _Alignas(8) static uint8_t buf[WG_MESSAGE_MAX];
    int len = wg_set_message(buf, sizeof(buf), FAMILY, d, what, i);
    struct nlmsghdr nlh;
    char text[4096] = "";

    assert_true(len > 20);
    memcpy(&nlh, buf, sizeof(nlh));
    assert_int_equal(nlh.nlmsg_len, len);
    assert_int_equal(nlh.nlmsg_type, FAMILY);
    assert_int_equal(buf[16], WG_CMD_SET_DEVICE);
    assert_int_equal(buf[17], 1);
    print_attributes(buf + 20, (size_t)len - 20, text, sizeof(text));
    assert_string_equal(text, want);
}

static void test_request(void **state)
{
    struct wg_device d = sample();

    (void)state;
    if (htole16(1) != 1)
        skip(); /* the expected bytes are written for little-endian machines */
    check_request(&d, WG_SET_ALL, 0,
                  "2=71756265732d76706e00;3=" KEY("40") ";6=6dca;7=00000079;5=01000000;"
                  "8{0{1=" KEY("11") ";3=02000000;2=" KEY("22") ";"
                  "4=0200ca6ccb00710a" K("00") ";"
                  "9{0{1=0200;2=00000000;3=00;}0{1=0a00;2=" K("00") K("00") ";3=00;}}5=1900;}}");
    check_request(&d, WG_SET_PEERS, 0,
                  "2=71756265732d76706e00;5=01000000;"
                  "8{0{1=" KEY("11") ";3=02000000;2=" KEY("22") ";"
                  "4=0200ca6ccb00710a" K("00") ";"
                  "9{0{1=0200;2=00000000;3=00;}0{1=0a00;2=" K("00") K("00") ";3=00;}}5=1900;}}");
    check_request(&d, WG_SET_KEEPALIVE, 0,
                  "2=71756265732d76706e00;8{0{1=" KEY("11") ";3=04000000;5=1900;}}");
}

static void test_request_of_several_peers(void **state)
{
    struct wg_device d = sample();

    (void)state;
    if (htole16(1) != 1)
        skip();
    d.peers[1] = d.peers[0];
    fill_key(d.peers[1].public_key, 0x33);
    d.peers[1].endpoint = (struct addr){AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 5}};
    d.peers[1].n_allowed = 0;
    d.n_peers = 2;
    /* only the first message may replace what is there */
    check_request(&d, WG_SET_ALL, 1,
                  "2=71756265732d76706e00;8{0{1=" KEY("33") ";3=02000000;2=" KEY("22") ";"
                  "4=0a00ca6c0000000020010db8" K("00") "0000000500000000;9{}5=1900;}}");
    d.n_peers = 0;
    check_request(&d, WG_SET_ALL, 0,
                  "2=71756265732d76706e00;3=" KEY("40") ";6=6dca;7=00000079;5=01000000;");
    check_request(&d, WG_SET_PEERS, 0, "2=71756265732d76706e00;5=01000000;");
}

static void test_request_too_long(void **state)
{
    static struct prefix many[1000];
    _Alignas(8) static uint8_t buf[WG_MESSAGE_MAX + 8];
    struct wg_device d = sample();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (struct prefix){{AF_INET6, {0x20, 1}}, 128};
    d.peers[0].allowed = many;
    d.peers[0].n_allowed = ARRAY_SIZE(many);
    assert_int_equal(wg_set_message(buf, sizeof(buf), FAMILY, &d, WG_SET_ALL, 0), -EMSGSIZE);
    d.peers[0].n_allowed = 128; /* as many as a profile may have */
    assert_true(wg_set_message(buf, sizeof(buf), FAMILY, &d, WG_SET_ALL, 0) > 128 * 40);
    for (size_t size = 0; size < 600; size += 4) {
        d.peers[0].n_allowed = 2;
        memset(buf, 0xee, sizeof(buf));
        (void)wg_set_message(buf, size, FAMILY, &d, WG_SET_ALL, 0);
        for (size_t i = size; i < size + 8; i++)
            assert_int_equal(buf[i], 0xee);
    }
}

struct answer {
    _Alignas(8) uint8_t bytes[4096];
    struct nlmsghdr *nlh;
};

static void answer_begin(struct answer *a)
{
    static const struct genlmsghdr genl = {.cmd = WG_CMD_GET_DEVICE, .version = 1};

    memset(a, 0, sizeof(*a));
    a->nlh = mnl_nlmsg_put_header(a->bytes);
    a->nlh->nlmsg_type = FAMILY;
    memcpy(mnl_nlmsg_put_extra_header(a->nlh, sizeof(genl)), &genl, sizeof(genl));
    mnl_attr_put_strz(a->nlh, WGDEVICE_A_IFNAME, "qubes-vpn");
}

static struct nlattr *answer_peer(struct answer *a, uint8_t key, uint64_t rx)
{
    const int64_t handshake[2] = {1700000000, 5};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    struct nlattr *peer = mnl_attr_nest_start(a->nlh, 0);
    uint8_t bytes[WG_KEY_SIZE];

    v6.sin6_addr.s6_addr[0] = 0x20;
    fill_key(bytes, key);
    mnl_attr_put(a->nlh, WGPEER_A_PUBLIC_KEY, sizeof(bytes), bytes);
    mnl_attr_put(a->nlh, WGPEER_A_LAST_HANDSHAKE_TIME, sizeof(handshake), handshake);
    mnl_attr_put_u16(a->nlh, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 25);
    mnl_attr_put_u64(a->nlh, WGPEER_A_RX_BYTES, rx);
    mnl_attr_put_u64(a->nlh, WGPEER_A_TX_BYTES, rx + 1);
    mnl_attr_put(a->nlh, WGPEER_A_ENDPOINT, sizeof(v6), &v6);
    return peer;
}

/* The second message goes on with the last peer of the first, as the kernel does it. */
static void test_answer_in_pieces(void **state)
{
    struct wg_device d = {0};
    struct nlattr *peers, *peer;
    uint8_t key[WG_KEY_SIZE];
    struct answer a;

    (void)state;
    answer_begin(&a);
    fill_key(key, 0x40);
    mnl_attr_put(a.nlh, WGDEVICE_A_PRIVATE_KEY, sizeof(key), key);
    mnl_attr_put_u16(a.nlh, WGDEVICE_A_LISTEN_PORT, 40000);
    mnl_attr_put_u32(a.nlh, WGDEVICE_A_FWMARK, 0x79000000);
    peers = mnl_attr_nest_start(a.nlh, WGDEVICE_A_PEERS);
    peer = answer_peer(&a, 1, 1ULL << 40);
    mnl_attr_nest_end(a.nlh, peer);
    peer = answer_peer(&a, 2, 7);
    mnl_attr_nest_end(a.nlh, peer);
    mnl_attr_nest_end(a.nlh, peers);
    assert_int_equal(wg_device_parse(a.nlh, &d), 0);

    answer_begin(&a);
    peers = mnl_attr_nest_start(a.nlh, WGDEVICE_A_PEERS);
    peer = mnl_attr_nest_start(a.nlh, 0);
    fill_key(key, 2);
    mnl_attr_put(a.nlh, WGPEER_A_PUBLIC_KEY, sizeof(key), key);
    mnl_attr_nest_end(a.nlh, peer);
    peer = answer_peer(&a, 3, 9);
    mnl_attr_nest_end(a.nlh, peer);
    mnl_attr_nest_end(a.nlh, peers);
    assert_int_equal(wg_device_parse(a.nlh, &d), 0);

    assert_string_equal(d.name, "qubes-vpn");
    assert_int_equal(d.private_key[31], 0x40);
    assert_int_equal(d.listen_port, 40000);
    assert_int_equal(d.fwmark, 0x79000000);
    assert_int_equal(d.n_peers, 3);
    assert_int_equal(d.peers[0].rx, 1ULL << 40);
    assert_int_equal(d.peers[0].tx, (1ULL << 40) + 1);
    assert_int_equal(d.peers[0].handshake_ns, 1700000000000000005);
    assert_int_equal(d.peers[1].rx, 7);
    assert_int_equal(d.peers[2].public_key[0], 3);
    assert_int_equal(d.peers[2].endpoint.family, AF_INET6);
    assert_int_equal(d.peers[2].endpoint.bytes[0], 0x20);
    assert_int_equal(d.peers[2].port, 443);
    assert_int_equal(d.peers[2].keepalive, 25);
}

static void test_answer_malformed(void **state)
{
    struct wg_device d = {0};
    struct nlattr *peers, *peer;
    struct answer a;

    (void)state;
    answer_begin(&a);
    mnl_attr_put(a.nlh, WGDEVICE_A_PRIVATE_KEY, 31, a.bytes);
    assert_int_equal(wg_device_parse(a.nlh, &d), -EBADMSG);

    answer_begin(&a);
    peers = mnl_attr_nest_start(a.nlh, WGDEVICE_A_PEERS);
    peer = mnl_attr_nest_start(a.nlh, 0); /* a peer without a key */
    mnl_attr_put_u64(a.nlh, WGPEER_A_RX_BYTES, 1);
    mnl_attr_nest_end(a.nlh, peer);
    mnl_attr_nest_end(a.nlh, peers);
    assert_int_equal(wg_device_parse(a.nlh, &d), -EBADMSG);

    answer_begin(&a);
    peers = mnl_attr_nest_start(a.nlh, WGDEVICE_A_PEERS);
    for (uint8_t i = 0; i <= WG_PEERS_MAX; i++) {
        peer = answer_peer(&a, i, 1);
        mnl_attr_nest_end(a.nlh, peer);
    }
    mnl_attr_nest_end(a.nlh, peers);
    memset(&d, 0, sizeof(d));
    assert_int_equal(wg_device_parse(a.nlh, &d), -E2BIG);
    a.nlh->nlmsg_len -= 4; /* the last attribute is cut */
    memset(&d, 0, sizeof(d));
    assert_int_equal(wg_device_parse(a.nlh, &d), -EBADMSG);
    a.nlh->nlmsg_len = 18;
    assert_int_equal(wg_device_parse(a.nlh, &d), -EBADMSG);
}

static void test_generic_netlink_answers(void **state)
{
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    uint16_t family = 0;
    int r;

    (void)state;
    assert_int_equal(nl_open(NETLINK_GENERIC, &s), 0);
    r = wg_find_family(s, &family);
    assert_true(r == 0 || r == -EOPNOTSUPP);
    assert_true((r == 0) == (family >= GENL_MIN_ID));
}

static void test_kernel_device(void **state)
{
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    struct wg_device d = sample(), got;
    uint16_t family;

    (void)state;
    if (!sandbox_enter())
        skip();
    if (system("ip link add qubes-vpn type wireguard 2>/dev/null") != 0) {
        (void)fprintf(stderr, "skipped: this kernel has no WireGuard\n");
        skip();
    }
    assert_int_equal(nl_open(NETLINK_GENERIC, &s), 0);
    assert_int_equal(wg_find_family(s, &family), 0);
    d.peers[1] = d.peers[0];
    fill_key(d.peers[1].public_key, 0x33);
    d.n_peers = 2;
    assert_int_equal(wg_set_device(s, family, &d, WG_SET_ALL), 0);
    assert_int_equal(wg_get_device(s, family, "qubes-vpn", &got), 0);
    assert_memory_equal(got.private_key, d.private_key, WG_KEY_SIZE);
    assert_int_equal(got.fwmark, d.fwmark);
    assert_int_equal(got.listen_port, d.listen_port);
    assert_int_equal(got.n_peers, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct wg_peer *p = &got.peers[i];

        assert_memory_equal(p->preshared_key, d.peers[0].preshared_key, WG_KEY_SIZE);
        assert_true(addr_equal(&p->endpoint, &d.peers[0].endpoint));
        assert_int_equal(p->port, 51820);
        assert_int_equal(p->keepalive, 25);
        assert_int_equal(p->handshake_ns, 0);
    }
    d.n_peers = 1;
    d.peers[0].keepalive = 0;
    assert_int_equal(wg_set_device(s, family, &d, WG_SET_KEEPALIVE), 0);
    assert_int_equal(wg_set_device(s, family, &d, WG_SET_PEERS), 0);
    assert_int_equal(wg_get_device(s, family, "qubes-vpn", &got), 0);
    assert_memory_equal(got.private_key, d.private_key, WG_KEY_SIZE);
    assert_int_equal(got.fwmark, d.fwmark);
    assert_int_equal(got.n_peers, 1);
    assert_int_equal(got.peers[0].keepalive, 0);
    assert_int_equal(wg_get_device(s, family, "lo", &got), -EOPNOTSUPP);
    assert_int_equal(wg_get_device(s, family, "none", &got), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_request_of_several_peers),
        cmocka_unit_test(test_request_too_long),
        cmocka_unit_test(test_answer_in_pieces),
        cmocka_unit_test(test_answer_malformed),
        cmocka_unit_test(test_generic_netlink_answers),
        cmocka_unit_test(test_kernel_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
