/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/change.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/when.h"

struct planner {
    const struct tree *t;
    const struct qube *q;
    const struct options *o;
    int64_t now;
    struct change *change;
    char *why;
};

void change_done(struct change *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->steps[i].value);
    *c = (struct change){0};
}

static struct step *add(struct planner *p, enum step_kind kind, enum feature_id feature)
{
    struct step *step = &p->change->steps[p->change->n++];

    *step = (struct step){.kind = kind, .feature = feature};
    return step;
}

static int set(struct planner *p, enum feature_id id, const char *value)
{
    const char *own = p->q->feature[id];
    char *copy;

    if (own != NULL && strcmp(own, value) == 0)
        return 0;
    copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    add(p, STEP_SET, id)->value = copy;
    return 0;
}

/* What the qube would have without an own value. */
static const char *inherited(const struct planner *p, enum feature_id id)
{
    const struct qube *template = tree_find(p->t, str_from(p->q->template));

    return template != NULL ? tree_feature(p->t, template, id) : NULL;
}

/* No value counts any more: the own one is removed, a template's is overruled by neutral. */
static int clear(struct planner *p, enum feature_id id, const char *neutral)
{
    const char *above = inherited(p, id);

    if (above != NULL && strcmp(above, neutral) != 0 && above[0] != '\0')
        return set(p, id, neutral);
    if (p->q->feature[id] != NULL)
        (void)add(p, STEP_REMOVE, id);
    return 0;
}

static const char *effective(const struct planner *p, enum feature_id id)
{
    const char *value = tree_feature(p->t, p->q, id);

    return value != NULL ? value : "";
}

static int clear_method(struct planner *p)
{
    return clear(p, FEATURE_METHOD, "masquerade");
}

static int plan_off(struct planner *p)
{
    static const enum feature_id rest[] = {FEATURE_ALLOW, FEATURE_EXPIRES, FEATURE_LIMIT,
                                           FEATURE_LOG, FEATURE_KEEP};
    int r = clear_method(p);

    if (r == 0)
        r = clear(p, FEATURE_PUBLISH, "");
    for (size_t i = 0; i < ARRAY_SIZE(rest) && r == 0; i++) {
        /* without the method nothing of a template's counts: no need to overrule it */
        if (p->q->feature[rest[i]] != NULL)
            (void)add(p, STEP_REMOVE, rest[i]);
    }
    return r;
}

/* ---- the parts of a change ---- */

/* When the present exposure ends: INT64_MAX never, 0 it is closed already (or not understood). */
static int64_t present_end(const struct planner *p)
{
    const char *text = effective(p, FEATURE_EXPIRES);
    int64_t end;

    if (text[0] == '\0')
        return INT64_MAX;
    return record_parse_time(str_from(text), &end) == 0 ? end : 0;
}

static int64_t wanted_end(const struct planner *p)
{
    return p->o->expires != 0 ? p->o->expires : INT64_MAX;
}

static int plan_expires(struct planner *p, bool earlier)
{
    char text[WHEN_STR_MAX];

    if (!p->o->has_expires || (wanted_end(p) <= present_end(p)) != earlier)
        return 0;
    if (p->o->expires == 0)
        return clear(p, FEATURE_EXPIRES, "");
    return set(p, FEATURE_EXPIRES, when_format_utc(p->o->expires, text));
}

static uint32_t present_limit(const struct planner *p)
{
    const char *text = effective(p, FEATURE_LIMIT);
    uint32_t limit;

    if (text[0] == '\0')
        return UINT32_MAX;
    return str_to_u32(str_from(text), UINT32_MAX, &limit) == 0 ? limit : 0;
}

static int plan_limit(struct planner *p, bool tighter)
{
    uint32_t wanted = p->o->limit != 0 ? p->o->limit : UINT32_MAX;
    char text[16];

    if (!p->o->has_limit || (wanted <= present_limit(p)) != tighter)
        return 0;
    if (p->o->limit == 0)
        return clear(p, FEATURE_LIMIT, "");
    (void)snprintf(text, sizeof(text), "%" PRIu32, p->o->limit);
    return set(p, FEATURE_LIMIT, text);
}

