/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/events.h"

#include <string.h>

#include "base/cleanup.h"

struct context {
    struct tree *tree;
    const struct admin_event *event;
    struct str what;  /* name of the event after its colon: a feature, a property */
    struct qube *q;   /* the subject; NULL: not known, or the system */
    struct effects *ret;
};

static void set_name(char name[static QUBE_NAME_MAX], struct str value)
{
    memset(name, 0, QUBE_NAME_MAX);
    if (tree_valid_name(value))
        memcpy(name, value.p, value.len);
}

/* What is attached to it is attached anew, by what the properties say now. */
static void attach_clients(struct context *c)
{
    for (size_t i = 0; i < tree_count(c->tree); i++) {
        struct qube *q = tree_at(c->tree, i);

        if (q != c->q && qube_is_alive(q) && q->live.known && !q->changing &&
            strcmp(q->netvm, c->q->name) == 0)
            qube_attach(q);
    }
}

static void stop(struct context *c)
{
    c->q->power = POWER_HALTED;
    c->q->announced = false;
    c->q->xid[0] = c->q->xid[1] = 0;
    qube_detach(c->q);
    c->q->changing = false;
    c->ret->what |= EFFECT_COMPUTE | EFFECT_LIFE_ENDS;
}

/* ---- life of a qube ---- */

static void on_pre_spawn(struct context *c)
{
    c->q->power = POWER_STARTING;
    c->q->announced = true;
    c->q->xid[0] = c->q->xid[1] = 0;
    c->ret->what |= EFFECT_COMPUTE | EFFECT_LIFE_ENDS | EFFECT_MOVES | EFFECT_READ;
    c->q->changing = false;
    qube_detach(c->q);
    qube_attach(c->q);
    attach_clients(c);
    memcpy(c->ret->netvm, c->q->netvm, QUBE_NAME_MAX);
}

/* Its number is not in the event. */
static void on_spawn(struct context *c)
{
    c->q->announced = false;
    c->ret->what |= EFFECT_READ_NOW;
}

static void on_start(struct context *c)
{
    c->q->announced = false;
    if (c->q->power == POWER_STARTING)
        c->q->power = POWER_RUNNING;
    attach_clients(c);
    c->ret->what |= EFFECT_COMPUTE | EFFECT_READ | EFFECT_LOOK | EFFECT_MOVED;
    memcpy(c->ret->netvm, c->q->netvm, QUBE_NAME_MAX);
}

static void on_stopped(struct context *c)
{
    stop(c);
    c->ret->what |= EFFECT_READ;
}

static void on_paused(struct context *c)
{
    if (c->q->power == POWER_RUNNING)
        c->q->power = POWER_PAUSED;
}

/* A change of network that had to wait happens now (4.3). */
static void on_unpaused(struct context *c)
{
    if (c->q->power == POWER_PAUSED)
        c->q->power = POWER_RUNNING;
    c->ret->what |= EFFECT_COMPUTE | EFFECT_READ_NOW;
}

static void on_qdb_create(struct context *c)
{
    c->ret->what |= EFFECT_READ | EFFECT_LOOK;
}

static void on_read(struct context *c)
{
    c->ret->what |= EFFECT_READ;
}

static void on_net_domain_connect(struct context *c)
{
    struct str vm;

    if (!admin_event_value(c->event, "vm", &vm))
        return;
    set_name(c->ret->qube, vm);
    c->ret->what |= EFFECT_READ;
}

/* ---- properties ---- */

/* "None" is no net qube, or a qube of that name: the reading tells. Until then it has none. */
static void on_set_netvm(struct context *c, struct str value)
{
    struct qube *q = c->q;

    set_name(q->netvm, str_is(value, "None") ? STR_LITERAL("") : value);
    memcpy(c->ret->netvm, q->netvm, QUBE_NAME_MAX);
    c->ret->what |= EFFECT_COMPUTE | EFFECT_READ_NOW | EFFECT_MOVED;
    /*
     * Where it is attached now, and under which address, is taken from the reading: the vif of a
     * paused qube may have to wait (4.3), and an address that was reset came without its value.
     */
    q->changing = qube_is_alive(q);
}

static void on_set_property(struct context *c)
{
    struct str value;

    if (!admin_event_value(c->event, "newvalue", &value)) {
        c->ret->what |= EFFECT_READ_NOW;
        return;
    }
    if (str_is(c->what, "netvm")) {
        on_set_netvm(c, value);
        return;
    }
    if (str_is(value, "None"))
        value = STR_LITERAL("");
    if (str_is(c->what, "ip") || str_is(c->what, "ip6") || str_is(c->what, "template") ||
        str_is(c->what, "provides_network")) {
        (void)qube_set_property(c->q, c->what, value); /* nonsense: incomplete, until it is read */
        c->ret->what |= EFFECT_COMPUTE | EFFECT_READ;
    }
}

static void on_reset_property(struct context *c)
{
    static const char *const ours[] = {"netvm", "ip", "ip6", "template", "provides_network"};

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        if (str_is(c->what, ours[i]))
            c->ret->what |= EFFECT_READ_NOW;
    if (str_is(c->what, "netvm"))
        c->ret->what |= EFFECT_MOVED;
}

