/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each QubesDB should hold, in worlds made for one question each, and in random ones. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_dom0_laws.h"
#include "test_random.h"

struct world { /* sys-net - sys-firewall - web */
    struct tree *t;
    struct qube *net, *firewall, *web;
    struct wishes w;
};

static struct qube *net_qube(struct tree *t, const char *name, const char *netvm, const char *ip)
{
    struct qube *q = laws_qube(t, name, netvm, ip);

    q->provides_network = true;
    laws_feature(q, FEATURE_CAPABLE, "1");
    return q;
}

static void world_init(struct world *world)
{
    world->t = tree_new();
    assert_non_null(world->t);
    world->net = net_qube(world->t, "sys-net", "", "10.137.0.2");
    world->firewall = net_qube(world->t, "sys-firewall", "sys-net", "10.137.0.3");
    world->web = laws_qube(world->t, "web", "sys-firewall", "192.168.16.25");
    world->net->xid[0] = 1;
    world->firewall->xid[0] = 2;
    world->web->xid[0] = 11;
    laws_feature(world->web, FEATURE_METHOD, "forward");
    world->w = (struct wishes){0};
}

static void world_done(struct world *world)
{
    wishes_done(&world->w);
    world->t = tree_free(world->t);
}

static void compute(struct world *world)
{
    wishes_done(&world->w);
    laws_check(world->t);
    assert_int_equal(wish_compute(world->t, LAWS_NOW, &world->w), 0);
}

static const char *at(const struct world *world, const struct qube *where, const char *path)
{
    for (size_t i = 0; i < world->w.n; i++) {
        const struct wish *x = &world->w.wishes[i];

        if (x->where == where && strcmp(x->path, path) == 0)
            return x->value != NULL ? x->value : "(block)";
    }
    return NULL;
}

static size_t count(const struct world *world, enum wish_kind kind)
{
    size_t n = 0;

    for (size_t i = 0; i < world->w.n; i++)
        n += world->w.wishes[i].kind == kind;
    return n;
}

#define ADDR    "192.168.16.25"
#define RECORD  "/network-server/" ADDR
#define INBOUND "/network-server-inbound"

static void test_chain(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    compute(&x);
    assert_int_equal(x.w.n_problems, 0);
    assert_string_equal(at(&x, x.firewall, RECORD),
                        "v=1|vm=web|xid=11|via=direct|edge=0|mode=forward");
    assert_string_equal(at(&x, x.net, RECORD),
                        "v=1|vm=web|xid=2|via=10.137.0.3|edge=1|mode=forward");
    assert_string_equal(at(&x, x.net, "/qubes-firewall/" ADDR), "(block)");
    assert_null(at(&x, x.firewall, "/qubes-firewall/" ADDR));
    assert_string_equal(at(&x, x.web, INBOUND), "v=1|" ADDR " allow=any");
    assert_string_equal(at(&x, x.net, "/network-server"), "1");
    assert_string_equal(at(&x, x.firewall, "/network-server"), "1");
    assert_int_equal(x.w.n, 6);
    assert_int_equal(x.w.next_expiry, 0);
}

static void test_fields(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    x.web->xid[1] = 12;
    laws_feature(x.web, FEATURE_ALLOW, "tcp/22,443 from 192.168.16.0/24; icmp");
    laws_feature(x.web, FEATURE_PUBLISH, "tcp/8000-8001:80-81 from 10.0.0.0/8,fd00::/8; udp/53");
    laws_feature(x.web, FEATURE_EXPIRES, "2030-01-01T00:00:00Z");
    laws_feature(x.web, FEATURE_LIMIT, "20");
    laws_feature(x.web, FEATURE_LOG, "1");
    laws_feature(x.web, FEATURE_KEEP, "1");
    compute(&x);
    assert_string_equal(at(&x, x.firewall, RECORD),
                        "v=1|vm=web|xid=11,12|via=direct|edge=0|mode=forward"
                        "|allow=tcp/22,443 from 192.168.16.0/24; icmp"
                        "|publish=tcp/8000-8001:80-81 from 10.0.0.0/8,fd00::/8; udp/53"
                        "|expires=2030-01-01T00:00:00Z|limit=20|log=1|keep=1");
    assert_string_equal(at(&x, x.web, INBOUND),
                        "v=1|" ADDR " allow=tcp/22,443 from 192.168.16.0/24; icmp; tcp/80-81 from "
                        "10.0.0.0/8; tcp/80-81 from fd00::/8; udp/53");
    assert_int_equal(x.w.next_expiry, 1893456000);
}

