/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/locator.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/cursor.h"

#define DEFAULT_SOCKET "/run/qubes/qubesdb.sock"
#define SUFFIX         ".sock"
#define RO_SUFFIX      ".ro.sock"

static int copy_paths(struct qdb_locator *l, const char *socket)
{
    size_t len = strlen(socket), suffix_len = strlen(SUFFIX);
    const char *slash = strrchr(socket, '/');

    l->socket = strdup(socket);
    if (!slash)
        l->directory = strdup(".");
    else
        l->directory = strndup(socket, slash > socket ? (size_t)(slash - socket) : 1);
    if (!l->socket || !l->directory)
        return -ENOMEM;
    if (len <= suffix_len || strcmp(socket + len - suffix_len, SUFFIX) != 0)
        return 0;
    if (asprintf(&l->ro_socket, "%.*s" RO_SUFFIX, (int)(len - suffix_len), socket) < 0) {
        l->ro_socket = NULL;
        return -ENOMEM;
    }
    return 0;
}

static void on_directory_event(struct qdb_locator *l, const struct inotify_event *e)
{
    if (e->wd >= 0 && e->wd != l->watch)
        return; /* of a watch that has ended */
    if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        qdb_locator_unwatch(l);
        l->noticed(false, l->user);
    } else {
        /* Whatever its name: the socket may be a link to what appeared. */
        l->noticed(true, l->user);
    }
}

static int on_inotify(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct qdb_locator *l = user;
    char buffer[4096];
    ssize_t n = read(fd, buffer, sizeof(buffer));
    struct cursor in = cursor_from(buffer, n > 0 ? (size_t)n : 0);

    (void)source;
    (void)revents;
    while (in.left > 0) {
        struct inotify_event e;

        cursor_copy(&in, &e, sizeof(e));
        (void)cursor_take(&in, e.len);
        if (!cursor_ok(&in))
            break;
        on_directory_event(l, &e);
    }
    return 0;
}

int qdb_locator_init(struct qdb_locator *l, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user)
{
    int r;

    *l = (struct qdb_locator){.fd = -1, .watch = -1, .noticed = noticed, .user = user};
    if (!socket)
        socket = secure_getenv("QUBESDB_SOCKET");
    r = copy_paths(l, socket && *socket ? socket : DEFAULT_SOCKET);
    if (r < 0)
        return r;
    l->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (l->fd < 0)
        return 0; /* no inotify to be had: as if the directory did not exist */
    return sd_event_add_io(event, &l->source, l->fd, EPOLLIN, on_inotify, l);
}

void qdb_locator_clear(struct qdb_locator *l)
{
    l->source = sd_event_source_disable_unref(l->source);
    l->fd = close_fd(l->fd);
    l->watch = -1;
    free(l->socket);
    free(l->ro_socket);
    free(l->directory);
    l->socket = l->ro_socket = l->directory = NULL;
}

bool qdb_locator_watch(struct qdb_locator *l)
{
    const uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

    if (l->fd >= 0 && l->watch < 0)
        l->watch = inotify_add_watch(l->fd, l->directory, mask | IN_ONLYDIR);
    return l->watch >= 0;
}

void qdb_locator_unwatch(struct qdb_locator *l)
{
    if (l->watch >= 0)
        (void)inotify_rm_watch(l->fd, l->watch);
    l->watch = -1;
}
