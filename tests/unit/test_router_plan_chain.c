/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses behind another net qube: when they are open, by which way, and who is looked at when. */
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
#include "router/model.h"
#include "router/plan.h"
#include "test_random.h"

#define A      "192.168.1.77"
#define C      "10.137.0.6"
#define D      "10.137.0.7"
#define PATH   "/network-server/" A
#define RECORD "v=1|vm=web|xid=11,12|via=" C "|edge=1|mode=forward"
#define WAY(vif) "lent on " vif ";allowed on " vif

struct host { /* a host route */
    const char *to;
    uint32_t oif, metric;
    const char *gateway;
    bool ours;
};

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

/* eth0 (2) with 192.168.1.5/24; vif11.0 (11), vif12.0 (12), vif13.0 (13) */
static void set_net(struct model *m, const struct host *hosts, size_t n)
{
    static const struct {
        const char *name;
        uint32_t index;
    } names[] = {{"eth0", 2}, {"vif11.0", 11}, {"vif12.0", 12}, {"vif13.0", 13}};
    struct model_kernel k = {.links = calloc(4, sizeof(*k.links)),
                             .subnets = calloc(1, sizeof(*k.subnets)),
                             .routes = calloc(n + 1, sizeof(*k.routes)),
                             .own = calloc(n + 1, sizeof(*k.own))};

    assert_true(k.links != NULL && k.subnets != NULL && k.routes != NULL && k.own != NULL);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct model_link *l = &k.links[k.n_links++];

        l->index = names[i].index;
        (void)snprintf(l->name, sizeof(l->name), "%s", names[i].name);
        l->carrier = true;
        l->vif = model_parse_vif(l->name, &l->domid);
        l->uplink = !l->vif;
    }
    k.subnets[k.n_subnets].index = 2; /* not as a whole: what is between the members is compared */
    k.subnets[k.n_subnets++].prefix = (struct prefix){addr_of("192.168.1.5"), 24};
    for (size_t i = 0; i < n; i++) {
        struct model_route *r = hosts[i].ours ? &k.own[k.n_own++] : &k.routes[k.n_routes++];

        r->dst = (struct prefix){addr_of(hosts[i].to), 32};
        r->oif = hosts[i].oif;
        r->metric = hosts[i].metric;
        if (hosts[i].gateway != NULL)
            r->gateway = addr_of(hosts[i].gateway);
    }
    assert_int_equal(model_kernel_take(m, &k), 0);
    model_kernel_done(&k);
}

#define NET(m, ...)                                                                                \
    do {                                                                                           \
        const struct host hosts_[] = {__VA_ARGS__};                                                \
        set_net(m, hosts_, ARRAY_SIZE(hosts_));                                                    \
    } while (0)

static void set(struct model *m, const char *path, const char *value)
{
    struct str s = str_from(value);

    assert_int_equal(model_claim(m, path, &s), 0);
}

static int setup(void **state)
{
    struct model *m = model_new();

    if (m == NULL)
        return -1;
    m->now = 1790000000;
    m->readable = true;
    m->platform[FAMILY_IP4] = m->platform[FAMILY_IP6] = true;
    NET(m, {C, 11, 1, NULL, false});
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    *state = model_free(*state);
    return 0;
}

static void clear_dirty(struct slot *list)
{
    while (list != NULL) {
        struct slot *next = list->next_dirty;

        list->dirty = false;
        list->next_dirty = NULL;
        list = next;
    }
}

static const struct planned *plan(struct model *m, struct plan *p, const char *addr)
{
    struct addr a = addr_of(addr);
    struct slot *list;

    model_touch_all(m);
    list = model_take_dirty(m);
    assert_int_equal(plan_slots(m, list, p), 0);
    clear_dirty(list);
    for (size_t i = 0; i < p->n_planned; i++) {
        if (addr_equal(&p->planned[i].slot->addr, &a))
            return &p->planned[i];
    }
    fail_msg("%s was not planned", addr);
    return NULL;
}

/* word: stands in the reason. */
static void expect(struct model *m, enum verdict verdict, const char *word)
{
    _cleanup_(plan_done) struct plan p = {0};
    const struct planned *planned = plan(m, &p, A);

    if (planned->verdict != verdict || strstr(planned->reason, word) == NULL)
        fail_msg("%s, \"%s\"", plan_verdict_name(planned->verdict), planned->reason);
    assert_true((planned->n_objects > 0) == (verdict == VERDICT_OPEN));
}

