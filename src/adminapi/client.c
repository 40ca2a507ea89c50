/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "adminapi/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "adminapi/stream.h"
#include "base/cleanup.h"
#include "base/local_socket.h"

#define DEFAULT_SOCKET "/var/run/qubesd.sock"
#define BUFFER_SIZE    4096
#define BACKLOG_USEC   20000 /* until a full backlog is tried again */
#define ACCURACY_USEC  10000

/*
 * Answers are handed out below everything of default priority, and one in each round of the loop:
 * the loop looks at all descriptors in between, so what qubesd said on the stream before it
 * answered is heard before the answer.
 */
#define CALL_PRIORITY    (SD_EVENT_PRIORITY_NORMAL + 10)
#define DELIVER_PRIORITY (SD_EVENT_PRIORITY_NORMAL + 20)

TAILQ_HEAD(calls, call);

struct call {
    TAILQ_ENTRY(call) entry;
    struct calls *list; /* the one it is in */
    struct admin_client *client;
    admin_answer_fn answer;
    void *user;
    int fd;
    sd_event_source *io, *timer;
    char *request;
    size_t request_size, sent;
    char *buffer; /* the answer so far */
    size_t len, capacity;
    int error; /* once it is done */
};

struct admin_client {
    sd_event *event;
    char *socket;
    uint64_t timeout_usec;
    struct admin_stream *stream;
    struct calls waiting, open, done; /* each in the order they came in */
    size_t n_open;
    sd_event_source *deliver; /* enabled while something waits to be told or begun */
    sd_event_source *backlog;
    bool backlog_full;
};

static void call_move(struct call *call, struct calls *list)
{
    struct admin_client *c = call->client;

    if (call->list)
        TAILQ_REMOVE(call->list, call, entry);
    if (call->list == &c->open)
        c->n_open--;
    call->list = list;
    if (list)
        TAILQ_INSERT_TAIL(list, call, entry);
    if (list == &c->open)
        c->n_open++;
}

static void call_close(struct call *call)
{
    call->io = sd_event_source_disable_unref(call->io);
    call->timer = sd_event_source_disable_unref(call->timer);
    call->fd = close_fd(call->fd);
}

static struct call *call_free(struct call *call)
{
    if (!call)
        return NULL;
    call_close(call);
    call_move(call, NULL);
    free(call->request);
    free(call->buffer);
    free(call);
    return NULL;
}

static void call_freep(struct call **call)
{
    *call = call_free(*call);
}

static void client_wake(struct admin_client *c)
{
    (void)sd_event_source_set_enabled(c->deliver, SD_EVENT_ONESHOT);
}

/* Its callback comes from the event loop. */
static void call_finish(struct call *call, int error)
{
    call_close(call);
    call->error = error;
    call_move(call, &call->client->done);
    client_wake(call->client);
}

static int call_grow(struct call *call)
{
    size_t capacity = call->capacity > 0 ? call->capacity * 2 : BUFFER_SIZE;
    char *bigger;

    if (call->len < call->capacity)
        return 0;
    if (call->len > ADMIN_ANSWER_MAX)
        return -E2BIG;
    if (capacity > ADMIN_ANSWER_MAX)
        capacity = ADMIN_ANSWER_MAX + 1; /* so that one byte too many is seen */
    bigger = realloc(call->buffer, capacity);
    if (!bigger)
        return -ENOMEM;
    call->buffer = bigger;
    call->capacity = capacity;
    return 0;
}

/* 1: the answer is complete, 0: more is to come. */
static int call_receive(struct call *call)
{
    for (;;) {
        int r = call_grow(call);
        ssize_t n;

        if (r < 0)
            return r;
        n = recv(call->fd, call->buffer + call->len, call->capacity - call->len, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
            return 1;
        call->len += (size_t)n;
    }
}

static int call_transmit(struct call *call)
{
    while (call->sent < call->request_size) {
        ssize_t n = send(call->fd, call->request + call->sent, call->request_size - call->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno == EPIPE)
            break; /* it has closed before the end of the request: what it said tells more */
        if (n < 0)
            return -errno;
        call->sent += (size_t)n;
    }
    /* qubesd reads to the end of the stream before it does anything. */
    if (shutdown(call->fd, SHUT_WR) < 0)
        return -errno;
    return sd_event_source_set_io_events(call->io, EPOLLIN);
}

static int on_call_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct call *call = user;

    (void)source;
    (void)usec;
    call_finish(call, -ETIMEDOUT);
    return 0;
}

static int on_call_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct call *call = user;
    int r = 0;

    (void)source;
    (void)fd;
    if (revents & EPOLLOUT)
        r = call_transmit(call);
    if (r >= 0 && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        r = call_receive(call);
    if (r != 0)
        call_finish(call, r < 0 ? r : 0);
    return 0;
}

static int call_open(struct call *call)
{
    struct admin_client *c = call->client;
    int r = 0;

    if (!call->timer)
        r = sd_event_add_time_relative(c->event, &call->timer, CLOCK_MONOTONIC, c->timeout_usec,
                                       ACCURACY_USEC, on_call_timer, call);
    if (r >= 0)
        r = local_connect(c->socket, &call->fd);
    if (r < 0)
        return r;
    r = sd_event_add_io(c->event, &call->io, call->fd, EPOLLIN | EPOLLOUT, on_call_io, call);
    if (r >= 0)
        r = sd_event_source_set_priority(call->io, CALL_PRIORITY);
    return r < 0 ? r : call_transmit(call);
}

