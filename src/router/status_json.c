/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/status_json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "router/elements.h"
#include "router/neighbours.h"
#include "router/sysctl.h"

static json_t *text(const char *s)
{
    char safe[2048];

    return json_string(str_escape(str_from(s), safe, sizeof(safe)));
}

static void set_time(json_t *o, const char *key, int64_t seconds)
{
    char buf[32];
    time_t t = (time_t)seconds;
    struct tm tm;

    if (seconds != 0 && gmtime_r(&t, &tm) != NULL &&
        strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        (void)json_object_set_new(o, key, json_string(buf));
}

static void add_unique(json_t *array, const char *name)
{
    size_t i;
    json_t *v;

    json_array_foreach(array, i, v) {
        if (strcmp(json_string_value(v), name) == 0)
            return;
    }
    (void)json_array_append_new(array, text(name));
}

static json_t *conflict_json(const struct model *m, const struct slot *slot)
{
    const uint8_t *mac = slot->conflict.mac;
    const struct model_link *link = model_link_by_index(m, slot->conflict.uplink_index);
    char buf[24];

    (void)snprintf(buf, sizeof(buf), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                   mac[4], mac[5]);
    return json_pack("{s:s, s:s}", "mac", buf, "interface", link != NULL ? link->name : "");
}

static void add_interfaces(json_t *o, const struct model *m, const struct slot *slot)
{
    json_t *vifs = json_array(), *answers = json_array(), *own = json_array();

    for (size_t i = 0; i < slot->n_actual; i++) {
        const struct object *object = &slot->actual[i];
        const struct model_link *link = model_link_by_index(m, object->uplink_index);

        if (object->kind == OBJECT_PROXY)
            add_unique(answers, link != NULL ? link->name : "?");
        else if (object_has_vif(object->kind))
            add_unique(vifs, object->vif);
        if (object->kind == OBJECT_OWN)
            add_unique(own, object->uplink);
    }
    (void)json_object_set_new(o, "vifs", vifs);
    (void)json_object_set_new(o, "answered_on", answers);
    (void)json_object_set_new(o, "keeps_address_on", own);
}

/* Not there: nothing is counted for it. Packets and bytes are absent where some passed by. */
static void add_counters(json_t *o, const struct slot *slot)
{
    const struct counters *c = &slot->counters;
    json_t *counters;

    if (!c->known)
        return;
    counters = json_pack("{s:I, s:b}", "connections", (json_int_t)c->connections, "offloaded",
                         c->offloaded);
    if (!c->offloaded) {
        (void)json_object_set_new(counters, "packets", json_integer((json_int_t)c->packets));
        (void)json_object_set_new(counters, "bytes", json_integer((json_int_t)c->bytes));
    }
    (void)json_object_set_new(o, "counters", counters);
}

static void add_record(json_t *o, const struct record *record)
{
    char via[ADDR_STR_MAX];

    set_time(o, "expires", record->expires);
    (void)json_object_set_new(o, "keep", json_boolean(record->keep));
    (void)json_object_set_new(o, "mode", json_string(record->forward ? "forward" : "publish"));
    (void)json_object_set_new(o, "edge", json_boolean(record->edge));
    (void)json_object_set_new(o, "via", json_string(record->via.family != 0
                                                        ? addr_format(&record->via, via)
                                                        : "direct"));
    if (record->limit > 0)
        (void)json_object_set_new(o, "limit", json_integer(record->limit));
    (void)json_object_set_new(o, "log", json_boolean(record->log));
}

static void add_claim(json_t *o, const struct slot *slot)
{
    json_t *keys = json_array();

    for (const struct claim *c = slot->claims; c != NULL; c = c->next)
        (void)json_array_append_new(keys, json_pack("{s:o, s:o}", "key", text(c->path), "value",
                                                    text(c->value)));
    (void)json_object_set_new(o, "keys", keys);
    if (slot->claims != NULL && slot->claims->valid)
        add_record(o, &slot->claims->record);
}

struct context {
    const struct model *m;
    json_t *array;
    size_t open;
};

static bool is_open(const struct slot *slot)
{
    return slot->verdict == VERDICT_OPEN || slot->verdict == VERDICT_ADOPTED;
}

/* What is wished is in the kernel: as it was read back, or acknowledged, last. */
static bool in_place(const struct slot *slot)
{
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (OBJECT_IS_ACCESS(slot->actual[i].kind))
            return is_open(slot);
    }
    return false;
}

