/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New peers of exposures with log=1, one line each. The kernel remembers for an hour who was named
 * (set "peers"), and sends ten packets a second at most, so that no flood from made-up addresses
 * fills the journal or keeps us awake.
 */
#pragma once

#include "router/manager.h"

/* Begins to listen, once. What hinders it is said once; the exposure is open all the same. */
void peers_listen(struct manager *m);
void peers_stop(struct manager *m);
