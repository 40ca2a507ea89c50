/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of qvm-expose: what is taken, and what is refused with which words. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dom0/expose/options.h"

#define NOW INT64_C(1798718400) /* 2026-12-31T12:00:00Z */

static char why[OPTIONS_WHY_MAX];

#define parse(o, ...)                                                                              \
    parse_words(o, (const char *const[]){"qvm-expose", __VA_ARGS__, NULL})

/* Options borrow their strings, so these live until the next call. */
static int parse_words(struct options *o, const char *const *words)
{
    static char storage[32][128];
    char *argv[32];
    int argc = 0;

    for (; words[argc] != NULL; argc++) {
        (void)snprintf(storage[argc], sizeof(storage[argc]), "%s", words[argc]);
        argv[argc] = storage[argc];
    }
    argv[argc] = NULL;
    return options_parse(argc, argv, NOW, o, why);
}

#define refuses(part, ...)                                                                         \
    do {                                                                                           \
        struct options o;                                                                          \
        assert_int_equal(parse(&o, __VA_ARGS__), -EINVAL);                                         \
        options_done(&o);                                                                          \
        if (strstr(why, part) == NULL)                                                             \
            fail_msg("expected \"%s\" in \"%s\"", part, why);                                      \
    } while (0)

static void test_change(void **state)
{
    struct options o;

    (void)state;
    assert_int_equal(parse(&o, "web", "--ip", "192.168.16.25", "--ip=fd00::25", "--allow",
                           "tcp/22 from 192.168.16.0/24", "--allow", "udp/53", "--publish",
                           "tcp/8443:443", "--for", "2h", "--limit", "10", "--log", "--no-keep"),
                     0);
    assert_int_equal(o.verb, VERB_CHANGE);
    assert_string_equal(o.qube, "web");
    assert_string_equal(o.allow, "tcp/22 from 192.168.16.0/24;udp/53");
    assert_string_equal(o.publish, "tcp/8443:443");
    assert_int_equal(o.ip[0].family, AF_INET);
    assert_int_equal(o.ip[1].family, AF_INET6);
    assert_int_equal(o.expires, NOW + 7200);
    assert_int_equal(o.limit, 10);
    assert_int_equal(o.log, TOGGLE_ON);
    assert_int_equal(o.keep, TOGGLE_OFF);
    options_done(&o);
    assert_int_equal(parse(&o, "--off", "web"), 0);
    assert_true(o.verb == VERB_CHANGE && o.off);
    options_done(&o);
    assert_int_equal(parse(&o, "web"), 0);
    assert_int_equal(o.verb, VERB_SHOW);
    options_done(&o);
    assert_int_equal(parse(&o, "web", "--allow", "none", "--until", "never", "--limit", "none"), 0);
    assert_true(o.no_allow && o.allow == NULL && o.has_expires && o.expires == 0 && o.has_limit);
    options_done(&o);
}

static void test_questions(void **state)
{
    struct options o;

    (void)state;
    assert_int_equal(parse(&o, "--explain", "web", "--from", "192.168.16.10", "--port", "53/udp"), 0);
    assert_int_equal(o.verb, VERB_EXPLAIN);
    assert_true(o.has_question && o.proto == IPPROTO_UDP && o.port == 53);
    options_done(&o);
    assert_int_equal(parse(&o, "web", "--explain", "--from", "fd00::1", "--port", "icmp"), 0);
    assert_true(o.has_question && o.proto == IPPROTO_ICMPV6);
    options_done(&o);
    assert_int_equal(parse(&o, "--list", "--json"), 0);
    assert_true(o.verb == VERB_LIST && o.json);
    options_done(&o);
    assert_int_equal(parse(&o, "--map", "--svg", "a.svg"), 0);
    assert_string_equal(o.svg, "a.svg");
    options_done(&o);
    assert_int_equal(parse(&o, "--help", "--nonsense"), 0);
    assert_int_equal(o.verb, VERB_HELP);
    options_done(&o);
}

/* The message names the option, the reason, and shows the place. */
static void test_place(void **state)
{
    (void)state;
    refuses("--allow: \"tpc\" is no protocol", "web", "--allow", "udp/53;tpc/22");
    refuses("\n  udp/53;tpc/22\n         ^^^", "web", "--allow", "udp/53;tpc/22");
    refuses("--publish: ", "web", "--publish", "tcp/8443:99999");
    refuses("\n           ^^^^^", "web", "--publish", "tcp/8443:99999");
    refuses("--allow: ", "web", "--allow", "tcp/22\x1b[31m");
    assert_null(strchr(why, 0x1b));
    refuses("all together: port 80 outside leads to two ports inside", "web", "--publish", "tcp/80:1",
            "--publish", "tcp/80:2");
}

static void test_refusals(void **state)
{
    (void)state;
    refuses("which qube", "--allow", "tcp/1");
    refuses("which qube", "--explain");
    refuses("is not the name of a qube", "a b");
    refuses("one qube at a time", "web", "db", "--off");
    refuses("about all qubes", "--list", "web");
    refuses("--ip: \"1.2.3\" is no IPv4", "web", "--ip", "1.2.3");
    refuses("127.0.0.1", "web", "--ip", "127.0.0.1");
    refuses("one IPv4 and one IPv6", "web", "--ip", "192.168.1.2", "--ip", "192.168.1.3");
    refuses("--for: \"2\"", "web", "--for", "2");
    refuses("has passed", "web", "--until", "2020-01-01T00:00:00Z");
    refuses("one --for or --until", "web", "--for", "2h", "--until", "never");
    refuses("--limit: \"0\"", "web", "--limit", "0");
    refuses("it goes alone", "web", "--off", "--allow", "any");
    refuses("--log or --no-log", "web", "--log", "--no-log");
    refuses("that is --off", "web", "--allow", "none", "--publish", "none");
    refuses("goes with no other --allow", "web", "--allow", "any", "--allow", "none");
    refuses("goes with no other --allow", "web", "--allow", "any", "--allow", "");
    refuses("--svg goes with --map", "--list", "--svg", "x");
    refuses("go together", "--explain", "web", "--from", "192.168.1.1");
    refuses("go with --explain", "web", "--from", "192.168.1.1", "--port", "1");
    refuses("only one of", "--list", "--map");
    refuses("they go alone", "--list", "--off");
    refuses("--json goes with", "web", "--off", "--json");
    refuses("--ip wants a value", "web", "--ip");
    refuses("--nonsense is no option", "web", "--nonsense");
    refuses("go with a change", "web", "--yes");
    refuses("--port: \"0\"", "--explain", "web", "--from", "192.168.1.1", "--port", "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
