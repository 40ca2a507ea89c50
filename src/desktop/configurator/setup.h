/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A provider's file on its way to a tunnel, without a toolkit: the window and `--terminal` show the
 * same steps. Files are read here with the rights of the person; everything else is asked of the
 * supervisor (vpn/object/follow.h), which judges them again. Nothing here waits.
 *
 * One thread, that of the follower. `changed` comes from the loop, or at the end of a call that
 * changes the step. Texts in the view are cleaned (desktop/words), translated, and belong to the
 * setup until its next change. Secrets are wiped as soon as they are handed over and never in a
 * view. Errors: -errno, and the view says in words what happened.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vpn/object/follow.h"

enum setup_step {
    SETUP_CHOOSE,  /* no file yet */
    SETUP_LOOKING, /* the supervisor describes it */
    SETUP_FOUND,   /* described: may be imported, or is refused (view.usable) */
    SETUP_IMPORTING,
    SETUP_SECRETS, /* imported; view.needs names what is still to be given */
    SETUP_READY,   /* imported, nothing is missing: setup_connect(); view.error: what went wrong */
    SETUP_CONNECTING, /* view.error: why the last try failed. Or back to SETUP_SECRETS */
    SETUP_DONE,       /* connected: the follower's state is "up" */
    SETUP_FAILED,     /* view.error; setup_back() to SETUP_CHOOSE */
};

struct setup_view {
    enum setup_step step;
    const char *kind;            /* "OpenVPN", "WireGuard" */
    const char *name;            /* of the profile, proposed or given; a valid one */
    bool usable;                 /* the supervisor would take it */
    bool busy;                   /* a call is on its way */
    const char *const *servers;  /* NULL at the end, as all lists */
    const char *const *found;    /* what is in the file, in plain words: keys, protocol ... */
    const char *const *left_out; /* what will not be used, and why */
    const char *const *refused;  /* why it cannot be taken */
    const char *const *missing; /* files it names that were not found: name them or drop them too */
    const char *const *needs;   /* secrets, by the names of the bus ("user-password") */
    const json_t *endpoints;    /* all of them as the bus has them, for the guide; NULL */
    const char *error;          /* sentences: what happened, what it means, what to do; or "" */
};

struct setup;
struct setup_ops {
    void (*changed)(void *data, const struct setup_view *view);
};

int setup_new(struct setup **ret, struct vpn_follow *f, const struct setup_ops *ops, void *data);
struct setup *setup_free(struct setup *s);
const struct setup_view *setup_look(const struct setup *s);
/* To be called with each status that the follower's `changed` tells: SETUP_CONNECTING ends by it.
 */
void setup_status(struct setup *s, const json_t *status);

/* Files chosen or dropped: the provider's file and those it names, in any order. Where files are
 * missing, others without a profile among them are added to what is there. */
int setup_files(struct setup *s, const char *const *paths, size_t n);
/* A file's text, pasted. */
int setup_text(struct setup *s, const char *text, size_t size);
/* A name for the profile; -EINVAL says why in the view. */
int setup_name(struct setup *s, const char *name);
int setup_import(struct setup *s);
/* user: only for "user-password", else NULL. Both are wiped in the caller's memory, always. */
int setup_secret(struct setup *s, const char *kind, char *user, char *password);
/* A profile that is there already, for its secrets: SETUP_SECRETS, or SETUP_READY without needs. */
int setup_resume(struct setup *s, const char *profile, const json_t *needs);
/* Later: leaves SETUP_SECRETS without giving them. */
int setup_skip(struct setup *s);
/* Chooses the profile and connects. */
int setup_connect(struct setup *s);
void setup_back(struct setup *s);
