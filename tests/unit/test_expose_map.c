/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The drawing of the network tree: as text, in ASCII, as SVG. Whole texts are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "dom0/expose/map.h"

#define NOW INT64_C(1798718400) /* 2026-12-31T12:00:00Z */

static struct qube *add_qube(struct tree *t, const char *name, const char *netvm, const char *ip,
                             bool provides)
{
    int error = 0;
    struct qube *q = tree_get(t, str_from(name), &error);

    assert_non_null(q);
    (void)snprintf(q->klass, sizeof(q->klass), "AppVM");
    (void)snprintf(q->netvm, sizeof(q->netvm), "%s", netvm);
    if (ip != NULL)
        assert_int_equal(addr_parse(str_from(ip), &q->ip[0]), 0);
    q->provides_network = provides;
    q->power = POWER_RUNNING;
    q->xid[0] = (uint16_t)(tree_count(t) + 10);
    q->complete = true;
    return q;
}

static void feature(struct qube *q, enum feature_id id, const char *value)
{
    struct str text = str_from(value);

    assert_int_equal(qube_set_feature(q, id, &text), 0);
}

/* sys-net <- sys-firewall <- web (exposed), mail (asked for, halted), personal, work; vault; lost */
static struct tree *make_tree(void)
{
    struct tree *t = tree_new();
    struct qube *q;

    feature(add_qube(t, "sys-net", "", "10.137.0.5", true), FEATURE_CAPABLE, "1");
    feature(add_qube(t, "sys-firewall", "sys-net", "10.137.0.6", true), FEATURE_CAPABLE, "1");
    q = add_qube(t, "web", "sys-firewall", "192.168.16.25", false);
    feature(q, FEATURE_METHOD, "forward");
    feature(q, FEATURE_ALLOW, "tcp/22,443 from 192.168.16.0/24");
    feature(q, FEATURE_PUBLISH, "tcp/8443:443");
    feature(q, FEATURE_EXPIRES, "2026-12-31T18:00:00Z");
    q = add_qube(t, "mail", "sys-firewall", "10.137.0.20", false);
    feature(q, FEATURE_METHOD, "forward");
    q->power = POWER_HALTED;
    q->xid[0] = 0;
    (void)add_qube(t, "personal", "sys-firewall", "10.137.0.21", false);
    (void)add_qube(t, "work", "sys-firewall", "10.137.0.22", false);
    (void)add_qube(t, "vault", "", NULL, false);
    feature(add_qube(t, "lost", "", "10.137.0.30", false), FEATURE_METHOD, "forward");
    for (size_t i = 0; i < tree_count(t); i++) {
        if (tree_at(t, i)->power == POWER_RUNNING)
            qube_attach(tree_at(t, i));
    }
    return t;
}

static char *draw(const struct tree *t, bool utf8, bool svg, unsigned width)
{
    _cleanup_(wishes_done) struct wishes w = {0};
    _cleanup_(map_done) struct map m = {0};
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    assert_non_null(f);
    assert_int_equal(wish_compute(t, NOW, &w), 0);
    assert_int_equal(map_build(t, &w, NOW, &m), 0);
    if (svg)
        map_write_svg(&m, f);
    else
        map_write_text(&m, utf8, width, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void expect(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in:\n%s", part, text);
}

static void test_text(void **state)
{
    struct tree *t = make_tree();
    _cleanup_(freep) char *text = draw(t, true, false, 100);

    (void)state;
    expect(text, "LAN\n"
                 "└── sys-net  10.137.0.5\n"
                 "    └── sys-firewall  10.137.0.6\n"
                 "        ├── ◌ mail  10.137.0.20  halted\n"
                 "        │       to be open: every port, for everybody\n"
                 "        ├── ● web  192.168.16.25\n"
                 "        │       open: tcp/22,443 from 192.168.16.0/24\n"
                 "        │       published by sys-net: tcp/8443:443\n"
                 "        │       until 2026-12-31 18:00 UTC (in 6 h)\n"
                 "        └── 2 qubes not exposed\n"
                 "                personal, work\n"
                 "no network\n"
                 "└── ✗ lost  10.137.0.30\n");
    assert_null(strstr(text, "vault"));
    (void)tree_free(t);
}

static void test_ascii(void **state)
{
    struct tree *t = make_tree();
    _cleanup_(freep) char *text = draw(t, false, false, 40);

    (void)state;
    expect(text, "        |-- * web  192.168.16.25\n");
    expect(text, "`-- sys-net");
    for (const char *p = text; *p != '\0'; p++)
        assert_true((*p >= 0x20 && *p < 0x7f) || *p == '\n');
    (void)tree_free(t);
}

/* Whatever a feature says, it stays inside its line and its element. */
static void test_hostile(void **state)
{
    struct tree *t = make_tree();
    _cleanup_(freep) char *svg = NULL, *text = NULL;

    (void)state;
    feature(tree_find(t, str_from("web")), FEATURE_ALLOW, "tcp/22 \x1b[2J</desc><script>");
    feature(tree_find(t, str_from("mail")), FEATURE_METHOD, "</text><script>&'\"");
    svg = draw(t, true, true, 100);
    text = draw(t, true, false, 100);
    assert_null(strstr(svg, "<script"));
    expect(svg, "&lt;/text&gt;&lt;script&gt;&amp;&#39;&quot;");
    assert_null(strchr(svg, 0x1b));
    assert_null(strchr(text, 0x1b));
    (void)tree_free(t);
}

static void test_svg(void **state)
{
    struct tree *t = make_tree();
    _cleanup_(freep) char *svg = draw(t, true, true, 100);

    (void)state;
    expect(svg, "role=\"img\" aria-labelledby=\"map-title map-desc\"");
    expect(svg, "<desc id=\"map-desc\">mail  10.137.0.20  halted: open when it runs. "
                "web  192.168.16.25: open. lost  10.137.0.30: asked for, not open. "
                "3 asked for, 1 open.</desc>");
    expect(svg, "prefers-color-scheme:dark");
    expect(svg, ">open: tcp/22,443 from 192.168.16.0/24</text>");
    expect(svg, "<path class=\"way\"");
    (void)tree_free(t);
}

/* Net qubes that are each other's: qubesd refuses it, a drawing must end all the same. */
static void test_loop(void **state)
{
    struct tree *t = make_tree();
    _cleanup_(freep) char *text = NULL;

    (void)state;
    (void)add_qube(t, "a", "b", "10.137.0.40", true);
    (void)add_qube(t, "b", "a", "10.137.0.41", true);
    (void)snprintf(tree_find(t, str_from("sys-net"))->netvm, QUBE_NAME_MAX, "sys-firewall");
    text = draw(t, true, false, 100);
    expect(text, "LAN\n");
    (void)tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_ascii), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_svg),  cmocka_unit_test(test_loop),
    };

    (void)setenv("TZ", "UTC0", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
