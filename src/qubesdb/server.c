/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "qubesdb/buffer.h"
#include "qubesdb/codec.h"
#include "qubesdb/store.h"

#define CLIENTS_MAX 1000
#define WATCHES_MAX 10000
#define KEYS_MAX    100000
#define BACKLOG_MAX ((size_t)64 << 20) /* bytes of events for one client */
#define ANSWERS_MAX ((size_t)64 << 10) /* bytes of answers before they are sent */
#define INPUT_SIZE  8192
#define ACCEPT_MAX  64 /* at one go, so that clients are served in between */

struct client {
    struct client *prev, *next;
    struct qdb_server *server;
    int fd;
    sd_event_source *source;
    uint32_t mask; /* what the source waits for */
    bool read_only;
    bool eof;     /* the client sends no more */
    bool closing; /* close when everything is sent */
    bool mute;    /* the client reads no more: answers go nowhere, requests are still done */
    bool dead;    /* to be freed at the end of this round */
    char (*watches)[QDB_PATH_SIZE];
    size_t watch_count, watch_room;
    struct qdb_buffer out;
    size_t in_begin, in_end;
    uint8_t in[INPUT_SIZE];
    struct qdb_decoder decoder;
};

struct listener {
    struct qdb_server *server;
    sd_event_source *source;
    int fd;
    bool read_only;
    bool bound;
    struct sockaddr_un address;
    dev_t dev;
    ino_t ino;
};

struct qdb_server {
    sd_event *event;
    struct listener listeners[2];
    struct client *clients;
    size_t client_count;
    bool again; /* clients wait for an end of round */
    struct qdb_store store;
};

static void client_free(struct client *c)
{
    struct qdb_server *s = c->server;

    if (c->prev)
        c->prev->next = c->next;
    else
        s->clients = c->next;
    if (c->next)
        c->next->prev = c->prev;
    s->client_count--;
    sd_event_source_disable_unref(c->source);
    close_fd(c->fd);
    qdb_buffer_clear(&c->out);
    free(c->watches);
    free(c);
    /* They may have been switched off for want of descriptors. */
    for (size_t i = 0; i < ARRAY_SIZE(s->listeners); i++)
        if (s->listeners[i].source)
            (void)sd_event_source_set_enabled(s->listeners[i].source, SD_EVENT_ON);
}

static void client_put(struct client *c, enum qdb_type type, const char path[QDB_PATH_SIZE],
                       struct str value)
{
    uint8_t header[QDB_HEADER_SIZE];

    if (c->mute || c->closing || c->dead)
        return;
    qdb_encode_echo(type, path, value.len, header);
    if (qdb_buffer_append(&c->out, header, sizeof(header)) < 0 ||
        qdb_buffer_append(&c->out, value.p, value.len) < 0)
        c->dead = true;
    c->server->again = true;
}

static void client_answer(struct client *c, const struct qdb_message *m, enum qdb_type type)
{
    client_put(c, type, m->path, (struct str){NULL, 0});
}

static bool watch_matches(const char *watch, const char *path)
{
    size_t len = strlen(watch);

    if (len > 0 && watch[len - 1] == '/')
        return strncmp(watch, path, len) == 0;
    return strcmp(watch, path) == 0;
}

static void server_fire(struct qdb_server *s, const char path[QDB_PATH_SIZE])
{
    for (struct client *c = s->clients; c; c = c->next) {
        for (size_t i = 0; i < c->watch_count; i++)
            if (watch_matches(c->watches[i], path))
                client_put(c, QDB_RESP_WATCH, path, (struct str){NULL, 0});
        if (qdb_buffer_size(&c->out) > BACKLOG_MAX)
            c->dead = true;
    }
}

static void do_read(struct client *c, const struct qdb_message *m)
{
    const struct qdb_entry *e;

    if (m->announced > 0) {
        c->closing = true; /* the daemon closes without an answer */
        return;
    }
    e = qdb_store_get(&c->server->store, m->path);
    if (e)
        client_put(c, QDB_RESP_READ, m->path, e->value);
    else
        client_answer(c, m, QDB_RESP_ERROR_NOENT);
}

static void do_write(struct client *c, const struct qdb_message *m)
{
    struct qdb_store *store = &c->server->store;
    size_t len = strlen(m->path);

    if (c->read_only || (m->value.len > 0 && memchr(m->value.p, 0, m->value.len))) {
        client_answer(c, m, QDB_RESP_ERROR);
        return;
    }
    if (m->path[0] != '/' || m->path[len - 1] == '/') {
        client_answer(c, m, QDB_RESP_ERROR);
        c->closing = true;
        return;
    }
    if ((store->count >= KEYS_MAX && !qdb_store_get(store, m->path)) ||
        qdb_store_put(store, m->path, m->value) < 0) {
        client_answer(c, m, QDB_RESP_ERROR);
        return;
    }
    client_answer(c, m, QDB_RESP_OK);
    server_fire(c->server, m->path);
}

