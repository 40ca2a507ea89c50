/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dom0/serverd/report.h"
#include "dom0/serverd/status.h"
#include "dom0/tree/reader.h"

static json_t *text(const char *s)
{
    char safe[2048];

    return json_string(str_escape(str_from(s), safe, sizeof(safe)));
}

static bool is_in_place(const struct hop *h, const struct wish *w)
{
    char policy[2 * WISH_PATH_MAX];

    if (!h || h->state != HOP_READY)
        return false;
    if (w->kind != WISH_FIREWALL)
        return present_is(&h->present, w->path, str_from(w->value));
    (void)snprintf(policy, sizeof(policy), "%s" PRESENT_POLICY, w->path);
    return present_is(&h->present, policy, STR_LITERAL("accept"));
}

static const char *kind_name(enum wish_kind kind)
{
    switch (kind) {
    case WISH_MARKER:
        return "marker";
    case WISH_RECORD:
        return "record";
    case WISH_FIREWALL:
        return "firewall";
    case WISH_INBOUND:
        return "inbound";
    }
    return "unknown";
}

static json_t *wishes_json(const struct manager *m, size_t *ret_missing)
{
    json_t *all = json_array();

    for (size_t i = 0; i < m->wished.n_hops; i++) {
        const struct wished_hop *wh = &m->wished.hops[i];
        const struct hop *h = hops_find(m->hops, wh->name);

        for (size_t k = wh->from; k < wh->from + wh->n; k++) {
            const struct wish *w = &m->wished.all.wishes[k];
            bool there = is_in_place(h, w);
            char addr[ADDR_STR_MAX] = "";

            *ret_missing += !there;
            if (w->addr.family != 0)
                (void)addr_format(&w->addr, addr);
            (void)json_array_append_new(
                all, json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:b}", "where", wh->name, "what",
                               kind_name(w->kind), "qube", m->wished.names[k].whose, "address", addr,
                               "path", w->path, "value", text(w->value ? w->value : ""), "in_place",
                               there));
        }
    }
    return all;
}

static json_t *problems_json(const struct manager *m)
{
    json_t *all = json_array();

    for (size_t i = 0; i < m->wished.n_problems; i++) {
        const struct wished_problem *p = &m->wished.problems[i];

        (void)json_array_append_new(
            all, json_pack("{s:s, s:s, s:s, s:i, s:o}", "qube", p->whose, "hop", p->hop, "kind",
                           problem_name(p->kind), "family",
                           p->family == AF_INET6 ? 6 : p->family == AF_INET ? 4 : 0, "why",
                           text(p->why)));
    }
    return all;
}

static const char *state_name(enum hop_state state)
{
    switch (state) {
    case HOP_DOWN:
        return "unreachable";
    case HOP_READING:
        return "reading";
    case HOP_READY:
        return "ready";
    }
    return "unknown";
}

static json_t *hops_json(const struct manager *m)
{
    json_t *all = json_array();

    for (size_t i = 0; i < hops_count(m->hops); i++) {
        const struct hop *h = hops_at(m->hops, i);

        (void)json_array_append_new(
            all, json_pack("{s:s, s:s, s:s, s:I, s:I, s:b}", "qube", h->name, "state",
                           state_name(h->state), "error", h->error ? strerror(-h->error) : "", "keys",
                           (json_int_t)h->present.n, "unanswered", (json_int_t)h->unanswered,
                           "flooded", h->present.overflow));
    }
    return all;
}

static const char *qubesd_error(const struct manager *m, char buf[static ADMIN_ERROR_MAX])
{
    if (m->qubesd_error == 0)
        return "";
    return m->connected ? reader_strerror(m->qubesd_error, buf)
                        : admin_strerror(m->qubesd_error, NULL, buf);
}

json_t *status_json(const struct manager *m)
{
    char error[ADMIN_ERROR_MAX];
    size_t missing = 0;
    json_t *wishes = wishes_json(m, &missing);

    return json_pack("{s:s, s:{s:b, s:b, s:s}, s:I, s:o, s:I, s:o, s:o, s:I, s:I, s:I, s:I}",
                     "version", SLUICE_VERSION, "qubesd", "connected", m->connected, "read",
                     m->synced, "error", qubesd_error(m, error), "qubes",
                     (json_int_t)tree_count(m->tree), "wishes", wishes, "missing",
                     (json_int_t)missing, "problems", problems_json(m), "qubesdb", hops_json(m),
                     "computed", (json_int_t)m->computed, "written", (json_int_t)m->written,
                     "full_readings", (json_int_t)m->full_readings, "reloads_waiting",
                     (json_int_t)m->n_reloads);
}

json_t *status_json_ops(const struct manager *m)
{
    json_t *all = json_array();

    for (size_t i = 0; i < hops_count(m->hops); i++) {
        const struct hop *h = hops_at(m->hops, i);
        const struct wished_hop *w = wished_find(&m->wished, h->name);
        struct plan plan = {0};

        if (h->state != HOP_READY ||
            plan_make(&h->present, w ? &m->wished.all.wishes[w->from] : NULL, w ? w->n : 0, 0,
                      &plan) < 0)
            continue;
        for (size_t k = 0; k < plan.n; k++) {
            char op[PLAN_TEXT_MAX];

            (void)json_array_append_new(
                all, json_pack("{s:s, s:o}", "where", h->name, "op",
                               text(plan_format(&plan.ops[k], op))));
        }
        plan_done(&plan);
    }
    return all;
}
