/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is written, and in which order: at no step is anything open that was not open before and
 * will not be afterwards. Templates' values are overruled.
 */
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
#include "dom0/expose/change.h"

#define NOW INT64_C(1798718400) /* 2026-12-31T12:00:00Z */

struct world {
    struct tree *t;
    struct qube *template, *q;
};

static struct qube *add_qube(struct tree *t, const char *name, const char *klass)
{
    int error = 0;
    struct qube *q = tree_get(t, str_from(name), &error);

    assert_non_null(q);
    (void)snprintf(q->klass, sizeof(q->klass), "%s", klass);
    q->complete = true;
    return q;
}

static struct world make_world(void)
{
    struct world w = {.t = tree_new()};

    w.template = add_qube(w.t, "fedora", "TemplateVM");
    w.q = add_qube(w.t, "web", "AppVM");
    (void)snprintf(w.q->template, sizeof(w.q->template), "fedora");
    return w;
}

static void feature(struct qube *q, enum feature_id id, const char *value)
{
    struct str text = str_from(value != NULL ? value : "");

    assert_int_equal(qube_set_feature(q, id, value != NULL ? &text : NULL), 0);
}

/* How many ports, published and not, of a few are open to a few, and how fast: bits. */
static uint64_t opened(const struct world *w)
{
    static const uint16_t ports[] = {22, 80, 443, 8443};
    _cleanup_(exposure_done) struct exposure e = {0};
    struct addr from[2] = {{AF_INET, {192, 168, 1, 1}}, {AF_INET, {10, 0, 0, 1}}};
    char why[WISH_WHY_MAX];
    uint64_t bits = 0;

    if (exposure_of(w->t, w->q, &e, why) < 0 || (e.expires != 0 && e.expires <= NOW))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(from); k++) {
            bool own = e.forward && (!e.has_allow || allow_accepts(&e.allow, AF_INET, IPPROTO_TCP,
                                                                   ports[i], &from[k]));
            bool published = publish_leads(&e.publish, IPPROTO_TCP, ports[i], 80, &from[k]);

            bits |= (uint64_t)own << (2 * i + k) | (uint64_t)published << (8 + 2 * i + k);
        }
    }
    /* lasting longer, or without a limit, is also more */
    if (bits != 0 && e.expires == 0)
        bits |= 1u << 16;
    if (bits != 0 && e.limit == 0)
        bits |= 1u << 17;
    return bits;
}

static void check_steps(struct world *w, const struct options *o, uint64_t wanted)
{
    _cleanup_(change_done) struct change c = {0};
    char why[OPTIONS_WHY_MAX];
    uint64_t before = opened(w);

    assert_int_equal(change_plan(w->t, w->q, o, NOW, &c, why), 0);
    for (size_t i = 0; i < c.n; i++) {
        assert_int_equal(change_apply(w->q, &c.steps[i]), 0);
        if ((opened(w) & ~(before | wanted)) != 0)
            fail_msg("step %zu opens %llx too much", i,
                     (unsigned long long)(opened(w) & ~(before | wanted)));
    }
    assert_int_equal(opened(w), wanted);
}

/* Every state before, from every value of each feature, to every wish: some 60,000 changes. */
static void test_never_more(void **state)
{
    static const char *const methods[] = {NULL, "forward", "nonsense"};
    static const char *const allows[] = {NULL, "", "tcp/22", "any", "tcp/22 from 10.0.0.0/8", "x"};
    static const char *const publishes[] = {NULL, "tcp/443:80", "tcp/8443:80", "x"};
    static const char *const expires[] = {NULL, "2026-12-31T11:00:00Z", "2026-12-31T13:00:00Z", "x"};
    static const char *const limits[] = {NULL, "10", "x"};
    static char allow[] = "tcp/80", publish[] = "tcp/80:80";
    size_t done = 0;

    (void)state;
    for (size_t n = 0; n < 3 * 6 * 4 * 4 * 3; n++) {
        for (unsigned wish = 0; wish < 48; wish++) {
            struct world w = make_world();
            struct options o = {.has_expires = wish % 4 != 0,
                                .expires = wish % 4 == 1   ? NOW + 7200
                                           : wish % 4 == 2 ? NOW + 60
                                                           : 0,
                                .has_limit = wish / 4 % 3 != 0,
                                .limit = wish / 4 % 3 == 1 ? 5 : 0};
            struct world after = make_world();
            _cleanup_(change_done) struct change c = {0};
            char why[OPTIONS_WHY_MAX];

            o.allow = wish / 12 % 2 ? allow : NULL;
            o.publish = wish / 24 ? publish : NULL;
            feature(w.q, FEATURE_METHOD, methods[n % 3]);
            feature(w.q, FEATURE_ALLOW, allows[n / 3 % 6]);
            feature(w.q, FEATURE_PUBLISH, publishes[n / 18 % 4]);
            feature(w.q, FEATURE_EXPIRES, expires[n / 72 % 4]);
            feature(w.q, FEATURE_LIMIT, limits[n / 288]);
            for (unsigned i = 0; i < FEATURES; i++)
                feature(after.q, (enum feature_id)i, w.q->feature[i]);
            if (change_plan(w.t, w.q, &o, NOW, &c, why) == 0) {
                for (size_t i = 0; i < c.n; i++)
                    assert_int_equal(change_apply(after.q, &c.steps[i]), 0);
                check_steps(&w, &o, opened(&after));
                done++;
            }
            (void)tree_free(w.t);
            (void)tree_free(after.t);
        }
    }
    assert_true(done > 20000);
}

