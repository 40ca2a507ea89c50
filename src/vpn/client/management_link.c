/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/management_link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define READ_SIZE      (16 * 1024)
#define RATE_BURST     (256 * 1024) /* bytes taken at once at most ... */
#define RATE_REFILL    (64 * 1024)  /* ... and each second afterwards */
#define RATE_PAUSE_US  250000
#define RETRY_FIRST_US 1000
#define RETRY_MOST_US  50000
#define OUT_MAX        8192
#define DRAIN_READS    16

struct management_link {
    sd_event *loop; /* borrowed: the owner's */
    const struct management_link_ops *ops;
    void *user;
    struct sockaddr_un address;
    pid_t pid;
    uid_t uid;
    int fd;
    sd_event_source *io;
    sd_event_source *retry; /* of the connection; later: end of a pause in reading */
    sd_event_source *limit;
    uint64_t retry_us;
    bool *ret_freed; /* set while messages are handed out */
    struct management_reader reader;
    char out[OUT_MAX]; /* not sent yet; may hold secrets */
    size_t out_len;
    uint64_t tokens, tokens_us;
};

static void link_close(struct management_link *l)
{
    l->io = sd_event_source_disable_unref(l->io);
    l->retry = sd_event_source_disable_unref(l->retry);
    l->limit = sd_event_source_disable_unref(l->limit);
    l->fd = close_fd(l->fd);
}

/* The last thing done with the link: the owner may free it. */
static void link_lose(struct management_link *l, int error)
{
    link_close(l);
    l->ops->gone(error, l->user);
}

static int link_flush(struct management_link *l)
{
    while (l->out_len > 0) {
        ssize_t n = send(l->fd, l->out, l->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        if (n < 0)
            break;
        memmove(l->out, l->out + n, l->out_len - (size_t)n);
        explicit_bzero(l->out + l->out_len - (size_t)n, (size_t)n);
        l->out_len -= (size_t)n;
    }
    return sd_event_source_set_io_events(l->io, EPOLLIN | (l->out_len > 0 ? EPOLLOUT : 0));
}

/* Hands out whole lines. false: freed. */
static bool link_take(struct management_link *l, const char *bytes, size_t len)
{
    struct str rest = {bytes, len}, line;
    struct management_message m;
    bool freed = false;

    l->ret_freed = &freed;
    while (management_read(&l->reader, &rest, &line)) {
        l->limit = sd_event_source_disable_unref(l->limit);
        management_parse(line, &m);
        if (!l->ops->message(&m, l->user) || freed)
            return false;
    }
    l->ret_freed = NULL;
    return true;
}

/* One read. 1: something came, 0: nothing there, -EPIPE at the end; *ret_freed. */
static int link_read(struct management_link *l, size_t *ret_len, bool *ret_freed)
{
    char bytes[READ_SIZE];
    ssize_t n = recv(l->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    *ret_len = 0;
    *ret_freed = false;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EPIPE;
    *ret_len = (size_t)n;
    *ret_freed = !link_take(l, bytes, (size_t)n);
    return 1;
}

static int link_on_pause_end(sd_event_source *source, uint64_t us, void *user)
{
    struct management_link *l = user;

    (void)source;
    (void)us;
    (void)sd_event_source_set_enabled(l->io, SD_EVENT_ON);
    return 0;
}

/* Takes from the allowance; when it is used up, reading pauses and the other end has to wait. */
static int link_pay(struct management_link *l, size_t len)
{
    uint64_t now = clock_now_us(), gain = (now - l->tokens_us) * RATE_REFILL / 1000000u;

    if (gain > 0) {
        l->tokens = l->tokens + gain > RATE_BURST ? RATE_BURST : l->tokens + gain;
        l->tokens_us = now;
    }
    if (l->tokens > len) {
        l->tokens -= len;
        return 0;
    }
    l->tokens = 0;
    l->retry = sd_event_source_disable_unref(l->retry);
    (void)sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
    return sd_event_add_time_relative(l->loop, &l->retry, CLOCK_MONOTONIC, RATE_PAUSE_US, 10000,
                                      link_on_pause_end, l);
}

static int link_on_io(sd_event_source *source, int fd, uint32_t events, void *user)
{
    struct management_link *l = user;
    size_t len;
    bool freed;
    int r;

    (void)source;
    (void)fd;
    if ((events & EPOLLOUT) != 0) {
        r = link_flush(l);
        if (r < 0) {
            link_lose(l, r);
            return 0;
        }
    }
    r = link_read(l, &len, &freed);
    if (freed)
        return 0;
    if (r > 0)
        r = link_pay(l, len);
    if (r < 0)
        link_lose(l, r);
    return 0;
}

static int link_check_peer(const struct management_link *l, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    return peer.pid == l->pid && peer.uid == l->uid ? 0 : -EPERM;
}

/* 0: connected; -EAGAIN: not there yet. */
static int link_connect(struct management_link *l)
{
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&l->address, sizeof(l->address)) < 0)
        return errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN ? -EAGAIN : -errno;
    r = link_check_peer(l, fd);
    if (r < 0)
        return r;
    r = sd_event_add_io(l->loop, &l->io, fd, EPOLLIN, link_on_io, l);
    if (r < 0)
        return r;
    l->fd = TAKE_FD(fd);
    l->tokens = RATE_BURST;
    l->tokens_us = clock_now_us();
    return link_flush(l);
}

