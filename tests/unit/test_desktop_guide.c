/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The page for dom0: what is pasted there must be nothing but what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "desktop/configurator/guide.h"

#define FENCE 2

static struct guide *guide_of(const char *qube, const char *profile, json_t *endpoints)
{
    const struct guide_facts facts = {qube, profile, endpoints};
    struct guide *g = NULL;

    assert_int_equal(guide_new(&g, &facts), 0);
    json_decref(endpoints);
    return g;
}

static void test_before_there_is_a_profile(void **state)
{
    _cleanup_(guide_freep) struct guide *g = guide_of(NULL, NULL, NULL);

    (void)state;
    assert_int_equal(g->n, 5);
    assert_string_equal(g->parts[0].commands, "qvm-prefs sys-vpn provides_network True\n"
                                              "qvm-prefs sys-vpn netvm sys-firewall\n"
                                              "qvm-service --enable sys-vpn qubes-vpn\n");
    assert_string_equal(g->parts[1].commands, "qvm-prefs work netvm sys-vpn\n");
    assert_string_equal(g->parts[FENCE].commands, "");
    assert_string_equal(g->parts[3].commands, "qvm-firewall sys-vpn reset\n");
    for (size_t i = 0; i < g->n; i++)
        assert_true(g->parts[i].title[0] != '\0' && g->parts[i].text[0] != '\0');
}

static void test_fence_around_addresses(void **state)
{
    _cleanup_(guide_freep) struct guide *g =
        guide_of("my-vpn_2", "work.ovpn",
                 json_pack("[s,s,s]", "203.0.113.10:1194/udp", "[2001:db8::1]:443/tcp",
                           "203.0.113.10:1194/udp"));

    (void)state;
    assert_string_equal(
        g->parts[FENCE].commands,
        "qvm-firewall my-vpn_2 reset\n"
        "qvm-firewall my-vpn_2 add accept dsthost=203.0.113.10 proto=udp dstports=1194\n"
        "qvm-firewall my-vpn_2 add accept dsthost=2001:db8::1 proto=tcp dstports=443\n"
        "qvm-firewall my-vpn_2 add drop\n"
        "qvm-firewall my-vpn_2 del --rule-no 0\n"
        "qvm-firewall my-vpn_2 list\n");
    assert_non_null(strstr(g->parts[FENCE].text, "work.ovpn"));
}

static void test_names_need_a_name_server(void **state)
{
    _cleanup_(guide_freep) struct guide *g =
        guide_of("sys-vpn", "a.conf", json_pack("[s]", "vpn.example.net:51820/udp"));

    (void)state;
    assert_non_null(strstr(g->parts[FENCE].commands, "dsthost=vpn.example.net proto=udp"));
    assert_non_null(strstr(g->parts[FENCE].commands, "add accept specialtarget=dns\n"));
}

/* None of it comes into a line that somebody runs in dom0. */
static void test_nothing_hostile_becomes_a_command(void **state)
{
    static const char *const endpoints[] = {
        "a;reboot:1/udp",
        "$(reboot):1/udp",
        "a b:1/udp",
        "-x:1/udp",
        "a\n:1/udp",
        "vpn.example.net:0/udp",
        "vpn.example.net:65536/udp",
        "vpn.example.net:1 /udp",
        "vpn.example.net:1/udp;reboot",
        "vpn.example.net:1/icmp",
        "vpn.example.net",
        ":1/udp",
        "",
        "[]:1/udp",
        "\xc3\xa4.example:1/udp",
        "vpn.example.net:1:/udp",
        "a`b`:1/tcp",
        "a=b:1/tcp",
    };
    static const char *const qubes[] = {
        "a b",  "$(reboot)", "1vpn", "", "vpn;x", "-vpn", "abcdefghijklmnopqrstuvwxyz-123456",
        "vpn\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(endpoints); i++) {
        json_t *list = json_array();
        _cleanup_(guide_freep) struct guide *g = NULL;

        (void)json_array_append_new(list, json_stringn_nocheck(endpoints[i], strlen(endpoints[i])));
        (void)json_array_append_new(list, json_integer(7));
        g = guide_of("sys-vpn", "work\x1b.ovpn", list);
        if (g->parts[FENCE].commands[0] != '\0')
            fail_msg("%s became %s", endpoints[i], g->parts[FENCE].commands);
    }
    for (size_t i = 0; i < ARRAY_SIZE(qubes); i++) {
        _cleanup_(guide_freep) struct guide *g = guide_of(qubes[i], "", NULL);

        assert_string_equal(g->parts[1].commands, "qvm-prefs work netvm sys-vpn\n");
    }
}

static void test_what_is_left_out_is_said(void **state)
{
    json_t *many = json_array();
    char text[64];
    _cleanup_(guide_freep) struct guide *g = NULL;
    size_t rules = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof(text), "203.0.113.%d:1194/udp", i);
        (void)json_array_append_new(many, json_string(text));
    }
    g = guide_of("sys-vpn", "evil\x1b[2J.ovpn", many);
    for (const char *p = g->parts[FENCE].commands; (p = strstr(p, "dsthost=")) != NULL; p++)
        rules++;
    assert_int_equal(rules, 64);
    assert_non_null(strstr(g->parts[FENCE].text, "36 servers"));
    assert_null(strchr(g->parts[FENCE].text, '\x1b'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_there_is_a_profile),
        cmocka_unit_test(test_fence_around_addresses),
        cmocka_unit_test(test_names_need_a_name_server),
        cmocka_unit_test(test_nothing_hostile_becomes_a_command),
        cmocka_unit_test(test_what_is_left_out_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
