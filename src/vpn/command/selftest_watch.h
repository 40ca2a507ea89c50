/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The witness of the leak test: one packet socket that sees what leaves by every interface, now and
 * later, after the last point where anything of the kernel could drop it; and what arrives by the
 * stand-in's vif. A frame is known by its tag, wherever in it that is (so also in what an ICMP
 * error quotes), by the stand-in's addresses, or by asking the LAN for somebody whom only the test
 * names. Source: packet(7); UAPI if_packet.h, filter.h.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "vpn/command/selftest_plan.h"

#define WATCH_DEVICES 32

enum watch_kind { WATCH_UPLINK, WATCH_TUNNEL, WATCH_VIF, WATCH_NOTHING };

struct watch_device {
    uint32_t index;
    enum watch_kind kind;
    char name[IFNAMSIZ];
};

struct watch_class {
    unsigned sent;    /* by the test */
    unsigned arrived; /* by the vif */
    unsigned leaked;  /* by an uplink, or to another qube */
    unsigned tunnel;  /* by the tunnel */
    char by[IFNAMSIZ]; /* where the first one leaked */
    char what[96];     /* the first one in words */
};

struct watch {
    int fd;
    uint32_t vif;
    const struct test_place *place; /* borrowed */
    struct watch_device devices[WATCH_DEVICES];
    size_t n_devices;
    struct watch_class classes[TEST_CLASSES];
    unsigned control; /* frames of CLASS_CONTROL that were seen */
    unsigned foreign; /* in the tunnel with an address that must not be there (I4) */
    unsigned lost;    /* frames that the kernel could not give us */
};

/* place is read at every frame. -errno. */
int watch_open(struct watch *w, uint32_t vif, const struct test_place *place);
void watch_close(struct watch *w);
/* Reads what has come; waits for more up to ms milliseconds from now. */
int watch_run(struct watch *w, unsigned ms);
/* One frame that left by a device of that kind, for tests. Pure. */
void watch_judge(struct watch *w, const struct watch_device *d, const uint8_t *frame, size_t len);
