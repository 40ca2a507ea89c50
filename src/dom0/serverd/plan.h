/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has to be written into one qube's QubesDB: wished minus present, in this order: everything
 * that must not be there is taken back; the marker; firewall blocks; the door of the qube itself;
 * records. Pure, and the same for a run, for --dry-run and for --withdraw.
 *
 * Swept are: everything below /network-server that is not wished, all of the older package's
 * /qubes-routing-method/ADDR, and firewall blocks with policy accept that are not wished. These end
 * as policy drop and an empty write to the block, never by removal: qubes-firewall would take a
 * block without policy for an error, and drop is what qubesd itself writes. Keys are removed one by
 * one, since a directory's removal is not heard by who watches a key.
 *
 * A firewall block lets an address out at an upper hop. Where the net qube before that hop has rules
 * there (its block, by qubesd), the block gets the same ones and drops the rest: else its own address
 * would be a way round them. While qubesd writes those anew, what stands is left alone.
 */
#pragma once

#include "dom0/serverd/present.h"
#include "dom0/tree/wish.h"

enum plan_flag {
    PLAN_REMOVE_ONLY = 1, /* qubesd is not heard: nothing new opens; what differs is taken back */
    PLAN_FRESH = 2,       /* first plan of a connection: whether the last block was committed is not known */
};

enum op_kind {
    OP_REMOVE,
    OP_WRITE,
};

enum op_what {
    OP_MARKER,
    OP_RECORD,
    OP_INBOUND,
    OP_POLICY, /* policy of a firewall block */
    OP_RULE,   /* a rule that stands in the way of it */
    OP_COMMIT, /* the empty write that makes qubes-firewall read the block */
    OP_OLDER,  /* key of the older package */
};

struct op {
    enum op_kind kind;
    enum op_what what;
    char path[WISH_PATH_MAX];
    struct str value;        /* OP_WRITE; borrowed from the wish or what is present */
    const struct wish *wish; /* whose it is; NULL: nobody's any more */
    bool replaces;           /* a key that was there */
};

struct plan {
    struct op *ops; /* owned */
    size_t n, capacity;
};

/* wishes: those of this qube, sorted by path. 0 or -ENOMEM. */
int plan_make(const struct present *present, const struct wish *wishes, size_t n_wishes,
              unsigned flags, struct plan *ret);
void plan_done(struct plan *p);

/* "remove PATH", "write PATH = VALUE". Returns buf. */
#define PLAN_TEXT_MAX (WISH_PATH_MAX + WISH_VALUE_MAX + 16)
const char *plan_format(const struct op *op, char buf[static PLAN_TEXT_MAX]);
