/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_router_world.h"

#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"

#define NOW 1790000000 /* 2026-09-21 */

const struct world_link world_links[WORLD_LINKS] = {
    {2, "eth0", true},     {3, "eth1", true},     {11, "vif11.0", false},
    {12, "vif12.0", false}, {13, "vif13.0", false}, {14, "vif12.1", false},
};

static const char *const addresses[] = {
    "10.137.0.5",  "fd09::5",       "192.168.1.77", "fd00:1::77",
    "10.137.0.6",  "192.168.1.255", "192.168.1.1",  "192.168.1.5",
};

/* Host routes also to a net qube that nobody wants to expose. */
static const char *const routed[] = {
    "10.137.0.5",  "fd09::5",       "192.168.1.77", "fd00:1::77",  "10.137.0.9",
    "10.137.0.6",  "192.168.1.255", "192.168.1.1",  "192.168.1.5", "10.137.0.9",
};

unsigned world_draw(struct world *w, unsigned below)
{
    if (w->left == 0)
        return 0;
    w->left--;
    return *w->bytes++ % below;
}

#define PICK(w, table) ((table)[world_draw(w, (unsigned)ARRAY_SIZE(table))])

static struct addr parse(const char *text)
{
    struct addr a;

    REQUIRE(addr_parse(str_from(text), &a) == 0);
    return a;
}

/* ---- keys ---- */

static void make_record(struct world *w, bool dom0, char *out, size_t size)
{
    static const char *const heads[] = {"vm=web|xid=11|", "vm=db|xid=12|", "vm=hvm|xid=12,13|",
                                        "vm=web|xid=11,12|", "vm=hvm|xid=12,13|",
                                        "vm=web|xid=13,11|", "vm=web|xid=pending|",
                                        "vm=old|xid=99|"};
    static const char *const vias[] = {"via=direct|", "via=direct|", "via=direct|",
                                       "via=direct|", "via=direct|", "via=direct|",
                                       "via=10.137.0.9|", "via=10.137.0.6|"};
    static const char *const modes[] = {"edge=1|mode=forward", "edge=0|mode=forward",
                                        "edge=1|mode=publish", "edge=1|mode=forward"};
    static const char *const allows[] = {
        "", "|allow=", "|allow=tcp/80", "|allow=tcp/22,443 from 192.168.1.0/24;icmp",
        "|allow=any from fd00::/8;udp/53",
        "|allow=tcp/1-1024;tcp/80 from 10.0.0.0/8;any from 192.168.0.0/16"};
    static const char *const publishes[] = {"", "", "", "|publish=tcp/8080:80",
                                            "|publish=tcp/8080-8083:80-83;udp/53",
                                            "|publish=tcp/8081 from 10.0.0.0/8",
                                            ("|publish=tcp/8080-8082:80-82 from 10.0.0.0/8,10.1.0.0/16,"
                                             "fd00::/16;tcp/8082-8084:82-84 from 192.168.1.0/24")};
    static const char *const ends[] = {"", "", "", "|keep=0", "|keep=1", "|keep=1",
                                       "|expires=2030-01-01T00:00:00Z",
                                       "|expires=2026-01-01T00:00:00Z", "|color=red",
                                       "|limit=10", "|log=1|limit=3",
                                       "|expires=2026-01-01T00:00:00Z|keep=1"};
    const char *mode = PICK(w, modes);

    (void)snprintf(out, size, "v=1|%s%s%s%s%s%s", dom0 ? PICK(w, heads) : "",
                   dom0 ? PICK(w, vias) : "", mode,
                   strstr(mode, "publish") == NULL ? PICK(w, allows) : "", PICK(w, publishes),
                   PICK(w, ends));
}

