/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each event of qubesd does to the tree, and the file that keeps attachments. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dom0/serverd/events.h"
#include "dom0/serverd/live.h"
#include "test_random.h"

static struct addr address(const char *text)
{
    struct addr a = {0};

    if (text[0] != '\0')
        assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static struct qube *add(struct tree *t, const char *name, const char *netvm, const char *ip,
                        uint16_t xid)
{
    int error = 0;
    struct qube *q = tree_get(t, str_from(name), &error);

    assert_non_null(q);
    (void)snprintf(q->netvm, sizeof(q->netvm), "%s", netvm);
    (void)snprintf(q->klass, sizeof(q->klass), "AppVM");
    q->ip[0] = address(ip);
    q->complete = true;
    q->xid[0] = xid;
    q->power = xid ? POWER_RUNNING : POWER_HALTED;
    if (xid)
        qube_attach(q);
    return q;
}

struct world {
    struct tree *tree;
    struct qube *net, *fw, *web, *off;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    w->tree = tree_new();
    w->net = add(w->tree, "sys-net", "", "10.137.0.2", 2);
    w->fw = add(w->tree, "sys-fw", "sys-net", "10.137.0.3", 3);
    w->web = add(w->tree, "web", "sys-fw", "192.168.16.25", 4);
    w->off = add(w->tree, "off", "sys-fw", "10.137.0.9", 0);
    w->net->provides_network = w->fw->provides_network = true;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    w->tree = tree_free(w->tree);
    free(w);
    return 0;
}

/* Pairs of key and value, NULL at the end. */
static struct effects tell(struct world *w, const char *subject, const char *name, ...)
{
    struct admin_event e = {.subject = str_from(subject), .name = str_from(name)};
    struct effects fx;
    const char *key;
    va_list args;

    va_start(args, name);
    while ((key = va_arg(args, const char *)) != NULL)
        e.pairs[e.n_pairs++] =
            (struct admin_pair){str_from(key), str_from(va_arg(args, const char *))};
    va_end(args);
    events_apply(w->tree, &e, &fx);
    return fx;
}

static void test_start(void **state)
{
    struct world *w = *state;
    struct effects fx = tell(w, "off", "domain-pre-spawn", "start_guid", "x", NULL);

    assert_int_equal(w->off->power, POWER_STARTING);
    assert_true(w->off->live.known);
    assert_string_equal(w->off->live.netvm, "sys-fw");
    assert_true(fx.what & EFFECT_COMPUTE);
    assert_true(fx.what & EFFECT_LIFE_ENDS); /* the QubesDB of the last time */
    assert_true(fx.what & EFFECT_MOVES);
    assert_string_equal(fx.netvm, "sys-fw");
    qube_set_state(w->off, STR_LITERAL("Halted")); /* as long as there is no domain yet */
    assert_int_equal(w->off->power, POWER_STARTING);
    fx = tell(w, "off", "domain-spawn", NULL);
    assert_true(fx.what & EFFECT_READ_NOW); /* its number */
    fx = tell(w, "off", "domain-start", NULL);
    assert_int_equal(w->off->power, POWER_RUNNING);
    fx = tell(w, "off", "domain-start-failed", "reason", "x", NULL);
    assert_int_equal(w->off->power, POWER_HALTED);
    assert_false(w->off->live.known);
}

/* Its creation is over: what a reading says counts again. */
static void test_announced_no_more(void **state)
{
    static const char *const names[] = {"domain-spawn", "domain-start", "domain-start-failed"};
    struct world *w = *state;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)tell(w, "off", "domain-pre-spawn", NULL);
        (void)tell(w, "off", names[i], NULL);
        qube_set_state(w->off, STR_LITERAL("Halted"));
        assert_int_equal(w->off->power, POWER_HALTED);
    }
    (void)tell(w, "off", "domain-pre-spawn", NULL);
    qube_set_state(w->off, STR_LITERAL("Paused"));
    qube_set_state(w->off, STR_LITERAL("Halted"));
    assert_int_equal(w->off->power, POWER_HALTED);
}

static void test_stop(void **state)
{
    static const char *const names[] = {"domain-stopped", "domain-shutdown"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct world *w = *state;
        struct effects fx = tell(w, "web", names[i], NULL);

        assert_int_equal(w->web->power, POWER_HALTED);
        assert_int_equal(w->web->xid[0], 0);
        assert_false(w->web->live.known);
        assert_true(fx.what & EFFECT_COMPUTE);
        assert_true(fx.what & EFFECT_LIFE_ENDS);
    }
}