/* But for what watches: test_router_plan.c has that. */
static void expect_objects(struct model *m, const char *expected)
{
    _cleanup_(plan_done) struct plan p = {0};
    const struct planned *planned = plan(m, &p, A);
    char text[2000] = "", one[OBJECT_STR_MAX];

    for (size_t i = 0; i < planned->n_objects; i++) {
        const struct object *o = &p.objects[planned->objects + i];

        if (!OBJECT_IS_WATCH(o->kind))
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
                           i > 0 ? ";" : "", object_format(o, one));
    }
    assert_string_equal(text, expected);
}

/* What is to be done, as text. The plan is taken for applied. */
static void expect_ops(struct model *m, const char *expected)
{
    static const char *const verbs[] = {[OP_ADD] = "+", [OP_REMOVE] = "-"};
    _cleanup_(plan_done) struct plan p = {0};
    const struct planned *planned = plan(m, &p, A);
    char text[2000] = "", one[OBJECT_STR_MAX];

    for (size_t i = 0; i < p.n_ops; i++) {
        const struct op *op = &p.ops[i];

        if (op->kind == OP_FORGET)
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "cut%s%s;",
                           planned->forget_in ? " in" : "", planned->forget_own ? " own" : "");
        else if (!OBJECT_IS_WATCH(op->object.kind))
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s;",
                           verbs[op->kind], object_format(&op->object, one));
    }
    assert_string_equal(text, expected);
    plan_note_flows(m, planned);
    planned->slot->verdict = planned->verdict;
    assert_int_equal(model_set_actual(m, planned->slot, p.objects + planned->objects,
                                      planned->n_objects), 0);
}

/* ---- may it be open ---- */

static void test_verdicts(void **state)
{
    struct model *m = *state;

    set(m, PATH, RECORD);
    expect(m, VERDICT_OPEN, "");
    NET(m, {D, 11, 1, NULL, false});
    expect(m, VERDICT_NO_VIF, "net qube");
    NET(m, {C, 13, 1, NULL, false});
    expect(m, VERDICT_MISMATCH, "vif13.0");
    NET(m, {C, 13, 1, NULL, false}, {C, 11, 2, NULL, false}); /* the best one counts */
    expect(m, VERDICT_MISMATCH, "vif13.0");
    NET(m, {C, 2, 1, NULL, false});
    expect(m, VERDICT_MISMATCH, "eth0");
    NET(m, {C, 77, 1, NULL, false});
    expect(m, VERDICT_MISMATCH, "unknown");
    NET(m, {C, 11, 1, "10.137.0.9", false});
    expect(m, VERDICT_MISMATCH, "gateway");
    NET(m, {C, 11, 1, NULL, false}, {A, 13, 1, NULL, false});
    expect(m, VERDICT_MISMATCH, "vif13.0");
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 1, NULL, false}); /* also by the very same vif: nobody covers that */
    expect(m, VERDICT_MISMATCH, "vif11.0");
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 1, C, true}); /* but for ours */
    expect(m, VERDICT_OPEN, "");
    NET(m, {C, 11, 1, D, true}); /* a net qube that is itself behind another one is not here */
    expect(m, VERDICT_NO_VIF, "net qube");
}

static void test_records(void **state)
{
    struct model *m = *state;

    set(m, PATH, "v=1|vm=web|xid=11|via=" A "|edge=1|mode=forward");
    expect(m, VERDICT_REFUSED, "via=");
    set(m, PATH, "v=1|vm=web|xid=11|via=127.0.0.1|edge=1|mode=forward");
    expect(m, VERDICT_REFUSED, "via=");
    set(m, PATH, "v=1|vm=web|xid=11|via=fd09::6|edge=1|mode=forward");
    expect(m, VERDICT_REFUSED, "IP version");
    set(m, PATH, "v=1|vm=web|xid=pending|via=" C "|edge=1|mode=forward");
    expect(m, VERDICT_PENDING, "");
    set(m, PATH, "v=1|vm=web|xid=12|via=" C "|edge=1|mode=forward");
    expect(m, VERDICT_MISMATCH, "domain 12");
    set(m, PATH, "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward"); /* ours is no vif of its own */
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 1, C, true});
    expect(m, VERDICT_NO_VIF, "attached");
}

/* ---- what the kernel needs ---- */

