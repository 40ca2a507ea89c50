/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon: sources say "look again", manager_reconcile() looks, plans and applies. Everything a
 * source does is to set a flag or a fact and to schedule one reconciliation, which runs once the
 * pending events were seen.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "reconcile/reconcile.h"
#include "router/apply.h"
#include "router/kernel.h"
#include "router/model.h"
#include "router/watch.h"
#include "router/wishes.h"

struct manager_config {
    const char *qubesdb;     /* NULL: the usual place */
    const char *control;     /* status socket; NULL: none */
    const char *service_dir; /* /run/qubes-service */
    const char *nft_program;
};

struct status_server;
struct peers;

struct manager {
    struct manager_config config;
    sd_event *event;
    struct model *model;
    struct kernel kernel;
    struct wishes *wishes;
    struct watch *watch;
    struct status_server *status;
    struct peers *peers; /* NULL: nobody's peers are named */
    struct rt_monitor *rt_monitor;
    struct nft_monitor *nft_monitor;
    sd_event_source *reconcile_source, *tick, *retry_timer, *rules_timer, *adopt_timer,
        *expiry_timer, *conflict_timer, *clock_source, *service_source;
    bool need_network, need_rules, need_unnotified;
    uint64_t rules_read_us; /* when the rules were last read */
    int64_t next_expiry;    /* seconds; INT64_MAX: none */
    struct reconcile_retry retry;
    int qubesdb_error;      /* -errno while it cannot be read */
    bool said_lost, ready, stop;
    unsigned reconciliations, healed;
};

int manager_new(const struct manager_config *config, struct manager **ret);
struct manager *manager_free(struct manager *m);
void manager_freep(struct manager **m);
/* Runs until told to stop. 0 or -errno. */
int manager_run(struct manager *m);

void manager_schedule(struct manager *m);
/* Looks again now: reads what is flagged, plans, applies. 0, else it is tried again by itself. */
int manager_reconcile(struct manager *m);
/* Plans and applies what is touched without reading anything first. Frees no link. */
void manager_withdraw_now(struct manager *m);
