/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Follows a part of QubesDB for a program that only reads. It never writes anything. The program
 * is told levels, not edges: a complete reading (begin, entry..., end) at the start, after every
 * reconnection and whenever single changes cannot tell the whole; single keys (changed) in between.
 *
 * How: one connection watches "/" (no other watch hears every directory removal), another reads.
 * The watch is answered before the first reading, so no change falls in between. Events for a key
 * become one READ, however many they are; removal of a directory, or many keys at once, becomes a
 * complete reading. A lost connection is retried after 100 ms, doubling to 5 s, and at once when
 * the socket appears (inotify). Connected and idle, no timer runs.
 *
 * Fail closed: a reading that breaks off never reaches end(). More than QDB_MIRROR_KEYS_MAX wanted
 * keys give no end() either but lost(-E2BIG); it is tried again at the next change, with the same
 * back-off. Values are whatever a local user could write: at most 3071 bytes of any kind. Paths are
 * checked for form only.
 *
 * All callbacks come from the event loop, none from inside the functions below. qdb_mirror_reread()
 * may be called in a callback, qdb_mirror_free() must not. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/str.h"

#define QDB_MIRROR_KEYS_MAX 100000

struct qdb_mirror;

struct qdb_mirror_config {
    /*
     * NULL: $QUBESDB_SOCKET, else /run/qubes/qubesdb.sock. When the path ends in ".sock" and a
     * read-only socket (".ro.sock" instead) is beside it, that one is preferred.
     */
    const char *socket;
    /* What to read: plain string prefixes, each valid as a path, NULL at the end. At least one. */
    const char *const *prefixes;
    uint64_t timeout_usec; /* limit of one exchange; 0: 5 s */

    /* Which keys under the prefixes to deliver; the others are dropped unread. NULL: all. */
    bool (*wants)(const char *path, void *user);
    /* A reading begins; what was collected in one that did not end is void. */
    void (*begin)(void *user);
    void (*entry)(const char *path, struct str value, void *user); /* a key may come twice */
    /* The reading is complete: it replaces everything known. */
    void (*end)(void *user);
    /* One key changed after a reading; value NULL: it is gone. May repeat what is known. */
    void (*changed)(const char *path, const struct str *value, void *user);
    /*
     * Not readable from now on (-errno says why), or not at the start. Told once, and again when
     * -E2BIG takes turns with other causes. What is known stays as it is until the next end().
     */
    void (*lost)(int error, void *user);
    void *user;
};

/*
 * Strings of config are copied, callbacks all needed but wants. Succeeds without a daemon.
 * -EINVAL: no prefix, or one that is no path; -ENOMEM; -errno of the event loop.
 */
int qdb_mirror_new(sd_event *event, const struct qdb_mirror_config *config,
                   struct qdb_mirror **ret);
struct qdb_mirror *qdb_mirror_free(struct qdb_mirror *m); /* NULL is fine */
void qdb_mirror_freep(struct qdb_mirror **m);

/* The last complete reading and all changes since are what QubesDB holds, as far as it told. */
bool qdb_mirror_is_readable(const struct qdb_mirror *m);

/* A complete reading again, e.g. on SIGHUP; when not connected, tries to connect now. */
int qdb_mirror_reread(struct qdb_mirror *m);
