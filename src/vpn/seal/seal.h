/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pass: read, compare, change the difference, read again, until nothing is left to do. Used by
 * the owner for every event and by the verbs once. Armed means: read back and found whole.
 */
#pragma once

#include "netlink/nl.h"
#include "vpn/seal/plan.h"

struct seal {
    struct seal_config config;
    const char *nft_program;
    struct nl_sock *rt, *nft; /* owned */
    /* The socket nft is about to be closed: whoever else holds it closes it now. May be NULL. */
    void (*let_go)(void *user);
    void *user;
    struct seal_model model;
    struct wish wish;
    bool adopted; /* the wish was read from the kernel, or set */
    bool asked_to_own;
    bool armed;   /* after the last pass: all configured layers are whole */
    unsigned broken;         /* layers that are not */
    unsigned changed;        /* what the last pass had to change */
    unsigned stuck;          /* passes in a row that did nothing of what they had to */
    bool restored;           /* the last pass found rules or routes of the seal missing */
    char foreign[SEAL_OP_TEXT]; /* a rule of somebody else's that the last pass removed, or "" */
    char why[640];           /* not armed: in words */
};

/* nft_fd: a socket that an earlier owner kept, or -1; it is taken over. */
int seal_open(struct seal *s, const struct seal_config *config, const char *nft_program,
              int nft_fd);
void seal_close(struct seal *s);

/* 0: s->armed tells. -errno: nothing could even be read. */
int seal_pass(struct seal *s);
/* Why it could not be armed, for people: r is what seal_pass() or seal_open() said. Borrowed. */
const char *seal_strerror(const struct seal *s, int r);
/* Reads and plans, changes nothing. The list of struct seal_op is the caller's. */
int seal_look(struct seal *s, struct items *ret_ops, char ret_switch[static 128]);