static void client_open_calls(struct admin_client *c)
{
    struct call *call;

    while (!c->backlog_full && c->n_open < ADMIN_CALLS_MAX && (call = TAILQ_FIRST(&c->waiting))) {
        int r = call_open(call);

        if (r == -EAGAIN) {
            c->backlog_full = true;
            (void)sd_event_source_set_time_relative(c->backlog, BACKLOG_USEC);
            (void)sd_event_source_set_enabled(c->backlog, SD_EVENT_ONESHOT);
        } else if (r < 0) {
            call_finish(call, r);
        } else {
            call_move(call, &c->open);
        }
    }
}

static int on_backlog(sd_event_source *source, uint64_t usec, void *user)
{
    struct admin_client *c = user;

    (void)source;
    (void)usec;
    c->backlog_full = false;
    client_wake(c);
    return 0;
}

static void client_deliver(struct admin_client *c)
{
    _cleanup_(call_freep) struct call *call = TAILQ_FIRST(&c->done);
    struct admin_answer answer;

    if (!call)
        return;
    call_move(call, NULL); /* the callback may cancel */
    if (call->error < 0) {
        call->answer(call->error, NULL, call->user);
        return;
    }
    admin_parse_answer((struct str){call->buffer, call->len}, &answer);
    call->answer(0, &answer, call->user);
}

static int on_deliver(sd_event_source *source, void *user)
{
    struct admin_client *c = user;

    (void)source;
    client_open_calls(c); /* first, so that qubesd works while the answer is handled */
    client_deliver(c);
    if (!TAILQ_EMPTY(&c->done))
        client_wake(c);
    return 0;
}

static int client_init_calls(struct admin_client *c)
{
    int r = sd_event_add_defer(c->event, &c->deliver, on_deliver, c);

    if (r >= 0)
        r = sd_event_source_set_priority(c->deliver, DELIVER_PRIORITY);
    if (r >= 0)
        r = sd_event_source_set_enabled(c->deliver, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time_relative(c->event, &c->backlog, CLOCK_MONOTONIC, 0, ACCURACY_USEC,
                                       on_backlog, c);
    if (r >= 0)
        r = sd_event_source_set_enabled(c->backlog, SD_EVENT_OFF);
    return r;
}

int admin_client_new(sd_event *event, const struct admin_client_config *config,
                     struct admin_client **ret)
{
    _cleanup_(admin_client_freep) struct admin_client *c = calloc(1, sizeof(*c));
    const char *socket = config->socket ? config->socket : secure_getenv("QUBESD_SOCKET");
    struct admin_stream_config stream;
    int r;

    if (!c)
        return -ENOMEM;
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->open);
    TAILQ_INIT(&c->done);
    c->event = sd_event_ref(event);
    c->timeout_usec = config->timeout_usec ? config->timeout_usec : ADMIN_CALL_TIMEOUT_USEC;
    c->socket = strdup(socket && *socket ? socket : DEFAULT_SOCKET);
    if (!c->socket)
        return -ENOMEM;
    stream = (struct admin_stream_config){
        .socket = c->socket,
        .timeout_usec = c->timeout_usec,
        .event = config->event,
        .connected = config->connected,
        .lost = config->lost,
        .user = config->user,
    };
    r = client_init_calls(c);
    if (r >= 0 && config->event)
        r = admin_stream_new(event, &stream, &c->stream);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

static void calls_clear(struct calls *list, const void *user, bool all)
{
    struct call *call = TAILQ_FIRST(list);

    while (call) {
        struct call *next = TAILQ_NEXT(call, entry);

        if (all || call->user == user)
            call_free(call);
        call = next;
    }
}

struct admin_client *admin_client_free(struct admin_client *c)
{
    if (!c)
        return NULL;
    calls_clear(&c->waiting, NULL, true);
    calls_clear(&c->open, NULL, true);
    calls_clear(&c->done, NULL, true);
    admin_stream_free(c->stream);
    sd_event_source_disable_unref(c->deliver);
    sd_event_source_disable_unref(c->backlog);
    free(c->socket);
    sd_event_unref(c->event);
    free(c);
    return NULL;
}

void admin_client_freep(struct admin_client **c)
{
    *c = admin_client_free(*c);
}

int admin_call(struct admin_client *c, const struct admin_request *request, admin_answer_fn answer,
               void *user)
{
    _cleanup_(freep) char *header = NULL;
    _cleanup_(call_freep) struct call *call = NULL;
    size_t header_size;
    char *bytes;
    int r = admin_pack_header(request, &header, &header_size);

    if (r < 0)
        return r;
    call = calloc(1, sizeof(*call));
    if (!call)
        return -ENOMEM;
    *call = (struct call){.client = c, .answer = answer, .user = user, .fd = -1};
    bytes = realloc(header, header_size + request->payload.len);
    if (!bytes)
        return -ENOMEM;
    header = NULL;
    if (request->payload.len > 0)
        memcpy(bytes + header_size, request->payload.p, request->payload.len);
    call->request = bytes;
    call->request_size = header_size + request->payload.len;
    call_move(call, &c->waiting);
    call = NULL; /* the list has it */
    client_wake(c);
    return 0;
}

void admin_cancel(struct admin_client *c, const void *user)
{
    calls_clear(&c->waiting, user, false);
    calls_clear(&c->open, user, false);
    calls_clear(&c->done, user, false);
    client_wake(c); /* others may have their turn now */
}

const char *admin_strerror(int error, const char *method, char buf[static ADMIN_ERROR_MAX])
{
    if (error != -E2BIG)
        return strerror(-error);
    if (method)
        (void)snprintf(buf, ADMIN_ERROR_MAX, "the answer to %s is longer than %d MiB", method,
                       ADMIN_ANSWER_MAX >> 20);
    else
        (void)snprintf(buf, ADMIN_ERROR_MAX, "an event is longer than %d KiB",
                       ADMIN_EVENT_MAX >> 10);
    return buf;
}
