/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-network-serverd: events of qubesd go into the tree at once, the wish is computed from it,
 * and each qube's QubesDB gets the difference. What an event cannot tell is read afterwards; all of
 * it is read at each connection to qubesd and every 10 minutes. Without qubesd's word what stands
 * stays, what vanishes is taken back, and nothing new opens.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "adminapi/client.h"
#include "dom0/serverd/events.h"
#include "dom0/serverd/hop.h"
#include "dom0/serverd/live.h"
#include "dom0/serverd/plan.h"
#include "dom0/serverd/reads.h"
#include "dom0/serverd/wished.h"
#include "dom0/tree/tree.h"

#define MANAGER_FULL_USEC UINT64_C(600000000) /* between full readings */

struct manager_config {
    const char *qubesd;            /* NULL: the usual places */
    const char *qubesdb_directory;
    const char *runtime;           /* folder of our own */
    bool dry_run;                  /* print what would be written, then end */
    bool json;                     /* ... as JSON */
};

struct control_server;

struct reload { /* a firewall block that qubesd has to write again, once our writes are done */
    char qube[QUBE_NAME_MAX], hop[QUBE_NAME_MAX];
};

#define MOVERS_MAX 32

struct mover { /* a qube whose net qube is being changed, and no event has said yet that it was */
    char qube[QUBE_NAME_MAX];
    uint64_t until;
};

struct manager {
    struct manager_config config;
    sd_event *event;
    struct tree *tree;
    struct admin_client *client;
    struct reads *reads;
    struct hops *hops;
    struct control_server *control;
    struct wished wished;
    struct live live;      /* as in the file, or as it should be there */
    char *live_path, *live_text, *control_path; /* owned */
    struct reload *reloads; /* owned */
    size_t n_reloads, reloads_capacity;
    struct mover movers[MOVERS_MAX];
    size_t n_movers;
    sd_event_source *full_timer, *expiry_timer, *repair_timer, *clock_source;

    bool connected; /* the stream stands */
    bool synced;    /* and everything was read since */
    bool ever;      /* everything was read at least once */
    int qubesd_error;
    bool said_lost, ready, recompute;
    uint64_t computed, written, full_readings; /* for the status */
};

int manager_new(const struct manager_config *config, struct manager **ret);
struct manager *manager_free(struct manager *m);
void manager_freep(struct manager **m);
/* Runs until told to stop. 0 or -errno. */
int manager_run(struct manager *m);

/* ---- between the files of the manager ---- */

/* Computes what is wished and writes it; first: into this QubesDB before all others (NULL: none), for
 * this qube, whose net qube it is going to be. */
void manager_compute(struct manager *m, const struct qube *q, const char *first);
/* Writes what is missing in one QubesDB. Returns how many operations. */
size_t manager_apply(struct manager *m, struct hop *h, const char *mover);

/* QubesDBs that somebody else wrote into, and what could not be done before. */
void manager_repair(struct manager *m);

int sources_new(struct manager *m);
void sources_done(struct manager *m);
void sources_arm_expiry(struct manager *m); /* by wished.all.next_expiry */
void sources_arm_full(struct manager *m, uint64_t usec); /* the next full reading */
void sources_arm_repair(struct manager *m, uint64_t usec); /* at this moment, if nothing is sooner */

/* changes.c: a change of net qube begins, ends, and goes on as long as it has not been said to be
 * over or a second has passed: a reading in between proves nothing. */
void changes_begin(struct manager *m, const char *qube);
void changes_end(struct manager *m, const char *qube);
bool changes_go_on(struct manager *m, const char *qube);
uint64_t changes_check(struct manager *m, uint64_t now); /* when to check next; 0: no need */

/* doubts.c: a qube that was just read and runs is attached where qubesd says, but with which address?
 * What QubesDB has tells, when this one was read. */
void doubts_raise(struct manager *m, struct qube *q);
void doubts_settle(struct manager *m, const struct hop *h);

/* Something was written into the firewall block of this qube in its (new) net qube: once it is done,
 * qubesd is asked to write it again, so that no late write of ours ever replaces its block. */
void reloads_note(struct manager *m, const char *qube, const char *hop);
void reloads_try(struct manager *m);
/* The same for all whose own block this path belongs to. */
void changes_note_block(struct manager *m, const struct hop *h, const char *path,
                        const char *mover);
