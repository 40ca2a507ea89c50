/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One test for each verdict and shape of what is wished. What always holds: ..._plan_laws.c. */
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
#include "router/model.h"
#include "router/plan.h"

#define A      "10.137.0.5"
#define A6     "fd09::5"
#define RECORD "v=1|vm=web|xid=11|via=direct|edge=1|mode=forward"
#define PATH   "/network-server/" A

/* eth0 (2) with 192.168.1.5/24 and the default route, vif11.0 (11) and vif12.0 (12) */
struct net {
    const char *oif[3]; /* of A's host routes, best first */
    bool carrier[2];    /* of eth0, eth1 */
    bool eth1;          /* 10.137.0.9/16 */
    bool no_uplink;
};

static struct addr addr_of(const char *text)
{
    struct addr a;

    assert_int_equal(addr_parse(str_from(text), &a), 0);
    return a;
}

static void add_link(struct model_kernel *k, uint32_t index, const char *name, bool carrier)
{
    struct model_link *l = &k->links[k->n_links++];

    l->index = index;
    (void)snprintf(l->name, sizeof(l->name), "%s", name);
    l->carrier = carrier;
    l->vif = model_parse_vif(name, &l->domid);
    l->uplink = !l->vif;
}

static void add_route(struct model_kernel *k, const char *dst, uint32_t oif, uint32_t metric)
{
    struct addr a = addr_of(dst);

    k->routes[k->n_routes++] = (struct model_route){
        .dst = {a, addr_bits(a.family)}, .oif = oif, .metric = metric};
}

static void set_net(struct model *m, const struct net *net)
{
    static const struct {
        const char *name;
        uint32_t index;
    } names[] = {{"vif11.0", 11}, {"vif12.0", 12}, {"vif12.1", 13}, {"eth0", 2}, {"lo", 99}};
    struct model_kernel k = {.links = calloc(6, sizeof(*k.links)),
                             .subnets = calloc(2, sizeof(*k.subnets)),
                             .routes = calloc(8, sizeof(*k.routes))};

    assert_true(k.links != NULL && k.subnets != NULL && k.routes != NULL);
    for (size_t i = 0; i < 3; i++)
        add_link(&k, names[i].index, names[i].name, true);
    if (!net->no_uplink)
        add_link(&k, 2, "eth0", net->carrier[0]);
    if (net->eth1)
        add_link(&k, 3, "eth1", net->carrier[1]);
    k.subnets[k.n_subnets++] = (struct model_subnet){2, {addr_of("192.168.1.5"), 24}};
    if (net->eth1)
        k.subnets[k.n_subnets++] = (struct model_subnet){3, {addr_of("10.137.0.9"), 16}};
    for (uint32_t i = 0; i < ARRAY_SIZE(net->oif) && net->oif[i] != NULL; i++) {
        for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
            if (strcmp(names[n].name, net->oif[i]) == 0) {
                add_route(&k, A, names[n].index, i);
                add_route(&k, A6, names[n].index, i);
            }
        }
    }
    k.routes[k.n_routes++] = (struct model_route){.dst = {{AF_INET, {0}}, 0}, .oif = 2,
                                                  .gateway = addr_of("192.168.1.1")};
    assert_int_equal(model_kernel_take(m, &k), 0);
    model_kernel_done(&k);
}

static const struct net usual = {.oif = {"vif11.0"}, .carrier = {true, true}};

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
    set_net(m, &usual);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    *state = model_free(*state);
    return 0;
}

/* Plans all. Gives the one of an address; the plan is the caller's. */
static const struct planned *plan(struct model *m, struct plan *p, const char *addr)
{
    struct addr a = addr_of(addr);
    struct slot *list, *next;

    model_touch_all(m);
    list = model_take_dirty(m);
    assert_int_equal(plan_slots(m, list, p), 0);
    for (; list != NULL; list = next) {
        next = list->next_dirty;
        list->dirty = false;
        list->next_dirty = NULL;
    }
    for (size_t i = 0; i < p->n_planned; i++) {
        if (addr_equal(&p->planned[i].slot->addr, &a))
            return &p->planned[i];
    }
    fail_msg("%s was not planned", addr);
    return NULL;
}

