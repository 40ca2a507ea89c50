/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the features of a qube ask for. Anything that is not understood closes the whole exposure. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/wish.h"

#define METHOD_FORWARD "forward"
#define METHOD_NONE    "masquerade"

/* No feature, or an empty one, is "". */
static struct str feature_text(const struct tree *t, const struct qube *q, enum feature_id id)
{
    const char *text = tree_feature(t, q, id);

    return str_from(text != NULL ? text : "");
}

static bool is_template(const struct qube *q)
{
    return strcmp(q->klass, "TemplateVM") == 0 || strcmp(q->klass, "AdminVM") == 0;
}

bool wish_is_asked(const struct tree *t, const struct qube *q)
{
    struct str method = feature_text(t, q, FEATURE_METHOD);

    if (is_template(q))
        return false;
    return (method.len > 0 && !str_is(method, METHOD_NONE)) ||
           str_trim(feature_text(t, q, FEATURE_PUBLISH)).len > 0;
}

__attribute__((format(printf, 4, 5))) static int refuse(char *why, const struct qube *q,
                                                        enum feature_id id, const char *format, ...)
{
    char phrase[ALLOW_WHY_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(phrase, sizeof(phrase), format, args);
    va_end(args);
    (void)snprintf(why, WISH_WHY_MAX,
                   "feature %s of %s: %s. Nothing of %s is exposed until it is put right: "
                   "qvm-expose %s", feature_name(id), q->name, phrase, q->name, q->name);
    return -EINVAL;
}

static int parse_method(struct str text, bool *ret_forward)
{
    if (text.len > 0 && !str_is(text, METHOD_FORWARD) && !str_is(text, METHOD_NONE))
        return -EINVAL;
    *ret_forward = str_is(text, METHOD_FORWARD);
    return 0;
}

static int parse_flag(struct str text, bool *ret)
{
    if (text.len > 0 && !str_is(text, "0") && !str_is(text, "1"))
        return -EINVAL;
    *ret = str_is(text, "1");
    return 0;
}

static int parse_limit(struct str text, unsigned *ret)
{
    uint32_t limit = 0;

    if (text.len > 0 && (str_to_u32(text, EXPOSURE_LIMIT_MAX, &limit) < 0 || limit == 0))
        return -EINVAL;
    *ret = limit;
    return 0;
}

static int parse_lists(const struct tree *t, const struct qube *q, struct exposure *e, char *why)
{
    struct str publish = feature_text(t, q, FEATURE_PUBLISH);
    const char *allow = tree_feature(t, q, FEATURE_ALLOW);
    char phrase[ALLOW_WHY_MAX];
    int r = 0;

    e->has_allow = allow != NULL;
    if (allow != NULL)
        r = allow_parse(str_from(allow), &e->allow, phrase);
    if (r == -EINVAL || r == -E2BIG)
        return refuse(why, q, FEATURE_ALLOW, "%s", phrase);
    if (r == 0)
        r = publish_parse(publish, &e->publish, phrase);
    if (r == -EINVAL || r == -E2BIG)
        return refuse(why, q, FEATURE_PUBLISH, "%s", phrase);
    return r;
}

/* Values come from qubesd, which takes printable ASCII alone; a record with more would be refused. */
static int check_printable(const struct tree *t, const struct qube *q, char *why)
{
    static const enum feature_id ids[] = {FEATURE_ALLOW, FEATURE_PUBLISH, FEATURE_EXPIRES};

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        struct str text = feature_text(t, q, ids[i]);

        for (size_t k = 0; k < text.len; k++) {
            if (text.p[k] < 0x20 || text.p[k] > 0x7e)
                return refuse(why, q, ids[i], "a character that is not printable ASCII");
        }
    }
    return 0;
}

static int parse_words(const struct tree *t, const struct qube *q, struct exposure *e, char *why)
{
    struct str method = feature_text(t, q, FEATURE_METHOD);
    struct str expires = feature_text(t, q, FEATURE_EXPIRES);
    struct str limit = feature_text(t, q, FEATURE_LIMIT);
    char shown[48];

    if (parse_method(method, &e->forward) < 0)
        return refuse(why, q, FEATURE_METHOD, "\"%s\" is neither " METHOD_FORWARD " nor " METHOD_NONE,
                      str_escape(method, shown, sizeof(shown)));
    if (expires.len > 0 && record_parse_time(expires, &e->expires) < 0)
        return refuse(why, q, FEATURE_EXPIRES, "\"%s\" is no UTC time like 2026-12-31T18:00:00Z",
                      str_escape(expires, shown, sizeof(shown)));
    if (parse_limit(limit, &e->limit) < 0)
        return refuse(why, q, FEATURE_LIMIT, "\"%s\" is no number from 1 to %d",
                      str_escape(limit, shown, sizeof(shown)), EXPOSURE_LIMIT_MAX);
    if (parse_flag(feature_text(t, q, FEATURE_LOG), &e->log) < 0)
        return refuse(why, q, FEATURE_LOG, "it is neither 0 nor 1");
    if (parse_flag(feature_text(t, q, FEATURE_KEEP), &e->keep) < 0)
        return refuse(why, q, FEATURE_KEEP, "it is neither 0 nor 1");
    return 0;
}

int exposure_of(const struct tree *t, const struct qube *q, struct exposure *ret,
                char why[static WISH_WHY_MAX])
{
    _cleanup_(exposure_done) struct exposure e = {0};
    int r = check_printable(t, q, why);

    if (r == 0)
        r = parse_words(t, q, &e, why);
    if (r == 0)
        r = parse_lists(t, q, &e, why);
    if (r < 0)
        return r;
    *ret = e;
    e = (struct exposure){0};
    return 0;
}

void exposure_done(struct exposure *e)
{
    allow_done(&e->allow);
    publish_done(&e->publish);
    *e = (struct exposure){0};
}