static void test_publish_only(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    laws_feature(x.web, FEATURE_METHOD, NULL);
    laws_feature(x.web, FEATURE_ALLOW, "any");
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 0);
    laws_feature(x.web, FEATURE_PUBLISH, "tcp/8443:443");
    compute(&x);
    assert_string_equal(at(&x, x.net, RECORD), "v=1|vm=web|xid=2|via=10.137.0.3|edge=1|mode=publish"
                                               "|publish=tcp/8443:443");
    assert_string_equal(at(&x, x.web, INBOUND), "v=1|" ADDR " allow=tcp/443");
    assert_int_equal(count(&x, WISH_FIREWALL), 0);
}

static void test_empty_allow_opens_nothing(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    laws_feature(x.web, FEATURE_ALLOW, "");
    compute(&x);
    assert_string_equal(at(&x, x.firewall, RECORD),
                        "v=1|vm=web|xid=11|via=direct|edge=0|mode=forward|allow=");
    assert_string_equal(at(&x, x.web, INBOUND), "v=1|" ADDR " allow=");
}

static void test_template_features(void **state)
{
    _cleanup_(world_done) struct world x;
    struct qube *base;

    (void)state;
    world_init(&x);
    base = laws_qube(x.t, "base", "", "");
    base->power = POWER_HALTED;
    assert_int_equal(qube_set_property(base, STR_LITERAL("klass"), STR_LITERAL("TemplateVM")), 0);
    assert_int_equal(qube_set_property(x.web, STR_LITERAL("template"), STR_LITERAL("base")), 0);
    laws_feature(x.web, FEATURE_METHOD, NULL);
    laws_feature(base, FEATURE_METHOD, "forward");
    compute(&x);
    assert_int_equal(x.w.n_problems, 0);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    laws_feature(x.web, FEATURE_METHOD, ""); /* the qube's own says no */
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 0);
}

/* One problem, of that kind, about that hop; and nothing is wished but markers. */
static void check_closed(struct world *x, enum problem_kind kind, const struct qube *hop)
{
    compute(x);
    assert_int_equal(x->w.n_problems, 1);
    assert_int_equal(x->w.problems[0].kind, kind);
    assert_ptr_equal(x->w.problems[0].whose, x->web);
    assert_ptr_equal(x->w.problems[0].hop, hop);
    if (hop != NULL)
        assert_non_null(strstr(x->w.problems[0].why, hop->name));
    assert_int_equal(x->w.n, count(x, WISH_MARKER));
}

