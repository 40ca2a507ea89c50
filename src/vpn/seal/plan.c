/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/plan.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/seal/elements.h"

#define CLOSED_METRIC 4294967295u /* behind every other route */
#define OPEN_METRIC   1u
#define SAID_METRIC   1024u       /* "unreachable", so that programs try the other family at once */
#define IP6_METRIC    1024u       /* what the kernel makes of 0 */
#define PRIORITY_STOP 1u
#define PRIORITY_LAST 80u

static int add_op(struct items *ops, const struct seal_op *op)
{
    return items_add(ops, op, sizeof(*op));
}

/* ---- layer R: rules ---- */

/*
 * By priority: a carrier (mark, or the client's user) sees the uplink's table and nothing else;
 * everybody else the qubes' own host routes, the tunnel, nothing. Table main is not asked: anybody
 * may put anything there. "kernel", because systemd-networkd removes rules of other origin.
 */
static size_t wished_rules(uint8_t family, const struct seal_config *config, struct rule ret[5])
{
    const struct rule to_table = {
        .family = family, .action = FR_ACT_TO_TBL, .protocol = RTPROT_KERNEL};
    size_t n = 0;

    ret[n] = to_table;
    ret[n].priority = PRIORITY_LAST;
    ret[n++].action = FR_ACT_BLACKHOLE;
    ret[n] = to_table;
    ret[n].priority = 70;
    ret[n++].table = SEAL_TABLE_TUNNEL;
    ret[n] = to_table;
    ret[n].priority = 60;
    ret[n++].table = SEAL_TABLE_VIFS;
    ret[n] = to_table;
    ret[n].priority = 51;
    ret[n].has_uid = true;
    ret[n].uid = config->uid;
    ret[n++].table = SEAL_TABLE_UPLINK;
    ret[n] = to_table;
    ret[n].priority = 50;
    ret[n].mark = SEAL_MARK;
    ret[n].mask = SEAL_MARK_MASK;
    ret[n++].table = SEAL_TABLE_UPLINK;
    return n;
}

/* The updates proxy: as a carrier, by its user. */
static size_t wished_proxy(uint8_t family, const struct wish *w, struct rule *ret)
{
    if (!w->proxy)
        return 0;
    *ret = (struct rule){.family = family, .action = FR_ACT_TO_TBL, .protocol = RTPROT_KERNEL,
                         .priority = 52, .has_uid = true, .uid = w->proxy_uid,
                         .table = SEAL_TABLE_UPLINK};
    return 1;
}

static bool rule_listed(const struct rule *list, size_t n, const struct rule *rule)
{
    for (size_t i = 0; i < n; i++)
        if (rule_equal(&list[i], rule))
            return true;
    return false;
}

/* Whatever comes before our last rule decides before it; only the kernel's own first rule may. */
static bool in_our_way(const struct rule *rule)
{
    return rule->priority <= PRIORITY_LAST &&
           !(rule->priority == 0 && !rule->other && rule->action == FR_ACT_TO_TBL &&
             rule->table == SEAL_TABLE_LOCAL && rule->mask == 0 && !rule->has_uid);
}

struct rules {
    struct rule list[6];
    size_t n;
};

static struct rules all_rules(const struct wish *w, const struct seal_config *config,
                              uint8_t family)
{
    struct rules wished = {0};

    wished.n = wished_rules(family, config, wished.list);
    wished.n += wished_proxy(family, w, &wished.list[wished.n]);
    return wished;
}

static int plan_rules_add(const struct seal_model *m, const struct rules *wished, bool closing,
                          struct items *ops)
{
    const struct rule *have = ITEMS(&m->rules, struct rule);
    int r = 0;

    for (size_t i = 0; i < wished->n && r == 0; i++) {
        const struct rule *rule = &wished->list[i];

        if ((rule->action == FR_ACT_BLACKHOLE) == closing && !rule_listed(have, m->rules.n, rule))
            r = add_op(ops, &(struct seal_op){OP_RULE_ADD, LAYER_ROUTES, .rule = *rule});
    }
    return r;
}

/* A rule that says more than we know equals none; but a deletion takes the first that looks so. */
static bool looks_same(const struct rule *a, const struct rule *b)
{
    struct rule x = *a, y = *b;

    x.other = y.other = false;
    return a->other == b->other && rule_equal(&x, &y);
}

