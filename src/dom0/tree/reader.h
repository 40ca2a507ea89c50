/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills the tree from qubesd: all of it (List, then for each qube GetAll and its features), or one
 * qube. Calls run beside each other; nothing blocks. What qubesd refuses or says badly about one
 * qube leaves that qube incomplete, and is told.
 *
 * What is read of a qube is taken over at once when all of it has come, never in parts: between
 * two features there may be the one that closes what the other opens. The live attachment is not
 * touched: only who follows the events knows it.
 *
 * Answers may be older than events that were heard before them. So for every event that says that
 * something was changed ask reader_read_one(), also during a full reading: what was under way for
 * that qube is thrown away and read again. A full reading is complete when these are read too; it
 * removes the qubes that are gone without telling, so keep no pointers across it.
 *
 * Callbacks come from the event loop only, may read again, but not free the reader. One thread.
 */
#pragma once

#include "adminapi/client.h"
#include "dom0/tree/tree.h"

struct reader;

struct reader_config {
    /*
     * A full reading is complete (error 0), or qubesd could not be asked (-errno; -EPROTO: it gave
     * no list, -E2BIG: one too long, -ENOSPC: more than TREE_QUBES_MAX); some qubes may be newer
     * than before then, none is gone.
     */
    void (*whole)(int error, void *user);
    /* One qube was read; NULL: it does not exist any more. Not told during a full reading. */
    void (*one)(struct qube *q, struct str name, void *user);
    /*
     * qubesd could not be asked about one qube (-errno), which is as it was. The stream of events
     * has ended too then, so a full reading follows. A time limit is not told but tried again. May
     * be NULL.
     */
    void (*failed)(int error, struct str name, void *user);
    /* How far a full reading is, for people; may be NULL. */
    void (*progress)(size_t done, size_t all, void *user);
    void *user;
};

int reader_new(struct admin_client *c, struct tree *t, const struct reader_config *config,
               struct reader **ret);
struct reader *reader_free(struct reader *r);
void reader_freep(struct reader **r);

/* What an error of whole() is for people, as admin_strerror(). */
const char *reader_strerror(int error, char buf[static ADMIN_ERROR_MAX]);

int reader_read_all(struct reader *r); /* one that runs already begins again */
/* -EINVAL: not a name. */
int reader_read_one(struct reader *r, struct str name);
