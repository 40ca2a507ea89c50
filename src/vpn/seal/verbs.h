/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `on`, `blackhole`, `check`: by the owner where one runs, else by this process itself. Exit
 * status: 0 sealed and read back; 1 not; 3 armed in part (--layers).
 */
#pragma once

#include "vpn/seal/owner.h"

int verb_arm(const struct owner_config *config, bool forget_wish);
int verb_check(const struct owner_config *config, bool json);
