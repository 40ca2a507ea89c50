/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text protocol of userspace WireGuard: requests to the letter, replies of any origin. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vpn/client/uapi.h"

#define K(b)   b b b b b b b b
#define KEY(b) K(b) K(b) K(b) K(b)

static const struct prefix everything[] = {{{AF_INET, {0}}, 0}, {{AF_INET6, {0}}, 0}};

static struct wg_device sample(void)
{
    struct wg_device d = {.name = "qubes-vpn", .fwmark = 0x79000000, .n_peers = 1};
    struct wg_peer *p = &d.peers[0];

    memset(d.private_key, 0xa0, WG_KEY_SIZE);
    memset(p->public_key, 0x1f, WG_KEY_SIZE);
    p->endpoint = (struct addr){AF_INET, {203, 0, 113, 10}};
    p->port = 51820;
    p->keepalive = 25;
    p->allowed = everything;
    p->n_allowed = ARRAY_SIZE(everything);
    return d;
}

static void check_set(const struct wg_device *d, enum wg_set what, const char *want)
{
    char buf[4096];
    ssize_t n = uapi_format_set(d, what, buf, sizeof(buf));

    assert_true(n > 0);
    buf[n] = '\0';
    assert_string_equal(buf, want);
    /* with any smaller buffer: refused, and no byte behind it is touched */
    for (size_t size = 0; size <= (size_t)n; size++) {
        _cleanup_(freep) char *small = malloc(size > 0 ? size : 1);

        assert_non_null(small);
        assert_int_equal(uapi_format_set(d, what, small, size), -ENOSPC);
    }
}

static void test_set(void **state)
{
    struct wg_device d = sample();

    (void)state;
    check_set(&d, WG_SET_ALL,
              "set=1\nreplace_peers=true\nprivate_key=" KEY("a0") "\n"
              "public_key=" KEY("1f") "\npreshared_key=" KEY("00") "\n"
              "endpoint=203.0.113.10:51820\nreplace_allowed_ips=true\n"
              "allowed_ip=0.0.0.0/0\nallowed_ip=::/0\npersistent_keepalive_interval=25\n\n");
    check_set(&d, WG_SET_PEERS,
              "set=1\nreplace_peers=true\n"
              "public_key=" KEY("1f") "\npreshared_key=" KEY("00") "\n"
              "endpoint=203.0.113.10:51820\nreplace_allowed_ips=true\n"
              "allowed_ip=0.0.0.0/0\nallowed_ip=::/0\npersistent_keepalive_interval=25\n\n");
    check_set(&d, WG_SET_KEEPALIVE,
              "set=1\npublic_key=" KEY("1f") "\nupdate_only=true\n"
              "persistent_keepalive_interval=25\n\n");
    d.peers[0].endpoint = (struct addr){AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}};
    d.peers[0].n_allowed = 0;
    d.peers[1].keepalive = 0;
    d.n_peers = 2;
    d.listen_port = 41000;
    check_set(&d, WG_SET_ALL,
              "set=1\nlisten_port=41000\nreplace_peers=true\nprivate_key=" KEY("a0") "\n"
              "public_key=" KEY("1f") "\npreshared_key=" KEY("00") "\n"
              "endpoint=[2001:db8::1]:51820\nreplace_allowed_ips=true\n"
              "persistent_keepalive_interval=25\n"
              "public_key=" KEY("00") "\npreshared_key=" KEY("00") "\nreplace_allowed_ips=true\n"
              "persistent_keepalive_interval=0\n\n");
}

/* As many and as long as a profile may have. */
static void test_set_largest(void **state)
{
    static struct prefix many[128];
    static char buf[UAPI_REQUEST_MAX];
    struct wg_device d = sample();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (struct prefix){{.family = AF_INET6}, 128};
        memset(many[i].addr.bytes, 0xff, 16);
    }
    d.peers[0].allowed = many;
    d.peers[0].n_allowed = ARRAY_SIZE(many);
    for (size_t i = 1; i < WG_PEERS_MAX; i++)
        d.peers[i] = d.peers[0];
    d.n_peers = WG_PEERS_MAX;
    assert_true(uapi_format_set(&d, WG_SET_ALL, buf, sizeof(buf)) > 100000);
}

static int parse(const char *text, struct wg_device *ret)
{
    size_t len = strlen(text);
    _cleanup_(freep) char *copy = malloc(len + 1);

    assert_non_null(copy);
    memcpy(copy, text, len); /* no NUL: a sanitizer sees a read too far */
    return uapi_parse_reply(copy, len, ret);
}

