/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/bus_read.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TIME_US UINT64_C(5000000)
#define CHUNK   4096

#define XFS_MAGIC 0x58465342 /* <linux/magic.h> has it since 6.x only */

struct bus_reader {
    sd_event *loop;
    sd_event_source *step, *io, *timer;
    bus_read_fn fn;
    void *user;
    size_t n, at, total;
    int pipe; /* own description of the pipe at[], so that it can be non-blocking; -1 */
    size_t size; /* allocated for the text at[] */
    int fds[BUS_FILES_MAX];
    struct bus_text texts[BUS_FILES_MAX];
};

static void wipe(struct bus_text *t)
{
    if (t->p != NULL)
        explicit_bzero(t->p, t->len);
    free(t->p);
    *t = (struct bus_text){0};
}

struct bus_reader *bus_reader_free(struct bus_reader *r)
{
    if (r == NULL)
        return NULL;
    sd_event_source_disable_unref(r->step);
    sd_event_source_disable_unref(r->io);
    sd_event_source_disable_unref(r->timer);
    (void)close_fd(r->pipe);
    for (size_t i = 0; i < r->n; i++)
        wipe(&r->texts[i]);
    free(r);
    return NULL;
}

static void finish(struct bus_reader *r, int error)
{
    r->io = sd_event_source_disable_unref(r->io);
    r->timer = sd_event_source_disable_unref(r->timer);
    r->step = sd_event_source_disable_unref(r->step);
    r->fn(error, r->texts, r->n, r->user);
}

/* Makes room for one more chunk and the final NUL; realloc() would leave secrets behind. */
static int make_room(struct bus_reader *r)
{
    struct bus_text *t = &r->texts[r->at];
    size_t size = r->size == 0 ? 2 * CHUNK : 2 * r->size;
    char *p;

    if (t->len + CHUNK + 1 <= r->size)
        return 0;
    p = malloc(size);
    if (p == NULL)
        return -ENOMEM;
    if (t->p != NULL) {
        memcpy(p, t->p, t->len);
        explicit_bzero(t->p, t->len);
        free(t->p);
    }
    t->p = p;
    r->size = size;
    return 0;
}

/* One read. 1: there was something; 0: end; -EAGAIN: not now. */
static int read_some(struct bus_reader *r)
{
    struct bus_text *t = &r->texts[r->at];
    int error = make_room(r);
    ssize_t n;

    if (error < 0)
        return error;
    n = r->pipe >= 0 ? read(r->pipe, t->p + t->len, CHUNK)
                     : pread(r->fds[r->at], t->p + t->len, CHUNK, (off_t)t->len);
    if (n < 0)
        return errno == EINTR ? 1 : -errno;
    t->len += (size_t)n;
    r->total += (size_t)n;
    t->p[t->len] = '\0';
    if (t->len > BUS_FILE_MAX || r->total > BUS_READ_TOTAL_MAX)
        return -EFBIG;
    return n > 0;
}

static bool is_local(const struct statfs *fs)
{
    switch ((unsigned long)fs->f_type) {
    case TMPFS_MAGIC: /* memfd too */
    case RAMFS_MAGIC:
    case EXT4_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case XFS_MAGIC:
        return true;
    default:
        return false;
    }
}

/* Decides how fds[at] is read. */
static int open_next(struct bus_reader *r)
{
    char path[32];
    struct statfs fs;
    struct stat st;
    int fd = r->fds[r->at];

    r->size = 0;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode)) {
        if (fstatfs(fd, &fs) < 0)
            return -errno;
        if (!is_local(&fs))
            return -EBADF;
        return st.st_size > BUS_FILE_MAX ? -EFBIG : 0;
    }
    if (!S_ISFIFO(st.st_mode))
        return -EBADF;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    r->pipe = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return r->pipe < 0 ? -errno : 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct bus_reader *r = user;

    (void)s;
    (void)fd;
    (void)revents;
    return sd_event_source_set_enabled(r->step, SD_EVENT_ONESHOT);
}

static int wait_for_pipe(struct bus_reader *r)
{
    int error = 0;

    if (r->io == NULL)
        error = sd_event_add_io(r->loop, &r->io, r->pipe, EPOLLIN, on_io, r);
    if (error >= 0)
        error = sd_event_source_set_enabled(r->io, SD_EVENT_ONESHOT);
    return error < 0 ? error : -EAGAIN;
}

/* Reads on until everything is there (0) or a pipe has nothing yet (-EAGAIN). */
static int go_on(struct bus_reader *r)
{
    int error = 0;

    while (r->at < r->n) {
        if (r->texts[r->at].p == NULL && r->pipe < 0)
            error = open_next(r);
        while (error >= 0 && (error = read_some(r)) > 0)
            ;
        if (error == -EAGAIN && r->pipe >= 0)
            return wait_for_pipe(r);
        if (error < 0)
            return error;
        r->io = sd_event_source_disable_unref(r->io);
        r->pipe = close_fd(r->pipe);
        r->at++;
    }
    return 0;
}

static int on_step(sd_event_source *s, void *user)
{
    struct bus_reader *r = user;
    int error = go_on(r);

    (void)s;
    if (error != -EAGAIN)
        finish(r, error);
    return 0;
}

static int on_time(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    finish(user, -ETIMEDOUT);
    return 0;
}

int bus_reader_new(sd_event *loop, const int *fds, size_t n, bus_read_fn fn, void *user,
                   struct bus_reader **ret)
{
    struct bus_reader *r;
    int error;

    if (n > BUS_FILES_MAX)
        return -E2BIG;
    r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->loop = loop;
    r->fn = fn;
    r->user = user;
    r->n = n;
    r->pipe = -1;
    memcpy(r->fds, fds, n * sizeof(*fds));
    error = sd_event_add_defer(loop, &r->step, on_step, r);
    if (error >= 0)
        error = sd_event_add_time_relative(loop, &r->timer, CLOCK_MONOTONIC, TIME_US, 1000, on_time,
                                           r);
    if (error < 0) {
        (void)bus_reader_free(r);
        return error;
    }
    *ret = r;
    return 0;
}