/* word: stands in the reason. */
static void expect(struct model *m, const char *addr, enum verdict verdict, const char *word)
{
    _cleanup_(plan_done) struct plan p = {0};
    const struct planned *planned = plan(m, &p, addr);

    if (planned->verdict != verdict || strstr(planned->reason, word) == NULL)
        fail_msg("%s: %s, \"%s\"", addr, plan_verdict_name(planned->verdict), planned->reason);
    assert_true((planned->n_objects > 0) == (verdict == VERDICT_OPEN));
}

/* What is wished, as text: "any to vif11.0;own-address from vif11.0 by eth0;..."; or what watches. */
static void expect_kinds(struct model *m, const char *addr, bool watch, const char *expected)
{
    _cleanup_(plan_done) struct plan p = {0};
    const struct planned *planned = plan(m, &p, addr);
    char text[2000] = "", one[OBJECT_STR_MAX];

    assert_int_equal(planned->verdict, VERDICT_OPEN);
    for (size_t i = 0; i < planned->n_objects; i++) {
        const struct object *o = &p.objects[planned->objects + i];

        if (OBJECT_IS_WATCH(o->kind) == watch)
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
                           text[0] != '\0' ? ";" : "", object_format(o, one));
    }
    assert_string_equal(text, expected);
}

static void expect_objects(struct model *m, const char *addr, const char *expected)
{
    expect_kinds(m, addr, false, expected);
}

/* ---- verdicts ---- */

static void test_claims(void **state)
{
    struct model *m = *state;

    set(m, "/qubes-routing-method/" A, "forward");
    expect(m, A, VERDICT_OPEN, "");
    set(m, "/qubes-routing-method/" A, "masquerade");
    expect(m, A, VERDICT_NONE, "");
    set(m, "/qubes-routing-method/" A, "yes");
    expect(m, A, VERDICT_REFUSED, "masquerade");
    set(m, "/vm-config/expose." A, "v=1|mode=forward"); /* goes before the older form */
    expect(m, A, VERDICT_OPEN, "");
    set(m, "/vm-config/expose." A, "v=2");
    expect(m, A, VERDICT_REFUSED, "v=1"); /* a malformed one too */
    set(m, "/vm-config/expose." A, "v=1|mode=forward");
    set(m, PATH, RECORD);
    expect(m, A, VERDICT_DUPLICATE, PATH);
    set(m, "/network-server", "");
    expect(m, A, VERDICT_OPEN, "");
    set(m, PATH, RECORD "|color=red");
    expect(m, A, VERDICT_REFUSED, "color"); /* still a record: nothing else counts */
    assert_int_equal(model_claim(m, PATH, NULL), 0);
    expect(m, A, VERDICT_SUPERSEDED, "/vm-config/expose." A);
    assert_int_equal(model_claim(m, "/vm-config/expose." A, NULL), 0);
    expect(m, A, VERDICT_SUPERSEDED, "/qubes-routing-method/" A);
}

static void test_spellings(void **state)
{
    struct model *m = *state;

    set(m, "/network-server/fd09::5", RECORD);
    expect(m, A6, VERDICT_OPEN, "");
    set(m, "/network-server/FD09::5", RECORD);
    expect(m, A6, VERDICT_DUPLICATE, "FD09::5");
    assert_int_equal(model_claim(m, "/network-server/fd09::5", NULL), 0);
    expect(m, A6, VERDICT_OPEN, "");
}

static void test_record(void **state)
{
    struct model *m = *state;

    set(m, PATH, "v=1|vm=web|xid=pending|via=direct|edge=1|mode=forward");
    expect(m, A, VERDICT_PENDING, "starting");
    set(m, PATH, RECORD "|expires=2026-09-21T14:13:20Z"); /* now */
    expect(m, A, VERDICT_EXPIRED, "over");
    set(m, PATH, RECORD "|expires=2026-09-21T14:13:21Z");
    expect(m, A, VERDICT_OPEN, "");
    m->now++;
    expect(m, A, VERDICT_EXPIRED, "over");
}

