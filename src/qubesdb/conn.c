/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/local_socket.h"

#define RECEIVE_SIZE       32768
#define TIMER_ACCURACY_USEC 10000

struct request {
    struct request *next;
    enum qdb_type type;
    char path[QDB_PATH_SIZE];
    void (*answer)(const struct qdb_message *m, void *user);
    void *user;
    size_t size, sent; /* of bytes */
    uint8_t bytes[];
};

struct qdb_conn {
    struct qdb_conn_config config;
    int fd;
    sd_event_source *io, *timer;
    bool timer_on;
    uint32_t mask;
    bool failed;
    bool busy;   /* inside a callback of the event loop */
    bool doomed; /* freed while busy */
    struct qdb_decoder decoder;
    /* Requests in order; from `unsent` on they have not been sent completely. */
    struct request *first, *last, *unsent;
    size_t queued, outstanding;
};

static void requests_clear(struct qdb_conn *c)
{
    while (c->first) {
        struct request *r = c->first;

        c->first = r->next;
        free(r);
    }
    c->last = c->unsent = NULL;
    c->queued = c->outstanding = 0;
}

static void request_done(struct qdb_conn *c)
{
    struct request *r = c->first;

    c->first = r->next;
    if (!c->first)
        c->last = NULL;
    c->queued--;
    c->outstanding--;
    free(r);
}

static void conn_close(struct qdb_conn *c)
{
    c->io = sd_event_source_disable_unref(c->io);
    c->timer = sd_event_source_disable_unref(c->timer);
    c->fd = close_fd(c->fd);
    requests_clear(c);
}

static void conn_destroy(struct qdb_conn *c)
{
    conn_close(c);
    free(c);
}

static void conn_fail(struct qdb_conn *c, int error)
{
    if (c->failed || c->doomed)
        return;
    c->failed = true;
    conn_close(c);
    c->config.failed(error, c->config.user);
}

/* Does this answer fit that request? For lists, every key must have the prefix asked for. */
static bool answer_fits(const struct request *r, const struct qdb_message *m)
{
    bool same = strcmp(r->path, m->path) == 0;
    bool list = r->type == QDB_CMD_LIST || r->type == QDB_CMD_MULTIREAD;

    switch (m->type) {
    case QDB_RESP_OK:
        return same && !list && r->type != QDB_CMD_READ;
    case QDB_RESP_ERROR_NOENT:
        return same && (r->type == QDB_CMD_READ || r->type == QDB_CMD_RM ||
                        r->type == QDB_CMD_UNWATCH);
    case QDB_RESP_ERROR:
        return same;
    case QDB_RESP_READ:
        return same && r->type == QDB_CMD_READ;
    case QDB_RESP_MULTIREAD:
    case QDB_RESP_LIST:
        if (r->type != (m->type == QDB_RESP_LIST ? QDB_CMD_LIST : QDB_CMD_MULTIREAD))
            return false;
        return m->path[0] == '\0' ? m->value.len == 0
                                  : strncmp(m->path, r->path, strlen(r->path)) == 0;
    case QDB_RESP_WATCH:
    case QDB_CMD_READ:
    case QDB_CMD_WRITE:
    case QDB_CMD_MULTIREAD:
    case QDB_CMD_LIST:
    case QDB_CMD_RM:
    case QDB_CMD_WATCH:
    case QDB_CMD_UNWATCH:
        break;
    }
    return false;
}

static bool answer_is_last(const struct qdb_message *m)
{
    return (m->type != QDB_RESP_LIST && m->type != QDB_RESP_MULTIREAD) || m->path[0] == '\0';
}

static int timer_stop(struct qdb_conn *c)
{
    c->timer_on = false;
    return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
}

