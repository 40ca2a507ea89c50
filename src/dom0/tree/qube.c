/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One qube: what qubesd says of it, taken over after a check. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/tree.h"

int qube_set_feature(struct qube *q, enum feature_id id, const struct str *value)
{
    char *copy = NULL;

    if (id >= FEATURES)
        return 0;
    if (value != NULL) {
        copy = strndup(value->len > 0 ? value->p : "", value->len);
        if (copy == NULL)
            return -ENOMEM;
    }
    free(q->feature[id]);
    q->feature[id] = copy;
    return 0;
}

static int set_name(char name[static QUBE_NAME_MAX], struct str value)
{
    if (value.len > 0 && !tree_valid_name(value))
        return -EINVAL;
    memset(name, 0, QUBE_NAME_MAX);
    if (value.len > 0)
        memcpy(name, value.p, value.len);
    return 0;
}

static int set_netvm(struct qube *q, struct str value)
{
    return set_name(q->netvm, value);
}

static int set_template(struct qube *q, struct str value)
{
    return set_name(q->template, value);
}

static int set_klass(struct qube *q, struct str value)
{
    if (value.len == 0 || value.len >= sizeof(q->klass))
        return -EINVAL;
    memset(q->klass, 0, sizeof(q->klass));
    memcpy(q->klass, value.p, value.len);
    return 0;
}

static int set_addr(struct addr *addr, int family, struct str value)
{
    struct addr a = {0};

    if (value.len > 0 && (addr_parse(value, &a) < 0 || a.family != family))
        return -EINVAL;
    *addr = a;
    return 0;
}

static int set_ip(struct qube *q, struct str value)
{
    return set_addr(&q->ip[0], AF_INET, value);
}

static int set_ip6(struct qube *q, struct str value)
{
    return set_addr(&q->ip[1], AF_INET6, value);
}

static int set_provides_network(struct qube *q, struct str value)
{
    if (!str_is(value, "True") && !str_is(value, "False"))
        return -EINVAL;
    q->provides_network = str_is(value, "True");
    return 0;
}

/* -1 is qubesd's word for a domain that does not run, nothing for one without a stub domain. */
static int set_number(uint16_t *xid, struct str value)
{
    uint32_t n = 0;

    if (value.len > 0 && !str_is(value, "-1") && str_to_u32(value, XID_MAX, &n) < 0)
        return -EINVAL;
    *xid = (uint16_t)n;
    return 0;
}

static int set_xid(struct qube *q, struct str value)
{
    return set_number(&q->xid[0], value);
}

static int set_stubdom_xid(struct qube *q, struct str value)
{
    return set_number(&q->xid[1], value);
}

static const struct {
    const char *name;
    int (*set)(struct qube *q, struct str value);
} properties[] = {
    {"netvm", set_netvm},
    {"template", set_template},
    {"klass", set_klass},
    {"ip", set_ip},
    {"ip6", set_ip6},
    {"provides_network", set_provides_network},
    {"xid", set_xid},
    {"stubdom_xid", set_stubdom_xid},
};

int qube_set_property(struct qube *q, struct str name, struct str value)
{
    for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
        int r;

        if (!str_is(name, properties[i].name))
            continue;
        r = properties[i].set(q, value);
        if (r < 0)
            q->complete = false;
        return r;
    }
    return 0;
}

void qube_set_state(struct qube *q, struct str state)
{
    static const struct {
        const char *name;
        enum power power;
    } states[] = {
        {"Running", POWER_RUNNING},
        {"Paused", POWER_PAUSED},
        {"Suspended", POWER_PAUSED}, /* the machine sleeps: everything stays attached */
        {"Halted", POWER_HALTED},
        {"Transient", POWER_STARTING},
        {"Starting", POWER_STARTING}, /* as core-admin PR 819 renames it */
    };

    if (q->announced && q->power == POWER_STARTING && str_is(state, "Halted"))
        return; /* until the domain is created; an event tells when it is not */
    q->announced = false;
    q->power = POWER_OTHER;
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        if (str_is(state, states[i].name))
            q->power = states[i].power;
    }
}

bool qube_is_alive(const struct qube *q)
{
    return q->power == POWER_STARTING || q->power == POWER_RUNNING || q->power == POWER_PAUSED;
}

/*
 * 4.3: the netvm of a paused qube was changed; its vif stays where it is until the qube goes on. One
 * that was killed instead has the feature in its next life too, which begins at the new netvm.
 */
static const char *deferred_netvm(const struct qube *q)
{
    const char *name = q->power == POWER_PAUSED ? q->feature[FEATURE_DEFERRED] : NULL;

    return name == NULL || tree_valid_name(str_from(name)) ? name : "";
}

const char *qube_netvm(const struct qube *q)
{
    const char *deferred = deferred_netvm(q);

    if (!qube_is_alive(q) || !q->live.known)
        return q->netvm;
    return deferred != NULL ? deferred : q->live.netvm;
}

void qube_attach(struct qube *q)
{
    if (q->live.known && deferred_netvm(q) != NULL)
        return;
    q->live.known = true;
    memcpy(q->live.netvm, q->netvm, sizeof(q->live.netvm));
    memcpy(q->live.ip, q->ip, sizeof(q->live.ip));
}

void qube_detach(struct qube *q)
{
    q->live = (struct attachment){0};
}