static void test_address(void **state)
{
    static const struct {
        const char *addr, *word;
        enum verdict verdict;
    } table[] = {
        {"192.168.1.5", "itself", VERDICT_UNUSABLE}, {"192.168.1.1", "gateway", VERDICT_UNUSABLE},
        {"192.168.1.0", "broadcast", VERDICT_UNUSABLE},
        {"192.168.1.255", "broadcast", VERDICT_UNUSABLE}, {"192.168.1.77", "", VERDICT_NO_VIF},
        {"192.168.2.255", "", VERDICT_NO_VIF},
    };
    struct model *m = *state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char path[CLAIM_PATH_MAX];

        (void)snprintf(path, sizeof(path), "/network-server/%s", table[i].addr);
        set(m, path, RECORD);
        expect(m, table[i].addr, table[i].verdict, table[i].word);
    }
}

static void test_vifs(void **state)
{
    static const struct {
        const char *xid;
        struct net net;
        enum verdict verdict;
    } table[] = {
        {"11", {.oif = {NULL}}, VERDICT_NO_VIF},
        {"11", {.oif = {"vif11.0"}}, VERDICT_OPEN},
        {"11", {.oif = {"vif12.0"}}, VERDICT_MISMATCH},
        {"11", {.oif = {"vif12.0", "vif11.0"}}, VERDICT_MISMATCH}, /* the best route decides */
        {"11", {.oif = {"vif11.0", "vif12.0"}}, VERDICT_OPEN},
        {"11", {.oif = {"eth0", "vif11.0"}}, VERDICT_MISMATCH},
        {"11", {.oif = {"lo"}}, VERDICT_MISMATCH}, /* an interface that is not known */
        {"11,12", {.oif = {"vif12.0"}}, VERDICT_OPEN},
        {"12,11", {.oif = {"vif11.0", "vif12.0"}}, VERDICT_OPEN},
        {"99", {.oif = {"vif11.0"}}, VERDICT_MISMATCH},
    };
    struct model *m = *state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char value[200];

        (void)snprintf(value, sizeof(value), "v=1|vm=a|xid=%s|via=direct|edge=1|mode=forward",
                       table[i].xid);
        set(m, PATH, value);
        set_net(m, &table[i].net);
        expect(m, A, table[i].verdict, "");
    }
}

static void test_surroundings(void **state)
{
    struct model *m = *state;
    struct slot *s;

    set(m, PATH, RECORD);
    set(m, "/network-server/" A6, RECORD);
    m->vpn_here = true;
    expect(m, A, VERDICT_VPN_HERE, "VPN");
    m->vpn_here = false;
    m->sealed = true;
    expect(m, A6, VERDICT_VPN_HERE, "VPN");
    m->sealed = false;
    m->platform[FAMILY_IP6] = false;
    m->missing[FAMILY_IP6] = "table ip6 qubes";
    expect(m, A6, VERDICT_PLATFORM, "table ip6 qubes");
    expect(m, A, VERDICT_OPEN, "");
    s = model_find(m, &(struct addr){AF_INET, {10, 137, 0, 5}});
    assert_non_null(s);
    s->conflict = (struct conflict){.present = true, .mac = {0, 1, 2, 3, 4, 5}, .uplink_index = 2};
    expect(m, A, VERDICT_CONFLICT, "00:01:02:03:04:05 on eth0");
    s->conflict.uplink_index = 77;
    expect(m, A, VERDICT_CONFLICT, "gone");
    s->conflict.present = false;
    m->stopping = true;
    expect(m, A, VERDICT_NONE, "");
}

static void test_unreadable(void **state)
{
    struct model *m = *state;
    struct object any = {.kind = OBJECT_ANY, .vif = "vif11.0"};
    struct addr a = addr_of(A);

    set(m, PATH, RECORD);
    m->readable = false;
    expect(m, A, VERDICT_UNREADABLE, "QubesDB");
    assert_int_equal(model_add_actual(m, &a, &any), 0);
    expect(m, A, VERDICT_OPEN, ""); /* what is open stays */
    set_net(m, &(struct net){.oif = {"vif12.0"}});
    expect(m, A, VERDICT_MISMATCH, ""); /* and still goes */
}

