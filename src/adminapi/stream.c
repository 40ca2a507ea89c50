/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "adminapi/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/local_socket.h"

#define BUFFER_SIZE      32768
#define RETRY_USEC       1000000
#define RETRY_FOUND_USEC 10000 /* a new socket exists before it listens, and before it is ours */
#define ACCURACY_USEC    1

enum state {
    STATE_DOWN,    /* no connection; timer or inotify brings the next attempt */
    STATE_OPENING, /* connected, connection-established has not come; the timer is its limit */
    STATE_STANDS,
};

struct admin_stream {
    sd_event *event;
    struct admin_stream_config config;
    char *socket;
    char *request;
    size_t request_size, sent;
    struct local_watch watch;

    enum state state;
    bool told; /* lost() was called since the stream stood last */
    int fd;
    sd_event_source *io, *timer;
    uint64_t retry_usec;
    char *buffer; /* begins with an event that is not complete yet */
    size_t len, capacity;
};

static void timer_set(struct admin_stream *s, uint64_t usec)
{
    (void)sd_event_source_set_time_relative(s->timer, usec);
    (void)sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static void stream_close(struct admin_stream *s)
{
    s->io = sd_event_source_disable_unref(s->io);
    s->fd = close_fd(s->fd);
    s->sent = 0;
    s->len = s->capacity = 0;
    free(s->buffer);
    s->buffer = NULL;
}

static void stream_fail(struct admin_stream *s, int error)
{
    stream_close(s);
    s->state = STATE_DOWN;
    (void)local_watch_start(&s->watch);
    timer_set(s, s->retry_usec);
    s->retry_usec = s->retry_usec < RETRY_USEC / 2 ? s->retry_usec * 2 : RETRY_USEC;
    if (s->told)
        return;
    s->told = true;
    if (s->config.lost)
        s->config.lost(error, s->config.user);
}

static void stream_stands(struct admin_stream *s)
{
    s->state = STATE_STANDS;
    s->told = false;
    s->retry_usec = RETRY_USEC;
    (void)sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
    local_watch_stop(&s->watch);
    if (s->config.connected)
        s->config.connected(s->config.user);
}

static void stream_deliver(struct admin_stream *s, const struct admin_event *e)
{
    bool established = e->subject.len == 0 && str_is(e->name, "connection-established");

    /* Nothing comes before it; if it did, it would be covered by what is read afterwards. */
    if (s->state == STATE_OPENING && established)
        stream_stands(s);
    else if (s->state == STATE_STANDS && !established)
        s->config.event(e, s->config.user);
}

static int buffer_resize(struct admin_stream *s, size_t capacity)
{
    char *bigger = realloc(s->buffer, capacity);

    if (!bigger)
        return -ENOMEM;
    s->buffer = bigger;
    s->capacity = capacity;
    return 0;
}

/* Makes room behind what is kept, and gives back what one long event needed. */
static int buffer_settle(struct admin_stream *s)
{
    if (s->len == s->capacity)
        return s->capacity >= ADMIN_EVENT_MAX ? -E2BIG : buffer_resize(s, s->capacity * 2);
    if (s->capacity > BUFFER_SIZE && s->len < BUFFER_SIZE)
        return buffer_resize(s, BUFFER_SIZE);
    return 0;
}

static int stream_receive(struct admin_stream *s)
{
    ssize_t n = recv(s->fd, s->buffer + s->len, s->capacity - s->len, MSG_DONTWAIT);
    struct admin_event e;
    struct str rest;
    size_t used;
    int r;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    rest = (struct str){s->buffer, s->len + (size_t)n};
    while ((r = admin_parse_event(rest, &e, &used)) > 0) {
        rest.p += used;
        rest.len -= used;
        stream_deliver(s, &e);
    }
    if (r < 0)
        return r;
    memmove(s->buffer, rest.p, rest.len);
    s->len = rest.len;
    return buffer_settle(s);
}

static int stream_transmit(struct admin_stream *s)
{
    ssize_t n;

    if (s->sent == s->request_size)
        return 0;
    n = send(s->fd, s->request + s->sent, s->request_size - s->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    s->sent += (size_t)n;
    if (s->sent < s->request_size)
        return 0;
    /* qubesd reads to the end of the stream before it does anything. */
    if (shutdown(s->fd, SHUT_WR) < 0)
        return -errno;
    return sd_event_source_set_io_events(s->io, EPOLLIN);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct admin_stream *s = user;
    int r = 0;

    (void)source;
    (void)fd;
    if (revents & EPOLLOUT)
        r = stream_transmit(s);
    if (r >= 0 && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        r = stream_receive(s);
    if (r < 0)
        stream_fail(s, r);
    return 0;
}

static int stream_open(struct admin_stream *s)
{
    int r = local_connect(s->socket, &s->fd);

    if (r >= 0)
        r = buffer_resize(s, BUFFER_SIZE);
    if (r >= 0)
        r = sd_event_add_io(s->event, &s->io, s->fd, EPOLLIN | EPOLLOUT, on_io, s);
    if (r >= 0)
        r = sd_event_source_set_priority(s->io, ADMIN_STREAM_PRIORITY);
    return r;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct admin_stream *s = user;
    int r;

    (void)source;
    (void)usec;
    switch (s->state) {
    case STATE_DOWN:
        (void)local_watch_start(&s->watch); /* before looking: no appearance is missed */
        s->state = STATE_OPENING;
        r = stream_open(s);
        if (r < 0)
            stream_fail(s, r);
        else
            timer_set(s, s->config.timeout_usec);
        break;
    case STATE_OPENING:
        stream_fail(s, -ETIMEDOUT);
        break;
    case STATE_STANDS:
        break;
    }
    return 0;
}

static void on_noticed(bool appeared, void *user)
{
    struct admin_stream *s = user;

    /* Without its directory nothing is noticed any more; the timer goes on. */
    if (s->state != STATE_DOWN || !appeared)
        return;
    s->retry_usec = RETRY_FOUND_USEC;
    timer_set(s, 0);
}

int admin_stream_new(sd_event *event, const struct admin_stream_config *config,
                     struct admin_stream **ret)
{
    const struct admin_request request = {.method = "admin.Events", .dest = "dom0"};
    _cleanup_(admin_stream_freep) struct admin_stream *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->event = sd_event_ref(event);
    s->config = *config;
    s->config.socket = NULL;
    s->fd = s->watch.fd = -1;
    s->retry_usec = RETRY_USEC;
    s->socket = strdup(config->socket);
    if (!s->socket)
        return -ENOMEM;
    r = admin_pack_header(&request, &s->request, &s->request_size);
    if (r >= 0)
        r = local_watch_init(&s->watch, event, s->socket, on_noticed, s);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &s->timer, CLOCK_MONOTONIC, 0, ACCURACY_USEC,
                                       on_timer, s);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

struct admin_stream *admin_stream_free(struct admin_stream *s)
{
    if (!s)
        return NULL;
    stream_close(s);
    sd_event_source_disable_unref(s->timer);
    local_watch_done(&s->watch);
    free(s->request);
    free(s->socket);
    sd_event_unref(s->event);
    free(s);
    return NULL;
}

void admin_stream_freep(struct admin_stream **s)
{
    *s = admin_stream_free(*s);
}