static void test_new(void **state)
{
    struct world w = make_world();
    struct options o = {.allow = (char[]){"tcp/22"}, .has_expires = true, .expires = NOW + 3600};
    _cleanup_(change_done) struct change c = {0};
    char why[OPTIONS_WHY_MAX], text[200];

    (void)state;
    assert_int_equal(change_plan(w.t, w.q, &o, NOW, &c, why), 0);
    assert_int_equal(c.n, 3);
    assert_string_equal(change_format(&c.steps[0], text, sizeof(text)),
                        "set feature network-server.expires to \"2026-12-31T13:00:00Z\"");
    assert_string_equal(change_format(&c.steps[1], text, sizeof(text)),
                        "set feature network-server.allow to \"tcp/22\"");
    assert_string_equal(change_format(&c.steps[2], text, sizeof(text)),
                        "set feature routing-method to \"forward\"");
    for (size_t i = 0; i < c.n; i++)
        assert_int_equal(change_apply(w.q, &c.steps[i]), 0);
    change_done(&c);
    assert_int_equal(change_plan(w.t, w.q, &o, NOW, &c, why), 0);
    assert_int_equal(c.n, 0); /* it is so already */
    (void)tree_free(w.t);
}

static void test_off(void **state)
{
    struct world w = make_world();
    struct options off = {.off = true};
    _cleanup_(change_done) struct change c = {0};
    char why[OPTIONS_WHY_MAX];

    (void)state;
    feature(w.q, FEATURE_METHOD, "forward");
    feature(w.q, FEATURE_ALLOW, "tcp/22");
    feature(w.q, FEATURE_PUBLISH, "tcp/443:80");
    feature(w.q, FEATURE_EXPIRES, "2026-12-31T13:00:00Z");
    feature(w.q, FEATURE_KEEP, "1");
    assert_int_equal(change_plan(w.t, w.q, &off, NOW, &c, why), 0);
    assert_int_equal(c.n, 5);
    assert_int_equal(c.steps[0].feature, FEATURE_METHOD);
    assert_int_equal(c.steps[1].feature, FEATURE_PUBLISH);
    for (size_t i = 0; i < c.n; i++)
        assert_int_equal(c.steps[i].kind, STEP_REMOVE);
    check_steps(&w, &off, 0);
    (void)tree_free(w.t);
}

/* A template's values would come alive again if the own ones were only removed. */
static void test_template(void **state)
{
    struct world w = make_world();
    struct options off = {.off = true};
    char why[OPTIONS_WHY_MAX];
    _cleanup_(change_done) struct change c = {0};

    (void)state;
    feature(w.template, FEATURE_METHOD, "forward");
    feature(w.template, FEATURE_PUBLISH, "tcp/443:80");
    feature(w.q, FEATURE_PUBLISH, "tcp/8443:80");
    assert_int_equal(change_plan(w.t, w.q, &off, NOW, &c, why), 0);
    assert_string_equal(c.steps[0].value, "masquerade");
    assert_string_equal(c.steps[1].value, "");
    check_steps(&w, &off, 0);
    (void)tree_free(w.t);
}

static void test_senseless(void **state)
{
    struct world w = make_world();
    struct options o = {.log = TOGGLE_ON};
    _cleanup_(change_done) struct change c = {0};
    char why[OPTIONS_WHY_MAX];

    (void)state;
    assert_int_equal(change_plan(w.t, w.q, &o, NOW, &c, why), -EINVAL);
    assert_non_null(strstr(why, "--allow any"));
    feature(w.q, FEATURE_EXPIRES, "2026-12-31T11:00:00Z");
    o.allow = (char[]){"tcp/22"};
    assert_int_equal(change_plan(w.t, w.q, &o, NOW, &c, why), -EINVAL);
    assert_non_null(strstr(why, "--until never"));
    (void)tree_free(w.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_more), cmocka_unit_test(test_new),
        cmocka_unit_test(test_off),        cmocka_unit_test(test_template),
        cmocka_unit_test(test_senseless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
