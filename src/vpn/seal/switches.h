/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel switches below /proc/sys/net that the seal sets and never takes back, and the ones that
 * close forwarding when arming fails. The kernel tells nobody when most of them change.
 */
#pragma once

#include "vpn/seal/model.h"

/* Sets what differs. *ret_changed counts; *ret_first names the first that could not be set, or "".
 * A switch that this kernel lacks is none that could be set wrongly. */
#define SWITCH_TEXT 128
void switches_set(const struct seal_model *m, unsigned *ret_changed,
                  char ret_first[static SWITCH_TEXT]);
/* Only reads: the first that differs, or "". */
void switches_check(const struct seal_model *m, char ret_first[static SWITCH_TEXT]);
/* Forwarding of both families off; says for a log line what came of it. The kernel wants
 * CAP_NET_ADMIN for it. */
const char *switches_close_forwarding(void);
