/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "reconcile/reconcile.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_US UINT64_C(100000)
#define RETRY_DOUBLES  7 /* 100 ms * 2^7 = 12.8 s, cut to RETRY_MAX_US */
#define RETRY_MAX_US   UINT64_C(10000000)

static const void *item(const void *items, size_t i, size_t size)
{
    return (const char *)items + i * size;
}

size_t reconcile_sort(void *items, size_t n, size_t size, reconcile_compare_fn compare)
{
    size_t kept = 0;

    if (n == 0)
        return 0;
    qsort(items, n, size, compare);
    for (size_t i = 1; i < n; i++) {
        if (compare(item(items, kept, size), item(items, i, size)) == 0)
            continue;
        kept++;
        if (kept != i)
            memcpy((char *)items + kept * size, item(items, i, size), size);
    }
    return kept + 1;
}

/* Tells what is in a and not in b. */
static int tell_missing(const void *a, size_t n_a, const void *b, size_t n_b,
                        const struct reconcile_ops *ops, int (*tell)(const void *, void *),
                        void *user)
{
    size_t k = 0;

    for (size_t i = 0; i < n_a; i++) {
        const void *candidate = item(a, i, ops->size);
        int order = 1;

        while (k < n_b && (order = ops->compare(item(b, k, ops->size), candidate)) < 0)
            k++;
        if (k < n_b && order == 0)
            continue;
        order = tell(candidate, user);
        if (order < 0)
            return order;
    }
    return 0;
}

int reconcile_diff(const void *wished, size_t n_wished, const void *actual, size_t n_actual,
                   const struct reconcile_ops *ops, void *user)
{
    int r = tell_missing(actual, n_actual, wished, n_wished, ops, ops->remove, user);

    return r < 0 ? r : tell_missing(wished, n_wished, actual, n_actual, ops, ops->add, user);
}

uint64_t reconcile_retry_delay_us(struct reconcile_retry *retry)
{
    uint64_t delay = RETRY_FIRST_US << (retry->failures < RETRY_DOUBLES ? retry->failures
                                                                        : RETRY_DOUBLES);

    retry->failures++;
    return delay < RETRY_MAX_US ? delay : RETRY_MAX_US;
}

void reconcile_retry_reset(struct reconcile_retry *retry)
{
    retry->failures = 0;
}
