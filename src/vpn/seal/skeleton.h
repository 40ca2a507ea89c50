/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The constant part of layers N and G: text built into the program, loaded by nft in one
 * transaction, compared by a fingerprint that is kept in the table itself, and held against others
 * by ownership of the table where the kernel knows that (see nft/nft.h).
 */
#pragma once

#include "netlink/nl.h"
#include "vpn/seal/model.h"

#define SKELETON_EGRESS "egress" /* the common chain of layer G */

/* Are the rules those of this program, unchanged? Sets m->loaded and m->owned. 0 or -errno. */
int skeleton_read(struct nl_sock *nft, unsigned layers, struct seal_model *m);

/*
 * Loads what is not as it should be (layers less m->loaded) over whatever is there and takes
 * ownership. why gets what nft said. 0; -EBADMSG: nft refused; -EPERM: another owner lives;
 * -EBUSY: the tables are nft's own socket's: it has to be closed and opened again first, wherever
 * it is held. The routes and the old rules hold while nobody owns the tables.
 */
int skeleton_load(struct nl_sock *nft, const char *nft_program, unsigned layers,
                  const struct seal_model *m, char *why, size_t why_size);