static void change_key(struct world *w)
{
    static const char *const forms[] = {"/network-server/", "/network-server/",
                                        "/vm-config/expose.", "/qubes-routing-method/"};
    static const char *const methods[] = {"forward", "masquerade", "x"};
    unsigned form = world_draw(w, 8) < 6 ? 0 : world_draw(w, ARRAY_SIZE(forms));
    char path[CLAIM_PATH_MAX], text[512];
    struct str value;

    (void)snprintf(path, sizeof(path), "%s%s", forms[form], PICK(w, addresses));
    if (world_draw(w, 16) == 15) { /* the same address in another spelling */
        char *colons = strstr(path, "::");

        if (colons != NULL)
            (void)memmove(colons + 3, colons + 1, strlen(colons + 1) + 1);
        if (colons != NULL)
            (void)memcpy(colons, ":0:", 3);
    }
    if (form == 3)
        (void)snprintf(text, sizeof(text), "%s", PICK(w, methods));
    else
        make_record(w, form < 2, text, sizeof(text));
    value = str_from(text);
    REQUIRE(model_claim(w->m, path, world_draw(w, 5) == 4 ? NULL : &value) == 0);
}

/* ---- network ---- */

static void *more(void *items, size_t n, size_t size)
{
    char *grown = reallocarray(items, n + 1, size);

    REQUIRE(grown != NULL);
    memset(grown + n * size, 0, size);
    return grown;
}

static void stage_route(struct model_kernel *k, const char *dst, uint8_t len, uint32_t oif,
                        uint32_t metric)
{
    k->routes = more(k->routes, k->n_routes, sizeof(*k->routes));
    k->routes[k->n_routes].dst = (struct prefix){parse(dst), len};
    k->routes[k->n_routes].oif = oif;
    k->routes[k->n_routes].metric = metric;
    if (len == 0 && strchr(dst, ':') == NULL)
        k->routes[k->n_routes].gateway = parse("192.168.1.1");
    k->n_routes++;
}

static void stage_subnet(struct model_kernel *k, const char *addr, uint8_t len, uint32_t index)
{
    k->subnets = more(k->subnets, k->n_subnets, sizeof(*k->subnets));
    k->subnets[k->n_subnets++] =
        (struct model_subnet){.index = index, .prefix = {parse(addr), len}};
}

/* An interface takes its values away with it; a new one has what the platform gives it. */
static void set_present(struct world *w, size_t link, bool present)
{
    if (!w->links[link].present) {
        w->links[link] = w->before[link];
        w->links[link].of[SYSCTL_IP6_FORWARDING] = w->default_forwarding;
    }
    w->links[link].present = present;
}

static void stage_links(struct world *w, struct model_kernel *k)
{
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        struct model_link *l;

        set_present(w, i, world_draw(w, 8) != 7);
        if (!w->links[i].present)
            continue;
        k->links = more(k->links, k->n_links, sizeof(*k->links));
        l = &k->links[k->n_links++];
        l->index = world_links[i].index;
        (void)snprintf(l->name, sizeof(l->name), "%s", world_links[i].name);
        l->carrier = world_draw(w, 8) != 7;
        l->uplink = world_links[i].candidate;
        l->vif = model_parse_vif(l->name, &l->domid);
    }
}

static void change_network(struct world *w)
{
    _cleanup_(model_kernel_done) struct model_kernel k = {0};
    unsigned kinds = world_draw(w, 64), n = world_draw(w, 12);

    stage_links(w, &k);
    if (!(kinds & 1)) {
        stage_route(&k, "0.0.0.0", 0, 2, 0);
        stage_route(&k, "::", 0, 2, 1024);
    }
    if (!(kinds & 2))
        stage_subnet(&k, "192.168.1.5", 24, 2);
    if (kinds & 4)
        stage_subnet(&k, "fd00:1::5", 64, 3);
    if (kinds & 8)
        stage_route(&k, "10.137.0.0", 16, 3, 7);
    if (kinds & 16)
        stage_route(&k, "0.0.0.0", 0, 3, 100);
    for (unsigned i = 0; i < n; i++) {
        const char *a = PICK(w, routed);
        const struct world_link *l = &world_links[world_draw(w, 8) == 7 ? 0
                                                                        : 2 + world_draw(w, 4)];

        stage_route(&k, a, strchr(a, ':') != NULL ? 128 : 32, l->index, world_draw(w, 3));
    }
    REQUIRE(model_kernel_take(w->m, &k) == 0);
}

