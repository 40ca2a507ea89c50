/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "reconcile/reconcile.h"
#include "test_random.h"

#define ITEMS 64

struct item { /* compared by key; note shows which of equal ones is left */
    uint32_t key;
    uint32_t note;
};

struct world {
    struct item actual[2 * ITEMS];
    size_t n, adds, removes;
    size_t fail_at; /* this call fails; 0: none */
    int result;     /* what every other call gives */
};

static int compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

static int on_add(const void *wished, void *user)
{
    struct world *w = user;

    if (++w->adds + w->removes == w->fail_at)
        return -EIO;
    w->actual[w->n++] = *(const struct item *)wished;
    return w->result;
}

static int on_remove(const void *actual, void *user)
{
    struct world *w = user;
    size_t i = 0;

    assert_int_equal(w->adds, 0); /* removals come first */
    if (w->adds + ++w->removes == w->fail_at)
        return -EIO;
    while (compare(&w->actual[i], actual) != 0)
        assert_true(++i < w->n);
    w->actual[i] = w->actual[--w->n];
    return w->result;
}

static const struct reconcile_ops ops = {
    .size = sizeof(struct item), .compare = compare, .add = on_add, .remove = on_remove};

static int run(const struct item *wished, size_t n, struct world *w)
{
    struct item before[2 * ITEMS];

    w->n = reconcile_sort(w->actual, w->n, sizeof(w->actual[0]), compare);
    memcpy(before, w->actual, sizeof(before));
    w->adds = w->removes = 0;
    return reconcile_diff(wished, n, before, w->n, &ops, w);
}

static size_t random_items(struct rnd *rnd, struct item *items)
{
    size_t n = random_below(rnd, ITEMS);
    uint32_t range = 1 + random_below(rnd, 2 * ITEMS);

    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){.key = random_below(rnd, range)};
    return n;
}

static void test_diff_random(void **state)
{
    struct rnd rnd = random_begin("diff");

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct item wished[ITEMS];
        struct world w = {.result = i % 2}; /* only negative results are errors */
        size_t n = reconcile_sort(wished, random_items(&rnd, wished), sizeof(wished[0]), compare);

        w.n = random_items(&rnd, w.actual);
        assert_int_equal(run(wished, n, &w), 0);
        w.n = reconcile_sort(w.actual, w.n, sizeof(w.actual[0]), compare);
        assert_int_equal(w.n, n);
        if (n > 0)
            assert_memory_equal(w.actual, wished, n * sizeof(wished[0]));
        assert_int_equal(run(wished, n, &w), 0);
        assert_int_equal(w.adds + w.removes, 0);
    }
}

static void test_diff_stops(void **state)
{
    const struct item wished[] = {{.key = 1}, {.key = 3}, {.key = 5}};
    const struct world begin = {.actual = {{.key = 2}, {.key = 3}, {.key = 4}}, .n = 3};
    struct world w;

    (void)state;
    for (size_t at = 1; at <= 4; at++) {
        w = begin;
        w.fail_at = at;
        assert_int_equal(run(wished, 3, &w), -EIO);
        assert_int_equal(w.adds + w.removes, at);
    }
    w = begin;
    assert_int_equal(run(wished, 3, &w), 0);
    assert_int_equal(w.adds, 2);
    assert_int_equal(w.removes, 2);
}

static void test_diff_nothing(void **state)
{
    struct world w = {0};

    (void)state;
    assert_int_equal(reconcile_diff(NULL, 0, NULL, 0, &ops, &w), 0);
    assert_int_equal(w.adds + w.removes, 0);
}

static void test_sort(void **state)
{
    struct item items[] = {{3, 0}, {1, 0}, {3, 1}, {2, 0}, {1, 1}, {1, 2}};

    (void)state;
    assert_int_equal(reconcile_sort(NULL, 0, sizeof(items[0]), compare), 0);
    assert_int_equal(reconcile_sort(items, 1, sizeof(items[0]), compare), 1);
    assert_int_equal(reconcile_sort(items, ARRAY_SIZE(items), sizeof(items[0]), compare), 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(items[i].key, i + 1);
    assert_int_equal(reconcile_sort(items, 3, sizeof(items[0]), compare), 3);
}

static void test_retry(void **state)
{
    static const uint64_t ms[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000};
    struct reconcile_retry retry = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ms); i++)
        assert_int_equal(reconcile_retry_delay_us(&retry), ms[i] * 1000);
    for (int i = 0; i < 1000; i++) /* no overflow of the shift */
        assert_int_equal(reconcile_retry_delay_us(&retry), 10000000);
    reconcile_retry_reset(&retry);
    assert_int_equal(reconcile_retry_delay_us(&retry), 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diff_random),
        cmocka_unit_test(test_diff_stops),
        cmocka_unit_test(test_diff_nothing),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_retry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
