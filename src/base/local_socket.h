/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client's side of AF_UNIX stream sockets: connecting without blocking, and notice when a socket
 * may have appeared (inotify on its directory), so that a program waits for an absent server
 * without polling. The directory is shared with others: watch it only while there is need, or
 * their files wake up a program that is connected. One thread.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

/*
 * -ENOENT and -ECONNREFUSED (no server), -EAGAIN (its backlog is full: try later), -ENAMETOOLONG,
 * -EACCES, ... *ret is non-blocking, close-on-exec and the caller's.
 */
int local_connect(const char *path, int *ret);

struct local_watch {
    char *directory;
    int fd, watch;
    sd_event_source *source; /* for its priority; NULL when the system has no inotify to give */
    /*
     * From the event loop. true: something appeared in the directory; false: the directory itself
     * has gone, so nothing more is noticed.
     */
    void (*noticed)(bool appeared, void *user);
    void *user;
};

/*
 * socket: the path whose directory is meant. w is owned by the caller and must stay where it is.
 * 0, -ENOMEM or -errno of the event loop; local_watch_done() is due anyway.
 */
int local_watch_init(struct local_watch *w, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user);
void local_watch_done(struct local_watch *w);

/* False when the directory cannot be watched (it does not exist): only a timer helps then. */
bool local_watch_start(struct local_watch *w);
void local_watch_stop(struct local_watch *w);