/* ---- what the kernel has of ours ---- */

static void add_object(struct world *w)
{
    static const uint32_t indexes[] = {2, 3, 11, 77};
    struct object o = {.kind = (enum object_kind)world_draw(w, OBJECT_KINDS)};
    struct addr a = parse(PICK(w, addresses));

    if (o.kind == OBJECT_PROXY || o.kind == OBJECT_OWN || o.kind == OBJECT_ROUTE)
        o.uplink_index = PICK(w, indexes);
    if (o.kind == OBJECT_OWN)
        (void)snprintf(o.uplink, sizeof(o.uplink), "eth%u", o.uplink_index - 2);
    if (o.kind == OBJECT_ROUTE)
        o.src_lo = parse(a.family == AF_INET ? "10.137.0.9" : "fd09::9");
    if (o.kind == OBJECT_ROUTE)
        o.metric = 40078;
    if (object_has_vif(o.kind))
        (void)snprintf(o.vif, sizeof(o.vif), "%s",
                       world_links[2 + world_draw(w, WORLD_LINKS - 2)].name);
    if (o.kind == OBJECT_RATE)
        o.rate = 1 + world_draw(w, 10);
    if (o.kind == OBJECT_PROTO || o.kind == OBJECT_PORT || OBJECT_IS_DNAT(o.kind))
        o.proto = world_draw(w, 2) ? IPPROTO_UDP : IPPROTO_TCP;
    if (o.kind == OBJECT_PORT || OBJECT_IS_DNAT(o.kind))
        o.port_lo = o.port_hi = (uint16_t)(80 + world_draw(w, 3));
    if (OBJECT_IS_DNAT(o.kind))
        o.port_lo = (uint16_t)(8080 + world_draw(w, 3));
    REQUIRE(model_add_actual(w->m, &a, &o) == 0);
}

static void spoil_slot(struct slot *slot, void *user)
{
    struct world *w = user;
    size_t kept = 0;

    for (size_t i = 0; i < slot->n_actual; i++) {
        if (world_draw(w, 4) != 3)
            slot->actual[kept++] = slot->actual[i];
    }
    slot->n_actual = kept;
    if (world_draw(w, 8) == 7) {
        slot->conflict.present = !slot->conflict.present;
        slot->conflict.uplink_index = 2;
    }
    if (world_draw(w, 8) == 7)
        slot->keep = !slot->keep;
}

static void change_circumstances(struct world *w)
{
    unsigned bits = world_draw(w, 256), more_bits = world_draw(w, 256);
    struct model *m = w->m;

    m->readable = (bits & 3) != 3;
    m->adopting = !m->readable && bits & 4;
    m->vpn_here = (bits & 0x38) == 0x38;
    m->sealed = (bits & 0x38) == 0x30;
    m->stopping = bits == 0xc0;
    m->platform[FAMILY_IP4] = (more_bits & 7) != 7;
    m->platform[FAMILY_IP6] = (more_bits & 0x38) != 0x38;
    free(m->listeners);
    m->listeners = NULL;
    m->n_listeners = 0;
    if ((more_bits & 0xc0) == 0xc0) {
        m->listeners = calloc(1, sizeof(*m->listeners));
        REQUIRE(m->listeners != NULL);
        m->listeners[m->n_listeners++] =
            (struct model_listener){AF_INET, IPPROTO_TCP, (uint16_t)(8080 + world_draw(w, 5))};
    }
    m->publish_changed = true;
}

/* ---- kernel switches ---- */

static uint32_t *switch_at(struct world *w, const char *scope, enum sysctl_id id)
{
    if (strcmp(scope, "all") == 0 && id == SYSCTL_IP6_FORWARDING)
        return &w->all_forwarding;
    if (strcmp(scope, "default") == 0 && id == SYSCTL_IP6_FORWARDING)
        return &w->default_forwarding;
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        if (strcmp(scope, world_links[i].name) == 0 && w->links[i].present)
            return &w->links[i].of[id];
    }
    REQUIRE(scope == NULL); /* there is no such switch */
    return NULL;
}

