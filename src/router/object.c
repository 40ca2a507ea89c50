/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/object.h"

#include <stdio.h>
#include <string.h>

int object_compare(const void *a, const void *b)
{
    const struct object *x = a, *y = b;
    int r;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->kind == OBJECT_PROXY)
        return x->uplink_index < y->uplink_index ? -1 : x->uplink_index > y->uplink_index;
    if (x->kind == OBJECT_ROUTE && x->uplink_index != y->uplink_index)
        return x->uplink_index < y->uplink_index ? -1 : 1;
    if (x->kind == OBJECT_ROUTE && x->metric != y->metric)
        return x->metric < y->metric ? -1 : 1;
    r = memcmp(x->vif, y->vif, sizeof(x->vif));
    if (r == 0)
        r = memcmp(x->uplink, y->uplink, sizeof(x->uplink));
    if (r == 0 && x->rate != y->rate)
        r = x->rate < y->rate ? -1 : 1;
    if (r == 0)
        r = (int)x->proto - (int)y->proto;
    if (r == 0)
        r = (int)x->port_lo - (int)y->port_lo;
    if (r == 0)
        r = (int)x->port_hi - (int)y->port_hi;
    if (r == 0)
        r = addr_compare(&x->src_lo, &y->src_lo);
    return r != 0 ? r : addr_compare(&x->src_hi, &y->src_hi);
}

bool object_has_vif(enum object_kind kind)
{
    return !OBJECT_IS_DNAT(kind) && kind != OBJECT_DOWNSTREAM && kind != OBJECT_ROUTE &&
           kind != OBJECT_PROXY;
}

const char *object_kind_name(enum object_kind kind)
{
    switch (kind) {
    case OBJECT_ANY:
        return "any";
    case OBJECT_SOME:
        return "some";
    case OBJECT_PROTO:
        return "proto";
    case OBJECT_PORT:
        return "port";
    case OBJECT_FROM:
        return "from";
    case OBJECT_RULE:
        return "rule";
    case OBJECT_PUBLISHED:
        return "published";
    case OBJECT_PUBLISHED_FROM:
        return "published-from";
    case OBJECT_DNAT:
        return "dnat";
    case OBJECT_DNAT_FROM:
        return "dnat-from";
    case OBJECT_OWN:
        return "own-address";
    case OBJECT_RATE:
        return "rate";
    case OBJECT_LOGGED:
        return "logged";
    case OBJECT_CONNECTIONS:
        return "connections";
    case OBJECT_TRAFFIC:
        return "traffic";
    case OBJECT_HAIRPIN:
        return "hairpin";
    case OBJECT_LENT:
        return "lent";
    case OBJECT_ALLOWED:
        return "allowed";
    case OBJECT_DOWNSTREAM:
        return "downstream";
    case OBJECT_ROUTE:
        return "route";
    case OBJECT_PROXY:
        return "proxy";
    }
    return "?";
}

const char *object_format(const struct object *o, char buf[static OBJECT_STR_MAX])
{
    char lo[ADDR_STR_MAX], hi[ADDR_STR_MAX];
    const char *kind = object_kind_name(o->kind);

    switch (o->kind) {
    case OBJECT_ANY:
    case OBJECT_SOME:
    case OBJECT_LOGGED:
    case OBJECT_CONNECTIONS:
    case OBJECT_TRAFFIC:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s", kind, o->vif);
        break;
    case OBJECT_PROTO:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s protocol %u", kind, o->vif, o->proto);
        break;
    case OBJECT_PORT:
    case OBJECT_PUBLISHED:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s protocol %u port %u", kind, o->vif, o->proto,
                       o->port_lo);
        break;
    case OBJECT_FROM:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s from %s-%s", kind, o->vif,
                       addr_format(&o->src_lo, lo), addr_format(&o->src_hi, hi));
        break;
    case OBJECT_RULE:
    case OBJECT_PUBLISHED_FROM:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s protocol %u ports %u-%u from %s-%s", kind,
                       o->vif, o->proto, o->port_lo, o->port_hi, addr_format(&o->src_lo, lo),
                       addr_format(&o->src_hi, hi));
        break;
    case OBJECT_DNAT:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s protocol %u port %u to port %u", kind, o->proto,
                       o->port_lo, o->port_hi);
        break;
    case OBJECT_DNAT_FROM:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s protocol %u port %u from %s-%s to port %u", kind,
                       o->proto, o->port_lo, addr_format(&o->src_lo, lo),
                       addr_format(&o->src_hi, hi), o->port_hi);
        break;
    case OBJECT_OWN:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s from %s by %s", kind, o->vif, o->uplink);
        break;
    case OBJECT_RATE:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s to %s %u a second", kind, o->vif, o->rate);
        break;
    case OBJECT_HAIRPIN:
    case OBJECT_LENT:
    case OBJECT_ALLOWED:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s on %s", kind, o->vif);
        break;
    case OBJECT_DOWNSTREAM:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s", kind);
        break;
    case OBJECT_ROUTE:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s by %s on interface %u metric %u", kind,
                       addr_format(&o->src_lo, lo), o->uplink_index, o->metric);
        break;
    case OBJECT_PROXY:
        (void)snprintf(buf, OBJECT_STR_MAX, "%s on interface %u", kind, o->uplink_index);
        break;
    }
    return buf;
}
