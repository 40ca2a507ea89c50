/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills the tree from qubesd: all of it (List, then for each qube GetAll and its features), or one
 * qube. Calls run beside each other; nothing blocks. What fails for one qube leaves that qube
 * incomplete, and is told.
 */
#pragma once

#include "adminapi/client.h"
#include "dom0/tree/tree.h"

struct reader;

struct reader_config {
    /* A full reading is complete (error 0), or qubesd could not be asked (-errno). */
    void (*whole)(int error, void *user);
    /* One qube was read; NULL: it does not exist any more. Not told during a full reading. */
    void (*one)(struct qube *q, struct str name, void *user);
    /* How far a full reading is, for people; may be NULL. */
    void (*progress)(size_t done, size_t all, void *user);
    void *user;
};

int reader_new(struct admin_client *c, struct tree *t, const struct reader_config *config,
               struct reader **ret);
struct reader *reader_free(struct reader *r);
void reader_freep(struct reader **r);

int reader_read_all(struct reader *r); /* one that runs already begins again */
int reader_read_one(struct reader *r, struct str name);
