/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WireGuard's files as providers write them, and as nobody should. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_random.h"
#include "vpn/profile/wireguard.h"

#define PRIVATE "5Gb7ok8h9onnPVoFeVGJNJ9Nz6VZe73pJ13qqqw1BfM="
#define PUBLIC  "KpIjnASI1hsD5mq5bEBGGgEXw3zDnRcCDbSkpYcoV1k="
#define OTHER   "Pej3ypZOZEcUQDhhnQrcNqlLFWHEUbRoKx27lGMXRdM="

#define INTERFACE "[Interface]\nPrivateKey = " PRIVATE "\nAddress = 10.2.0.2/32, fd00::2/128\n"
#define PEER      "[Peer]\nPublicKey = " PUBLIC "\nEndpoint = 203.0.113.5:51820\n"
#define AT        "\nEndpoint=192.0.2.1:1\n"
#define ALL       "AllowedIPs = 0.0.0.0/0, ::/0\n"

/* Its own allocation of exactly the text, so that reading beyond it is seen. */
static int read_bytes(const char *text, size_t len, struct findings *findings, struct profile *p)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    *p = (struct profile){0};
    *findings = (struct findings){0};
    return wireguard_read(copy, len, findings, p);
}

static int read_text(const char *text, struct findings *findings, struct profile *p)
{
    return read_bytes(text, strlen(text), findings, p);
}

static void done(struct profile *p)
{
    p->wireguard = wireguard_free(p->wireguard);
}

/* "refused 3 MTU; note 0 AllowedIPs" */
static void show(const struct findings *f, char *buf, size_t size)
{
    static const char *const kinds[] = {"refused", "left out", "note"};
    size_t n = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *one = &f->list[i];

        n += (size_t)snprintf(buf + n, size - n, "%s%s %u %s", i > 0 ? "; " : "",
                              kinds[one->kind], one->line, one->word);
        assert_true(n < size);
        assert_true(one->text[0] != '\0');
        /* no secret is ever quoted */
        assert_null(strstr(one->text, "5Gb7ok8h"));
        assert_null(strstr(one->word, "5Gb7ok8h"));
    }
}

static void test_whole(void **state)
{
    static const char text[] = "\xef\xbb\xbf# a provider's file\r\n"
                               "[interface]\r\n"
                               "privatekey=" PRIVATE "# ours\r\n"
                               "ADDRESS = 10.64.3.7/16\r\n"
                               "Address=fc00:bbbb:bbbb:bb01::3:7/128\r\n"
                               "  ListenPort = 51821\r\n"
                               "DNS = 10.64.0.1 , 100.64.0.7\r\n"
                               "DNS=fc00:bbbb::1 corp.example\r\n"
                               "MTU = 1380\r\n"
                               "\r\n"
                               "[PEER]\r\n"
                               "PublicKey = " PUBLIC "\r\n"
                               "PresharedKey = " OTHER "\r\n"
                               "AllowedIPs = 0.0.0.0/1,128.0.0.0/1\r\n"
                               "AllowedIPs = ::/0,10.64.9.9/10\r\n"
                               "Endpoint = se-mma-001.example.net:443\r\n"
                               "PersistentKeepalive = 25\r\n"
                               "[Peer]\r\n"
                               "PublicKey = " OTHER "\r\n"
                               "Endpoint = [2001:db8::5]:51820\r\n"
                               "PersistentKeepalive = off\r\n"
                               "AllowedIPs = 192.0.2.0/24";
    static const uint8_t private_begin[] = {0xe0, 0x66, 0xfb, 0xa2}; /* clamped: was 0xe4 */
    const struct wireguard_file *f;
    struct findings findings;
    struct profile p;
    char shown[512];
    char addr[ADDR_STR_MAX], net[PREFIX_STR_MAX];

    (void)state;
    assert_int_equal(read_text(text, &findings, &p), 0);
    show(&findings, shown, sizeof(shown));
    assert_string_equal(shown, "left out 8 DNS");
    f = p.wireguard;
    assert_int_equal(p.kind, PROFILE_WIREGUARD);
    assert_memory_equal(f->private_key, private_begin, sizeof(private_begin));
    assert_int_equal(f->private_key[31] & 0xc0, 0x40);
    assert_int_equal(f->n_addresses, 2);
    assert_string_equal(prefix_format(&f->addresses[0], net), "10.64.3.7/16");
    assert_int_equal(f->listen_port, 51821);
    assert_int_equal(f->mtu, 1380);
    assert_int_equal(f->n_dns, 3);
    assert_string_equal(addr_format(&f->dns[1], addr), "100.64.0.7");
    assert_int_equal(f->n_peers, 2);
    assert_int_equal(f->peers[0].public_key[0], 0x2a);
    assert_true(f->peers[0].has_preshared && !f->peers[1].has_preshared);
    assert_int_equal(f->peers[0].preshared_key[0], 0x3d);
    assert_int_equal(f->peers[0].preshared_key[31], 0xd3);
    assert_int_equal(f->peers[0].keepalive, 25);
    assert_int_equal(f->peers[1].keepalive, 0);
    assert_int_equal(f->peers[0].n_allowed, 4);
    assert_string_equal(prefix_format(&f->peers[0].allowed[3], net), "10.64.0.0/10");
    assert_int_equal(p.n_endpoints, 2);
    assert_int_equal(f->peers[0].endpoint, 0);
    assert_string_equal(p.endpoints[0].host, "se-mma-001.example.net");
    assert_int_equal(p.endpoints[0].port, 443);
    assert_int_equal(p.endpoints[0].family, 0);
    assert_int_equal(p.endpoints[0].protocol, IPPROTO_UDP);
    assert_string_equal(p.endpoints[1].host, "2001:db8::5");
    assert_int_equal(p.endpoints[1].family, AF_INET6);
    done(&p);
}