static void test_grammar(void **state)
{
    static const struct {
        enum feature_id id;
        const char *value;
    } bad[] = {
        {FEATURE_METHOD, "Forward"}, {FEATURE_METHOD, "none"},     {FEATURE_ALLOW, "tcp/22;"},
        {FEATURE_ALLOW, "tcp/22|"},  {FEATURE_PUBLISH, "tcp/1:x"}, {FEATURE_EXPIRES, "2030-01-01"},
        {FEATURE_LIMIT, "0"},        {FEATURE_LIMIT, "1000001"},   {FEATURE_LIMIT, "1e3"},
        {FEATURE_LOG, "yes"},        {FEATURE_KEEP, "true"},       {FEATURE_ALLOW, "tcp\t/22"},
        {FEATURE_EXPIRES, "2030-01-01T00:00:00Z "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        _cleanup_(world_done) struct world x;

        world_init(&x);
        laws_feature(x.web, bad[i].id, bad[i].value);
        check_closed(&x, PROBLEM_GRAMMAR, NULL);
        assert_non_null(strstr(x.w.problems[0].why, feature_name(bad[i].id)));
    }
}

/* Every printable character at every end of every feature: whatever it does, all laws hold. */
static void test_every_character(void **state)
{
    static const char *const texts[FEATURES] = {"forward", "tcp/22 from 10.0.0.0/8; icmp",
                                                "tcp/8443:443", "2030-01-01T00:00:00Z", "20",
                                                "1", "1", "1", "", "sys-firewall"};
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    for (unsigned id = 0; id < FEATURES; id++) {
        for (int c = 0x20; c < 0x7f; c++) {
            char text[64];

            (void)snprintf(text, sizeof(text), "%c%s", c, texts[id]);
            laws_feature(x.web, (enum feature_id)id, text);
            laws_check(x.t);
            (void)snprintf(text, sizeof(text), "%s%c", texts[id], c);
            laws_feature(x.web, (enum feature_id)id, text);
            laws_check(x.t);
        }
        laws_feature(x.web, (enum feature_id)id, id == FEATURE_VPN ? NULL : texts[id]);
    }
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
}

static void test_closed_by_qube(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    x.web->complete = false;
    check_closed(&x, PROBLEM_INCOMPLETE, NULL);
    x.web->complete = true;
    x.web->power = POWER_HALTED;
    check_closed(&x, PROBLEM_HALTED, NULL);
    x.web->power = POWER_OTHER;
    check_closed(&x, PROBLEM_HALTED, NULL);
    x.web->power = POWER_RUNNING;
    x.web->changing = true;
    check_closed(&x, PROBLEM_HOP_CHANGING, NULL);
    x.web->changing = false;
    laws_feature(x.web, FEATURE_VPN, "1");
    check_closed(&x, PROBLEM_HOP_VPN, NULL);
    laws_feature(x.web, FEATURE_VPN, NULL);
    laws_feature(x.web, FEATURE_EXPIRES, "2027-01-15T08:00:00Z");
    check_closed(&x, PROBLEM_EXPIRED, NULL);
    laws_feature(x.web, FEATURE_EXPIRES, "2027-01-15T08:00:01Z");
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    assert_int_equal(x.w.next_expiry, LAWS_NOW + 1);
}

static void test_closed_by_hop(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    x.net->power = POWER_HALTED;
    check_closed(&x, PROBLEM_HOP_HALTED, x.net);
    x.net->power = POWER_RUNNING;
    laws_feature(x.firewall, FEATURE_CAPABLE, NULL);
    check_closed(&x, PROBLEM_HOP_LACKS, x.firewall);
    laws_feature(x.firewall, FEATURE_CAPABLE, "1");
    laws_feature(x.firewall, FEATURE_VPN, "1");
    check_closed(&x, PROBLEM_HOP_VPN, x.firewall);
    laws_feature(x.firewall, FEATURE_VPN, "");
    x.firewall->changing = true;
    check_closed(&x, PROBLEM_HOP_CHANGING, x.firewall);
    x.firewall->changing = false;
    x.firewall->complete = false;
    check_closed(&x, PROBLEM_INCOMPLETE, x.firewall);
    x.firewall->complete = true;
    (void)snprintf(x.net->live.netvm, QUBE_NAME_MAX, "sys-firewall"); /* round and round */
    check_closed(&x, PROBLEM_TOO_LONG, NULL);
    x.net->live.netvm[0] = '\0';
    x.web->live.netvm[0] = '\0';
    check_closed(&x, PROBLEM_NO_NETVM, NULL);
    (void)snprintf(x.web->live.netvm, QUBE_NAME_MAX, "gone");
    check_closed(&x, PROBLEM_INCOMPLETE, NULL);
}

static void test_starting(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    x.web->power = POWER_STARTING;
    compute(&x);
    assert_string_equal(at(&x, x.firewall, RECORD),
                        "v=1|vm=web|xid=pending|via=direct|edge=0|mode=forward");
    assert_string_equal(at(&x, x.net, RECORD), /* nor is it answered for in the LAN */
                        "v=1|vm=web|xid=pending|via=10.137.0.3|edge=1|mode=forward");
    assert_null(at(&x, x.web, INBOUND));
    x.web->power = POWER_PAUSED;
    x.firewall->power = POWER_STARTING;
    compute(&x);
    assert_string_equal(at(&x, x.firewall, RECORD),
                        "v=1|vm=web|xid=11|via=direct|edge=0|mode=forward");
    assert_string_equal(at(&x, x.net, RECORD),
                        "v=1|vm=web|xid=pending|via=10.137.0.3|edge=1|mode=forward");
}

static void test_live_counts(void **state)
{
    _cleanup_(world_done) struct world x;

    (void)state;
    world_init(&x);
    /* settings changed while it runs: the vif is where it was, with the address it had */
    assert_int_equal(qube_set_property(x.web, STR_LITERAL("ip"), STR_LITERAL("10.1.1.1")), 0);
    compute(&x);
    assert_non_null(at(&x, x.firewall, RECORD));
    assert_int_equal(count(&x, WISH_RECORD), 2);
    /* qubesd writes the block of web into sys-net from now on: hands off */
    assert_int_equal(qube_set_property(x.web, STR_LITERAL("netvm"), STR_LITERAL("sys-net")), 0);
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    assert_int_equal(count(&x, WISH_FIREWALL), 0);
    /* paused: attached where it was, whatever was said in between */
    laws_feature(x.web, FEATURE_DEFERRED, "sys-firewall");
    x.web->power = POWER_PAUSED;
    (void)snprintf(x.web->live.netvm, QUBE_NAME_MAX, "sys-net");
    qube_attach(x.web);
    compute(&x);
    assert_non_null(at(&x, x.firewall, RECORD));
    /* killed instead of going on, and started: the feature is of its earlier life */
    x.web->power = POWER_RUNNING;
    qube_attach(x.web);
    compute(&x);
    assert_null(at(&x, x.firewall, RECORD));
    assert_non_null(at(&x, x.net, "/network-server/10.1.1.1"));
}

static void test_duplicates(void **state)
{
    _cleanup_(world_done) struct world x;
    struct qube *twin;

    (void)state;
    world_init(&x);
    twin = laws_qube(x.t, "twin", "sys-net", ADDR);
    check_closed(&x, PROBLEM_DUPLICATE, NULL); /* the other one is not exposed, but it runs */
    assert_non_null(strstr(x.w.problems[0].why, "twin"));
    laws_feature(twin, FEATURE_METHOD, "forward");
    compute(&x);
    assert_int_equal(x.w.n_problems, 2);
    assert_int_equal(count(&x, WISH_RECORD), 0);
    twin->power = POWER_HALTED;
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    twin->power = POWER_RUNNING;
    twin->netvm[0] = '\0'; /* it runs, but without a net qube nobody can take it for the other */
    qube_attach(twin);
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    tree_remove(x.t, twin);
    assert_int_equal(qube_set_property(x.net, STR_LITERAL("ip"), STR_LITERAL(ADDR)), 0);
    compute(&x);
    assert_int_equal(x.w.problems[0].kind, PROBLEM_ADDRESS);
    assert_ptr_equal(x.w.problems[0].hop, x.net);
    assert_int_equal(count(&x, WISH_RECORD), 0);
}

static void test_families(void **state)
{
    _cleanup_(world_done) struct world x;
    char path[WISH_PATH_MAX];

    (void)state;
    world_init(&x);
    assert_int_equal(addr_parse(STR_LITERAL("fd09:24ef:4179:1111:2222:3333:4444:1234"),
                                &x.web->live.ip[1]), 0);
    compute(&x); /* sys-firewall has no IPv6: only that is missing */
    assert_int_equal(count(&x, WISH_RECORD), 2);
    assert_int_equal(x.w.n_problems, 1);
    assert_int_equal(x.w.problems[0].kind, PROBLEM_ADDRESS);
    assert_int_equal(x.w.problems[0].family, AF_INET6);
    assert_int_equal(addr_parse(STR_LITERAL("fd09::3"), &x.firewall->live.ip[1]), 0);
    compute(&x);
    assert_int_equal(x.w.n_problems, 0);
    (void)snprintf(path, sizeof(path), "/network-server/fd09:24ef:4179:1111:2222:3333:4444:1234");
    assert_string_equal(at(&x, x.net, path), "v=1|vm=web|xid=2|via=fd09::3|edge=1|mode=forward");
    assert_string_equal(at(&x, x.web, INBOUND), "v=1|" ADDR " allow=any"
                                                "|fd09:24ef:4179:1111:2222:3333:4444:1234 allow=any");
    assert_int_equal(addr_parse(STR_LITERAL("fe80::1"), &x.web->live.ip[1]), 0);
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    assert_int_equal(x.w.problems[0].kind, PROBLEM_ADDRESS);
}

static void test_ports(void **state)
{
    _cleanup_(world_done) struct world x;
    struct qube *other, *third;

    (void)state;
    world_init(&x);
    other = laws_qube(x.t, "other", "sys-net", "10.137.0.20");
    third = laws_qube(x.t, "third", "sys-firewall", "10.137.0.21");
    laws_feature(x.web, FEATURE_PUBLISH, "tcp/100-200; tcp/300");
    laws_feature(other, FEATURE_PUBLISH, "tcp/150");
    laws_feature(third, FEATURE_PUBLISH, "udp/150; tcp/201-299");
    compute(&x);
    assert_int_equal(x.w.n_problems, 2);
    assert_int_equal(x.w.problems[0].kind, PROBLEM_PORT);
    assert_ptr_equal(x.w.problems[0].whose, other);
    assert_ptr_equal(x.w.problems[1].whose, x.web);
    assert_non_null(strstr(x.w.problems[1].why, "tcp/150"));
    assert_non_null(strstr(x.w.problems[1].why, "other"));
    assert_int_equal(count(&x, WISH_RECORD), 2); /* third's */
    assert_int_equal(count(&x, WISH_INBOUND), 1);
    /* another edge, another port */
    assert_non_null(net_qube(x.t, "sys-net2", "", "10.137.0.30"));
    (void)snprintf(other->live.netvm, QUBE_NAME_MAX, "sys-net2");
    compute(&x);
    assert_int_equal(x.w.n_problems, 0);
}

/* The second range of one qube lies behind its first, and the rival is hidden by the first. */
static void test_ports_behind_longer_ones(void **state)
{
    _cleanup_(world_done) struct world x;
    struct qube *a, *b;

    (void)state;
    world_init(&x);
    a = laws_qube(x.t, "a", "sys-net", "10.137.0.20");
    b = laws_qube(x.t, "b", "sys-net", "10.137.0.21");
    laws_feature(a, FEATURE_PUBLISH, "tcp/10-20; tcp/50");
    laws_feature(b, FEATURE_PUBLISH, "tcp/30-60");
    laws_feature(x.web, FEATURE_PUBLISH, "tcp/1-5; tcp/60-90");
    compute(&x);
    assert_int_equal(x.w.n_problems, 3);
    assert_int_equal(count(&x, WISH_RECORD), 0);
}

static void test_too_long(void **state)
{
    _cleanup_(world_done) struct world x;
    _cleanup_(freep) char *allow = malloc(4000);
    size_t len = 0;

    (void)state;
    assert_non_null(allow);
    world_init(&x);
    for (unsigned i = 0; i < 90; i++)
        len += (size_t)snprintf(allow + len, 4000 - len, "%stcp/%u from 192.168.100.0/22",
                                i > 0 ? ";" : "", 10000 + i);
    assert_true(len > 2500 && len < 2990);
    laws_feature(x.web, FEATURE_ALLOW, allow);
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    for (unsigned i = 0; i < 25; i++)
        len += (size_t)snprintf(allow + len, 4000 - len, ";udp/%u", 10000 + i);
    laws_feature(x.web, FEATURE_ALLOW, allow);
    check_closed(&x, PROBLEM_TOO_LONG, NULL);
}

/* Each record fits, but the qube's own, with the rules once for each family, does not. */
static void test_inbound_too_long(void **state)
{
    _cleanup_(world_done) struct world x;
    char allow[2000];
    size_t len = 0;

    (void)state;
    world_init(&x);
    for (unsigned i = 0; i < 55; i++)
        len += (size_t)snprintf(allow + len, sizeof(allow) - len, "%stcp/%u from 192.168.100.0/22",
                                i > 0 ? ";" : "", 10000 + i);
    laws_feature(x.web, FEATURE_ALLOW, allow);
    compute(&x);
    assert_int_equal(count(&x, WISH_RECORD), 2);
    assert_int_equal(addr_parse(STR_LITERAL("fd09::25"), &x.web->live.ip[1]), 0);
    assert_int_equal(addr_parse(STR_LITERAL("fd09::3"), &x.firewall->live.ip[1]), 0);
    check_closed(&x, PROBLEM_TOO_LONG, NULL);
}

static void test_random_trees(void **state)
{
    struct rnd rnd = random_begin("trees");
    size_t exposed = 0;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        _cleanup_(tree_freep) struct tree *t = NULL, *back = NULL;
        _cleanup_(freep) char *text = NULL, *back_text = NULL;
        uint8_t bytes[240];

        random_fill(&rnd, bytes, sizeof(bytes));
        t = laws_make_tree(bytes, sizeof(bytes), false);
        back = laws_make_tree(bytes, sizeof(bytes), true);
        laws_check(t);
        text = laws_print(t);
        back_text = laws_print(back);
        assert_string_equal(text, back_text);
        exposed += strstr(text, "mode=") != NULL;
    }
    print_message("%zu of 3000 trees expose somebody\n", exposed);
    assert_true(exposed > 400); /* the worlds are worth it */
}

