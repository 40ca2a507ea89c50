/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Claims addresses on uplinks and listens whether somebody else has them. Optimistic, as RFC 4429:
 * the kernel answers from the first moment, while we ask (three probes, 200 ms apart); only when
 * nobody answered is the address announced (twice, 2 s apart). From then on nothing is sent but
 * the answer to another host's ARP probe, and no timer runs.
 *
 * Packet sockets (CAP_NET_RAW) are open on a link only while an address is watched there. At most
 * 32 frames are sent at once, then 10 ms pause: ten thousand addresses must not flood a LAN.
 * Callbacks come from the event loop only. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/addr.h"
#include "router/frames.h"

struct watch;

struct watch_ops {
    /* Another host has the address. May call watch_remove() and watch_ask(). */
    void (*conflict)(const struct addr *addr, uint32_t index, const uint8_t mac[static MAC_SIZE],
                     void *user);
    /* After watch_ask(): nobody has it any more. The entry is gone. */
    void (*clear)(const struct addr *addr, uint32_t index, void *user);
    /* A link went down or away under its sockets: look at the links again (watch_link()). */
    void (*links)(void *user);
    void *user;
};

int watch_new(sd_event *event, const struct watch_ops *ops, struct watch **ret);
struct watch *watch_free(struct watch *w);
void watch_freep(struct watch **w);

/*
 * The machine's uplinks: begin, tell each, end; the others are dropped with what is watched there.
 * A link whose carrier or MAC is new claims its addresses again.
 */
void watch_links_begin(struct watch *w);
/* 1: new, or its carrier or MAC is: what others have there may have changed. Else 0, -errno. */
int watch_link(struct watch *w, uint32_t index, const uint8_t mac[static MAC_SIZE], bool carrier);
bool watch_links_end(struct watch *w); /* true: some are gone */

/* Claim (probe, then announce) and stop. Adding what is there does nothing. 0 or -errno. */
int watch_add(struct watch *w, const struct addr *addr, uint32_t index);
void watch_remove(struct watch *w, const struct addr *addr, uint32_t index);
/* Only asks, without claiming: conflict() again, or clear(). */
int watch_ask(struct watch *w, const struct addr *addr, uint32_t index);
/* Claims everything again: after a resume. */
void watch_restart(struct watch *w);
/* After a series of changes: brings sockets and filters up to date. 0 or the first -errno. */
int watch_flush(struct watch *w);
