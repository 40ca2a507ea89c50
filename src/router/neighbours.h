/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hosts of the LAN that the kernel knows, for dom0, which must not give a qube the address of
 * one of them. Read from the kernel when somebody asks for the status; nothing is sent, so a host
 * that this net qube never spoke with is not among them.
 */
#pragma once

#include <jansson.h>

#include "netlink/nl.h"
#include "router/model.h"

#define NEIGHBOURS_MAX 256 /* a busy LAN has more; the rest is left out */

/*
 * [{"address", "mac", "interface", "seen": seconds ago}]: neighbours on uplinks, without "seen" where
 * somebody wrote them down. Empty where the kernel cannot be read, NULL without memory. The caller
 * owns it.
 */
json_t *neighbours_json(struct nl_sock *route, const struct model *m);