static void test_objects(void **state)
{
    struct model *m = *state;

    set(m, PATH, RECORD);
    expect_objects(m, "any to vif11.0;own-address from vif11.0 by eth0;" WAY("vif11.0") ";"
                      "downstream;route by " C " on interface 11 metric 40078;proxy on interface 2");
    NET(m, {C, 12, 1, NULL, false}, {C, 11, 2, NULL, false}); /* an HVM and its stub domain */
    expect_objects(m, "any to vif11.0;any to vif12.0;own-address from vif11.0 by eth0;"
                      "own-address from vif12.0 by eth0;lent on vif11.0;lent on vif12.0;"
                      "allowed on vif11.0;allowed on vif12.0;downstream;"
                      "route by " C " on interface 12 metric 40078;proxy on interface 2");
    NET(m, {C, 11, 1, NULL, false});
    set(m, PATH, "v=1|vm=web|xid=11|via=" C "|edge=0|mode=forward|allow=tcp/80");
    expect_objects(m, "some to vif11.0;port to vif11.0 protocol 6 port 80;"
                      "own-address from vif11.0 by eth0;" WAY("vif11.0") ";downstream;"
                      "route by " C " on interface 11 metric 40078");
    set(m, PATH, "v=1|vm=web|xid=11|via=" C "|edge=0|mode=publish|publish=tcp/8080:80");
    expect_objects(m, "some to vif11.0;port to vif11.0 protocol 6 port 80;" WAY("vif11.0") ";"
                      "downstream;route by " C " on interface 11 metric 40078");
    set(m, PATH, "v=1|vm=web|xid=11|via=" C "|edge=1|mode=publish|publish=tcp/8080:80");
    expect_objects(m, "published to vif11.0 protocol 6 port 8080;"
                      "dnat protocol 6 port 8080 to port 80;hairpin on vif11.0;" WAY("vif11.0") ";"
                      "downstream;route by " C " on interface 11 metric 40078");
}

/* ---- coming, changing, going ---- */

#define INNER "v=1|vm=web|xid=11,12|via=" C "|edge=0|mode=publish|publish=udp/53"

static void test_comes_changes_and_goes(void **state)
{
    struct model *m = *state;

    set(m, PATH, INNER);
    expect_ops(m, "+some to vif11.0;+port to vif11.0 protocol 17 port 53;+lent on vif11.0;"
                  "+allowed on vif11.0;+downstream;+route by " C " on interface 11 metric 40078;"
                  "cut in own;");
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "");
    NET(m, {C, 11, 1, NULL, false}); /* somebody took it away: what is permitted goes on */
    expect_ops(m, "+route by " C " on interface 11 metric 40078;cut in;");
    NET(m, {C, 12, 1, NULL, false}, {C, 11, 2, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "-route by " C " on interface 11 metric 40078;+some to vif12.0;"
                  "+port to vif12.0 protocol 17 port 53;+lent on vif12.0;+allowed on vif12.0;"
                  "+route by " C " on interface 12 metric 40078;cut in;");
    NET(m, {C, 13, 1, NULL, false}, {A, 12, 40078, C, true});
    expect_ops(m, "-some to vif11.0;-some to vif12.0;-port to vif11.0 protocol 17 port 53;"
                  "-port to vif12.0 protocol 17 port 53;-lent on vif11.0;-lent on vif12.0;"
                  "-allowed on vif11.0;-allowed on vif12.0;-downstream;"
                  "-route by " C " on interface 12 metric 40078;cut in own;");
    NET(m, {C, 13, 1, NULL, false});
    expect_ops(m, "");
}

/* The way goes with the record, so no flow can be kept by it. */
static void test_keep_keeps_no_way(void **state)
{
    struct model *m = *state;

    set(m, PATH, INNER "|keep=1");
    expect_ops(m, "+some to vif11.0;+port to vif11.0 protocol 17 port 53;+lent on vif11.0;"
                  "+allowed on vif11.0;+downstream;+route by " C " on interface 11 metric 40078;"
                  "cut in own;");
    model_find(m, &(struct addr){AF_INET, {192, 168, 1, 77}})->keep = true;
    assert_int_equal(model_claim(m, PATH, NULL), 0);
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "-some to vif11.0;-port to vif11.0 protocol 17 port 53;-lent on vif11.0;"
                  "-allowed on vif11.0;-downstream;-route by " C " on interface 11 metric 40078;"
                  "cut in own;");
}

/* ---- what is there ---- */

static void tell(struct model *m, enum object_kind kind, const char *vif, bool platform)
{
    struct object o = {.kind = kind};
    struct addr a = addr_of(A);

    if (vif != NULL)
        (void)snprintf(o.vif, sizeof(o.vif), "%s", vif);
    model_read_begin(m, 1u << kind, AF_INET);
    assert_int_equal(platform ? model_add_shared(m, &a, &o) : model_add_actual(m, &a, &o), 0);
    model_read_end(m, 1u << kind, AF_INET);
}

