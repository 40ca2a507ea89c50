/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/neighbours.h"

#include <stdio.h>
#include <string.h>

#include "netlink/rt.h"

struct reading {
    const struct model *m;
    json_t *array;
};

/* One of our own uplinks, seen by another of them on the same LAN, is no host of the LAN. */
static bool is_own_mac(const struct model *m, const uint8_t mac[static 6])
{
    for (size_t i = 0; i < m->n_links; i++) {
        if (m->links[i].uplink && memcmp(m->links[i].mac, mac, 6) == 0)
            return true;
    }
    return false;
}

static void begin(void *user)
{
    const struct reading *r = user;

    (void)json_array_clear(r->array);
}

static int take(const struct rt_neighbour *n, void *user)
{
    const struct reading *r = user;
    const struct model_link *link = model_link_by_index(r->m, n->index);
    char addr[ADDR_STR_MAX], mac[24], name[4 * IFNAMSIZ];
    json_t *o;

    if (link == NULL || !link->uplink || json_array_size(r->array) >= NEIGHBOURS_MAX ||
        addr_why_unusable(&n->addr) != NULL || is_own_mac(r->m, n->mac))
        return 0;
    (void)snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1],
                   n->mac[2], n->mac[3], n->mac[4], n->mac[5]);
    o = json_pack("{s:s, s:s, s:s}", "address", addr_format(&n->addr, addr), "mac", mac, "interface",
                  str_escape(str_from(link->name), name, sizeof(name)));
    if (!n->permanent)
        (void)json_object_set_new(o, "seen", json_integer((json_int_t)n->age));
    (void)json_array_append_new(r->array, o);
    return 0;
}

json_t *neighbours_json(struct nl_sock *route, const struct model *m)
{
    struct reading r = {m, json_array()};

    if (r.array != NULL && rt_dump_neighbours(route, begin, take, &r) < 0)
        begin(&r); /* nothing is known rather than a part */
    return r.array;
}
