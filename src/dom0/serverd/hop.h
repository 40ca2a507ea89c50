/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QubesDB of the qubes that matter, as seen from dom0: one connection each, which reads our
 * keys, follows their changes by a watch on "/" (no other hears every directory removal), and
 * writes. Nothing blocks. The socket is DIRECTORY/qubesdb.NAME.sock; one inotify watch on the
 * directory serves all: it connects when a socket appears, and a socket that was made anew is a
 * new life of the qube, read and written from nothing. Writes are in order, each one message.
 *
 * The keys known (hop_present) are those after everything queued so far; a refused write or a
 * change by somebody else is read back. A daemon that does not answer for 5 s loses the connection;
 * it is tried again after 20 ms, doubling to 5 s, and refused connections no longer than that:
 * then the directory has to tell. Connected and idle, no timer runs.
 *
 * Callbacks come from the event loop, none from inside the functions below; they may call
 * everything but hops_free(). One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "dom0/serverd/present.h"
#include "qubesdb/conn.h"

enum hop_state {
    HOP_DOWN,    /* no connection */
    HOP_READING, /* connected, not everything is known */
    HOP_READY,
};

struct hop;
struct hops;

struct hops_config {
    const char *directory; /* NULL: $QUBESDB_DIRECTORY, else /var/run/qubes */
    /* Everything was read (the first time of a life, or again). */
    void (*ready)(struct hop *h, void *user);
    /* Somebody else changed a key of ours. */
    void (*changed)(struct hop *h, void *user);
    /* Everything written was answered. */
    void (*settled)(struct hop *h, void *user);
    /* No connection (-errno): told for each that ends, and once for those that fail. */
    void (*lost)(struct hop *h, int error, void *user);
    /* A socket of this qube was removed. */
    void (*vanished)(struct hop *h, void *user);
    void *user;
};

#define HOP_FETCHES_MAX 64

struct hop_fetch { /* a key that is being read */
    char path[WISH_PATH_MAX];
    bool again; /* the answer under way is older than what is known to have changed */
};

struct hop {
    struct hops *hops;
    char name[QUBE_NAME_MAX];
    enum hop_state state;
    int error; /* of the last attempt; 0 while connected */
    struct qdb_conn *conn;
    struct present present, incoming;
    unsigned lists_left;
    size_t unanswered;        /* writes and removals */
    size_t blocks_unanswered; /* those of them in firewall blocks */
    struct hop_fetch fetches[HOP_FETCHES_MAX];
    size_t n_fetches;
    char echo[WISH_PATH_MAX]; /* of our own write: the next event, if it is for this path */
    bool reread; /* another complete reading is due */
    bool told;   /* lost() was called since the connection stood */
    sd_event_source *timer;
    uint64_t retry_usec;
    dev_t device; /* of the socket that is connected */
    ino_t inode;
    struct timespec made;
    /* For whoever owns it. */
    uint64_t repaired_at, repair_pause, repair_due; /* usec: fights with a local writer; due 0: none */
    bool swept, dirty;
    bool rules_only; /* the last writes were but rules of firewall blocks, which follow qubesd's */
};

int hops_new(sd_event *event, const struct hops_config *config, struct hops **ret);
struct hops *hops_free(struct hops *all);
void hops_freep(struct hops **all);

size_t hops_count(const struct hops *all);
struct hop *hops_at(const struct hops *all, size_t i); /* sorted by name */
struct hop *hops_find(const struct hops *all, const char *name);
/* Finds or makes it, and begins to connect. -EINVAL (no name of a qube), -ENOMEM, -errno. */
int hops_open(struct hops *all, const char *name, struct hop **ret);
void hops_close(struct hops *all, struct hop *h);
/* Names of all qubes that have a socket now; for when qubesd cannot be asked. */
int hops_each_socket(const struct hops *all, void (*fn)(const char *name, void *user), void *user);

/* A new life: everything known is void. */
void hop_reopen(struct hop *h);
/* The socket is not the one that is connected, or nothing is connected: hop_reopen(). */
void hop_check(struct hop *h);
bool hop_has_socket(const struct hop *h);
/* Reads everything again. */
void hop_reread(struct hop *h);

/* How many more writes fit just now. */
size_t hop_room(const struct hop *h);
/* 0, -ENOTCONN (not ready), -ENOBUFS, -ENOMEM. What was queued is present. */
int hop_write(struct hop *h, const char *path, struct str value);
int hop_remove(struct hop *h, const char *path);