static void test_ip(void **state)
{
    struct world *w = *state;
    struct addr old = w->web->ip[0], new = address("192.168.16.99");

    (void)tell(w, "web", "property-set:ip", "name", "ip", "newvalue", "192.168.16.99", NULL);
    assert_true(addr_equal(&w->web->ip[0], &new));
    assert_true(addr_equal(&w->web->live.ip[0], &old)); /* its vif has the old one */
    /* a net qube that starts again attaches it anew */
    (void)tell(w, "sys-fw", "domain-stopped", NULL);
    assert_true(addr_equal(&w->web->live.ip[0], &old));
    (void)tell(w, "sys-fw", "domain-pre-spawn", NULL);
    assert_true(addr_equal(&w->web->live.ip[0], &new));
    assert_true(tell(w, "web", "property-reset:ip", "name", "ip", NULL).what & EFFECT_READ_NOW);
    assert_true(tell(w, "web", "property-set:ip", "newvalue", "nonsense", NULL).what & EFFECT_READ);
    assert_false(w->web->complete);
    assert_int_equal(tell(w, "web", "property-reset:visible_ip", "name", "visible_ip", NULL).what, 0);
}

static void test_netvm(void **state)
{
    struct world *w = *state;
    struct effects fx = tell(w, "web", "property-pre-set:netvm", "newvalue", "sys-net", "oldvalue",
                             "sys-fw", NULL);

    assert_true(w->web->changing);
    assert_string_equal(w->web->netvm, "sys-fw");
    assert_string_equal(fx.netvm, "sys-net");
    assert_true(fx.what & EFFECT_MOVES);
    assert_true(fx.what & EFFECT_COMPUTE);
    fx = tell(w, "web", "property-set:netvm", "newvalue", "sys-net", NULL);
    assert_string_equal(w->web->netvm, "sys-net");
    assert_true(w->web->changing); /* the reading tells under which address it is there */
    assert_true(fx.what & EFFECT_READ_NOW);
    assert_true(fx.what & EFFECT_MOVED);
    /* a halted one has nothing to give up */
    fx = tell(w, "off", "property-pre-set:netvm", "newvalue", "sys-net", NULL);
    assert_int_equal(fx.what, 0);
    assert_false(w->off->changing);
    fx = tell(w, "off", "property-set:netvm", "newvalue", "None", NULL);
    assert_string_equal(w->off->netvm, "");
    assert_true(fx.what & EFFECT_READ_NOW); /* or a qube of this name */
}

static void test_features(void **state)
{
    struct world *w = *state;
    struct effects fx = tell(w, "web", "domain-feature-set:routing-method", "feature",
                             "routing-method", "value", "forward", NULL);

    assert_int_equal(fx.what, EFFECT_COMPUTE);
    assert_string_equal(w->web->feature[FEATURE_METHOD], "forward");
    fx = tell(w, "web", "domain-feature-delete:routing-method", "feature", "routing-method", NULL);
    assert_int_equal(fx.what, EFFECT_COMPUTE);
    assert_null(w->web->feature[FEATURE_METHOD]);
    assert_int_equal(tell(w, "web", "domain-feature-pre-set:routing-method", "value", "x", NULL).what, 0);
    assert_int_equal(tell(w, "web", "domain-feature-set:gui", "value", "1", NULL).what, 0);
    assert_int_equal(tell(w, "sys-net", "domain-feature-set:ipv6", "value", "1", NULL).what,
                     EFFECT_READ_ALL);
    assert_true(tell(w, "web", "domain-feature-set:routing-method", NULL).what & EFFECT_READ_NOW);
    /* a change of network that had to wait takes place: nothing is sure until it is read */
    (void)tell(w, "web", "domain-feature-set:deferred-netvm-original", "value", "sys-fw", NULL);
    assert_false(w->web->changing);
    fx = tell(w, "web", "domain-feature-delete:deferred-netvm-original", NULL);
    assert_true(w->web->changing);
    assert_true(fx.what & EFFECT_READ_NOW);
}

static void test_pause(void **state)
{
    struct world *w = *state;

    (void)tell(w, "web", "domain-paused", NULL);
    assert_int_equal(w->web->power, POWER_PAUSED);
    assert_true(tell(w, "web", "domain-unpaused", NULL).what & EFFECT_READ_NOW);
    assert_int_equal(w->web->power, POWER_RUNNING);
    (void)tell(w, "off", "domain-paused", NULL);
    assert_int_equal(w->off->power, POWER_HALTED);
}

static void test_system(void **state)
{
    struct world *w = *state;
    struct effects fx = tell(w, "", "domain-add", "vm", "new", NULL);

    assert_int_equal(fx.what, EFFECT_READ_NOW);
    assert_string_equal(fx.qube, "new");
    fx = tell(w, "", "domain-pre-delete", "vm", "web", NULL);
    assert_false(w->web->live.known);
    assert_true(fx.what & EFFECT_COMPUTE);
    fx = tell(w, "", "domain-delete", "vm", "web", NULL);
    assert_null(tree_find(w->tree, STR_LITERAL("web")));
    assert_true(fx.what & EFFECT_LIFE_ENDS);
    assert_int_equal(tell(w, "", "property-set:default_netvm", "newvalue", "x", NULL).what, EFFECT_READ_ALL);
    assert_int_equal(tell(w, "", "domain-add", "vm", "../../etc", NULL).what, 0);
    assert_int_equal(tell(w, "", "domain-add", NULL).what, 0);
}