static void do_rm(struct client *c, const struct qdb_message *m)
{
    if (c->read_only || m->announced > 0) {
        client_answer(c, m, QDB_RESP_ERROR);
    } else if (qdb_store_remove(&c->server->store, m->path)) {
        client_answer(c, m, QDB_RESP_OK);
        server_fire(c->server, m->path);
    } else {
        client_answer(c, m, QDB_RESP_ERROR_NOENT);
    }
}

static void put_entry(struct client *c, const struct qdb_entry *e, enum qdb_type type)
{
    char path[QDB_PATH_SIZE] = "";

    memcpy(path, e->path, strlen(e->path));
    client_put(c, type, path, type == QDB_RESP_MULTIREAD ? e->value : (struct str){NULL, 0});
}

static void do_list(struct client *c, const struct qdb_message *m)
{
    const struct qdb_store *store = &c->server->store;
    bool multiread = m->type == QDB_CMD_MULTIREAD;
    enum qdb_type type = multiread ? QDB_RESP_MULTIREAD : QDB_RESP_LIST;
    static const char terminator[QDB_PATH_SIZE];
    size_t first, end;

    if (m->announced > 0) {
        client_answer(c, m, QDB_RESP_ERROR);
        return;
    }
    qdb_store_range(store, m->path, &first, &end);
    /* The daemon walks its list backwards for a dump of everything. */
    if (multiread && m->path[0] == '\0')
        for (size_t i = end; i > first; i--)
            put_entry(c, store->entries[i - 1], type);
    else
        for (size_t i = first; i < end; i++)
            put_entry(c, store->entries[i], type);
    client_put(c, type, terminator, (struct str){NULL, 0});
}

static void do_watch(struct client *c, const struct qdb_message *m)
{
    if (c->watch_count == c->watch_room) {
        size_t room = c->watch_room ? c->watch_room * 2 : 4;
        void *more = c->watch_count < WATCHES_MAX
                         ? reallocarray(c->watches, room, sizeof(*c->watches))
                         : NULL;

        if (!more) {
            client_answer(c, m, QDB_RESP_ERROR);
            return;
        }
        c->watches = more;
        c->watch_room = room;
    }
    memcpy(c->watches[c->watch_count++], m->path, sizeof(m->path));
    client_answer(c, m, QDB_RESP_OK);
}

static void do_unwatch(struct client *c, const struct qdb_message *m)
{
    for (size_t i = c->watch_count; i > 0; i--)
        if (strcmp(c->watches[i - 1], m->path) == 0) {
            memmove(c->watches + i - 1, c->watches + i,
                    (c->watch_count - i) * sizeof(*c->watches));
            c->watch_count--;
            client_answer(c, m, QDB_RESP_OK);
            return;
        }
    client_answer(c, m, QDB_RESP_ERROR_NOENT);
}

static void client_do(struct client *c, const struct qdb_message *m)
{
    if (m->bad) {
        client_answer(c, m, QDB_RESP_ERROR);
        return;
    }
    switch (m->type) {
    case QDB_CMD_READ:
        do_read(c, m);
        break;
    case QDB_CMD_WRITE:
        do_write(c, m);
        break;
    case QDB_CMD_MULTIREAD:
    case QDB_CMD_LIST:
        do_list(c, m);
        break;
    case QDB_CMD_RM:
        do_rm(c, m);
        break;
    case QDB_CMD_WATCH:
        do_watch(c, m);
        break;
    case QDB_CMD_UNWATCH:
        do_unwatch(c, m);
        break;
    case QDB_RESP_OK:
    case QDB_RESP_ERROR_NOENT:
    case QDB_RESP_ERROR:
    case QDB_RESP_READ:
    case QDB_RESP_MULTIREAD:
    case QDB_RESP_LIST:
    case QDB_RESP_WATCH:
        break; /* the decoder marks them bad */
    }
}

/* Does what has arrived until answers pile up; the rest stays in the input buffer. */
static void client_process(struct client *c)
{
    struct cursor in = cursor_from(c->in + c->in_begin, c->in_end - c->in_begin);
    struct qdb_message m;

    while (!c->closing && !c->dead && qdb_buffer_size(&c->out) < ANSWERS_MAX &&
           qdb_decoder_next(&c->decoder, &in, &m) > 0)
        client_do(c, &m);
    c->in_begin = c->in_end - in.left;
}

static void client_flush(struct client *c)
{
    int r = qdb_buffer_send(&c->out, c->fd);

    if (r < 0 && r != -EAGAIN) {
        c->mute = true;
        qdb_buffer_clear(&c->out);
    }
}

static void client_receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        c->eof = true;
    c->in_begin = 0;
    c->in_end = n > 0 ? (size_t)n : 0;
}