/* Works, and what is said about it. */
static void test_notes(void **state)
{
    static const struct {
        const char *text, *findings;
    } table[] = {
        {INTERFACE PEER ALL, ""},
        {INTERFACE "PostUp = iptables -A FORWARD -i %i -j ACCEPT; PostUp\n" PEER ALL,
         "left out 4 PostUp"},
        {INTERFACE "preup=a\nPreDown=b\nPOSTDOWN=c\nSaveConfig=true\nTable=off\nFwMark=0x1\n" PEER
         ALL,
         "left out 4 preup; left out 5 PreDown; left out 6 POSTDOWN; left out 7 SaveConfig; "
         "left out 8 Table; left out 9 FwMark"},
        {INTERFACE "DNS = 10.2.0.1, lan, corp.example\n" PEER ALL,
         "left out 4 DNS; left out 4 DNS"},
        {INTERFACE PEER "AllowedIPs = 0.0.0.0/0\n", "note 0 AllowedIPs"},
        {INTERFACE PEER "AllowedIPs = 10.0.0.0/8\n", "note 0 AllowedIPs; note 0 AllowedIPs"},
        {INTERFACE "DNS = 9.9.9.9\n" PEER "AllowedIPs = 10.0.0.0/8, ::/0\n",
         "note 0 AllowedIPs; note 0 DNS"},
        {INTERFACE PEER "AllowedIPs =\n",
         "note 4 AllowedIPs; note 0 AllowedIPs; note 0 AllowedIPs"},
        {INTERFACE PEER ALL "[Peer]\nPublicKey=" OTHER "\nAllowedIPs=10.1.0.0/16\n",
         "note 8 Endpoint"},
        {INTERFACE PEER ALL "[Peer]\nPublicKey=" OTHER "\nEndpoint=192.0.2.1:1\nAllowedIPs=::/0\n",
         "note 0 AllowedIPs"},
        {INTERFACE "Address = 10.2.0.3\n" PEER ALL, "left out 4 Address"},
        {"[Interface]\nPrivateKey=" PRIVATE "\nAddress=10.2.0.2\n" PEER ALL, "note 0 Address"},
    };
    struct findings findings;
    struct profile p;
    char shown[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(read_text(table[i].text, &findings, &p), 0);
        show(&findings, shown, sizeof(shown));
        assert_string_equal(shown, table[i].findings);
        done(&p);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *findings;
    } table[] = {
        {"", "refused 0 [Interface]; refused 0 PrivateKey; refused 0 [Peer]; refused 0 Address"},
        {"[Interface]\n" PEER ALL, "refused 0 PrivateKey; refused 0 Address"},
        {"[Interface]\nPrivateKey=" PRIVATE "\nAddress=\n" PEER ALL, "refused 0 Address"},
        {INTERFACE, "refused 0 [Peer]"},
        {INTERFACE "[Peer]\n" ALL, "refused 4 PublicKey; note 4 Endpoint; refused 0 Endpoint"},
        {INTERFACE "[Peer]\nPublicKey=" PUBLIC "\n" ALL, "note 4 Endpoint; refused 0 Endpoint"},
        {INTERFACE PEER ALL PEER ALL, "refused 9 PublicKey"},
        {INTERFACE INTERFACE PEER ALL,
         "refused 4 [Interface]; left out 6 Address; left out 6 Address"},
        {INTERFACE "PrivateKey = " OTHER "\n" PEER ALL, "refused 4 PrivateKey"},
        {INTERFACE "Jc = 4\nS1 = 1\nH4 = 1\n" PEER ALL, "refused 4 Jc; refused 5 S1; refused 6 H4"},
        {INTERFACE "Colour = blue\n" PEER ALL, "refused 4 Colour"},
        {INTERFACE "PublicKey = " PUBLIC "\n" PEER ALL, "refused 4 PublicKey"},
        {INTERFACE PEER ALL "MTU = 1400\n", "refused 8 MTU"},
        {"MTU = 1400\n" INTERFACE PEER ALL, "refused 1 MTU"},
        {INTERFACE "nonsense\n" PEER ALL, "refused 4 line"},
        {INTERFACE "[Proxy]\n" PEER ALL, "refused 4 line"},
        /* a key broken over two lines: its rest must not be quoted as a word */
        {"[Interface]\nPrivateKey =\n" PRIVATE "\nAddress=10.2.0.2\n" PEER ALL,
         "refused 2 PrivateKey; refused 3 line"},
        /* keys: too short, too long, bits to spare, other letters, all zero, no padding */
        {INTERFACE "[Peer]\nPublicKey=KpIjnASI1hsD" AT, "refused 5 PublicKey; note 4 AllowedIPs"},
        {INTERFACE "[Peer]\nPublicKey=" PUBLIC "A" AT ALL, "refused 5 PublicKey"},
        {INTERFACE "[Peer]\nPublicKey=KpIjnASI1hsD5mq5bEBGGgEXw3zDnRcCDbSkpYcoV1l=" AT ALL,
         "refused 5 PublicKey"},
        {INTERFACE "[Peer]\nPublicKey=KpIjnASI1hsD5mq5bEBGGgEXw3zDnRcCDbSkpYcoV1-=" AT ALL,
         "refused 5 PublicKey"},
        {INTERFACE "[Peer]\nPublicKey=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" AT ALL,
         "refused 5 PublicKey"},
        {INTERFACE PEER "PresharedKey = x\n" ALL, "refused 7 PresharedKey"},
        {INTERFACE "MTU = 0\n" PEER ALL, "refused 4 MTU"},
        {INTERFACE "MTU = 1e3\n" PEER ALL, "refused 4 MTU"},
        {INTERFACE "ListenPort = 65536\n" PEER ALL, "refused 4 ListenPort"},
        {INTERFACE PEER ALL "PersistentKeepalive = on\n", "refused 8 PersistentKeepalive"},
        {INTERFACE PEER "AllowedIPs = 0.0.0.0/33\n", "refused 7 AllowedIPs; note 4 AllowedIPs"},
        {INTERFACE PEER "AllowedIPs = +0.0.0.0/0\n", "refused 7 AllowedIPs; note 4 AllowedIPs"},
        {INTERFACE PEER ALL "Endpoint = 192.0.2.1:1\n", "refused 8 Endpoint"},
        {"[Interface]\nPrivateKey=" PRIVATE "\nAddress=127.0.0.2\n" PEER ALL, "refused 3 Address"},
        {"[Interface]\nPrivateKey=" PRIVATE "\nAddress=10.139.1.1\n" PEER ALL, "refused 3 Address"},
        {"[Interface]\nPrivateKey=" PRIVATE "\nAddress=10.1.1\n" PEER ALL, "refused 3 Address"},
    };
    struct findings findings;
    struct profile p;
    char shown[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int r = read_text(table[i].text, &findings, &p);

        show(&findings, shown, sizeof(shown));
        assert_string_equal(shown, table[i].findings);
        assert_int_equal(r, -EINVAL);
        done(&p);
    }
}

