/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/server.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PEER_TIME_US UINT64_C(5000000)
#define LONG_ANSWER  (256u << 10)

struct peer {
    struct control_server *server;
    int fd;
    sd_event_source *io, *timer;
    char question[CONTROL_QUESTION_MAX];
    size_t asked;
    char *answer; /* owned */
    size_t len, sent;
    LIST_ENTRY(peer) peers;
};

struct control_server {
    json_t *(*answer)(const char *question, void *user);
    void *user;
    sd_event *event;
    sd_event_source *io;
    int fd;
    char *path; /* owned */
    LIST_HEAD(, peer) peers;
    unsigned n_peers;
};

static void peer_free(struct peer *p)
{
    bool was_long = p->len > LONG_ANSWER;

    LIST_REMOVE(p, peers);
    p->server->n_peers--;
    p->io = sd_event_source_disable_unref(p->io);
    p->timer = sd_event_source_disable_unref(p->timer);
    p->fd = close_fd(p->fd);
    free(p->answer);
    free(p);
    if (was_long)
        (void)malloc_trim(0); /* megabytes in small pieces, which the allocator would keep */
}

static int make_answer(struct peer *p)
{
    json_t *root = p->server->answer(p->question, p->server->user);

    if (root == NULL)
        return -EINVAL;
    p->answer = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (p->answer == NULL)
        return -ENOMEM;
    p->len = strlen(p->answer);
    return 0;
}

/* 1: the question is complete; 0: not yet; -errno. */
static int read_question(struct peer *p)
{
    ssize_t n = recv(p->fd, p->question + p->asked, sizeof(p->question) - p->asked, MSG_DONTWAIT);
    char *end;

    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    p->asked += (size_t)n;
    end = memchr(p->question, '\n', p->asked);
    if (end == NULL)
        return n == 0 || p->asked == sizeof(p->question) ? -EBADMSG : 0;
    *end = '\0';
    return 1;
}

/* 1: all is sent; 0: the rest when there is room; -errno. */
static int write_answer(struct peer *p)
{
    while (p->sent < p->len) {
        ssize_t n = send(p->fd, p->answer + p->sent, p->len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        p->sent += (size_t)n;
    }
    return 1;
}

static int on_peer(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct peer *p = user;
    int r = 1;

    (void)s;
    (void)fd;
    (void)revents;
    if (p->answer == NULL) {
        r = read_question(p);
        if (r == 1)
            r = make_answer(p) < 0 ? -EINVAL : 1;
    }
    if (r == 1) {
        r = write_answer(p);
        if (r == 0)
            r = sd_event_source_set_io_events(p->io, EPOLLOUT);
    }
    if (r != 0)
        peer_free(p);
    return 0;
}

static int on_peer_time(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    peer_free(user);
    return 0;
}

static int peer_new(struct control_server *s, int fd)
{
    struct peer *p = calloc(1, sizeof(*p));
    int r;

    if (p == NULL) {
        (void)close_fd(fd);
        return -ENOMEM;
    }
    p->server = s;
    p->fd = fd;
    LIST_INSERT_HEAD(&s->peers, p, peers);
    s->n_peers++;
    r = sd_event_add_io(s->event, &p->io, fd, EPOLLIN, on_peer, p);
    if (r >= 0)
        r = sd_event_add_time(s->event, &p->timer, CLOCK_MONOTONIC,
                              clock_now_us() + PEER_TIME_US, 0, on_peer_time, p);
    if (r < 0)
        peer_free(p);
    return r;
}

/* The longest connected one that has not asked yet, else the longest connected. */
static struct peer *find_idle(struct control_server *s)
{
    struct peer *p, *oldest = NULL, *silent = NULL;

    LIST_FOREACH(p, &s->peers, peers) { /* newest first */
        oldest = p;
        if (p->answer == NULL)
            silent = p;
    }
    return silent != NULL ? silent : oldest;
}

static int on_connection(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct control_server *server = user;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct peer *idle;

    (void)s;
    (void)revents;
    if (peer < 0)
        return 0;
    /* nobody can keep the others out by saying nothing */
    idle = server->n_peers >= CONTROL_PEERS_MAX ? find_idle(server) : NULL;
    if (idle != NULL)
        peer_free(idle);
    (void)peer_new(server, peer);
    return 0;
}

struct control_server *control_server_free(struct control_server *s)
{
    if (s == NULL)
        return NULL;
    while (!LIST_EMPTY(&s->peers))
        peer_free(LIST_FIRST(&s->peers));
    s->io = sd_event_source_disable_unref(s->io);
    s->event = sd_event_unref(s->event);
    if (s->fd >= 0 && s->path != NULL)
        (void)unlink(s->path);
    s->fd = close_fd(s->fd);
    free(s->path);
    free(s);
    return NULL;
}

static void control_server_freep(struct control_server **s)
{
    *s = control_server_free(*s);
}

static int listen_at(const char *path, mode_t mode)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    _cleanup_(closep) int fd = -1;
    struct stat st;

    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        (void)unlink(path); /* of a predecessor: systemd runs one daemon at a time */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    if (chmod(path, mode) < 0 || listen(fd, CONTROL_PEERS_MAX) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int control_server_new(sd_event *event, const struct control_config *config,
                       struct control_server **ret)
{
    _cleanup_(control_server_freep) struct control_server *s = calloc(1, sizeof(*s));
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->answer = config->answer;
    s->user = config->user;
    s->event = sd_event_ref(event);
    s->fd = listen_at(config->path, config->mode);
    if (s->fd < 0)
        return s->fd;
    s->path = strdup(config->path);
    if (s->path == NULL)
        return -ENOMEM;
    r = sd_event_add_io(event, &s->io, s->fd, EPOLLIN, on_connection, s);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}
