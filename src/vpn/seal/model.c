/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/model.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

enum link_kind link_kind(const struct rt_link *link)
{
    if ((link->flags & IFF_LOOPBACK) != 0)
        return LINK_LO;
    if (strncmp(link->name, "vif", 3) == 0 && link->group == SEAL_VIF_GROUP)
        return LINK_VIF;
    /* a device with link-layer addresses under this name is no tunnel, whoever made it */
    if (strcmp(link->name, SEAL_TUNNEL) == 0 && link->arptype == ARPHRD_NONE)
        return LINK_TUNNEL;
    return LINK_UPLINK;
}

int items_add(struct items *list, const void *item, size_t size)
{
    if (list->n == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        void *p = reallocarray(list->p, room, size);

        if (p == NULL)
            return -ENOMEM;
        list->p = p;
        list->room = room;
    }
    memcpy((uint8_t *)list->p + list->n * size, item, size);
    list->n++;
    return 0;
}

void items_free(struct items *list)
{
    free(list->p);
    *list = (struct items){0};
}

void model_free(struct seal_model *m)
{
    items_free(&m->links);
    items_free(&m->addrs);
    items_free(&m->paths);
    items_free(&m->rules);
    items_free(&m->elements);
    items_free(&m->chains);
}

const struct rt_link *model_link(const struct seal_model *m, uint32_t index)
{
    for (size_t i = 0; i < m->links.n; i++)
        if (ITEMS(&m->links, struct rt_link)[i].index == index)
            return &ITEMS(&m->links, struct rt_link)[i];
    return NULL;
}

const struct rt_link *model_tunnel(const struct seal_model *m)
{
    for (size_t i = 0; i < m->links.n; i++)
        if (link_kind(&ITEMS(&m->links, struct rt_link)[i]) == LINK_TUNNEL)
            return &ITEMS(&m->links, struct rt_link)[i];
    return NULL;
}

bool model_goes_by(const struct seal_model *m, const struct path *path, enum link_kind kind)
{
    const struct rt_link *link = path->oif == 0 ? NULL : model_link(m, path->oif);

    return path->table == SEAL_TABLE_MAIN && path->type == RTN_UNICAST && !path->other &&
           link != NULL && link_kind(link) == kind;
}

bool model_leads_to_qube(const struct seal_model *m, const struct path *path)
{
    return model_goes_by(m, path, LINK_VIF) && path->dst.len == addr_bits(path->family) &&
           path->gateway.family == 0;
}