static void write_forwarding(struct world *w, size_t link, uint32_t value)
{
    uint32_t *of = w->links[link].of;

    if (of[SYSCTL_IP6_FORWARDING] == 0 && value != 0 && of[SYSCTL_IP6_ACCEPT_RA] == 1 &&
        world_links[link].candidate)
        w->ra_lost = true;
    of[SYSCTL_IP6_FORWARDING] = value;
}

void world_write_switch(struct world *w, const struct sysctl_value *value)
{
    if (value->id != SYSCTL_IP6_FORWARDING || strcmp(value->scope, "default") == 0) {
        *switch_at(w, value->scope, value->id) = value->value;
        return;
    }
    if (strcmp(value->scope, "all") == 0)
        w->all_forwarding = w->default_forwarding = value->value;
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        if (w->links[i].present && (strcmp(value->scope, "all") == 0 ||
                                    strcmp(value->scope, world_links[i].name) == 0))
            write_forwarding(w, i, value->value);
    }
}

void world_read_switches(struct world *w)
{
    struct sysctl_value v = {.id = SYSCTL_IP6_FORWARDING, .scope = "all",
                             .value = w->all_forwarding};

    model_sysctl_list_done(&w->m->sysctls);
    REQUIRE(model_sysctl_set(&w->m->sysctls, &v) == 0);
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        if (!w->links[i].present || !world_links[i].candidate)
            continue;
        (void)snprintf(v.scope, sizeof(v.scope), "%s", world_links[i].name);
        for (unsigned id = SYSCTL_IP6_FORWARDING; id <= SYSCTL_IP6_PROXY_DELAY; id++) {
            v.id = (enum sysctl_id)id;
            v.value = w->links[i].of[id];
            REQUIRE(model_sysctl_set(&w->m->sysctls, &v) == 0);
        }
    }
}

/* What the platform may have left: IPv6 forwarding off, or on everywhere; the rest as it likes. */
static void begin_switches(struct world *w)
{
    uint32_t forwarding = world_draw(w, 2);

    w->all_forwarding = w->default_forwarding = forwarding;
    for (size_t i = 0; i < WORLD_LINKS; i++) {
        uint32_t *of = w->before[i].of;

        of[SYSCTL_IP6_FORWARDING] = forwarding;
        if (!world_links[i].candidate)
            continue;
        of[SYSCTL_IP6_ACCEPT_RA] = world_draw(w, 3);
        of[SYSCTL_IP6_PROXY_NDP] = world_draw(w, 2);
        of[SYSCTL_IP4_PROXY_DELAY] = world_draw(w, 2) ? 0 : 80;
        of[SYSCTL_IP6_PROXY_DELAY] = world_draw(w, 2) ? 0 : 80;
    }
}

/* ---- all of it ---- */

struct world *world_new(const uint8_t *bytes, size_t len)
{
    struct world *w = calloc(1, sizeof(*w));

    REQUIRE(w != NULL);
    w->bytes = bytes;
    w->left = len;
    w->m = model_new();
    REQUIRE(w->m != NULL);
    w->m->now = NOW;
    w->m->readable = true;
    w->m->platform[FAMILY_IP4] = w->m->platform[FAMILY_IP6] = true;
    w->m->wants_ip6 = world_draw(w, 4) == 3;
    begin_switches(w);
    return w;
}

struct world *world_free(struct world *w)
{
    w->m = model_free(w->m);
    free(w);
    return NULL;
}

void world_step(struct world *w)
{
    unsigned what = world_draw(w, 64), n;
    struct str empty = STR_LITERAL("");

    for (n = world_draw(w, 6); n > 0; n--)
        change_key(w);
    if (what & 1 || w->m->n_links == 0)
        change_network(w);
    if ((what & 7) == 6)
        change_circumstances(w);
    if (what & 8)
        model_each(w->m, spoil_slot, w);
    for (n = what & 16 ? world_draw(w, 6) : 0; n > 0; n--)
        add_object(w);
    if (what == 32)
        REQUIRE(model_claim(w->m, "/network-server", world_draw(w, 2) ? &empty : NULL) == 0);
}