static void test_reply(void **state)
{
    struct wg_device d;

    (void)state;
    assert_int_equal(
        parse("private_key=" KEY("a0") "\nlisten_port=41000\nfwmark=2030043136\n"
              "public_key=" KEY("1f") "\npreshared_key=" KEY("02") "\nprotocol_version=1\n"
              "endpoint=203.0.113.10:51820\nlast_handshake_time_sec=1700000000\n"
              "last_handshake_time_nsec=123\ntx_bytes=1296\nrx_bytes=18446744073709551615\n"
              "persistent_keepalive_interval=25\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\n"
              "public_key=" KEY("2f") "\nendpoint=[2001:db8::1]:443\nsomething_new=x=y\n"
              "errno=0\n\n", &d),
        0);
    assert_int_equal(d.private_key[0], 0xa0);
    assert_int_equal(d.listen_port, 41000);
    assert_int_equal(d.fwmark, 2030043136);
    assert_int_equal(d.n_peers, 2);
    assert_int_equal(d.peers[0].public_key[31], 0x1f);
    assert_int_equal(d.peers[0].preshared_key[0], 2);
    assert_int_equal(d.peers[0].endpoint.bytes[3], 10);
    assert_int_equal(d.peers[0].port, 51820);
    assert_int_equal(d.peers[0].handshake_ns, 1700000000000000123);
    assert_int_equal(d.peers[0].tx, 1296);
    assert_int_equal(d.peers[0].rx, UINT64_MAX);
    assert_int_equal(d.peers[0].keepalive, 25);
    assert_int_equal(d.peers[1].endpoint.family, AF_INET6);
    assert_int_equal(d.peers[1].port, 443);
    assert_int_equal(d.peers[1].handshake_ns, 0);

    assert_int_equal(parse("public_key=" KEY("1f") "\nendpoint=[fe80::1%eth0]:1\nerrno=0\n\n", &d), 0);
    assert_int_equal(d.peers[0].endpoint.family, 0);
    assert_int_equal(parse("errno=0\n\n", &d), 0);
    assert_int_equal(d.n_peers, 0);
    assert_int_equal(parse("errno=-98\n\n", &d), -EADDRINUSE);
    assert_int_equal(parse("errno=98\n\n", &d), -EADDRINUSE);
}

static void test_reply_malformed(void **state)
{
    static const char *const bad[] = {
        "", "\n", "errno=0\n", "errno=0", "errno=\n\n", "errno=0x\n\n", "errno=--1\n\n",
        "errno=4096\n\n", "errno=00\n\n", "errno\n\n", "=\n\n", "errno=0\n\nmore",
        "listen_port=1\n\n", /* no errno: not the end of an operation */
        "private_key=" KEY("a0") "0\nerrno=0\n\n", "private_key=" KEY("A0") "\nerrno=0\n\n",
        "private_key=zz\nerrno=0\n\n", "listen_port=65536\nerrno=0\n\n", "fwmark=-1\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nendpoint=1.2.3.4\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nendpoint=:1\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nendpoint=1.2.3.4:65536\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nendpoint=\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nrx_bytes=18446744073709551616\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nlast_handshake_time_sec=9223372037\nerrno=0\n\n",
        "public_key=" KEY("1f") "\nlast_handshake_time_nsec=1000000000\nerrno=0\n\n",
        "public_key=" KEY("1f") "\npersistent_keepalive_interval=65536\nerrno=0\n\n",
    };
    struct wg_device d, before;

    (void)state;
    memset(&d, 0x5a, sizeof(d));
    before = d;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (parse(bad[i], &d) != -EBADMSG)
            fail_msg("taken: %s", bad[i]);
    }
    assert_memory_equal(&d, &before, sizeof(d));
}

static void test_too_many_peers(void **state)
{
    static char text[32768];
    struct wg_device d;
    size_t used = 0;

    (void)state;
    for (size_t i = 0; i < WG_PEERS_MAX + 1; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "public_key=%s\n", KEY("11"));
    (void)snprintf(text + used, sizeof(text) - used, "errno=0\n\n");
    assert_int_equal(parse(text, &d), -E2BIG);
    assert_int_equal(parse(text + strlen("public_key=" KEY("11") "\n"), &d), 0);
    assert_int_equal(d.n_peers, WG_PEERS_MAX);
}

static void test_reply_size(void **state)
{
    static const char text[] = "tx_bytes=1\nerrno=0\n\nerrno=5\n\n";

    (void)state;
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(uapi_reply_size(text, i), 0);
    for (size_t i = 20; i < sizeof(text); i++)
        assert_int_equal(uapi_reply_size(text, i), 20);
    assert_int_equal(uapi_reply_size("\nx", 2), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_set_largest),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_reply_malformed),
        cmocka_unit_test(test_too_many_peers),
        cmocka_unit_test(test_reply_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