static void test_endpoints(void **state)
{
    static const char *const good[] = {"vpn.example:1", "192.0.2.1:65535", "[2001:db8::1]:51820",
                                       "localhost:53", "1.example:2"};
    static const char *const bad[] = {
        "", "vpn.example", "vpn.example:", ":51820", "vpn.example:0", "vpn.example:65536",
        "vpn.example:domain", "2001:db8::1:51820", "[2001:db8::1]", "[]:1", "127.0.0.1:1",
        "0.0.0.0:1", "224.0.0.1:1", "[::1]:1", "[fe80::1]:1", "[ff02::1]:1", "[::ffff:1.2.3.4]:1",
        "10.139.1.1:1", "127.1:1", "0x7f000001:1", "2130706433:1", "a..b:1", "-a:1", "a-:1",
        "vpn.example.:1", "a b:1", "vpn_1.example:1", "$(reboot).example:1", "[vpn.example:1",
        "[2001:db8::1%eth0]:1", "\x1b[2J.example:1",
    };
    struct findings findings;
    struct profile p;
    char text[1024];
    char label[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        (void)snprintf(text, sizeof(text),
                       INTERFACE "[Peer]\nPublicKey=" PUBLIC "\nEndpoint=%s\n" ALL, good[i]);
        assert_int_equal(read_text(text, &findings, &p), 0);
        done(&p);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        (void)snprintf(text, sizeof(text),
                       INTERFACE "[Peer]\nPublicKey=" PUBLIC "\nEndpoint=%s\n" ALL, bad[i]);
        assert_int_equal(read_text(text, &findings, &p), -EINVAL);
        assert_int_equal(findings.refused, 1);
        assert_string_equal(findings.list[0].word, "Endpoint");
        done(&p);
    }
    memset(label, 'a', sizeof(label));
    for (size_t len = 60; len < 300; len += 64) { /* a label of 64, a name of 254 and more */
        label[len] = '.';
        (void)snprintf(text, sizeof(text),
                       INTERFACE "[Peer]\nPublicKey=" PUBLIC "\nEndpoint=%.*s:1\n" ALL,
                       (int)len, label);
        assert_int_equal(read_text(text, &findings, &p), len < 254 ? 0 : -EINVAL);
        done(&p);
    }
    memset(label, 'a', sizeof(label));
    (void)snprintf(text, sizeof(text),
                   INTERFACE "[Peer]\nPublicKey=" PUBLIC "\nEndpoint=%.64s:1\n" ALL, label);
    assert_int_equal(read_text(text, &findings, &p), -EINVAL);
    done(&p);
}