static void test_adopting(void **state)
{
    struct model *m = *state;
    struct object any = {.kind = OBJECT_ANY, .vif = "vif11.0"}, old = any;
    struct addr a = addr_of(A);
    _cleanup_(plan_done) struct plan p = {0}, q = {0}, r = {0};
    const struct planned *planned;

    (void)snprintf(old.vif, sizeof(old.vif), "vif9.0");
    assert_int_equal(model_add_actual(m, &a, &any), 0);
    assert_int_equal(model_add_actual(m, &a, &old), 0);
    m->readable = false;
    m->adopting = true;
    planned = plan(m, &p, A);
    assert_int_equal(planned->verdict, VERDICT_ADOPTED);
    assert_int_equal(planned->n_objects, 1); /* the vif of a qube that is gone is not adopted */
    assert_int_equal(p.n_ops, 2);
    m->vpn_here = true;
    assert_int_equal(plan(m, &q, A)->n_objects, 0);
    m->vpn_here = false;
    m->adopting = false;
    planned = plan(m, &r, A);
    assert_int_equal(planned->verdict, VERDICT_NONE);
    assert_int_equal(planned->n_objects, 0);
}

/* A vif, or an interface that is no uplink any more, is no place to answer for the address. */
static void test_adopts_on_uplinks_only(void **state)
{
    _cleanup_(plan_done) struct plan p = {0};
    struct model *m = *state;
    struct object any = {.kind = OBJECT_ANY, .vif = "vif11.0"};
    struct object here = {.kind = OBJECT_PROXY, .uplink_index = 2}, vif = here, none = here;
    struct addr a = addr_of(A);

    vif.uplink_index = 11;
    none.uplink_index = 77;
    assert_int_equal(model_add_actual(m, &a, &any), 0);
    assert_int_equal(model_add_actual(m, &a, &here), 0);
    assert_int_equal(model_add_actual(m, &a, &vif), 0);
    assert_int_equal(model_add_actual(m, &a, &none), 0);
    m->readable = false;
    m->adopting = true;
    assert_int_equal(plan(m, &p, A)->n_objects, 2);
}

/* ---- objects ---- */

#define LAN ";own-address from vif11.0 by eth0;proxy on interface 2"

static void test_objects(void **state)
{
    static const struct {
        const char *fields, *objects;
    } table[] = {
        {"", "any to vif11.0" LAN},
        {"|allow=any", "any to vif11.0;some to vif11.0" LAN},
        {"|allow=tcp/80", "some to vif11.0;port to vif11.0 protocol 6 port 80" LAN},
        {"|allow=udp", "some to vif11.0;proto to vif11.0 protocol 17" LAN},
        {"|allow=icmp", "some to vif11.0;proto to vif11.0 protocol 1" LAN},
        {"|allow=any from 10.0.0.0/8", "some to vif11.0;from to vif11.0 from "
         "10.0.0.0-10.255.255.255" LAN},
        {"|allow=tcp/80-81", "some to vif11.0;rule to vif11.0 protocol 6 ports 80-81 from "
         "0.0.0.0-255.255.255.255" LAN},
        {"|allow=tcp/80 from 10.0.0.1", "some to vif11.0;rule to vif11.0 protocol 6 ports 80-80 "
         "from 10.0.0.1-10.0.0.1" LAN},
        {"|allow=icmp from 10.0.0.1", "some to vif11.0;rule to vif11.0 protocol 1 ports 0-65535 "
         "from 10.0.0.1-10.0.0.1" LAN},
    };
    struct model *m = *state;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char value[300];

        (void)snprintf(value, sizeof(value), RECORD "%s", table[i].fields);
        set(m, PATH, value);
        expect_objects(m, A, table[i].objects);
    }
}

static void test_edge_and_uplinks(void **state)
{
    struct model *m = *state;

    set(m, PATH, "v=1|vm=web|xid=11|via=direct|edge=0|mode=forward");
    expect_objects(m, A, "any to vif11.0;own-address from vif11.0 by eth0");
    set(m, PATH, RECORD);
    set_net(m, &(struct net){.oif = {"vif11.0"}, .no_uplink = true});
    expect_objects(m, A, "any to vif11.0");
    expect(m, A, VERDICT_OPEN, "other qubes only");
    /* eth1's subnet holds the address: by the longest prefix, also when its cable is out */
    set_net(m, &(struct net){.oif = {"vif11.0"}, .eth1 = true, .carrier = {true, true}});
    expect_objects(m, A, "any to vif11.0;own-address from vif11.0 by eth1;proxy on interface 3");
    set_net(m, &(struct net){.oif = {"vif11.0"}, .eth1 = true, .carrier = {true, false}});
    expect_objects(m, A, "any to vif11.0;own-address from vif11.0 by eth1;proxy on interface 3");
}

