/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in the QubesDB of some qubes, read through dom0's sockets
 * (DIRECTORY/qubesdb.NAME.sock), all at the same time. Everything read is foreign: the qube can
 * write there too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/addr.h"
#include "dom0/tree/wish.h"

#define LOOK_KEYS_MAX 4096 /* of one qube; more is passed over */

struct look_key {
    char path[WISH_PATH_MAX];
    char *value; /* owned; with NUL, bytes as they came */
    size_t len;
};

struct look {
    char qube[QUBE_NAME_MAX];
    int error; /* 0: all was read; -errno */
    struct addr ip[2]; /* /qubes-ip, /qubes-ip6, when they are addresses */
    struct look_key *keys; /* owned: /network-server..., and /qubes-firewall/ADDR/policy */
    size_t n, capacity;
};

/*
 * Fills looks[i] by its name. policies: addresses whose firewall policy is read as well. 0, or
 * -errno of the event loop; what fails for one qube is in its error.
 */
int look_all(sd_event *event, const char *directory, struct look *looks, size_t n,
             const struct addr *policies, size_t n_policies);
void look_done(struct look *l);

/* NULL: there is no such key. */
const char *look_value(const struct look *l, const char *path);
