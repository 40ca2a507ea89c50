/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the daemon's socket is, and notice when it may have appeared (inotify on its directory),
 * so that a program waits for an absent daemon without polling. The directory is watched only on
 * demand: it is shared with others, whose files must not wake up a program that is connected.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

struct qdb_locator {
    char *socket;
    char *ro_socket; /* NULL when socket has no ".sock" to replace; need not exist */
    char *directory;
    int fd, watch;
    sd_event_source *source;
    /*
     * From the event loop. true: something appeared in the directory; false: the directory itself
     * has gone, so nothing more is noticed.
     */
    void (*noticed)(bool appeared, void *user);
    void *user;
};

/*
 * socket: NULL for $QUBESDB_SOCKET, else /run/qubes/qubesdb.sock. l is owned by the caller and
 * must stay where it is. 0, -ENOMEM or -errno of the event loop; qdb_locator_clear() is due anyway.
 */
int qdb_locator_init(struct qdb_locator *l, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user);
void qdb_locator_clear(struct qdb_locator *l);

/* False when the directory cannot be watched (it does not exist): only a timer helps then. */
bool qdb_locator_watch(struct qdb_locator *l);
void qdb_locator_unwatch(struct qdb_locator *l);