static int link_on_retry(sd_event_source *source, uint64_t us, void *user)
{
    struct management_link *l = user;
    int r = link_connect(l);

    (void)us;
    if (r == 0) {
        l->retry = sd_event_source_disable_unref(l->retry);
        return 0;
    }
    if (r == -EAGAIN) {
        l->retry_us = l->retry_us * 2 > RETRY_MOST_US ? RETRY_MOST_US : l->retry_us * 2;
        r = sd_event_source_set_time_relative(source, l->retry_us);
        if (r >= 0)
            r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    }
    if (r < 0)
        link_lose(l, r);
    return 0;
}

static int link_on_limit(sd_event_source *source, uint64_t us, void *user)
{
    (void)source;
    (void)us;
    link_lose(user, -ETIMEDOUT);
    return 0;
}

static void link_freep(struct management_link **l)
{
    *l = management_link_free(*l);
}

int management_link_new(sd_event *loop, const char *path, pid_t pid, uid_t uid, unsigned limit_ms,
                        const struct management_link_ops *ops, void *user,
                        struct management_link **ret)
{
    _cleanup_(link_freep) struct management_link *l = calloc(1, sizeof(*l));
    size_t len = strlen(path);
    int r;

    if (l == NULL)
        return -ENOMEM;
    l->fd = -1;
    if (len >= sizeof(l->address.sun_path))
        return -ENAMETOOLONG;
    l->address.sun_family = AF_UNIX;
    memcpy(l->address.sun_path, path, len + 1);
    l->loop = loop;
    l->ops = ops;
    l->user = user;
    l->pid = pid;
    l->uid = uid;
    l->retry_us = RETRY_FIRST_US;
    r = sd_event_add_time_relative(loop, &l->retry, CLOCK_MONOTONIC, 0, 1, link_on_retry, l);
    if (r < 0)
        return r;
    /* from now, not from when this round of the loop began; and what has come is looked at first */
    r = sd_event_add_time(loop, &l->limit, CLOCK_MONOTONIC, clock_now_us() + limit_ms * 1000ULL,
                          10000, link_on_limit, l);
    if (r >= 0)
        r = sd_event_source_set_priority(l->limit, SD_EVENT_PRIORITY_NORMAL + 1);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(l);
    return 0;
}

struct management_link *management_link_free(struct management_link *l)
{
    if (l == NULL)
        return NULL;
    if (l->ret_freed != NULL)
        *l->ret_freed = true;
    link_close(l);
    explicit_bzero(l, sizeof(*l));
    free(l);
    return NULL;
}

int management_link_send(struct management_link *l, const char *verb, const char *name,
                         const char *value)
{
    char line[MANAGEMENT_COMMAND_MAX];
    int n = management_write(line, verb, name, value);

    if (n >= 0 && (size_t)n > sizeof(l->out) - l->out_len)
        n = -ENOBUFS; /* it does not listen */
    if (n >= 0) {
        memcpy(l->out + l->out_len, line, (size_t)n);
        l->out_len += (size_t)n;
    }
    explicit_bzero(line, sizeof(line));
    if (n < 0)
        return n;
    if (l->fd >= 0)
        return link_flush(l);
    return l->retry != NULL ? 0 : -ENOTCONN;
}

bool management_link_drain(struct management_link *l)
{
    size_t len;
    bool freed;

    for (int i = 0; i < DRAIN_READS && l->fd >= 0; i++) {
        int r = link_read(l, &len, &freed);

        if (freed)
            return false;
        if (r <= 0)
            break;
    }
    return true;
}
