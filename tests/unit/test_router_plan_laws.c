/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plan in random worlds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_random.h"
#include "test_router_laws.h"

static void test_random_worlds(void **state)
{
    struct rnd rnd = random_begin("worlds");

    (void)state;
    for (int i = 0; i < 1500; i++) {
        uint8_t bytes[600];
        struct rnd before = rnd;

        random_fill(&rnd, bytes, sizeof(bytes));
        if (getenv("SLUICE_VERBOSE") != NULL)
            (void)fprintf(stderr, "world %d: %llu\n", i, (unsigned long long)before.state);
        laws_run(bytes, sizeof(bytes));
    }
}

static void test_empty_world(void **state)
{
    (void)state;
    laws_run(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_world),
        cmocka_unit_test(test_random_worlds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
