/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/uapi_link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vpn/client/uapi.h"

#define OWED_MAX       8
#define PATIENCE       5000000ull /* microseconds */
#define PATIENCE_FIRST 10000000ull
#define READ_STEP      4096
#define NOW_LIMIT      1 /* seconds */

struct bytes { /* may hold keys: wiped whenever they move */
    char *p;
    size_t len, size;
};

struct uapi_link {
    sd_event_source *io, *limit;
    int fd;
    struct bytes out, in;
    uint32_t owed[OWED_MAX]; /* tags in the order of the requests */
    size_t sizes[OWED_MAX];  /* bytes of each that are still in out */
    size_t n_owed;
    uint64_t patience_first; /* 0: the first answer has come */
    uint64_t patience;
    uapi_link_fn fn;
    void *user;
    bool *ret_freed; /* set while the callback runs */
};

static void bytes_free(struct bytes *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->size);
    free(b->p);
    *b = (struct bytes){0};
}

/* Room for more bytes; at most max in all. Not realloc(), which would leave a copy behind. */
static int bytes_reserve(struct bytes *b, size_t more, size_t max)
{
    struct bytes bigger = {.size = b->size};

    if (more > max || b->len > max - more)
        return -EMSGSIZE;
    if (b->len + more <= b->size)
        return 0;
    while (bigger.size < b->len + more)
        bigger.size = bigger.size > 0 ? bigger.size * 2 : READ_STEP;
    bigger.p = malloc(bigger.size);
    if (bigger.p == NULL)
        return -ENOMEM;
    if (b->len > 0)
        memcpy(bigger.p, b->p, b->len);
    bigger.len = b->len;
    bytes_free(b);
    *b = bigger;
    return 0;
}

static void bytes_drop(struct bytes *b, size_t n)
{
    memmove(b->p, b->p + n, b->len - n);
    explicit_bzero(b->p + b->len - n, n);
    b->len -= n;
}

static int address(const char *path, struct sockaddr_un *ret)
{
    size_t len = strlen(path);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len >= sizeof(ret->sun_path))
        return -ENAMETOOLONG;
    memcpy(ret->sun_path, path, len);
    return 0;
}