/* Settles what to wait for; a client that is done for is marked dead. */
static void client_settle(struct client *c)
{
    bool sent = qdb_buffer_size(&c->out) == 0;
    bool done = c->in_begin == c->in_end;
    uint32_t mask = sent && done ? EPOLLIN : EPOLLOUT;

    if (sent && (c->closing || (c->eof && done)))
        c->dead = true;
    if (c->dead || mask == c->mask)
        return;
    if (sd_event_source_set_io_events(c->source, mask) < 0)
        c->dead = true;
    c->mask = mask;
}

static void server_end_round(struct qdb_server *s)
{
    struct client *next;

    if (!s->again)
        return;
    s->again = false;
    for (struct client *c = s->clients; c; c = next) {
        next = c->next;
        if (!c->dead && qdb_buffer_size(&c->out) > 0 && c->mask == EPOLLIN)
            client_flush(c);
        client_settle(c);
        if (c->dead)
            client_free(c);
    }
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct client *c = user;
    struct qdb_server *s = c->server;

    (void)source;
    (void)fd;
    client_flush(c);
    if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) && qdb_buffer_size(&c->out) == 0 &&
        c->in_begin == c->in_end)
        client_receive(c);
    while (c->in_begin < c->in_end && qdb_buffer_size(&c->out) == 0 && !c->closing && !c->dead) {
        client_process(c);
        client_flush(c);
    }
    s->again = true;
    server_end_round(s);
    return 0;
}

static int client_new(struct qdb_server *s, int fd, bool read_only)
{
    struct client *c = calloc(1, sizeof(*c));
    int r;

    if (!c)
        return -ENOMEM;
    c->server = s;
    c->read_only = read_only;
    c->mask = EPOLLIN;
    qdb_decoder_init(&c->decoder, QDB_END_SERVER);
    r = sd_event_add_io(s->event, &c->source, fd, c->mask, on_client, c);
    if (r < 0) {
        free(c);
        return r;
    }
    c->fd = fd;
    c->next = s->clients;
    if (c->next)
        c->next->prev = c;
    s->clients = c;
    s->client_count++;
    return 0;
}

static int on_listener(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct listener *l = user;

    (void)revents;
    for (int i = 0; i < ACCEPT_MAX; i++) {
        _cleanup_(closep) int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (conn < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                if (l->server->clients)
                    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
            break;
        }
        if (l->server->client_count < CLIENTS_MAX &&
            client_new(l->server, conn, l->read_only) == 0)
            (void)TAKE_FD(conn);
    }
    return 0;
}

static int remove_old_socket(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int listener_open(struct qdb_server *s, struct listener *l, const char *path, mode_t mode,
                         bool read_only)
{
    struct stat st;
    int r;

    if (strlen(path) >= sizeof(l->address.sun_path))
        return -ENAMETOOLONG;
    l->server = s;
    l->read_only = read_only;
    l->address.sun_family = AF_UNIX;
    memcpy(l->address.sun_path, path, strlen(path) + 1);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    r = remove_old_socket(path);
    if (r < 0)
        return r;
    /* The mode of the descriptor is the most bind() gives to the file: never open too wide. */
    if (fchmod(l->fd, mode) < 0 ||
        bind(l->fd, (const struct sockaddr *)&l->address, sizeof(l->address)) < 0 ||
        lstat(path, &st) < 0)
        return -errno;
    l->bound = true;
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    if (chmod(path, mode) < 0 || listen(l->fd, SOMAXCONN) < 0)
        return -errno;
    return sd_event_add_io(s->event, &l->source, l->fd, EPOLLIN, on_listener, l);
}

static void listener_close(struct listener *l)
{
    struct stat st;

    if (l->bound && lstat(l->address.sun_path, &st) == 0 && st.st_dev == l->dev &&
        st.st_ino == l->ino)
        (void)unlink(l->address.sun_path);
    l->source = sd_event_source_disable_unref(l->source);
    l->fd = close_fd(l->fd);
    l->bound = false;
}

int qdb_server_new(sd_event *event, const struct qdb_server_config *config,
                   struct qdb_server **ret)
{
    _cleanup_(qdb_server_freep) struct qdb_server *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    s->event = sd_event_ref(event);
    for (size_t i = 0; i < ARRAY_SIZE(s->listeners); i++)
        s->listeners[i].fd = -1;
    r = listener_open(s, &s->listeners[0], config->socket, config->mode ? config->mode : 0666,
                      false);
    if (r >= 0 && config->ro_socket)
        r = listener_open(s, &s->listeners[1], config->ro_socket, 0666, true);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

struct qdb_server *qdb_server_free(struct qdb_server *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(s->listeners); i++)
        listener_close(&s->listeners[i]);
    while (s->clients)
        client_free(s->clients);
    qdb_store_clear(&s->store);
    sd_event_unref(s->event);
    free(s);
    return NULL;
}

void qdb_server_freep(struct qdb_server **s)
{
    *s = qdb_server_free(*s);
}