static int plan_flag(struct planner *p, enum feature_id id, enum toggle to)
{
    switch (to) {
    case TOGGLE_LEAVE:
        return 0;
    case TOGGLE_ON:
        return set(p, id, "1");
    case TOGGLE_OFF:
        return clear(p, id, "");
    }
    return 0;
}

static void plan_address(struct planner *p)
{
    for (unsigned f = 0; f < 2; f++) {
        if (p->o->ip[f].family != 0 && !addr_equal(&p->o->ip[f], &p->q->ip[f]))
            add(p, STEP_ADDRESS, FEATURES)->addr = p->o->ip[f];
    }
}

static int plan_rules(struct planner *p)
{
    int r = 0;

    if (p->o->allow != NULL)
        r = set(p, FEATURE_ALLOW, p->o->allow);
    if (r == 0 && p->o->publish != NULL)
        r = set(p, FEATURE_PUBLISH, p->o->publish);
    if (r == 0 && p->o->no_publish)
        r = clear(p, FEATURE_PUBLISH, "");
    /* after --allow none the rules would come alive again with the method */
    if (r == 0 && p->o->no_allow && p->q->feature[FEATURE_ALLOW] != NULL)
        (void)add(p, STEP_REMOVE, FEATURE_ALLOW);
    return r;
}

static int plan_all(struct planner *p)
{
    int r = p->o->no_allow ? clear_method(p) : 0;

    if (r == 0)
        r = plan_expires(p, true);
    if (r == 0)
        r = plan_limit(p, true);
    if (r == 0)
        r = plan_flag(p, FEATURE_LOG, p->o->log);
    if (r == 0)
        r = plan_flag(p, FEATURE_KEEP, p->o->keep);
    plan_address(p);
    if (r == 0)
        r = plan_rules(p);
    if (r == 0)
        r = plan_limit(p, false);
    if (r == 0)
        r = plan_expires(p, false);
    if (r == 0 && p->o->allow != NULL)
        r = set(p, FEATURE_METHOD, "forward");
    return r;
}

/* ---- what closes everything now ---- */

static bool is_sound(enum feature_id id, struct str text)
{
    _cleanup_(allow_done) struct allow allow = {0};
    _cleanup_(publish_done) struct publish publish = {0};
    char why[ALLOW_WHY_MAX];
    uint32_t limit;
    int64_t time;

    switch (id) {
    case FEATURE_METHOD:
        return text.len == 0 || str_is(text, "forward") || str_is(text, "masquerade");
    case FEATURE_ALLOW:
        return allow_parse(text, &allow, why) == 0;
    case FEATURE_PUBLISH:
        return publish_parse(text, &publish, why) == 0;
    case FEATURE_EXPIRES:
        return text.len == 0 || record_parse_time(text, &time) == 0;
    case FEATURE_LIMIT:
        return text.len == 0 ||
               (str_to_u32(text, EXPOSURE_LIMIT_MAX, &limit) == 0 && limit > 0);
    case FEATURE_LOG:
    case FEATURE_KEEP:
        return text.len == 0 || str_is(text, "0") || str_is(text, "1");
    case FEATURE_CAPABLE:
    case FEATURE_VPN:
    case FEATURE_DEFERRED:
    case FEATURES:
        return true;
    }
    return true;
}

/*
 * A feature that does not parse closes the whole exposure, also the parts that are about to change.
 * So it is put right last of all.
 */
static void put_right_last(struct planner *p)
{
    struct change sorted = {0};

    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < p->change->n; i++) {
            const struct step *step = &p->change->steps[i];
            bool sound = step->kind == STEP_ADDRESS ||
                         is_sound(step->feature, str_from(effective(p, step->feature)));

            if (sound == (pass == 0))
                sorted.steps[sorted.n++] = *step;
        }
    }
    *p->change = sorted;
}

