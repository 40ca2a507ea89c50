/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is read from resolv.conf and from the rules of qubes behind: text that others write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_random.h"
#include "vpn/daemon/platform.h"

static void test_resolv_conf(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        const char *first;
    } table[] = {
        {"", 0, ""},
        {"nameserver 10.139.1.1\nnameserver 10.139.1.2\n", 2, "10.139.1.1"},
        {"# x\nsearch a b\n  nameserver\t192.168.1.1  ", 1, "192.168.1.1"},
        {"nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\n", 0, ""},
        {"nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver 2001:db8::53\n", 1,
         "2001:db8::53"},
        {"nameserver 224.0.0.251\nnameserver ff02::fb\n", 0, ""},
        {"nameserver10.0.0.1\nnameserver\nnameserver \n", 0, ""},
        {"nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n"
         "nameserver 10.0.0.5\n",
         4, "10.0.0.1"},
        {"nameserver 10.0.0.1 trailing\n", 0, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct addr found[PLATFORM_SERVERS_MAX] = {0};
        size_t n = platform_parse_resolv_conf(str_from(table[i].text), found);
        char text[ADDR_STR_MAX];

        if (n != table[i].n)
            fail_msg("\"%s\": %zu", table[i].text, n);
        if (n > 0)
            assert_string_equal(addr_format(&found[0], text), table[i].first);
    }
}

static void test_rules_that_name_hosts(void **state)
{
    static const struct {
        const char *rule;
        bool names;
    } table[] = {
        {"action=accept", false},
        {"action=accept dsthost=example.com proto=tcp dstports=443-443", true},
        {"action=accept dsthost=10.0.0.0/8", false},
        {"action=accept dsthost=10.0.0.1", false},
        {"action=accept dsthost=2001:db8::/32", false},
        {"action=accept dst4=10.0.0.1/32", false},
        {"action=accept specialtarget=dns", false},
        {"dsthost=", false},
        {"dsthost", false},
        {"xdsthost=example.com", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (platform_rule_names_host(str_from(table[i].rule)) != table[i].names)
            fail_msg("\"%s\"", table[i].rule);
}

static void test_any_bytes(void **state)
{
    struct rnd r = random_begin("platform");

    (void)state;
    for (int i = 0; i < 20000; i++) {
        static const char words[] = "nameserver 1.2\ndsthost=/ ";
        struct addr found[PLATFORM_SERVERS_MAX];
        char text[64];
        size_t len = random_below(&r, sizeof(text));

        for (size_t j = 0; j < len; j++)
            text[j] = words[random_below(&r, sizeof(words) - 1)];
        assert_true(platform_parse_resolv_conf((struct str){text, len}, found) <=
                    PLATFORM_SERVERS_MAX);
        (void)platform_rule_names_host((struct str){text, len});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolv_conf),
        cmocka_unit_test(test_rules_that_name_hosts),
        cmocka_unit_test(test_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
