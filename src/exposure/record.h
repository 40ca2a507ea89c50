/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of one exposed address, as dom0 writes it into the QubesDB of each net qube on the
 * way (one line, fields separated by '|'):
 *
 *     v=1|vm=NAME|xid=N[,M] or pending|via=ADDR or direct|edge=0 or 1|mode=forward or publish
 *        |allow=...|publish=...|expires=2026-12-31T18:00:00Z|limit=N|log=1|keep=1
 *
 * and as a user of a stock dom0 writes it into /vm-config/expose.ADDR: the same line without vm
 * and xid, via=direct (may be left out), edge=1 when left out.
 * v comes first; every other order is fine. An unknown, repeated, missing or malformed field
 * refuses the record as a whole, so that nobody is ever served more than was understood.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"
#include "exposure/allow.h"

#define RECORD_WHY_MAX 224
#define QUBE_NAME_MAX  32 /* with NUL; Qubes: 31 characters, core-admin qubes/vm */
#define RECORD_LIMIT_MAX 1000000
#define XID_MAX        32751 /* below DOMID_FIRST_RESERVED 0x7ff0, Xen public/xen.h */

enum record_form {
    RECORD_FORM_DOM0,
    RECORD_FORM_VM_CONFIG,
};

struct record {
    char vm[QUBE_NAME_MAX]; /* "" in the vm-config form */
    uint16_t xid[2];        /* the qube (or next hop) and its stub domain; 0: none, any vif */
    bool pending;           /* the qube is about to start: prepare, open nothing */
    struct addr via;        /* family 0: directly attached */
    bool edge;              /* this net qube faces the LAN */
    bool forward;           /* own address; false: published ports only */
    bool has_allow;         /* false: every port */
    struct allow allow;
    struct publish publish;
    int64_t expires; /* seconds since 1970 UTC; 0: never */
    uint32_t limit;  /* new connections a second that each source may open; 0: any number */
    bool log;        /* new peers are named in the journal */
    bool keep;       /* established flows survive a withdrawal */
};

/* 0, -EINVAL (why: a phrase for people) or -ENOMEM. *ret is owned, record_done() frees it. */
int record_parse(struct str line, enum record_form form, struct record *ret,
                 char why[static RECORD_WHY_MAX]);
void record_done(struct record *record);

/* A strict UTC time, "2026-12-31T18:00:00Z". -EINVAL. */
int record_parse_time(struct str text, int64_t *ret);