/* In the platform's sets ours is what the set of lent elements names; nothing else is touched. */
static void test_whose_element_it_is(void **state)
{
    struct model *m = *state;
    const struct slot *slot;
    struct addr a = addr_of(A);

    tell(m, OBJECT_ALLOWED, "vif13.0", true);
    assert_null(model_find(m, &a));
    tell(m, OBJECT_LENT, "vif11.0", false);
    tell(m, OBJECT_ALLOWED, "vif13.0", true);
    slot = model_find(m, &a);
    assert_true(slot != NULL && slot->n_actual == 1 && slot->attached);
    tell(m, OBJECT_DOWNSTREAM, NULL, true);
    assert_int_equal(slot->n_actual, 2);
    /* a qube attached here needs it now: left to the platform */
    expect_ops(m, "-lent on vif11.0;cut in own;");
    tell(m, OBJECT_LENT, "vif11.0", false);
    tell(m, OBJECT_ALLOWED, "vif11.0", true);
    assert_false(slot->attached);
    tell(m, OBJECT_DOWNSTREAM, NULL, true);
    expect_ops(m, "-lent on vif11.0;-allowed on vif11.0;-downstream;cut in own;");
    tell(m, OBJECT_DOWNSTREAM, NULL, true);
    assert_int_equal(slot->n_actual, 0);
}

/* A successor that cannot read QubesDB leaves a way as it is while its net qube is there. */
static void test_adopts(void **state)
{
    struct model *m = *state;

    set(m, PATH, INNER);
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "+some to vif11.0;+port to vif11.0 protocol 17 port 53;+lent on vif11.0;"
                  "+allowed on vif11.0;+downstream;cut in;");
    assert_int_equal(model_claim(m, PATH, NULL), 0);
    m->adopting = true;
    m->readable = false;
    NET(m, {C, 11, 1, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "");
    NET(m, {C, 13, 1, NULL, false}, {A, 11, 40078, C, true});
    expect_ops(m, "-some to vif11.0;-port to vif11.0 protocol 17 port 53;-lent on vif11.0;"
                  "-allowed on vif11.0;-downstream;"
                  "-route by " C " on interface 11 metric 40078;cut in;");
}

/* ---- who is looked at ---- */

static size_t count_dirty(struct model *m)
{
    struct slot *list = model_take_dirty(m);
    size_t n = 0;

    for (struct slot *s = list; s != NULL; s = s->next_dirty)
        n++;
    clear_dirty(list);
    return n;
}

static void test_an_event_touches_those_behind_it(void **state)
{
    struct model *m = *state;
    char path[CLAIM_PATH_MAX];

    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof(path), "/network-server/192.168.2.%u", i + 1);
        set(m, path, i % 20 == 0 ? RECORD : "v=1|vm=db|xid=13|via=" D "|edge=1|mode=forward");
    }
    assert_int_equal(count_dirty(m), 200);
    NET(m, {C, 12, 1, NULL, false});
    assert_int_equal(count_dirty(m), 10);
    NET(m, {C, 12, 1, NULL, false}, {D, 13, 1, NULL, false});
    assert_int_equal(count_dirty(m), 190);
    set(m, "/network-server/192.168.2.2", RECORD); /* moves from D to C */
    assert_int_equal(model_claim(m, "/network-server/192.168.2.1", NULL), 0);
    assert_int_equal(count_dirty(m), 2);
    NET(m, {C, 11, 1, NULL, false}, {D, 13, 1, NULL, false});
    assert_int_equal(count_dirty(m), 10);
}

/* Records come, change and go in any order: the index of net qubes never names what is gone. */
static void test_index_at_random(void **state)
{
    static const char *const values[] = {RECORD, "v=1|vm=db|xid=13|via=" D "|edge=1|mode=forward",
                                         "v=1|vm=db|xid=13|via=direct|edge=1|mode=forward", "v=2"};
    struct rnd rnd = random_begin("vias");
    struct model *m = *state;
    unsigned via_c = 0;
    char path[CLAIM_PATH_MAX];
    int is[16];

    memset(is, 0xff, sizeof(is));
    for (int i = 0; i < 4000; i++) {
        unsigned which = random_below(&rnd, 16), what = random_below(&rnd, 5);

        (void)snprintf(path, sizeof(path), "/network-server/192.168.2.%u", which + 1);
        if (what < 4)
            set(m, path, values[what]);
        else
            assert_int_equal(model_claim(m, path, NULL), 0);
        via_c = via_c - (is[which] == 0) + (what == 0);
        is[which] = (int)what;
        (void)count_dirty(m);
        NET(m, {C, i % 2 ? 11 : 12, 1, NULL, false});
        assert_int_equal(count_dirty(m), via_c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_comes_changes_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keep_keeps_no_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whose_element_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_event_touches_those_behind_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_index_at_random, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