static void test_nobody_holds(void **state)
{
    struct model *m = *state;

    set(m, "/network-server/" A6, RECORD);
    set_net(m, &(struct net){.oif = {"vif11.0"}, .eth1 = true, .carrier = {true, true}});
    expect_objects(m, A6, "any to vif11.0;own-address from vif11.0 by eth0;"
                          "own-address from vif11.0 by eth1;proxy on interface 2;proxy on interface 3");
    expect(m, A6, VERDICT_OPEN, "on every uplink");
    set_net(m, &(struct net){.oif = {"vif11.0"}, .eth1 = true, .carrier = {true, false}});
    expect_objects(m, A6, "any to vif11.0" LAN);
}

static void test_two_vifs(void **state)
{
    struct model *m = *state;

    set(m, PATH, "v=1|vm=hvm|xid=12|via=direct|edge=1|mode=forward");
    set_net(m, &(struct net){.oif = {"vif12.0", "vif12.1"}, .carrier = {true}});
    expect_objects(m, A, "any to vif12.0;any to vif12.1;own-address from vif12.0 by eth0;"
                         "own-address from vif12.1 by eth0;proxy on interface 2");
    set_net(m, &(struct net){.oif = {"vif12.1", "vif11.0"}, .carrier = {true}});
    expect_objects(m, A, "any to vif12.1;own-address from vif12.1 by eth0;proxy on interface 2");
}

static void test_publish(void **state)
{
    struct model *m = *state;

    set(m, PATH, "v=1|vm=web|xid=11|via=direct|edge=1|mode=publish|publish=tcp/8080:80");
    expect_objects(m, A, "published to vif11.0 protocol 6 port 8080;"
                         "dnat protocol 6 port 8080 to port 80;hairpin on vif11.0");
    set(m, "/network-server/192.168.1.77", RECORD "|publish=tcp/8079-8081:1-3");
    expect(m, A, VERDICT_DUPLICATE, "192.168.1.77");
    expect(m, "192.168.1.77", VERDICT_DUPLICATE, A);
    set(m, "/network-server/192.168.1.77", RECORD "|publish=udp/8080");
    expect(m, A, VERDICT_OPEN, "");
    set(m, "/network-server/" A6, RECORD "|publish=tcp/8080"); /* the other IP version */
    expect(m, A, VERDICT_OPEN, "");
    set(m, "/network-server/192.168.1.77", RECORD "|publish=tcp/8080 from 10.0.0.0/8");
    expect(m, A, VERDICT_DUPLICATE, "192.168.1.77"); /* whoever may ask */
    set(m, "/network-server/192.168.1.77", RECORD "|publish=udp/8080");
    m->listeners = calloc(1, sizeof(*m->listeners));
    assert_non_null(m->listeners);
    m->n_listeners = 1;
    m->listeners[0] = (struct model_listener){AF_INET, IPPROTO_TCP, 8080};
    expect(m, A, VERDICT_UNUSABLE, "8080");
    m->listeners[0].proto = IPPROTO_UDP;
    expect(m, A, VERDICT_OPEN, "");
}

/* A port leads to the qube for those whom its maps name, in pieces that do not overlap. */
static void test_publish_from(void **state)
{
    struct model *m = *state;

    set(m, PATH, RECORD "|publish=tcp/8080-8081:80-81 from 10.1.0.0/16,10.0.0.0/8,fd00::/16;"
                        "tcp/8081:81;udp/53 from fd00::1");
    expect_objects(m, A, "any to vif11.0;published to vif11.0 protocol 6 port 8081;"
                         "published-from to vif11.0 protocol 6 ports 8080-8080 from 10.0.0.0-10.255.255.255;"
                         "dnat protocol 6 port 8081 to port 81;"
                         "dnat-from protocol 6 port 8080 from 10.0.0.0-10.255.255.255 to port 80;"
                         "own-address from vif11.0 by eth0;hairpin on vif11.0;proxy on interface 2");
    set(m, PATH, RECORD "|publish=tcp/8080:80 from 10.1.0.1;tcp/8080:81 from 10.1.0.2");
    expect(m, A, VERDICT_REFUSED, "leads to two ports inside");
    set(m, PATH, RECORD "|publish=tcp/8080:80 from 0.0.0.0/0");
    expect_objects(m, A, "any to vif11.0;published to vif11.0 protocol 6 port 8080;"
                         "dnat protocol 6 port 8080 to port 80;own-address from vif11.0 by eth0;"
                         "hairpin on vif11.0;proxy on interface 2");
}