/* How often it stands in the list; 0 when one like it stands before. */
static size_t copies_from(const struct rule *list, size_t n, size_t at)
{
    size_t copies = 0;

    for (size_t i = 0; i < n; i++)
        if (looks_same(&list[i], &list[at])) {
            if (i < at)
                return 0;
            copies++;
        }
    return copies;
}

/*
 * Of the priorities from first to last. From the last rule to the first: behind each that goes only
 * our own are left. The kernel deletes the first of equal ones, so these count where they stand
 * first: their copies further down decide nothing.
 */
static int plan_rules_del(const struct seal_model *m, const struct rules *wished, uint8_t family,
                          uint32_t first, uint32_t last, struct items *ops)
{
    const struct rule *have = ITEMS(&m->rules, struct rule);
    int r = 0;

    for (size_t i = m->rules.n; i-- > 0 && r == 0;) {
        size_t kept = rule_listed(wished->list, wished->n, &have[i]);

        if (have[i].family != family || !in_our_way(&have[i]) || have[i].priority < first ||
            have[i].priority > last)
            continue;
        for (size_t n = copies_from(have, m->rules.n, i); n > kept && r == 0; n--)
            r = add_op(ops, &(struct seal_op){OP_RULE_DEL, LAYER_ROUTES, .rule = have[i]});
    }
    return r;
}

/* ---- layer R: routes ---- */

static struct path path_to(uint8_t family, uint32_t table, uint8_t type, uint32_t metric)
{
    return (struct path){.family = family, .type = type, .protocol = RTPROT_KERNEL, .table = table,
                         .metric = metric, .dst = {.addr = {.family = family}}};
}

static int copy_path(const struct path *from, uint32_t table, struct items *ret)
{
    struct path path = *from;

    path.table = table;
    path.protocol = RTPROT_KERNEL;
    path.onlink = path.gateway.family != 0;
    if (path.family == AF_INET)
        path.scope = path.onlink ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    return items_add(ret, &path, sizeof(path));
}

/*
 * Service disable-default-route: the platform gives no default route, but still the link route to
 * its gateway, a single host, on the interface it put in group 1. Only this one is taken.
 */
static int copy_gateway(const struct seal_model *m, uint8_t family, struct items *ret)
{
    const struct path *gateway = NULL;
    struct path path;

    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];
        const struct rt_link *link;

        if (p->family != family || !model_goes_by(m, p, LINK_UPLINK) || p->gateway.family != 0 ||
            p->dst.len != addr_bits(family))
            continue;
        link = model_link(m, p->oif);
        if (link->group != 1)
            continue;
        if (gateway != NULL)
            return 0; /* two: which one it is nobody says */
        gateway = p;
    }
    if (gateway == NULL)
        return 0;
    path = path_to(family, SEAL_TABLE_UPLINK, RTN_UNICAST, family == AF_INET6 ? IP6_METRIC : 0);
    path.gateway = gateway->dst.addr;
    path.oif = gateway->oif;
    return copy_path(&path, SEAL_TABLE_UPLINK, ret);
}

static int wished_copies(const struct seal_model *m, uint8_t family, struct items *ret)
{
    bool has_default = false;
    int r = 0;

    for (size_t i = 0; i < m->paths.n && r == 0; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];

        if (p->family != family)
            continue;
        if (model_leads_to_qube(m, p))
            r = copy_path(p, SEAL_TABLE_VIFS, ret);
        else if (model_goes_by(m, p, LINK_UPLINK)) {
            has_default |= p->dst.len == 0;
            r = copy_path(p, SEAL_TABLE_UPLINK, ret);
        }
    }
    return r < 0 || has_default ? r : copy_gateway(m, family, ret);
}

static int wished_paths(const struct seal_model *m, const struct wish *w, uint8_t family,
                        struct items *ret)
{
    const struct rt_link *tunnel = w->tunnel[0] == '\0' ? NULL : model_tunnel(m);
    struct path closed = path_to(family, SEAL_TABLE_TUNNEL, RTN_BLACKHOLE, CLOSED_METRIC), path;
    bool carried = w->tunnel_addr[family == AF_INET6].family != 0;
    int r = items_add(ret, &closed, sizeof(closed));

