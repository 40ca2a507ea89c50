/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/local_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/cursor.h"

static void on_directory_event(struct local_watch *w, const struct inotify_event *e)
{
    if (e->wd >= 0 && e->wd != w->watch)
        return; /* of a watch that has ended */
    if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        local_watch_stop(w);
        w->noticed(false, w->user);
    } else {
        /* Whatever its name: the socket may be a link to what appeared. */
        w->noticed(true, w->user);
    }
}

static int on_inotify(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct local_watch *w = user;
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
        on_directory_event(w, &e);
    }
    return 0;
}

int local_connect(const char *path, int *ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(closep) int fd = -1;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* A local socket connects at once or not at all; EAGAIN says that its backlog is full. */
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

int local_watch_init(struct local_watch *w, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user)
{
    const char *slash = strrchr(socket, '/');

    *w = (struct local_watch){.fd = -1, .watch = -1, .noticed = noticed, .user = user};
    if (!slash)
        w->directory = strdup(".");
    else
        w->directory = strndup(socket, slash > socket ? (size_t)(slash - socket) : 1);
    if (!w->directory)
        return -ENOMEM;
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd < 0)
        return 0; /* no inotify to be had: as if the directory did not exist */
    return sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_inotify, w);
}

void local_watch_done(struct local_watch *w)
{
    w->source = sd_event_source_disable_unref(w->source);
    w->fd = close_fd(w->fd);
    w->watch = -1;
    free(w->directory);
    w->directory = NULL;
}

bool local_watch_start(struct local_watch *w)
{
    const uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

    if (w->fd >= 0 && w->watch < 0)
        w->watch = inotify_add_watch(w->fd, w->directory, mask | IN_ONLYDIR);
    return w->watch >= 0;
}

void local_watch_stop(struct local_watch *w)
{
    if (w->watch >= 0)
        (void)inotify_rm_watch(w->fd, w->watch);
    w->watch = -1;
}
