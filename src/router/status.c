/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/status.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "router/counters.h"
#include "router/sources.h"
#include "router/status_json.h"

#define QUESTION_MAX 16
#define PEER_TIME_US UINT64_C(5000000)
#define LONG_ANSWER  (256u << 10)

struct peer {
    struct status_server *server;
    int fd;
    sd_event_source *io, *timer;
    char question[QUESTION_MAX];
    size_t asked;
    char *answer; /* owned */
    size_t len, sent;
    LIST_ENTRY(peer) peers;
};

struct status_server {
    struct manager *manager;
    sd_event_source *io;
    int fd;
    char *path;
    json_t *differences; /* while a check runs */
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

void status_capture(struct status_server *s, const struct plan *p)
{
    if (s != NULL && s->differences != NULL)
        status_json_ops(s->differences, s->manager->model, p);
}

/* Reads everything back as a restart would, and notes what had to be changed. */
static json_t *check(struct status_server *s)
{
    struct manager *m = s->manager;
    unsigned healed = m->healed;
    json_t *status, *differences = json_array();

    s->differences = differences;
    m->need_network = m->need_rules = m->need_unnotified = true;
    model_touch_all(m->model);
    (void)manager_reconcile(m);
    s->differences = NULL;
    if (m->healed != healed)
        (void)json_array_append_new(differences, json_string("our chains or sets were changed"));
    counters_read(m->kernel.nft, m->model);
    status = status_json(m);
    if (json_object_set_new(status, "differences", differences) < 0)
        return NULL;
    return status;
}

static int make_answer(struct peer *p)
{
    json_t *root = NULL;

    if (strcmp(p->question, "status") == 0) {
        counters_read(p->server->manager->kernel.nft, p->server->manager->model);
        root = status_json(p->server->manager);
    } else if (strcmp(p->question, "check") == 0) {
        root = check(p->server);
    }
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

static int peer_new(struct status_server *s, int fd)
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
    r = sd_event_add_io(s->manager->event, &p->io, fd, EPOLLIN, on_peer, p);
    if (r >= 0)
        r = sd_event_add_time(s->manager->event, &p->timer, CLOCK_MONOTONIC,
                              clock_now_us() + PEER_TIME_US, 0, on_peer_time, p);
    if (r < 0)
        peer_free(p);
    return r;
}

/* The longest connected one that has not asked yet, else the longest connected. */
static struct peer *find_idle(struct status_server *s)
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
    struct status_server *server = user;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct peer *idle;

    (void)s;
    (void)revents;
    if (peer < 0)
        return 0;
    /* nobody can keep the others out by saying nothing */
    idle = server->n_peers >= ROUTER_MAX_STATUS_PEERS ? find_idle(server) : NULL;
    if (idle != NULL)
        peer_free(idle);
    (void)peer_new(server, peer);
    return 0;
}

struct status_server *status_free(struct status_server *s)
{
    if (s == NULL)
        return NULL;
    while (!LIST_EMPTY(&s->peers))
        peer_free(LIST_FIRST(&s->peers));
    s->io = sd_event_source_disable_unref(s->io);
    if (s->fd >= 0 && s->path != NULL)
        (void)unlink(s->path);
    s->fd = close_fd(s->fd);
    free(s->path);
    free(s);
    return NULL;
}

static void status_freep(struct status_server **s)
{
    *s = status_free(*s);
}

static int listen_at(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    _cleanup_(closep) int fd = -1;
    struct stat st;

    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        (void)unlink(path); /* of a predecessor: systemd runs one router at a time */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    if (chmod(path, 0666) < 0 || listen(fd, ROUTER_MAX_STATUS_PEERS) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int status_new(struct manager *m, const char *path, struct status_server **ret)
{
    _cleanup_(status_freep) struct status_server *s = calloc(1, sizeof(*s));
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->manager = m;
    s->fd = listen_at(path);
    if (s->fd < 0)
        return s->fd;
    s->path = strdup(path);
    if (s->path == NULL)
        return -ENOMEM;
    r = sd_event_add_io(m->event, &s->io, s->fd, EPOLLIN, on_connection, s);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}
