/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "dom0/serverd/hop_private.h"

#define DEFAULT_DIRECTORY "/var/run/qubes"
#define BEGIN             "qubesdb."
#define END               ".sock"

int hop_socket(const struct hops *all, const char *name, char ret[static HOP_SOCKET_MAX])
{
    int n = snprintf(ret, HOP_SOCKET_MAX, "%s/" BEGIN "%s" END, all->directory, name);

    return n < 0 || n >= HOP_SOCKET_MAX ? -ENAMETOOLONG : 0;
}

/* ---- the directory ---- */

/* The qube whose socket has this file name. */
static bool name_of(const char *file, char ret[static QUBE_NAME_MAX])
{
    size_t len = strlen(file), begin = strlen(BEGIN), end = strlen(END);

    if (len <= begin + end || len - begin - end >= QUBE_NAME_MAX ||
        strncmp(file, BEGIN, begin) != 0 || strcmp(file + len - end, END) != 0)
        return false;
    len -= begin + end;
    memcpy(ret, file + begin, len);
    ret[len] = '\0';
    return true;
}

static void check_all(struct hops *all)
{
    for (size_t i = 0; i < all->n; i++)
        hop_check(all->hops[i]);
}

static bool watch_directory(struct hops *all)
{
    const uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM |
                          IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

    if (all->fd >= 0 && all->watch < 0)
        all->watch = inotify_add_watch(all->fd, all->directory, mask);
    all->watched = all->watch >= 0;
    return all->watched;
}

/* It may have been made anew; else connections are retried by time. */
static void directory_gone(struct hops *all)
{
    if (all->watch >= 0)
        (void)inotify_rm_watch(all->fd, all->watch);
    all->watch = -1;
    (void)watch_directory(all);
    check_all(all);
}

static void on_file(struct hops *all, uint32_t mask, const char *file)
{
    char name[QUBE_NAME_MAX];
    struct hop *h = name_of(file, name) ? hops_find(all, name) : NULL;

    if (!h)
        return;
    if (mask & (IN_DELETE | IN_MOVED_FROM))
        all->config.vanished(h, all->config.user);
    else if (mask & (IN_CREATE | IN_MOVED_TO))
        hop_reopen(h);
    else if (!h->conn)
        hop_check(h);
}

static int on_inotify(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct hops *all = user;
    char buffer[4096];
    ssize_t n = read(fd, buffer, sizeof(buffer));
    struct cursor in = cursor_from(buffer, n > 0 ? (size_t)n : 0);

    (void)source;
    (void)revents;
    while (in.left > 0) {
        struct inotify_event e;
        const char *file;

        cursor_copy(&in, &e, sizeof(e));
        file = (const char *)cursor_take(&in, e.len);
        if (!cursor_ok(&in))
            break;
        if (e.mask & IN_Q_OVERFLOW)
            check_all(all);
        else if (e.wd != all->watch)
            continue;
        else if (e.mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
            directory_gone(all);
        else if (e.len > 0 && file[e.len - 1] == '\0')
            on_file(all, e.mask, file);
    }
    return 0;
}

int hops_each_socket(const struct hops *all, void (*fn)(const char *name, void *user), void *user)
{
    DIR *dir = opendir(all->directory);
    const struct dirent *entry;
    char name[QUBE_NAME_MAX];

    if (!dir)
        return -errno;
    while ((entry = readdir(dir)) != NULL) {
        size_t len;

        if (!name_of(entry->d_name, name) || strcmp(name, "dom0") == 0)
            continue;
        len = strlen(name);
        if (len > 3 && strcmp(name + len - 3, ".ro") == 0)
            continue; /* the read-only socket of another */
        fn(name, user);
    }
    (void)closedir(dir);
    return 0;
}

/* ---- the set ---- */

static size_t position(const struct hops *all, const char *name)
{
    size_t low = 0, high = all->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(all->hops[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t hops_count(const struct hops *all)
{
    return all->n;
}

struct hop *hops_at(const struct hops *all, size_t i)
{
    return all->hops[i];
}

struct hop *hops_find(const struct hops *all, const char *name)
{
    size_t i = position(all, name);

    return i < all->n && strcmp(all->hops[i]->name, name) == 0 ? all->hops[i] : NULL;
}

int hops_open(struct hops *all, const char *name, struct hop **ret)
{
    size_t i = position(all, name);
    struct hop *h;
    int r;

    if (i < all->n && strcmp(all->hops[i]->name, name) == 0) {
        *ret = all->hops[i];
        return 0;
    }
    if (!tree_valid_name(str_from(name)))
        return -EINVAL;
    if (all->n == all->capacity) {
        size_t capacity = all->capacity ? all->capacity * 2 : 16;
        struct hop **grown = reallocarray(all->hops, capacity, sizeof(struct hop *));

        if (!grown)
            return -ENOMEM;
        all->hops = grown;
        all->capacity = capacity;
    }
    (void)watch_directory(all); /* before looking, so that no appearance is missed */
    r = hop_new(all, name, &h);
    if (r < 0)
        return r;
    memmove(&all->hops[i + 1], &all->hops[i], (all->n - i) * sizeof(struct hop *));
    all->hops[i] = h;
    all->n++;
    *ret = h;
    return 0;
}

void hops_close(struct hops *all, struct hop *h)
{
    size_t i = position(all, h->name);

    all->n--;
    memmove(&all->hops[i], &all->hops[i + 1], (all->n - i) * sizeof(struct hop *));
    hop_free(h);
}

struct hops *hops_free(struct hops *all)
{
    if (!all)
        return NULL;
    while (all->n > 0)
        hop_free(all->hops[--all->n]);
    free(all->hops);
    all->inotify = sd_event_source_disable_unref(all->inotify);
    all->fd = close_fd(all->fd);
    free(all->directory);
    sd_event_unref(all->event);
    free(all);
    return NULL;
}

void hops_freep(struct hops **all)
{
    *all = hops_free(*all);
}

int hops_new(sd_event *event, const struct hops_config *config, struct hops **ret)
{
    _cleanup_(hops_freep) struct hops *all = calloc(1, sizeof(*all));
    const char *directory = config->directory;
    int r = 0;

    if (!all)
        return -ENOMEM;
    all->event = sd_event_ref(event);
    all->config = *config;
    all->fd = all->watch = -1;
    if (!directory)
        directory = secure_getenv("QUBESDB_DIRECTORY");
    all->directory = strdup(directory && *directory ? directory : DEFAULT_DIRECTORY);
    if (!all->directory)
        return -ENOMEM;
    all->config.directory = NULL;
    all->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (all->fd >= 0)
        r = sd_event_add_io(event, &all->inotify, all->fd, EPOLLIN, on_inotify, all);
    if (r < 0)
        return r;
    (void)watch_directory(all);
    *ret = TAKE_PTR(all);
    return 0;
}
