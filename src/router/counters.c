/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/counters.h"

#include <errno.h>

#include "nft/counter.h"
#include "router/elements.h"

#define SET_OFFLOADED "offloaded"

enum part {
    PART_CONNECTIONS = 1,
    PART_TRAFFIC = 2,
    PART_OFFLOADED = 4,
};

struct reading {
    struct model *m;
    enum family_index family;
    enum part part;
};

static void forget(struct slot *slot, void *user)
{
    (void)user;
    slot->counters = (struct counters){.known = false};
}

/* Beginning anew: what was added by the try before is taken away again. */
static void begin_slot(struct slot *slot, void *user)
{
    const struct reading *r = user;

    if (model_family(&slot->addr) != r->family)
        return;
    if (r->part == PART_CONNECTIONS)
        slot->counters.connections = 0;
    else if (r->part == PART_TRAFFIC)
        slot->counters.packets = slot->counters.bytes = 0;
    else
        slot->counters.offloaded = false;
}

static void begin(void *user)
{
    const struct reading *r = user;

    model_each(r->m, begin_slot, user);
}

/* An address may have two vifs (an HVM and its stub domain): it is one qube. */
static int take(const struct nft_count *count, void *user)
{
    const struct reading *r = user;
    enum object_kind kind = r->part == PART_CONNECTIONS ? OBJECT_CONNECTIONS : OBJECT_TRAFFIC;
    const struct nft_element e = {.key = count->key};
    struct object o;
    struct addr addr;
    struct slot *slot;

    if (elements_object(kind, r->family, &e, &addr, &o) < 0)
        return 0;
    slot = model_find(r->m, &addr);
    if (slot == NULL)
        return 0;
    if (r->part == PART_CONNECTIONS) {
        slot->counters.connections += count->packets;
    } else if (r->part == PART_TRAFFIC) {
        slot->counters.packets += count->packets;
        slot->counters.bytes += count->bytes;
        slot->counters.known = true;
    } else {
        slot->counters.offloaded = true;
    }
    return 0;
}

static struct nft_set set_of(const struct reading *r)
{
    struct nft_set set = elements_set(
        r->part == PART_CONNECTIONS ? OBJECT_CONNECTIONS : OBJECT_TRAFFIC, r->family);

    if (r->part == PART_OFFLOADED)
        set.name = SET_OFFLOADED;
    return set;
}

void counters_read(struct nl_sock *nft, struct model *m)
{
    static const enum part parts[] = {PART_CONNECTIONS, PART_TRAFFIC, PART_OFFLOADED};

    model_each(m, forget, NULL);
    for (unsigned f = 0; f < FAMILIES; f++) {
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            struct reading r = {m, (enum family_index)f, parts[i]};
            struct nft_set set = set_of(&r);
            int error = nft_dump_counts(nft, &set, begin, take, &r);

            if (error < 0 && error != -ENOENT) {
                model_each(m, forget, NULL);
                return;
            }
        }
    }
}
