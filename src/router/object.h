/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One thing that the kernel holds for one exposed address: an element of one of our sets or of the
 * platform's, a route, or a proxy neighbour entry. Values without padding surprises: made by
 * zeroing, compared by bytes.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

enum object_kind {
    OBJECT_ANY,   /* vif . address: everything is accepted */
    OBJECT_SOME,  /* vif . address: the four sets below decide */
    OBJECT_PROTO, /* ... . protocol */
    OBJECT_PORT,  /* ... . protocol . port */
    OBJECT_FROM,  /* vif . address . network */
    OBJECT_RULE,  /* ... . protocol . ports . network */
    OBJECT_PUBLISHED,      /* like PORT, of connections to a published port: the one outside */
    OBJECT_PUBLISHED_FROM, /* like RULE, likewise */
    OBJECT_DNAT,  /* protocol . outside port (port_lo) leads to the address, inside port (port_hi) */
    OBJECT_DNAT_FROM, /* protocol . outside port . network, likewise */
    OBJECT_OWN,   /* vif . address . uplink: own connections keep the address */
    OBJECT_RATE,  /* vif . address: what each source may open in a second (rate) */
    OBJECT_LOGGED,      /* vif . address: new peers are named */
    OBJECT_CONNECTIONS, /* vif . address: counts connections that began */
    OBJECT_TRAFFIC,     /* vif . address: counts their packets and bytes */
    OBJECT_HAIRPIN, /* vif . address: by a published port it may be asked from there too */
    /* of an address behind another net qube (plan_chain.c), read back in this order */
    OBJECT_LENT,  /* vif . address: the two that follow are ours, not the platform's */
    OBJECT_ALLOWED,    /* vif . address, in the platform's set: may be a source there */
    OBJECT_DOWNSTREAM, /* address, in the platform's set: may be a source nowhere else */
    OBJECT_ROUTE, /* host route by another net qube: gateway in src_lo */
    OBJECT_PROXY, /* proxy neighbour entry on an uplink */
};
#define OBJECT_KINDS    (OBJECT_PROXY + 1)
#define OBJECT_SETS     (OBJECT_DOWNSTREAM + 1) /* kinds that are set elements */
/* Kinds whose set the platform made. */
#define OBJECT_IS_PLATFORMS(kind) ((kind) == OBJECT_ALLOWED || (kind) == OBJECT_DOWNSTREAM)
/* Kinds that let somebody in. */
#define OBJECT_IS_ACCESS(kind) ((kind) < OBJECT_DNAT)
/* Kinds that lead from a port of the net qube to the address. */
#define OBJECT_IS_DNAT(kind) ((kind) == OBJECT_DNAT || (kind) == OBJECT_DNAT_FROM)
/* Kinds that watch who was let in. */
#define OBJECT_IS_WATCH(kind) ((kind) >= OBJECT_RATE && (kind) <= OBJECT_TRAFFIC)

struct object {
    enum object_kind kind;
    uint32_t uplink_index; /* OWN, PROXY; of ROUTE the vif */
    uint32_t metric;       /* ROUTE */
    char vif[IFNAMSIZ];    /* as object_has_vif() */
    char uplink[IFNAMSIZ]; /* OWN */
    uint32_t rate;         /* RATE */
    uint16_t port_lo, port_hi;
    uint8_t proto; /* IPPROTO_* */
    bool seen; /* by the reading of the kernel under way; not part of what it is */
    uint8_t pad[2];
    struct addr src_lo, src_hi;
    uint8_t pad2[2];
};

/* OWN is the same element whatever index the uplink's name has now. */
int object_compare(const void *a, const void *b);
bool object_has_vif(enum object_kind kind);
const char *object_kind_name(enum object_kind kind);
/* "any vif11.0", "port vif11.0 tcp 80", "proxy 3" ... for plans and messages. Returns buf. */
#define OBJECT_STR_MAX 192
const char *object_format(const struct object *o, char buf[static OBJECT_STR_MAX]);