static int timer_start(struct qdb_conn *c)
{
    int r = sd_event_source_set_time_relative(c->timer, c->config.timeout_usec);

    if (r < 0)
        return r;
    c->timer_on = true;
    return sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Returns 0, or -EPROTO. The connection may have been freed by a callback: look at doomed. */
static int conn_deliver(struct qdb_conn *c, const struct qdb_message *m)
{
    struct request *r = c->first;
    void (*answer)(const struct qdb_message *, void *);
    void *user;

    if (m->type == QDB_RESP_WATCH) {
        if (!c->config.event)
            return -EPROTO;
        c->config.event(m->path, c->config.user);
        return 0;
    }
    if (c->outstanding == 0 || !answer_fits(r, m))
        return -EPROTO;
    answer = r->answer;
    user = r->user;
    if (answer_is_last(m)) {
        request_done(c);
        (void)timer_stop(c); /* the next exchange has its own time */
    }
    answer(m, user);
    return 0;
}

static int conn_receive(struct qdb_conn *c)
{
    uint8_t buffer[RECEIVE_SIZE];
    ssize_t n = recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    struct qdb_message m;
    struct cursor in;
    int r;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    in = cursor_from(buffer, (size_t)n);
    while ((r = qdb_decoder_next(&c->decoder, &in, &m)) > 0) {
        /* A half event that has been completed must not leave its time limit behind. */
        if (c->timer_on && !c->first)
            (void)timer_stop(c);
        r = conn_deliver(c, &m);
        if (r < 0 || c->doomed)
            return r;
    }
    return r;
}

static int conn_transmit(struct qdb_conn *c)
{
    while (c->unsent && c->outstanding < QDB_CONN_OUTSTANDING_MAX) {
        struct request *r = c->unsent;
        ssize_t n = send(c->fd, r->bytes + r->sent, r->size - r->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        r->sent += (size_t)n;
        if (r->sent < r->size)
            continue;
        c->unsent = r->next;
        c->outstanding++;
    }
    return 0;
}

/* Settles what to wait for, and for how long. */
static int conn_settle(struct qdb_conn *c)
{
    bool waits = c->first || !qdb_decoder_is_idle(&c->decoder);
    uint32_t mask = EPOLLIN;
    int r = 0;

    if (c->unsent && c->outstanding < QDB_CONN_OUTSTANDING_MAX)
        mask |= EPOLLOUT;
    if (mask != c->mask)
        r = sd_event_source_set_io_events(c->io, mask);
    c->mask = mask;
    if (r >= 0 && waits != c->timer_on)
        r = waits ? timer_start(c) : timer_stop(c);
    return r;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct qdb_conn *c = user;
    int r = 0;

    (void)source;
    (void)fd;
    c->busy = true;
    /* Reading first: what the daemon said before it closed is still true. */
    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
        r = conn_receive(c);
    if (r >= 0 && !c->doomed)
        r = conn_transmit(c);
    if (r >= 0 && !c->doomed)
        r = conn_settle(c);
    if (r < 0)
        conn_fail(c, r);
    c->busy = false;
    if (c->doomed)
        conn_destroy(c);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct qdb_conn *c = user;

    (void)source;
    (void)usec;
    c->busy = true;
    conn_fail(c, -ETIMEDOUT);
    c->busy = false;
    if (c->doomed)
        conn_destroy(c);
    return 0;
}

int qdb_conn_new(sd_event *event, const struct qdb_conn_config *config, struct qdb_conn **ret)
{
    _cleanup_(qdb_conn_freep) struct qdb_conn *c = calloc(1, sizeof(*c));
    int r;

    if (!c)
        return -ENOMEM;
    c->config = *config;
    c->config.socket = NULL;
    if (c->config.timeout_usec == 0)
        c->config.timeout_usec = QDB_CONN_TIMEOUT_USEC;
    c->fd = -1;
    c->mask = EPOLLIN;
    qdb_decoder_init(&c->decoder, QDB_END_CLIENT);
    r = local_connect(config->socket, &c->fd);
    if (r < 0)
        return r;
    r = sd_event_add_io(event, &c->io, c->fd, c->mask, on_io, c);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &c->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_USEC,
                                       on_timer, c);
    if (r >= 0)
        r = timer_stop(c);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

struct qdb_conn *qdb_conn_free(struct qdb_conn *c)
{
    if (c && c->busy)
        c->doomed = true; /* the handler that is running frees it */
    else if (c)
        conn_destroy(c);
    return NULL;
}

void qdb_conn_freep(struct qdb_conn **c)
{
    *c = qdb_conn_free(*c);
}

int qdb_conn_send(struct qdb_conn *c, const struct qdb_request *request)
{
    _cleanup_(freep) struct request *n = NULL;
    struct request *added;
    int r;

    if (c->failed || c->doomed)
        return -ENOTCONN;
    if (request->type > QDB_CMD_UNWATCH ||
        (request->value.len > 0 && request->type != QDB_CMD_WRITE))
        return -EINVAL;
    if (c->queued >= QDB_CONN_QUEUE_MAX)
        return -ENOBUFS;
    if (request->value.len > QDB_VALUE_MAX)
        return -EMSGSIZE;
    n = calloc(1, sizeof(*n) + QDB_HEADER_SIZE + request->value.len);
    if (!n)
        return -ENOMEM;
    r = qdb_encode(request->type, request->path, request->value.len, n->bytes);
    if (r < 0)
        return r;
    if (request->value.len > 0)
        memcpy(n->bytes + QDB_HEADER_SIZE, request->value.p, request->value.len);
    memcpy(n->path, request->path, strlen(request->path));
    n->type = request->type;
    n->answer = request->answer;
    n->user = request->user;
    n->size = QDB_HEADER_SIZE + request->value.len;

    added = TAKE_PTR(n);
    if (c->last)
        c->last->next = added;
    else
        c->first = added;
    c->last = added;
    if (!c->unsent)
        c->unsent = added;
    c->queued++;
    /* Sent by the event loop, so that a failure is never told from inside this call. */
    return c->busy ? 0 : conn_settle(c);
}
