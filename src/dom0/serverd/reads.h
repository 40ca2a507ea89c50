/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the tree is read from qubesd: one qube, or all of it, at once or 60 ms after the first wish
 * for it (events come in bursts). An answer may be older than an event that was heard before it, so
 * what is being read of a qube while something is said of it is read anew (reads_heard(); the reader
 * throws away what was under way).
 *
 * Callbacks come from the event loop. One thread.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "adminapi/client.h"
#include "dom0/tree/tree.h"

#define READS_PAUSE_USEC 60000

struct reads;

struct reads_config {
    /* A qube was read after everything that was heard of it. NULL: it does not exist any more. */
    void (*one)(struct qube *q, const char *name, void *user);
    /* Everything was read; -errno: qubesd could not be asked. */
    void (*whole)(int error, void *user);
    void *user;
};

int reads_new(sd_event *event, struct admin_client *c, struct tree *t,
              const struct reads_config *config, struct reads **ret);
struct reads *reads_free(struct reads *r);
void reads_freep(struct reads **r);

void reads_mark(struct reads *r, const char *name, bool now);
void reads_mark_all(struct reads *r, bool now);
/* To be told of every event about a qube. */
void reads_heard(struct reads *r, const char *name);
/* qubesd is gone: nothing that is under way counts any more. */
void reads_stop(struct reads *r);
bool reads_whole_under_way(const struct reads *r);