    closed.table = SEAL_TABLE_UPLINK;
    if (r == 0)
        r = items_add(ret, &closed, sizeof(closed));
    if (r == 0 && tunnel != NULL && carried && (tunnel->flags & IFF_UP) != 0) {
        path = path_to(family, SEAL_TABLE_TUNNEL, RTN_UNICAST, OPEN_METRIC);
        path.oif = tunnel->index;
        path.scope = family == AF_INET ? RT_SCOPE_LINK : 0;
        r = items_add(ret, &path, sizeof(path));
    }
    if (r == 0 && tunnel != NULL && !carried) {
        path = path_to(family, SEAL_TABLE_TUNNEL, RTN_UNREACHABLE, SAID_METRIC);
        r = items_add(ret, &path, sizeof(path));
    }
    return r < 0 ? r : wished_copies(m, family, ret);
}

static bool path_listed(const struct items *list, const struct path *path)
{
    for (size_t i = 0; i < list->n; i++)
        if (path_equal(&ITEMS(list, struct path)[i], path))
            return true;
    return false;
}

static bool path_is_closed(const struct path *path)
{
    return path->type == RTN_BLACKHOLE;
}

static int plan_paths_add(const struct seal_model *m, const struct items *wished, bool closing,
                          struct items *ops)
{
    int r = 0;

    for (size_t i = 0; i < wished->n && r == 0; i++) {
        const struct path *p = &ITEMS(wished, struct path)[i];

        if (path_is_closed(p) == closing && !path_listed(&m->paths, p))
            r = add_op(ops, &(struct seal_op){OP_PATH_ADD, LAYER_ROUTES, .path = *p});
    }
    return r;
}

/* What a route in a table for everybody leads to; the first kinds go first. */
enum path_kind {
    PATH_FOUL,    /* an uplink */
    PATH_STRANGE, /* several ways, or a device that we know nothing of: it may hide a foul one */
    PATH_FAIR,
};

static enum path_kind path_kind(const struct seal_model *m, const struct path *path)
{
    const struct rt_link *link = path->oif == 0 ? NULL : model_link(m, path->oif);

    if (path->table == SEAL_TABLE_UPLINK || path->type != RTN_UNICAST)
        return PATH_FAIR;
    if (path->other || link == NULL)
        return PATH_STRANGE;
    return link_kind(link) == LINK_UPLINK ? PATH_FOUL : PATH_FAIR;
}

static int plan_paths_del(const struct seal_model *m, const struct items *wished, uint8_t family,
                          enum path_kind kind, struct items *ops)
{
    int r = 0;

    for (size_t i = 0; i < m->paths.n && r == 0; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];

        if (p->family == family && p->table >= SEAL_TABLE_VIFS && p->table <= SEAL_TABLE_UPLINK &&
            path_kind(m, p) == kind && !path_listed(wished, p))
            r = add_op(ops, &(struct seal_op){OP_PATH_DEL, LAYER_ROUTES, .path = *p});
    }
    return r;
}

static bool has_strange_path(const struct seal_model *m, uint8_t family)
{
    for (size_t i = 0; i < m->paths.n; i++) {
        const struct path *p = &ITEMS(&m->paths, struct path)[i];

        if (p->family == family && p->table >= SEAL_TABLE_VIFS && p->table < SEAL_TABLE_UPLINK &&
            path_kind(m, p) == PATH_STRANGE)
            return true;
    }
    return false;
}

/*
 * The order keeps every beginning of the list as closed as what was there: first the end of all
 * ways, then no way by an uplink in the tables for everybody, then the rules that lead to these,
 * then no other rule before them. Only now may routes go that stood in front of others, and only
 * then may anything lead to an uplink.
 * A strange route can hide somebody's rule, and be hidden by another: while there is one, nothing
 * passes at all until the end. What others put before that stop, or beside it, goes at once.
 */
