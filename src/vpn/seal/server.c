/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define CONNECTIONS_MAX 16
#define QUIET_US        UINT64_C(60000000)

struct connection {
    struct server *server;
    sd_event_source *source;
    int fd; /* -1: free place */
    bool wished;
};

struct server {
    struct server_ops ops;
    uint32_t supervisor;
    char *path;
    int fd;
    sd_event *loop;
    sd_event_source *source;
    uint64_t quiet_until; /* monotonic */
    struct connection connections[CONNECTIONS_MAX];
};

static void connection_close(struct connection *c)
{
    c->source = sd_event_source_disable_unref(c->source);
    c->fd = close_fd(c->fd);
    c->wished = false;
}

/* Their wish is forgotten: they must know, and a lost connection is what they know. */
static void close_wishers(struct server *s, const struct connection *but)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (&s->connections[i] != but && s->connections[i].wished)
            connection_close(&s->connections[i]);
}

static void answer(struct connection *c, const char *text, size_t len)
{
    /* an asker that does not read its answers is none */
    if (send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
        connection_close(c);
}

static void answer_error(struct connection *c, const char *why)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "error=%s\n", why);

    answer(c, text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void handle(struct connection *c, const char *message, size_t len)
{
    struct server *s = c->server;
    _cleanup_(freep) char *more = NULL;
    _cleanup_(freep) char *text = NULL;
    char error[400] = "";
    const char *why = "";
    enum request_kind kind;
    struct wish wish = {0};
    int n;

    if (request_parse(message, len, &kind, &wish, &why) < 0) {
        log_warning("A request was refused: %s. Nothing changed", why);
        answer_error(c, why);
        return;
    }
    s->ops.request(kind, kind == REQUEST_SET ? &wish : NULL, &more, error, sizeof(error),
                   s->ops.user);
    c->wished |= kind == REQUEST_SET;
    if (kind == REQUEST_BLACKHOLE)
        close_wishers(s, c);
    if (error[0] != '\0') {
        answer_error(c, error);
        return;
    }
    n = asprintf(&text, "ok\n%s", more != NULL ? more : "");
    if (n < 0) {
        text = NULL;
        answer_error(c, "out of memory");
        return;
    }
    answer(c, text, (size_t)n);
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct connection *c = user;
    char message[WISH_TEXT_MAX + 1];
    ssize_t n = recv(fd, message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

    (void)source;
    (void)revents;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        connection_close(c);
    else if ((size_t)n > WISH_TEXT_MAX)
        answer_error(c, "a message that is too long");
    else
        handle(c, message, (size_t)n);
    return 0;
}

static struct connection *free_place(struct server *s)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (s->connections[i].fd < 0)
            return &s->connections[i];
    return NULL;
}

/* Everybody may knock as often as they like; the journal is not theirs to fill. */
static bool may_say(struct server *s)
{
    uint64_t now = clock_now_us();

    if (now < s->quiet_until)
        return false;
    s->quiet_until = now + QUIET_US;
    return true;
}

static int on_connection(sd_event_source *source, int listening, uint32_t revents, void *user)
{
    struct server *s = user;
    _cleanup_(closep) int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c = free_place(s);
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);

    (void)source;
    (void)revents;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return 0;
    if (peer.uid != 0 && peer.uid != s->supervisor) {
        if (may_say(s))
            log_warning("User %u asked the seal for something and may not", peer.uid);
        return 0;
    }
    if (c == NULL && may_say(s))
        log_warning("More than %d connections to the seal: one was refused", CONNECTIONS_MAX);
    if (c == NULL)
        return 0;
    c->server = s;
    if (sd_event_add_io(s->loop, &c->source, fd, EPOLLIN, on_message, c) >= 0)
        c->fd = TAKE_FD(fd);
    return 0;
}

struct server *server_free(struct server *s)
{
    if (s == NULL)
        return NULL;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        connection_close(&s->connections[i]);
    s->source = sd_event_source_disable_unref(s->source);
    if (s->fd >= 0)
        (void)unlink(s->path);
    s->fd = close_fd(s->fd);
    s->loop = sd_event_unref(s->loop);
    free(s->path);
    free(s);
    return NULL;
}

void server_freep(struct server **s)
{
    *s = server_free(*s);
}

/* A socket that somebody still answers on belongs to another owner; a dead one is taken away. */
static int make_socket(const char *path, int *ret)
{
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(name.sun_path))
        return -ENAMETOOLONG;
    memcpy(name.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 || errno == EAGAIN)
        return -EADDRINUSE; /* EAGAIN: so many wait there that there is no room for one more */
    if (errno != ECONNREFUSED && errno != ENOENT)
        return -errno;
    (void)unlink(path);
    if (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, CONNECTIONS_MAX) < 0)
        return -errno;
    /* who may ask is decided by credentials; the folder's mode is the first gate */
    if (chmod(path, 0666) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

int server_new(sd_event *loop, const char *path, uint32_t supervisor, const struct server_ops *ops,
               struct server **ret)
{
    _cleanup_(server_freep) struct server *s = calloc(1, sizeof(*s));
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->fd = -1;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        s->connections[i].fd = -1;
    s->ops = *ops;
    s->supervisor = supervisor;
    s->loop = sd_event_ref(loop);
    s->path = strdup(path);
    if (s->path == NULL)
        return -ENOMEM;
    r = make_socket(path, &s->fd);
    if (r < 0)
        return r;
    r = sd_event_add_io(loop, &s->source, s->fd, EPOLLIN, on_connection, s);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}