static int connect_to(const char *path, int flags, int *ret)
{
    struct sockaddr_un to;
    _cleanup_(closep) int fd = -1;
    int r = address(path, &to);

    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

int uapi_listen(const char *path, int *ret_fd)
{
    struct sockaddr_un at;
    _cleanup_(closep) int fd = -1;
    int r = address(path, &at);

    if (r < 0)
        return r;
    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* before bind(): the name never exists with another mode */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void tell(struct uapi_link *l, uint32_t tag, int error, const struct wg_device *d,
                 bool *ret_freed)
{
    l->ret_freed = ret_freed;
    l->fn(tag, error, d, l->user);
    if (!*ret_freed)
        l->ret_freed = NULL;
}

static void break_off(struct uapi_link *l, int error)
{
    bool freed = false;

    l->io = sd_event_source_disable_unref(l->io);
    l->limit = sd_event_source_disable_unref(l->limit);
    l->n_owed = 0;
    tell(l, 0, error, NULL, &freed);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *user)
{
    (void)source;
    (void)usec;
    break_off(user, -ETIMEDOUT);
    return 0;
}

/* Time runs while something is owed, anew with every answer. */
static int arm_limit(struct uapi_link *l)
{
    uint64_t patience = l->patience_first > 0 ? l->patience_first : l->patience;
    int r;

    if (l->n_owed == 0)
        return sd_event_source_set_enabled(l->limit, SD_EVENT_OFF);
    r = sd_event_source_set_time(l->limit, clock_now_us() + patience);
    return r < 0 ? r : sd_event_source_set_enabled(l->limit, SD_EVENT_ONESHOT);
}

/*
 * One request at a time: wireguard-go reads ahead while it takes a "set" and forgets what came
 * behind it (device/uapi.go: IpcSetOperation has a scanner of its own).
 */
static int flush(struct uapi_link *l)
{
    uint32_t events = EPOLLIN;

    while (l->n_owed > 0 && l->sizes[0] > 0) {
        ssize_t n = send(l->fd, l->out.p, l->sizes[0], MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        if (n < 0) {
            events |= EPOLLOUT;
            break;
        }
        bytes_drop(&l->out, (size_t)n);
        l->sizes[0] -= (size_t)n;
    }
    return sd_event_source_set_io_events(l->io, events);
}

/* 1: one answer was handed over, 0: none is whole; the link may be gone when *ret_freed. */
static int take_answer(struct uapi_link *l, bool *ret_freed)
{
    size_t size = uapi_reply_size(l->in.p, l->in.len);
    struct wg_device d = {0};
    uint32_t tag;
    int error;

    if (size == 0)
        return l->in.len >= UAPI_REPLY_MAX ? -EMSGSIZE : 0;
    if (l->n_owed == 0 || l->sizes[0] > 0)
        return -EBADMSG; /* an answer to nothing */
    error = uapi_parse_reply(l->in.p, size, &d);
    bytes_drop(&l->in, size);
    tag = l->owed[0];
    l->n_owed--;
    l->patience_first = 0;
    memmove(l->owed, l->owed + 1, l->n_owed * sizeof(l->owed[0]));
    memmove(l->sizes, l->sizes + 1, l->n_owed * sizeof(l->sizes[0]));
    (void)arm_limit(l);
    (void)flush(l);
    tell(l, tag, error, &d, ret_freed);
    wg_device_wipe(&d);
    return 1;
}

/* 1: bytes came, 0: nothing more now. */
static int fill(struct uapi_link *l)
{
    int r = bytes_reserve(&l->in, READ_STEP, UAPI_REPLY_MAX + READ_STEP);
    ssize_t n;

    if (r < 0)
        return r;
    do
        n = recv(l->fd, l->in.p + l->in.len, READ_STEP, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    l->in.len += (size_t)n;
    return 1;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct uapi_link *l = user;
    bool freed = false;
    int r = 0;

    (void)source;
    (void)fd;
    if (revents & EPOLLOUT)
        r = flush(l);
    if (r >= 0 && (revents & ~(uint32_t)EPOLLOUT))
        r = fill(l);
    while (r > 0 && !freed && l->io != NULL)
        r = take_answer(l, &freed);
    if (r < 0 && !freed)
        break_off(l, r);
    return 0;
}

static int request(struct uapi_link *l, uint32_t tag, const char *text, size_t len)
{
    int r;

    if (l->io == NULL)
        return -ENOTCONN;
    if (l->n_owed >= OWED_MAX)
        return -EBUSY;
    r = bytes_reserve(&l->out, len, OWED_MAX * UAPI_REQUEST_MAX);
    if (r < 0)
        return r;
    memcpy(l->out.p + l->out.len, text, len);
    l->out.len += len;
    l->sizes[l->n_owed] = len;
    l->owed[l->n_owed++] = tag;
    if (l->n_owed == 1)
        (void)arm_limit(l);
    /* an error comes back as an event on the socket, where it is told */
    (void)flush(l);
    return 0;
}

void uapi_link_set_patience(struct uapi_link *l, uint64_t first, uint64_t later)
{
    l->patience_first = first;
    l->patience = later;
}

int uapi_link_get(struct uapi_link *l, uint32_t tag)
{
    return request(l, tag, UAPI_GET, sizeof(UAPI_GET) - 1);
}

int uapi_link_set(struct uapi_link *l, uint32_t tag, const struct wg_device *d, enum wg_set what)
{
    struct bytes text = {0};
    ssize_t n;
    int r = bytes_reserve(&text, UAPI_REQUEST_MAX, UAPI_REQUEST_MAX);

    if (r < 0)
        return r;
    n = uapi_format_set(d, what, text.p, text.size);
    r = n < 0 ? (int)n : request(l, tag, text.p, (size_t)n);
    bytes_free(&text);
    return r;
}

int uapi_link_open(sd_event *loop, const char *path, uapi_link_fn fn, void *user,
                   struct uapi_link **ret)
{
    struct uapi_link *l = calloc(1, sizeof(*l));
    int r;

    if (l == NULL)
        return -ENOMEM;
    l->fd = -1;
    l->patience_first = PATIENCE_FIRST;
    l->patience = PATIENCE;
    l->fn = fn;
    l->user = user;
    r = connect_to(path, SOCK_NONBLOCK, &l->fd);
    if (r >= 0)
        r = sd_event_add_io(loop, &l->io, l->fd, EPOLLIN, on_io, l);
    if (r >= 0)
        r = sd_event_add_time_relative(loop, &l->limit, CLOCK_MONOTONIC, PATIENCE, 1, on_limit, l);
    /* after a hold-up both are due: what has come is looked at first */
    if (r >= 0)
        r = sd_event_source_set_priority(l->limit, SD_EVENT_PRIORITY_NORMAL + 1);
    if (r >= 0)
        r = sd_event_source_set_enabled(l->limit, SD_EVENT_OFF);
    if (r < 0) {
        (void)uapi_link_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct uapi_link *uapi_link_free(struct uapi_link *l)
{
    if (l == NULL)
        return NULL;
    if (l->ret_freed != NULL)
        *l->ret_freed = true;
    l->io = sd_event_source_disable_unref(l->io);
    l->limit = sd_event_source_disable_unref(l->limit);
    bytes_free(&l->out);
    bytes_free(&l->in);
    l->fd = close_fd(l->fd);
    free(l);
    return NULL;
}

int uapi_ask_now(const char *path, struct wg_device *ret)
{
    const struct timeval limit = {.tv_sec = NOW_LIMIT};
    struct bytes in = {0};
    _cleanup_(closep) int fd = -1;
    size_t size = 0;
    int r = connect_to(path, 0, &fd);

    if (r < 0)
        return r;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        send(fd, UAPI_GET, sizeof(UAPI_GET) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(UAPI_GET) - 1)
        return -EIO;
    while (r >= 0 && size == 0) {
        ssize_t n;

        r = bytes_reserve(&in, READ_STEP, UAPI_REPLY_MAX);
        if (r < 0)
            break;
        n = recv(fd, in.p + in.len, READ_STEP, 0);
        if (n <= 0) {
            r = n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
            break;
        }
        in.len += (size_t)n;
        size = uapi_reply_size(in.p, in.len);
    }
    if (r >= 0)
        r = uapi_parse_reply(in.p, size, ret);
    bytes_free(&in);
    return r;
}