static int plan_family(const struct seal_model *m, const struct wish *w,
                       const struct seal_config *config, uint8_t family, struct items *ops)
{
    const struct rules rules = all_rules(w, config, family);
    const struct rule stop = {.family = family, .action = FR_ACT_BLACKHOLE,
                              .protocol = RTPROT_KERNEL, .priority = PRIORITY_STOP};
    bool stopped = has_strange_path(m, family) &&
                   !rule_listed(ITEMS(&m->rules, struct rule), m->rules.n, &stop);
    _cleanup_(items_free) struct items paths = {0};
    int r = wished_paths(m, w, family, &paths);

    if (r == 0 && stopped)
        r = add_op(ops, &(struct seal_op){OP_RULE_ADD, LAYER_ROUTES, .rule = stop});
    if (r == 0 && stopped)
        r = plan_rules_del(m, &rules, family, 0, PRIORITY_STOP, ops);
    if (r == 0)
        r = plan_rules_add(m, &rules, true, ops);
    if (r == 0)
        r = plan_paths_add(m, &paths, true, ops);
    if (r == 0)
        r = plan_paths_del(m, &paths, family, PATH_FOUL, ops);
    if (r == 0)
        r = plan_paths_del(m, &paths, family, PATH_STRANGE, ops);
    if (r == 0)
        r = plan_rules_add(m, &rules, false, ops);
    if (r == 0)
        r = plan_rules_del(m, &rules, family, stopped ? PRIORITY_STOP + 1 : 0, PRIORITY_LAST, ops);
    if (r == 0)
        r = plan_paths_del(m, &paths, family, PATH_FAIR, ops);
    if (r == 0)
        r = plan_paths_add(m, &paths, false, ops);
    if (r == 0 && stopped)
        r = add_op(ops, &(struct seal_op){OP_RULE_DEL, LAYER_ROUTES, .rule = stop});
    return r;
}

static int plan_routes(const struct seal_model *m, const struct wish *w,
                       const struct seal_config *config, struct items *ops)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(families) && r == 0; i++)
        r = plan_family(m, w, config, families[i], ops);
    return r;
}

/* ---- layers N and G ---- */

static bool element_listed(const struct items *list, const struct seal_element *e)
{
    for (size_t i = 0; i < list->n; i++)
        if (element_equal(&ITEMS(list, struct seal_element)[i], e))
            return true;
    return false;
}

static int plan_elements(const struct seal_model *m, const struct wish *w,
                         const struct seal_config *config, struct items *ops)
{
    _cleanup_(items_free) struct items wished = {0};
    int r = elements_of_wish(w, config->uid, m, &wished);

    for (size_t i = 0; i < m->elements.n && r == 0; i++) {
        const struct seal_element *e = &ITEMS(&m->elements, struct seal_element)[i];
        enum seal_layer layer = elements_layer(e->set);

        if ((config->layers & layer) != 0 && !element_listed(&wished, e))
            r = add_op(ops, &(struct seal_op){OP_ELEMENT_DEL, layer, .element = *e});
    }
    for (size_t i = 0; i < wished.n && r == 0; i++) {
        const struct seal_element *e = &ITEMS(&wished, struct seal_element)[i];
        enum seal_layer layer = elements_layer(e->set);

        if ((config->layers & layer) != 0 && !element_listed(&m->elements, e))
            r = add_op(ops, &(struct seal_op){OP_ELEMENT_ADD, layer, .element = *e});
    }
    return r;
}

static struct nft_device_chain wished_chain(const struct rt_link *link)
{
    struct nft_device_chain chain = {
        .table = SEAL_NFT_TABLE, .hook = NF_NETDEV_EGRESS, .priority = 0, .drops = true};

    (void)snprintf(chain.name, sizeof(chain.name), "uplink-%u", link->index);
    memcpy(chain.device, link->name, sizeof(chain.device));
    return chain;
}

static bool chain_equal(const struct nft_device_chain *a, const struct nft_device_chain *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->device, b->device) == 0 &&
           a->hook == b->hook && a->priority == b->priority && a->drops && b->drops;
}

static int plan_chains(const struct seal_model *m, struct items *ops)
{
    const struct rt_link *links = ITEMS(&m->links, struct rt_link);
    const struct seal_chain *have = ITEMS(&m->chains, struct seal_chain);
    int r = 0;

    for (size_t i = 0; i < m->chains.n && r == 0; i++) {
        bool wanted = false;

        for (size_t j = 0; j < m->links.n && have[i].whole && !wanted; j++) {
            struct nft_device_chain chain = wished_chain(&links[j]);

            wanted = link_kind(&links[j]) == LINK_UPLINK && chain_equal(&chain, &have[i].chain);
        }
        if (!wanted)
            r = add_op(ops, &(struct seal_op){OP_CHAIN_DEL, LAYER_EGRESS, .chain = have[i].chain});
    }
    for (size_t j = 0; j < m->links.n && r == 0; j++) {
        struct nft_device_chain chain = wished_chain(&links[j]);
        bool there = false;

        if (link_kind(&links[j]) != LINK_UPLINK)
            continue;
        for (size_t i = 0; i < m->chains.n; i++)
            there |= have[i].whole && chain_equal(&chain, &have[i].chain);
        if (!there)
            r = add_op(ops, &(struct seal_op){OP_CHAIN_ADD, LAYER_EGRESS, .chain = chain});
    }
    return r;
}