static void test_unknown(void **state)
{
    struct world *w = *state;
    size_t before = tree_count(w->tree);

    assert_int_equal(tell(w, "ghost", "domain-stopped", NULL).what, EFFECT_READ);
    assert_int_equal(tell(w, "ghost", "domain-tag-add:x", NULL).what, 0);
    assert_int_equal(tell(w, "no name", "domain-stopped", NULL).what, 0);
    assert_int_equal(tell(w, "web", "", NULL).what, 0);
    assert_int_equal(tell(w, "web", "property-set:", "newvalue", "x", NULL).what, 0);
    assert_int_equal(tell(w, "web", "firewall-changed", NULL).what, 0);
    assert_int_equal(tree_count(w->tree), before);
}

/* Any order of any events: no crash, and nothing attached that does not run. */
static void test_random(void **state)
{
    static const char *const names[] = {
        "domain-pre-spawn", "domain-spawn", "domain-start", "domain-stopped", "domain-shutdown",
        "domain-paused", "domain-unpaused", "domain-qdb-create", "property-pre-set:netvm",
        "property-set:netvm", "property-reset:netvm", "property-set:ip", "property-set:template",
        "property-set:provides_network", "domain-feature-set:routing-method",
        "domain-feature-delete:routing-method", "domain-feature-set:deferred-netvm-original",
        "domain-feature-delete:deferred-netvm-original", "net-domain-connect", "domain-delete",
        "domain-pre-delete", "domain-start-failed"};
    static const char *const qubes[] = {"", "sys-net", "sys-fw", "web", "off", "None"};
    static const char *const values[] = {"sys-net", "sys-fw", "None", "", "10.1.2.3", "True", "forward"};
    struct world *w = *state;
    struct rnd seed = random_begin("dom0-events");

    for (int round = 0; round < 50000; round++) {
        const char *value = values[random_below(&seed, ARRAY_SIZE(values))];

        (void)tell(w, qubes[random_below(&seed, ARRAY_SIZE(qubes))],
                   names[random_below(&seed, ARRAY_SIZE(names))], "newvalue", value, "value", value,
                   "vm", qubes[random_below(&seed, ARRAY_SIZE(qubes))], NULL);
        for (size_t i = 0; i < tree_count(w->tree); i++) {
            const struct qube *q = tree_at(w->tree, i);

            assert_true(qube_is_alive(q) || (!q->live.known && !q->changing));
        }
        if (round % 100 == 0) {
            (void)teardown(state);
            (void)setup(state);
            w = *state;
        }
    }
}

/* ---- the file ---- */

static void test_live_round_trip(void **state)
{
    struct world *w = *state;
    _cleanup_(live_done) struct live l = {0};
    _cleanup_(freep) char *text = NULL;
    const struct live_entry *e;
    size_t len = 0;

    w->web->live.ip[1] = address("fd00::25");
    assert_int_equal(live_format(w->tree, &text, &len), 0);
    assert_string_equal(text, "v=1\n"
                              "sys-fw 3 sys-net 10.137.0.3 -\n"
                              "sys-net 2 - 10.137.0.2 -\n"
                              "web 4 sys-fw 192.168.16.25 fd00::25\n");
    assert_int_equal(live_parse((struct str){text, len}, &l), 0);
    assert_int_equal(l.n, 3);
    e = live_find(&l, "web");
    assert_non_null(e);
    assert_int_equal(e->xid, 4);
    assert_memory_equal(&e->at, &w->web->live, sizeof(e->at));
    assert_null(live_find(&l, "off"));
}

static void test_live_nonsense(void **state)
{
    static const char *const texts[] = {
        "", "v=1", "v=2\n", "\n", "v=1\n\n", "v=1\nweb\n", "v=1\nweb 4 sys-fw 1.2.3.4\n",
        "v=1\nweb 4 sys-fw 1.2.3.4 - -\n", "v=1\nweb 0 sys-fw 1.2.3.4 -\n",
        "v=1\nweb 99999 sys-fw 1.2.3.4 -\n", "v=1\nweb 4 sys-fw fd00::1 -\n",
        "v=1\nweb 4 sys-fw - 1.2.3.4\n", "v=1\nweb 4  - -\n", "v=1\nw/b 4 - - -\n",
        "v=1\nweb 4 - - -\nweb 4 - - -\n", "v=1\nweb 4 - - -\napp 4 - - -\n",
        "v=1\nweb 4 - - -", "v=1\nweb 04 - - -\n", "v=1\nweb 4 - - -\n\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct live l = {0};

        if (live_parse(str_from(texts[i]), &l) != -EBADMSG)
            fail_msg("taken: %s", texts[i]);
    }
}

int main(void)
{
#define world_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        world_test(test_announced_no_more),
    world_test(test_start),    world_test(test_stop),    world_test(test_ip),
        world_test(test_netvm),    world_test(test_features), world_test(test_pause),
        world_test(test_system),   world_test(test_unknown), world_test(test_random),
        world_test(test_live_round_trip), cmocka_unit_test(test_live_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
