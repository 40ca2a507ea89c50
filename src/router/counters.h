/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel counted for each open address since it was opened, by this program or a
 * predecessor: read when somebody asks, never on an event path.
 */
#pragma once

#include "netlink/nl.h"
#include "router/model.h"

/* Writes slot->counters of every slot. Where reading fails they are not known. */
void counters_read(struct nl_sock *nft, struct model *m);