static void add_slot(struct slot *slot, void *user)
{
    struct context *c = user;
    char addr[ADDR_STR_MAX];
    json_t *o;

    /* nothing is wished and nothing is there: kept only until its flows can be ended */
    if (slot->verdict == VERDICT_NONE && slot->claims == NULL && slot->n_actual == 0)
        return;
    o = json_object();

    (void)json_object_set_new(o, "address", json_string(addr_format(&slot->addr, addr)));
    if (slot->qube != NULL && slot->qube[0] != '\0')
        (void)json_object_set_new(o, "qube", text(slot->qube));
    (void)json_object_set_new(o, "state", json_string(plan_verdict_name(slot->verdict)));
    (void)json_object_set_new(o, "open", json_boolean(is_open(slot)));
    (void)json_object_set_new(o, "in_place", json_boolean(in_place(slot)));
    set_time(o, "changed", slot->changed);
    if (slot->reason != NULL)
        (void)json_object_set_new(o, "reason", text(slot->reason));
    if (slot->conflict.present)
        (void)json_object_set_new(o, "conflict", conflict_json(c->m, slot));
    add_interfaces(o, c->m, slot);
    add_claim(o, slot);
    add_counters(o, slot);
    (void)json_array_append_new(c->array, o);
    c->open += is_open(slot);
}

static void add_stray(struct stray *stray, void *user)
{
    json_t *array = user;

    if (json_array_size(array) < ROUTER_SHOWN_STRAYS)
        (void)json_array_append_new(array, json_pack("{s:o, s:s}", "key", text(stray->path),
                                                     "reason", stray->why));
}

static json_t *strays_json(const struct model *m)
{
    json_t *array = json_array();

    model_each_stray(m, add_stray, array);
    return array;
}

/* "192.168.16.2/24" ... of one interface; its link-local ones are no news. */
static json_t *subnets_json(const struct model *m, uint32_t index)
{
    json_t *array = json_array();

    for (size_t i = 0; i < m->n_subnets; i++) {
        const struct prefix *p = &m->subnets[i].prefix;
        char addr[ADDR_STR_MAX], buf[ADDR_STR_MAX + 4];

        if (m->subnets[i].index != index || addr_why_unusable(&p->addr) != NULL)
            continue;
        (void)snprintf(buf, sizeof(buf), "%s/%u", addr_format(&p->addr, addr), p->len);
        (void)json_array_append_new(array, json_string(buf));
    }
    return array;
}

static json_t *uplinks_json(const struct model *m)
{
    json_t *array = json_array();

    for (size_t i = 0; i < m->n_links; i++) {
        const struct model_link *link = &m->links[i];

        if (link->uplink)
            (void)json_array_append_new(array, json_pack("{s:o, s:b, s:o}", "name",
                                                         text(link->name), "carrier", link->carrier,
                                                         "addresses", subnets_json(m, link->index)));
    }
    return array;
}

static json_t *platform_json(const struct manager *m)
{
    json_t *o = json_object();

    for (unsigned f = 0; f < FAMILIES; f++) {
        const char *missing = m->model->missing[f];
        json_t *one = json_pack("{s:b}", "recognised", m->model->platform[f]);

        if (missing != NULL)
            (void)json_object_set_new(one, "missing", text(missing));
        if (m->kernel.error[f][0] != '\0')
            (void)json_object_set_new(one, "nft", text(m->kernel.error[f]));
        (void)json_object_set_new(o, elements_family_name((enum family_index)f), one);
    }
    return o;
}