int plan_make(const struct seal_model *m, const struct wish *w, const struct seal_config *config,
              struct items *ret)
{
    int r = 0;

    if ((config->layers & LAYER_ROUTES) != 0)
        r = plan_routes(m, w, config, ret);
    if (r == 0)
        r = plan_elements(m, w, config, ret);
    if (r == 0 && (config->layers & LAYER_EGRESS) != 0)
        r = plan_chains(m, ret);
    return r;
}

/* ---- words ---- */

static const char *rule_text(const struct rule *rule, char *buf, size_t size)
{
    char who[48] = "";

    if (rule->has_uid)
        (void)snprintf(who, sizeof(who), " of user %u", rule->uid);
    else if (rule->mask != 0)
        (void)snprintf(who, sizeof(who), " with mark 0x%x/0x%x", rule->mark, rule->mask);
    if (rule->action == FR_ACT_TO_TBL)
        (void)snprintf(buf, size, "IPv%c rule %u: packets%s to table %u",
                       rule->family == AF_INET ? '4' : '6', rule->priority, who, rule->table);
    else
        (void)snprintf(buf, size, "IPv%c rule %u: packets%s nowhere",
                       rule->family == AF_INET ? '4' : '6', rule->priority, who);
    return buf;
}

static const char *path_text(const struct path *path, const struct seal_model *m, char *buf,
                             size_t size)
{
    const struct rt_link *link = path->oif == 0 ? NULL : model_link(m, path->oif);
    char dst[PREFIX_STR_MAX];

    (void)snprintf(buf, size, "route %s in table %u %s%s",
                   path->dst.len == 0 ? (path->family == AF_INET ? "0.0.0.0/0" : "::/0")
                                      : prefix_format(&path->dst, dst),
                   path->table, path->type == RTN_UNICAST ? "by " : "nowhere",
                   path->type != RTN_UNICAST ? "" : link != NULL ? link->name : "a device gone");
    return buf;
}

static const char *op_subject(const struct seal_op *op, const struct seal_model *m, char *buf,
                              size_t size)
{
    struct nft_set set;

    switch (op->kind) {
    case OP_RULE_ADD:
    case OP_RULE_DEL:
        return rule_text(&op->rule, buf, size);
    case OP_PATH_ADD:
    case OP_PATH_DEL:
        return path_text(&op->path, m, buf, size);
    case OP_ELEMENT_ADD:
    case OP_ELEMENT_DEL:
        set = elements_set(op->element.set);
        (void)snprintf(buf, size, "an element of set %s in table %s", set.name,
                       elements_layer(op->element.set) == LAYER_INET ? "inet" : "netdev");
        return buf;
    case OP_CHAIN_ADD:
    case OP_CHAIN_DEL:
        (void)snprintf(buf, size, "the gate %s on uplink %s", op->chain.name, op->chain.device);
        return buf;
    }
    return "";
}

const char *plan_describe(const struct seal_op *op, const struct seal_model *m,
                          char buf[static SEAL_OP_TEXT])
{
    static const char *const verbs[] = {
        [OP_RULE_ADD] = "missing", [OP_RULE_DEL] = "not ours", [OP_PATH_ADD] = "missing",
        [OP_PATH_DEL] = "not ours", [OP_ELEMENT_ADD] = "missing", [OP_ELEMENT_DEL] = "not ours",
        [OP_CHAIN_ADD] = "missing", [OP_CHAIN_DEL] = "not as it should be",
    };
    char subject[128];

    (void)snprintf(buf, SEAL_OP_TEXT, "%s: %s", verbs[op->kind],
                   op_subject(op, m, subject, sizeof(subject)));
    return buf;
}
