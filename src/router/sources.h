/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that can say "look again": netlink and nft notifications, QubesDB, the watch, signals,
 * the clock, the service folder, and the timers. None of them decides anything.
 */
#pragma once

#include <stdint.h>

#include "router/manager.h"

bool sources_is_vpn_qube(const char *service_dir);

int sources_new(struct manager *m);
void sources_done(struct manager *m);

void sources_arm_retry(struct manager *m, uint64_t delay_us);
void sources_disarm_retry(struct manager *m);
void sources_arm_expiry(struct manager *m);    /* by manager.next_expiry */
void sources_arm_conflicts(struct manager *m); /* by the slots in conflict */
/* Asks at once whether other hosts still have what they had: the LAN may be another one. */
void sources_ask_conflicts(struct manager *m);
