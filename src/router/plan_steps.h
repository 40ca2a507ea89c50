/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the plan share among themselves; nobody else includes it. */
#pragma once

#include "router/plan.h"

#define PLAN_MAX_VIFS 8
/*
 * Of routes by another net qube. The platform's have 32752 - domain id (core-agent-linux
 * vif-route-qubes): never the same, so that its own can always be added, and always preferred.
 */
#define PLAN_WAY_METRIC 40078

/* What the judgement found out and the wish needs. */
struct ground {
    const struct model_link *vifs[PLAN_MAX_VIFS]; /* that carry the address, best first */
    size_t n_vifs;
};

/* Writes the reason; returns the verdict, for `return plan_say(...)`. */
__attribute__((format(printf, 3, 4))) enum verdict
plan_say(struct planned *p, enum verdict verdict, const char *format, ...);

/* One more object for the address being planned. -E2BIG beyond the limit. */
int plan_wish_object(struct plan *p, struct planned *planned, const struct object *o);

/* Which claim of the slot counts: VERDICT_OPEN and p->claim, or why none does. */
enum verdict plan_choose_claim(const struct model *m, const struct slot *slot, struct planned *p);

/* Published ports (plan_publish.c): the index of all that are wanted, and may this one's be. */
struct port_index;
int plan_index_ports(const struct model *m, struct port_index **ret);
struct port_index *plan_free_ports(struct port_index *index);
enum verdict plan_judge_publish(const struct model *m, const struct port_index *index,
                                const struct slot *slot, struct planned *p);

/*
 * The way to an address (plan_chain.c): by a vif of its own, or by that of the net qube that the
 * record names. VERDICT_OPEN: g is filled in.
 */
enum verdict plan_judge_way(const struct model *m, const struct slot *slot, struct planned *p,
                            struct ground *g);
/* What a way by another net qube needs here; nothing for an address of the net qube's own vifs. */
int plan_wish_way(struct plan *p, struct planned *planned, const struct ground *g);
/* The way comes or changes: which flows have to be judged again. */
void plan_note_way(struct planned *planned);
/* Without a wish to go by: may this stay? access: somebody gets in by what stays. */
bool plan_stays_as_found(const struct model *m, const struct slot *slot, const struct object *o,
                         bool access);

/* All objects of an address whose verdict is VERDICT_OPEN. */
int plan_wish(const struct model *m, struct plan *p, struct planned *planned,
              const struct ground *g);
