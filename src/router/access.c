/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/access.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

/* Published ports as rules: by the ports outside, or by those inside. */
static int publish_as_allow(const struct publish *publish, bool outside, struct allow *ret)
{
    ret->entries = calloc(publish->n, sizeof(*ret->entries));
    if (ret->entries == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < publish->n; i++) {
        const struct publish_entry *e = &publish->entries[i];
        uint16_t lo = outside ? e->outside_lo : e->inside_lo;

        ret->entries[ret->n++] = (struct allow_entry){
            .proto = e->proto,
            .port_lo = lo,
            .port_hi = (uint16_t)(lo + (e->outside_hi - e->outside_lo)),
            .from = e->from,
        };
    }
    return 0;
}

/*
 * At the edge, published ports are let in only when they came to the port outside. At an inner hop
 * they arrive with the address and port inside: there they are rules like any other.
 */
static int settle(const struct record *record, int family, struct access *a)
{
    _cleanup_(allow_done) struct allow ports = {0}, both = {0};
    int r = 0;

    a->everything = record->forward && !record->has_allow;
    if (record->publish.n > 0)
        r = publish_as_allow(&record->publish, record->edge, &ports);
    if (r == 0 && record->edge && ports.n > 0)
        r = allow_disjoint(&ports, family, &a->outside);
    if (r < 0 || a->everything)
        return r;
    if (record->edge || ports.n == 0)
        return allow_disjoint(&record->allow, family, &a->permitted);
    r = allow_join(&record->allow, &ports, &both);
    return r < 0 ? r : allow_disjoint(&both, family, &a->permitted);
}

void access_done(struct access *a)
{
    allow_done(&a->permitted);
    allow_done(&a->outside);
    *a = (struct access){0};
}

int access_settle(const struct record *record, int family, struct access *ret)
{
    _cleanup_(access_done) struct access a = {0};
    int r = settle(record, family, &a);

    if (r < 0)
        return r;
    *ret = a;
    a = (struct access){0};
    return 0;
}

bool access_accepts(const struct access *a, const struct record *record, int family,
                    const struct access_flow *flow)
{
    if (flow->outside != 0)
        return publish_leads(&record->publish, flow->proto, flow->outside, flow->port, flow->from);
    return a->everything || allow_accepts(&a->permitted, family, flow->proto, flow->port, flow->from);
}
