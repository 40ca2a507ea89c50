/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Wished minus actual for the router. Pure: reads the model, has no descriptor, clock or errno of
 * its own; the same plan is applied, printed by --dry-run, and tested without a kernel.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "router/access.h"
#include "router/model.h"

enum op_kind {
    OP_ADD,           /* an object comes */
    OP_REMOVE,        /* an object goes */
    OP_FORGET,        /* flows of the address that are not permitted any more end */
    OP_SAVE_SYSCTL,   /* remember the value from before us in the kernel */
    OP_UNSAVE_SYSCTL, /* it was put back */
    OP_WRITE_SYSCTL,
};

struct op {
    enum op_kind kind;
    struct addr addr;           /* ADD, REMOVE, FORGET */
    struct object object;       /* ADD, REMOVE */
    struct sysctl_value sysctl; /* the three others */
    bool failed;                /* written by apply: it was not done */
};

/* What one address should be from now on. */
struct planned {
    struct slot *slot;
    enum verdict verdict;
    char reason[REASON_MAX];
    const struct claim *claim; /* the one that decided; NULL: none */
    struct access access;      /* owned; of an open claim */
    int error;                 /* written by apply: the kernel refused something, -errno */
    bool cut_failed;           /* written by apply: flows that should have ended may go on */
    size_t objects, n_objects; /* wished, in plan->objects */
    bool keep;                 /* of an open record; of the last one when there is none */
    bool changed;              /* something comes or goes */
    bool forget_in, forget_own;
    bool forget_all;  /* also what is permitted: it was tracked on another way */
    bool way_changed; /* a route of ours comes or goes */
};

struct plan {
    struct planned *planned; /* owned */
    size_t n_planned, planned_capacity;
    struct object *objects; /* owned */
    size_t n_objects, objects_capacity;
    struct op *ops; /* owned, in the order of application within each kind */
    size_t n_ops, ops_capacity;
    bool proxies_changed;
    struct port_index *ports; /* owned; who wants which port of this net qube, or NULL */
};

void plan_done(struct plan *p);

/* Plans these slots (a list by next_dirty; nothing is changed in them). 0, -ENOMEM. */
int plan_slots(const struct model *m, struct slot *list, struct plan *p);

/*
 * Sysctls for the state after the plan. Reads all slots; planned ones count by what is wished.
 * Call after plan_slots() with the slots still marked dirty, when proxies changed or sysctls were
 * read back.
 */
int plan_sysctls(const struct model *m, struct plan *p);

/*
 * Interfaces that face the LAN of addr, at most max. Returns how many. *ret_held: one of them holds
 * it by a subnet or a route; else they are all there are.
 */
size_t plan_uplinks(const struct model *m, const struct addr *addr, uint32_t *ret, size_t max,
                    bool *ret_held);

/*
 * An established flow to the address: may it stay under what is wished now?
 * And one that the qube opened itself without masquerading, to `to`.
 */
bool plan_inbound_stays(const struct planned *p, const struct access_flow *flow);
bool plan_outbound_stays(const struct model *m, const struct planned *p, const struct addr *to);

/* After it was applied: are there flows that have to be ended once? Writes slot->lent and owes. */
void plan_note_flows(const struct model *m, const struct planned *p);

int plan_add_op(struct plan *p, const struct op *op);
const char *plan_verdict_name(enum verdict v); /* "open", "no-vif", ... for --json too */