json_t *status_json(const struct manager *m)
{
    struct context c = {.m = m->model, .array = json_array()};
    json_t *root = json_object();

    model_each(m->model, add_slot, &c);
    (void)json_object_set_new(root, "program", json_string("qubes-routing-manager"));
    (void)json_object_set_new(root, "version", json_string(SLUICE_VERSION));
    (void)json_object_set_new(root, "qubesdb",
                              json_pack("{s:b, s:s}", "readable", m->model->readable, "error",
                                        m->qubesdb_error != 0 ? strerror(-m->qubesdb_error) : ""));
    (void)json_object_set_new(root, "dom0_daemon", json_boolean(m->model->marker));
    (void)json_object_set_new(root, "vpn_qube", json_boolean(m->model->vpn_here || m->model->sealed));
    (void)json_object_set_new(root, "platform", platform_json(m));
    (void)json_object_set_new(root, "uplinks", uplinks_json(m->model));
    (void)json_object_set_new(root, "neighbours", neighbours_json(m->kernel.route, m->model));
    (void)json_object_set_new(root, "open", json_integer((json_int_t)c.open));
    (void)json_object_set_new(root, "addresses", c.array);
    (void)json_object_set_new(root, "refused_keys", strays_json(m->model));
    (void)json_object_set_new(root, "refused_keys_total", json_integer((json_int_t)m->model->n_strays));
    (void)json_object_set_new(root, "over_limit", json_integer((json_int_t)m->model->n_over_limit));
    (void)json_object_set_new(root, "healed", json_integer((json_int_t)m->healed));
    (void)json_object_set_new(root, "reconciliations", json_integer((json_int_t)m->reconciliations));
    return root;
}

static void format_op(const struct model *m, const struct op *op, char *buf, size_t size)
{
    static const char *const verbs[] = {
        [OP_ADD] = "add",           [OP_REMOVE] = "remove",
        [OP_FORGET] = "end flows",  [OP_SAVE_SYSCTL] = "remember",
        [OP_UNSAVE_SYSCTL] = "forget", [OP_WRITE_SYSCTL] = "write",
    };
    char addr[ADDR_STR_MAX], via[ADDR_STR_MAX], object[OBJECT_STR_MAX], path[SYSCTL_PATH_MAX];
    const struct model_link *link;

    switch (op->kind) {
    case OP_ADD:
    case OP_REMOVE:
        link = model_link_by_index(m, op->object.uplink_index);
        if (op->object.kind == OBJECT_PROXY && link != NULL)
            (void)snprintf(object, sizeof(object), "proxy on %s", link->name);
        else if (op->object.kind == OBJECT_ROUTE && link != NULL)
            (void)snprintf(object, sizeof(object), "route by %s on %s",
                           addr_format(&op->object.src_lo, via), link->name);
        else
            (void)object_format(&op->object, object);
        (void)snprintf(buf, size, "%s %s: %s", verbs[op->kind], addr_format(&op->addr, addr), object);
        break;
    case OP_FORGET:
        (void)snprintf(buf, size, "%s of %s that are not permitted any more", verbs[op->kind],
                       addr_format(&op->addr, addr));
        break;
    case OP_SAVE_SYSCTL:
    case OP_UNSAVE_SYSCTL:
    case OP_WRITE_SYSCTL:
        (void)snprintf(buf, size, "%s %s = %u", verbs[op->kind],
                       sysctl_path(op->sysctl.id, op->sysctl.scope, path), op->sysctl.value);
        break;
    }
}

void status_json_ops(json_t *array, const struct model *m, const struct plan *p)
{
    char buf[384];

    for (size_t i = 0; i < p->n_ops; i++) {
        format_op(m, &p->ops[i], buf, sizeof(buf));
        (void)json_array_append_new(array, text(buf));
    }
}
