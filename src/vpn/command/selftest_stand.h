/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stand-in: a namespace of nobody, attached like a qube: a pair of devices, the near end named
 * like a vif and in group 2, with host route, neighbour and a place in the platform's firewall
 * sets, and a rule of the per-qube firewall that lets it (and only it) out. So what stops its
 * packets is the seal, and nothing else.
 *
 * It is gone when the process that made it is, however that ends: the far end lives in a namespace
 * that only its descriptors hold, and a guardian process that waits for our end removes the rest.
 * Needs root (CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN) and one thread.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"

struct stand {
    char name[IFNAMSIZ]; /* the near end */
    uint32_t index;
    struct addr qube4, qube6;
    uint8_t vif_mac[6], qube_mac[6];
    int far;             /* packet socket at the far end, in its namespace */
    bool firewall;       /* the platform's tables are there, and it has its place in them */
    int guard;           /* pipe: its end is the guardian's signal */
    pid_t guardian;
};

/* here4, here6: what its vif carries on the near side; family 0: none. -errno and *ret_why. */
int stand_make(struct stand *s, const struct addr *here4, const struct addr *here6,
               const char **ret_why);
/* Removes everything and waits for it. Also of a stand that was made by half. */
void stand_remove(struct stand *s);
int stand_send(const struct stand *s, const void *frame, size_t len);