static void test_speed(void **state)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct timespec a, b;
    double ms;

    (void)state;
    assert_non_null(t);
    (void)net_qube(t, "sys-net", "", "10.137.0.2");
    (void)net_qube(t, "sys-firewall", "sys-net", "10.137.0.3");
    (void)net_qube(t, "sys-inner", "sys-firewall", "10.137.0.4");
    for (unsigned i = 0; i < 497; i++) {
        char name[QUBE_NAME_MAX], ip[ADDR_STR_MAX], publish[64];
        struct qube *q;

        (void)snprintf(name, sizeof(name), "qube-%u", i);
        (void)snprintf(ip, sizeof(ip), "10.137.%u.%u", 1 + i / 200, 1 + i % 200);
        (void)snprintf(publish, sizeof(publish), "tcp/%u-%u", 1000 + 10 * i, 1008 + 10 * i);
        q = laws_qube(t, name, "sys-inner", ip);
        if (i % 10 != 0)
            continue;
        laws_feature(q, FEATURE_METHOD, "forward");
        laws_feature(q, FEATURE_ALLOW, "tcp/22,80,443 from 192.168.0.0/16; icmp; udp/53");
        laws_feature(q, FEATURE_PUBLISH, publish);
    }
    laws_check(t);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &a), 0);
    for (int i = 0; i < 20; i++) {
        _cleanup_(wishes_done) struct wishes w = {0};

        assert_int_equal(wish_compute(t, LAWS_NOW, &w), 0);
        assert_int_equal(w.n_problems, 0);
        assert_int_equal(w.n, 3 + 50 * (3 + 2 + 1));
    }
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &b), 0);
    ms = ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6) / 20;
    print_message("500 qubes, 50 exposed, 3 hops: %.2f ms\n", ms);
    assert_true(ms < 50); /* ten times what is wanted: the machine may be busy, or sanitizers on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_publish_only),
        cmocka_unit_test(test_empty_allow_opens_nothing),
        cmocka_unit_test(test_template_features),
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_closed_by_qube),
        cmocka_unit_test(test_closed_by_hop),
        cmocka_unit_test(test_starting),
        cmocka_unit_test(test_live_counts),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ports_behind_longer_ones),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_inbound_too_long),
        cmocka_unit_test(test_random_trees),
        cmocka_unit_test(test_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