/* As many as there is room for, and one more. */
static void test_bounds(void **state)
{
    static char text[128 * 1024];
    struct findings findings;
    struct profile p;
    size_t n;

    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        n = (size_t)snprintf(text, sizeof(text), INTERFACE PEER ALL "AllowedIPs = ");
        for (unsigned i = 2; i < WIREGUARD_ALLOWED_MAX + over; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "10.%u.0.0/16,", i);
        (void)snprintf(text + n, sizeof(text) - n, "\n");
        assert_int_equal(read_text(text, &findings, &p), over > 0 ? -EINVAL : 0);
        assert_int_equal(p.wireguard->peers[0].n_allowed, WIREGUARD_ALLOWED_MAX);
        done(&p);
    }
    n = (size_t)snprintf(text, sizeof(text), INTERFACE);
    for (unsigned i = 0; i < WIREGUARD_PEERS_MAX + 1; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "[Peer]\nPublicKey=%c%s\nEndpoint=192.0.2.%u:1\n"
                              "AllowedIPs=10.0.0.%u\n",
                              'A' + (int)i, &PUBLIC[1], i + 1, i + 1);
    assert_int_equal(read_text(text, &findings, &p), -EINVAL);
    assert_int_equal(findings.refused, 1);
    assert_int_equal(p.wireguard->n_peers, WIREGUARD_PEERS_MAX);
    done(&p);
    *strrchr(text, '[') = '\0';
    assert_int_equal(read_text(text, &findings, &p), 0);
    assert_int_equal(p.n_endpoints, WIREGUARD_PEERS_MAX);
    assert_int_equal(p.wireguard->peers[15].endpoint, 15);
    done(&p);
    n = (size_t)snprintf(text, sizeof(text), INTERFACE);
    for (unsigned i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "DNS=10.9.9.%u\nAddress=10.9.8.%u\n", i,
                              i);
    (void)snprintf(text + n, sizeof(text) - n, PEER ALL);
    assert_int_equal(read_text(text, &findings, &p), -EINVAL);
    assert_int_equal(p.wireguard->n_dns, WIREGUARD_DNS_MAX);
    assert_int_equal(p.wireguard->n_addresses, ARRAY_SIZE(p.wireguard->addresses));
    done(&p);
}