/* ---- does it make sense ---- */

static bool is_exposing(const struct planner *p)
{
    const char *method = effective(p, FEATURE_METHOD);

    return (method[0] != '\0' && strcmp(method, "masquerade") != 0) ||
           str_trim(str_from(effective(p, FEATURE_PUBLISH))).len > 0;
}

static int check_opens(struct planner *p)
{
    const struct options *o = p->o;
    const char *name = p->q->name;
    bool only_ip = (o->ip[0].family != 0 || o->ip[1].family != 0) && !o->has_expires &&
                   !o->has_limit && o->log == TOGGLE_LEAVE && o->keep == TOGGLE_LEAVE;

    if (is_exposing(p) || o->allow != NULL || o->publish != NULL || only_ip || o->no_allow ||
        o->no_publish)
        return 0;
    (void)snprintf(p->why, OPTIONS_WHY_MAX,
                   "nothing of %s is exposed, and nothing says what to open. For example:\n"
                   "  qvm-expose %s --allow tcp/443                      one port, for everybody\n"
                   "  qvm-expose %s --allow 'tcp/22 from 192.168.1.0/24' for one network\n"
                   "  qvm-expose %s --allow any                          every port\n"
                   "  qvm-expose %s --publish tcp/8443:443               a port of the net qube",
                   name, name, name, name, name);
    return -EINVAL;
}

static int check_time(struct planner *p)
{
    char text[64];
    int64_t end = present_end(p);

    if (p->o->has_expires || end > p->now || (p->o->allow == NULL && p->o->publish == NULL))
        return 0;
    (void)snprintf(p->why, OPTIONS_WHY_MAX,
                   "%s has an end (%s = %s) that has passed, so nothing would open: say --for, "
                   "--until or --until never",
                   p->q->name, feature_name(FEATURE_EXPIRES),
                   str_escape(str_from(effective(p, FEATURE_EXPIRES)), text, sizeof(text)));
    return -EINVAL;
}

int change_plan(const struct tree *t, const struct qube *q, const struct options *o, int64_t now,
                struct change *ret, char why[static OPTIONS_WHY_MAX])
{
    _cleanup_(change_done) struct change change = {0};
    struct planner p = {.t = t, .q = q, .o = o, .now = now, .change = &change, .why = why};
    int r;

    why[0] = '\0';
    r = o->off ? 0 : check_opens(&p);
    if (r == 0 && !o->off)
        r = check_time(&p);
    if (r == 0)
        r = o->off ? plan_off(&p) : plan_all(&p);
    if (r < 0)
        return r;
    if (!o->off)
        put_right_last(&p);
    *ret = change;
    change = (struct change){0};
    return 0;
}

int change_apply(struct qube *q, const struct step *step)
{
    struct str value = str_from(step->value != NULL ? step->value : "");

    switch (step->kind) {
    case STEP_SET:
        return qube_set_feature(q, step->feature, &value);
    case STEP_REMOVE:
        return qube_set_feature(q, step->feature, NULL);
    case STEP_ADDRESS:
        q->ip[step->addr.family == AF_INET6] = step->addr;
        return 0;
    }
    return 0;
}

const char *change_format(const struct step *step, char *buf, size_t size)
{
    char text[3200];

    switch (step->kind) {
    case STEP_SET:
        (void)snprintf(buf, size, "set feature %s to \"%s\"", feature_name(step->feature),
                       str_escape(str_from(step->value), text, sizeof(text)));
        break;
    case STEP_REMOVE:
        (void)snprintf(buf, size, "remove feature %s", feature_name(step->feature));
        break;
    case STEP_ADDRESS:
        (void)snprintf(buf, size, "set property %s to %s",
                       step->addr.family == AF_INET6 ? "ip6" : "ip", addr_format(&step->addr, text));
        break;
    }
    return buf;
}