/* Before the vif is moved: from now on nothing of the qube is anywhere. */
static void on_pre_netvm(struct context *c)
{
    struct str value;

    if (!str_is(c->what, "netvm") || !qube_is_alive(c->q))
        return;
    c->q->changing = true;
    if (admin_event_value(c->event, "newvalue", &value))
        set_name(c->ret->netvm, value);
    c->ret->what |= EFFECT_COMPUTE | EFFECT_MOVES | EFFECT_CHANGE_BEGINS;
}

/* ---- features ---- */

static void on_feature(struct context *c, const struct str *value)
{
    enum feature_id id = feature_by_name(c->what);

    if (str_is(c->what, "ipv6")) { /* addresses of everything behind it change, and nobody says so */
        c->ret->what |= EFFECT_READ_ALL;
        return;
    }
    if (id == FEATURES)
        return;
    if (qube_set_feature(c->q, id, value) < 0)
        c->q->complete = false;
    c->ret->what |= EFFECT_COMPUTE;
    if (id != FEATURE_DEFERRED)
        return;
    /* Its vif is moved now; where to, the reading tells. */
    c->q->changing = c->q->changing || (!value && qube_is_alive(c->q));
    c->ret->what |= EFFECT_READ_NOW;
}

static void on_feature_set(struct context *c)
{
    struct str value;

    if (admin_event_value(c->event, "value", &value))
        on_feature(c, &value);
    else
        c->ret->what |= EFFECT_READ_NOW;
}

static void on_feature_delete(struct context *c)
{
    on_feature(c, NULL);
}

/* ---- the system ---- */

static void on_set_default(struct context *c)
{
    if (str_is(c->what, "default_netvm"))
        c->ret->what |= EFFECT_READ_ALL;
}

/* These carry the name of the qube. */
static struct qube *named(struct context *c)
{
    struct str vm;

    if (!admin_event_value(c->event, "vm", &vm) || !tree_valid_name(vm))
        return NULL;
    set_name(c->ret->qube, vm);
    return tree_find(c->tree, vm);
}

static void on_add(struct context *c)
{
    (void)named(c);
    if (c->ret->qube[0] != '\0')
        c->ret->what |= EFFECT_READ_NOW;
}

static void on_pre_delete(struct context *c)
{
    c->q = named(c);
    if (c->q)
        stop(c);
    if (c->ret->qube[0] != '\0')
        c->ret->what |= EFFECT_READ;
}

static void on_delete(struct context *c)
{
    c->q = named(c);
    if (!c->q)
        return;
    stop(c);
    tree_remove(c->tree, c->q);
}

/* ---- the table ---- */

struct row {
    const char *name; /* with a colon at its end: the beginning of it */
    void (*fn)(struct context *c);
};

static const struct row of_qubes[] = {
    {"domain-pre-spawn", on_pre_spawn},
    {"domain-spawn", on_spawn},
    {"domain-start", on_start},
    {"domain-start-failed", on_stopped},
    {"domain-stopped", on_stopped},
    {"domain-shutdown", on_stopped},
    {"domain-shutdown-failed", on_read},
    {"domain-paused", on_paused},
    {"domain-unpaused", on_unpaused},
    {"domain-qdb-create", on_qdb_create},
    {"domain-init", on_read},
    {"domain-load", on_read},
    {"net-domain-connect", on_net_domain_connect},
    /* Not pre-reset and pre-del: they come first of a reset, also of one that moves nothing. One that
     * does fires pre-set at once (qubes-core-admin, qubes/vm/mix/net.py). */
    {"property-pre-set:", on_pre_netvm},
    {"property-set:", on_set_property},
    {"property-reset:", on_reset_property},
    {"property-del:", on_reset_property},
    {"domain-feature-set:", on_feature_set},
    {"domain-feature-delete:", on_feature_delete},
};

static const struct row of_system[] = {
    {"domain-add", on_add},
    {"domain-pre-delete", on_pre_delete},
    {"domain-delete", on_delete},
    {"property-set:", on_set_default},
    {"property-reset:", on_set_default},
    {"property-del:", on_set_default},
};

static bool matches(struct str event, const char *name, struct str *ret_rest)
{
    size_t len = strlen(name);

    if (name[len - 1] != ':')
        return str_is(event, name);
    if (event.len <= len || memcmp(event.p, name, len) != 0)
        return false;
    *ret_rest = (struct str){event.p + len, event.len - len};
    return true;
}

void events_apply(struct tree *t, const struct admin_event *e, struct effects *ret)
{
    struct context c = {.tree = t, .event = e, .ret = ret};
    bool system = e->subject.len == 0;
    const struct row *rows = system ? of_system : of_qubes;
    size_t n = system ? ARRAY_SIZE(of_system) : ARRAY_SIZE(of_qubes);

    *ret = (struct effects){0};
    if (!system) {
        c.q = tree_find(t, e->subject);
        set_name(ret->qube, e->subject);
        if (ret->qube[0] == '\0')
            return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!matches(e->name, rows[i].name, &c.what))
            continue;
        if (!system && !c.q)
            ret->what = EFFECT_READ; /* new, or it was not told of */
        else
            rows[i].fn(&c);
        return;
    }
}