/* Each vif by which somebody gets in is watched; what is limited and named is as the record says. */
static void test_watch(void **state)
{
    struct model *m = *state;

    set(m, PATH, RECORD);
    expect_kinds(m, A, true, "connections to vif11.0;traffic to vif11.0");
    set(m, PATH, RECORD "|limit=25|log=1");
    expect_kinds(m, A, true, "rate to vif11.0 25 a second;logged to vif11.0;"
                             "connections to vif11.0;traffic to vif11.0");
    set(m, PATH, RECORD "|allow=|limit=25|log=1");
    expect_kinds(m, A, true, "");
    set(m, PATH, "v=1|vm=web|xid=11|via=direct|edge=1|mode=publish|publish=tcp/8080|limit=1");
    expect_kinds(m, A, true, "rate to vif11.0 1 a second;connections to vif11.0;traffic to vif11.0");
    set(m, PATH, "v=1|vm=hvm|xid=12|via=direct|edge=1|mode=forward|log=1");
    set_net(m, &(struct net){.oif = {"vif12.0", "vif12.1"}, .carrier = {true}});
    expect_kinds(m, A, true, "logged to vif12.0;logged to vif12.1;connections to vif12.0;"
                             "connections to vif12.1;traffic to vif12.0;traffic to vif12.1");
}

static void test_too_many(void **state)
{
    struct model *m = *state;

    set(m, PATH, RECORD "|publish=tcp/1000-1600");
    expect(m, A, VERDICT_REFUSED, "more than");
}

/* ---- established flows ---- */

static bool stays(const struct planned *p, uint8_t proto, uint16_t outside, uint16_t port,
                  const struct addr *from)
{
    struct access_flow flow = {proto, outside, port, from};

    return plan_inbound_stays(p, &flow);
}

static void test_flows(void **state)
{
    _cleanup_(plan_done) struct plan p = {0}, q = {0}, r = {0};
    struct model *m = *state;
    struct object any = {.kind = OBJECT_ANY, .vif = "vif11.0"};
    struct addr a = addr_of(A), lan = addr_of("192.168.1.7"), own = addr_of("192.168.1.5");
    const struct planned *planned;

    set(m, PATH, RECORD);
    assert_int_equal(model_add_actual(m, &a, &any), 0);
    planned = plan(m, &p, A);
    assert_true(stays(planned, IPPROTO_TCP, 0, 22, &lan)); /* nothing went away */
    assert_true(plan_outbound_stays(m, planned, &lan));
    set(m, PATH, RECORD "|allow=tcp/80 from 192.168.1.0/24");
    planned = plan(m, &q, A);
    assert_true(planned->forget_in);
    assert_true(stays(planned, IPPROTO_TCP, 0, 80, &lan));
    assert_false(stays(planned, IPPROTO_TCP, 0, 22, &lan));
    assert_false(stays(planned, IPPROTO_UDP, 0, 80, &lan));
    assert_false(stays(planned, IPPROTO_TCP, 8080, 80, &lan)); /* not published */
    any = (struct object){.kind = OBJECT_OWN, .vif = "vif11.0", .uplink = "eth9"};
    assert_int_equal(model_add_actual(m, &a, &any), 0);
    set(m, PATH, "v=1|vm=web|xid=99|via=direct|edge=1|mode=forward");
    planned = plan(m, &r, A);
    assert_false(stays(planned, IPPROTO_TCP, 0, 80, &lan));
    assert_false(plan_outbound_stays(m, planned, &lan));
    assert_true(plan_outbound_stays(m, planned, &own));
    assert_true(plan_outbound_stays(m, planned, &a)); /* another qube: no uplink was involved */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_adopts_on_uplinks_only),
        TEST(test_claims),       TEST(test_spellings), TEST(test_record),
        TEST(test_address),      TEST(test_vifs),      TEST(test_surroundings),
        TEST(test_unreadable),   TEST(test_adopting),  TEST(test_objects),
        TEST(test_edge_and_uplinks), TEST(test_nobody_holds), TEST(test_two_vifs),
        TEST(test_publish),      TEST(test_too_many),  TEST(test_flows),
        TEST(test_publish_from), TEST(test_watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
