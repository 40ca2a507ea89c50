/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/seal_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define EXACT          1 /* microseconds; 0 would mean 250 ms to sd-event */
#define RETRY_MIN_USEC 50000
#define RETRY_MAX_USEC 2000000
#define ANSWER_MAX     65536

struct seal_link {
    sd_event *loop; /* referenced */
    char *path;
    struct seal_link_ops ops;
    int fd; /* -1: not connected */
    sd_event_source *io, *limit, *retry;
    uint64_t delay;
    bool told_lost;

    struct wish wish;             /* the newest */
    bool has_wish, sent, granted; /* of the newest, on this connection */
    bool waiting;                 /* for an answer */
    enum request_kind asked;
    bool stale; /* the answer awaited is for a wish that is not the newest any more */
    seal_link_report_fn report;
    void *report_user;
};

static void arm(sd_event_source *timer, uint64_t delay)
{
    (void)sd_event_source_set_time(timer, clock_now_us() + delay);
    (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static void disarm(sd_event_source *timer)
{
    (void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
}

static void end_report(struct seal_link *l, const char *text)
{
    seal_link_report_fn fn = l->report;

    l->report = NULL;
    if (fn != NULL)
        fn(text, l->report_user);
}

/* The connection is no good any more; from the loop only. */
static void link_lose(struct seal_link *l, int error)
{
    l->io = sd_event_source_disable_unref(l->io);
    l->fd = close_fd(l->fd);
    disarm(l->limit);
    l->waiting = l->sent = l->granted = l->stale = false;
    arm(l->retry, l->delay);
    l->delay = l->delay * 2 < RETRY_MAX_USEC ? l->delay * 2 : RETRY_MAX_USEC;
    end_report(l, NULL);
    if (!l->told_lost) {
        l->told_lost = true;
        l->ops.lost(error, l->ops.user);
    }
}

static int link_send(struct seal_link *l, enum request_kind kind)
{
    char text[WISH_TEXT_MAX];
    int n = request_format(kind, &l->wish, text, sizeof(text));

    if (n < 0)
        return n;
    if (send(l->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return -errno;
    l->waiting = true;
    l->asked = kind;
    arm(l->limit, SEAL_ANSWER_USEC);
    return 0;
}

/* Sends what is due. The wish goes before a report. */
static int link_next(struct seal_link *l)
{
    int r = 0;

    if (l->fd < 0 || l->waiting)
        return 0;
    if (l->has_wish && !l->sent) {
        r = link_send(l, REQUEST_SET);
        l->sent = r == 0;
        l->stale = false;
    } else if (l->report != NULL) {
        r = link_send(l, REQUEST_CHECK);
    }
    return r;
}

static void take_set_answer(struct seal_link *l, bool ok, struct str why)
{
    char text[200];

    if (l->stale) /* of an older wish: what counts comes next */
        return;
    if (ok) {
        l->granted = true;
        l->ops.granted(&l->wish, l->ops.user);
    } else {
        l->ops.refused(str_escape(why, text, sizeof(text)), l->ops.user);
    }
}

/* 0, or -EPROTO: that is no answer. text ends in NUL behind len. */
static int take_answer(struct seal_link *l, const char *text, size_t len)
{
    struct str rest = {text, len}, line, key;
    bool ok;

    if (!l->waiting || len == 0 || !str_next(&rest, '\n', &line) || rest.p == NULL)
        return -EPROTO;
    ok = str_is(line, "ok");
    if (!ok && (!str_next(&line, '=', &key) || !str_is(key, "error") || line.p == NULL))
        return -EPROTO;
    l->waiting = false;
    disarm(l->limit);
    l->delay = RETRY_MIN_USEC;
    if (l->asked == REQUEST_SET)
        take_set_answer(l, ok, line);
    else
        end_report(l, ok && rest.len > 0 ? rest.p : NULL);
    return 0;
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct seal_link *l = user;
    _cleanup_(freep) char *text = malloc(ANSWER_MAX + 1);
    ssize_t n;
    int r;

    (void)s;
    (void)revents;
    if (text == NULL)
        return 0; /* asked again at once: memory may come */
    n = recv(fd, text, ANSWER_MAX, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0 || n > ANSWER_MAX) {
        link_lose(l, n < 0 ? -errno : n == 0 ? -ECONNRESET : -EMSGSIZE);
        return 0;
    }
    text[n] = '\0';
    r = take_answer(l, text, (size_t)n);
    if (r == 0)
        r = link_next(l);
    if (r < 0)
        link_lose(l, r);
    return 0;
}

static int on_limit(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    link_lose(user, -ETIMEDOUT);
    return 0;
}

static int link_connect(struct seal_link *l)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    memcpy(to.sun_path, l->path, strlen(l->path)); /* its length was checked */
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        return -errno;
    r = sd_event_add_io(l->loop, &l->io, fd, EPOLLIN, on_socket, l);
    if (r >= 0)
        l->fd = TAKE_FD(fd);
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    struct seal_link *l = user;
    int r = link_connect(l);

    (void)s;
    (void)usec;
    if (r >= 0) {
        l->told_lost = false;
        r = link_next(l);
        if (r >= 0)
            l->ops.back(l->ops.user);
    }
    if (r < 0)
        link_lose(l, r);
    return 0;
}

int seal_link_new(sd_event *loop, const char *path, const struct seal_link_ops *ops,
                  struct seal_link **ret)
{
    _cleanup_(seal_link_freep) struct seal_link *l = calloc(1, sizeof(*l));
    int r;

    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return -ENAMETOOLONG;
    if (l == NULL)
        return -ENOMEM;
    l->fd = -1;
    l->loop = sd_event_ref(loop);
    l->ops = *ops;
    l->delay = RETRY_MIN_USEC;
    l->path = strdup(path);
    if (l->path == NULL)
        return -ENOMEM;
    r = sd_event_add_time(loop, &l->limit, CLOCK_MONOTONIC, UINT64_MAX, EXACT, on_limit, l);
    if (r >= 0)
        r = sd_event_add_time(loop, &l->retry, CLOCK_MONOTONIC, 0, EXACT, on_retry, l);
    if (r < 0)
        return r;
    disarm(l->limit);
    *ret = TAKE_PTR(l);
    return 0;
}

struct seal_link *seal_link_free(struct seal_link *l)
{
    if (l == NULL)
        return NULL;
    l->io = sd_event_source_disable_unref(l->io);
    l->limit = sd_event_source_disable_unref(l->limit);
    l->retry = sd_event_source_disable_unref(l->retry);
    (void)close_fd(l->fd);
    l->loop = sd_event_unref(l->loop);
    free(l->path);
    free(l);
    return NULL;
}

void seal_link_freep(struct seal_link **l)
{
    *l = seal_link_free(*l);
}

/* What cannot be sent now is found out by the limit or the next answer: no callback from here. */
static void link_kick(struct seal_link *l)
{
    if (link_next(l) < 0)
        arm(l->limit, 0);
}

int seal_link_set(struct seal_link *l, const struct wish *wish, const char **ret_why)
{
    int r = wish_check(wish, ret_why);

    if (r < 0)
        return r;
    l->stale = l->waiting && l->asked == REQUEST_SET;
    l->wish = *wish;
    l->has_wish = true;
    l->sent = l->granted = false;
    link_kick(l);
    return 0;
}

bool seal_link_is_connected(const struct seal_link *l)
{
    return l->fd >= 0;
}

bool seal_link_is_settled(const struct seal_link *l)
{
    return l->fd >= 0 && l->granted;
}

const struct wish *seal_link_wish(const struct seal_link *l)
{
    return seal_link_is_settled(l) ? &l->wish : NULL;
}

int seal_link_check(struct seal_link *l, seal_link_report_fn fn, void *user)
{
    if (l->fd < 0)
        return -ENOTCONN;
    if (l->report != NULL)
        return -EBUSY;
    l->report = fn;
    l->report_user = user;
    link_kick(l);
    return 0;
}
