/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a supervisor has to know of the WireGuard client before it starts one: how its carrier is
 * told from other packets. The kernel's socket belongs to no user, its packets carry SEAL_MARK
 * (struct carrier: marked); those of wireguard-go carry its user and no mark.
 */
#pragma once

/*
 * 1: this kernel has WireGuard (its module is loaded by the question); 0: it has none and
 * wireguard-go will be used; -errno. Needs no right. The answer stays, but for a module that is
 * added or removed.
 */
int wireguard_in_kernel(void);