static void test_no_text(void **state)
{
    static const char nul[] = INTERFACE PEER ALL "\0PostUp = reboot\n";
    _cleanup_(freep) char *big = malloc(PROFILE_FILE_MAX + 1);
    struct findings findings;
    struct profile p;

    (void)state;
    assert_int_equal(read_bytes(nul, sizeof(nul) - 1, &findings, &p), -EINVAL);
    assert_int_equal(findings.refused, 1);
    done(&p);
    memset(big, '\n', PROFILE_FILE_MAX + 1);
    assert_int_equal(read_bytes(big, PROFILE_FILE_MAX + 1, &findings, &p), -EFBIG);
    done(&p);
    assert_null(wireguard_free(NULL));
}

/* Lines of good files cut, doubled and changed: nothing breaks, and what is read is in bounds. */
static void test_random(void **state)
{
    static const char *const lines[] = {
        "[Interface]", "[Peer]", "PrivateKey=" PRIVATE, "PublicKey=" PUBLIC, "PublicKey=" OTHER,
        "Address=10.2.0.2/32", "Address=fd00::2", "AllowedIPs=0.0.0.0/0",
        "AllowedIPs=::/0,1.2.3.4/5", "Endpoint=192.0.2.1:51820", "Endpoint=[2001:db8::1]:1",
        "DNS=10.2.0.1,x.example", "MTU=1400", "PostUp=x", "PersistentKeepalive=25",
        "PresharedKey=" OTHER, "ListenPort=1", "# comment", "",
    };
    struct rnd rnd = random_begin("vpn-wireguard");
    struct findings findings;
    struct profile p;
    char text[4096];
    char shown[4096];
    unsigned good = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        bool sane = random_below(&rnd, 2) == 0;
        size_t n = sane ? (size_t)snprintf(text, sizeof(text), "%s", INTERFACE PEER) : 0;

        for (unsigned i = random_below(&rnd, 12); i > 0; i--)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\n",
                                  lines[random_below(&rnd, ARRAY_SIZE(lines))]);
        for (unsigned i = random_below(&rnd, 3); i > 0 && n > 0; i--)
            text[random_below(&rnd, (uint32_t)n)] = (char)random_next(&rnd);
        if (read_bytes(text, n, &findings, &p) == 0) {
            good++;
            assert_int_equal(findings.refused, 0);
            assert_in_range(p.wireguard->n_addresses, 1, 8);
            assert_in_range(p.wireguard->n_peers, 1, WIREGUARD_PEERS_MAX);
            assert_in_range(p.n_endpoints, 1, p.wireguard->n_peers);
        } else {
            assert_true(findings.refused > 0);
        }
        show(&findings, shown, sizeof(shown));
        done(&p);
    }
    assert_true(good > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),     cmocka_unit_test(test_notes),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_bounds),    cmocka_unit_test(test_no_text),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
