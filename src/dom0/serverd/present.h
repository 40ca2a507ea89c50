/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keys of one qube's QubesDB that concern us, as that QubesDB last told them: sorted by path,
 * no I/O. The qube itself can write any of it, so nothing of ours here is ever believed; it is
 * compared with what is wished, and what differs is put right.
 *
 *     /network-server  /network-server-inbound  /network-server/ADDR  /qubes-routing-method/ADDR
 *     /qubes-firewall/ADDR/policy  /qubes-firewall/ADDR/NNNN
 *     /qubes-ip  /mapped-ip/ADDR/visible-ip        (qubesd's, never written by us: see doubts.c)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "dom0/tree/wish.h"

/* Beyond these a qube floods its own QubesDB: what does not fit is not followed. */
#define PRESENT_KEYS_MAX  16384
#define PRESENT_BYTES_MAX (4u << 20)

#define PRESENT_MARKER   "/network-server"
#define PRESENT_RECORDS  "/network-server/"
#define PRESENT_INBOUND  "/network-server-inbound"
#define PRESENT_OLDER    "/qubes-routing-method/"
#define PRESENT_FIREWALL "/qubes-firewall/"
#define PRESENT_POLICY   "/policy"
#define PRESENT_IP       "/qubes-ip"
#define PRESENT_MAPPED   "/mapped-ip/"
#define PRESENT_VISIBLE  "/visible-ip"

struct present_key {
    char path[WISH_PATH_MAX];
    char *value; /* owned, ends in NUL */
    size_t len;
};

struct present {
    struct present_key *keys; /* owned */
    size_t n, capacity, bytes;
    bool overflow; /* something did not fit */
};

void present_done(struct present *p);

/* Is the path one of those above? One that qubesd alone writes? */
bool present_wants(const char *path);
bool present_is_qubesds(const char *path);

const struct present_key *present_find(const struct present *p, const char *path);
/* The first key not before this path; p->n: none. */
size_t present_from(const struct present *p, const char *path);
bool present_is(const struct present *p, const char *path, struct str value);

/* 1: it changed something, 0: it was so, -ENOMEM, -E2BIG (overflow is set). */
int present_set(struct present *p, const char *path, struct str value);
bool present_remove(struct present *p, const char *path); /* false: it was not there */
