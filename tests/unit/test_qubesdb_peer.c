/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_qubesdb_peer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void flush(struct peer_conn *c)
{
    int r = qdb_buffer_send(&c->out, c->fd);

    if (r < 0 && r != -EAGAIN)
        qdb_buffer_clear(&c->out);
    assert_return_code(sd_event_source_set_io_events(
                           c->source, r == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN), 0);
}

static void answer(struct peer_conn *c, const struct qdb_message *m)
{
    bool found = false;

    if (m->type == QDB_CMD_WATCH) {
        c->watches = true;
        peer_send(c, QDB_RESP_OK, m->path, "");
        return;
    }
    if (m->type == QDB_CMD_WRITE) {
        peer_send(c, QDB_RESP_OK, m->path, "");
        return;
    }
    for (const struct peer_key *k = c->peer->keys; k && k->path; k++) {
        if (m->type == QDB_CMD_READ && strcmp(k->path, m->path) == 0) {
            peer_send(c, QDB_RESP_READ, m->path, k->value);
            found = true;
        } else if (m->type == QDB_CMD_MULTIREAD &&
                   strncmp(k->path, m->path, strlen(m->path)) == 0) {
            peer_send(c, QDB_RESP_MULTIREAD, k->path, k->value);
        }
    }
    if (m->type == QDB_CMD_MULTIREAD)
        peer_send(c, QDB_RESP_MULTIREAD, "", "");
    else if (!found)
        peer_send(c, QDB_RESP_ERROR_NOENT, m->path, "");
}

static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct peer_conn *c = user;
    uint8_t buffer[4096];
    struct qdb_message m;
    struct cursor in;
    ssize_t n;

    (void)source;
    flush(c);
    if (!(revents & (EPOLLIN | EPOLLHUP)))
        return 0;
    n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0) {
        peer_conn_close(c);
        return 0;
    }
    in = cursor_from(buffer, (size_t)n);
    while (c->peer && qdb_decoder_next(&c->decoder, &in, &m) > 0) {
        assert_false(m.bad);
        c->peer->requests[m.type]++;
        if (!c->peer->script || !c->peer->script(c, &m))
            answer(c, &m);
    }
    return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct peer *p = user;
    struct peer_conn *c = p->conns;

    (void)source;
    (void)revents;
    while (c->peer)
        c++;
    assert_true(c < p->conns + ARRAY_SIZE(p->conns));
    *c = (struct peer_conn){.peer = p};
    c->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(c->fd >= 0);
    qdb_decoder_init(&c->decoder, QDB_END_SERVER);
    assert_return_code(sd_event_add_io(p->event, &c->source, c->fd, EPOLLIN, on_conn, c), 0);
    p->accepted++;
    return 0;
}

void peer_open(struct peer *p, sd_event *event, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *p = (struct peer){.event = event, .path = path};
    p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(p->fd >= 0);
    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    (void)unlink(path);
    assert_return_code(bind(p->fd, (const struct sockaddr *)&address, sizeof(address)), errno);
    assert_return_code(listen(p->fd, 5), errno);
    assert_return_code(sd_event_add_io(event, &p->source, p->fd, EPOLLIN, on_accept, p), 0);
}

void peer_conn_close(struct peer_conn *c)
{
    sd_event_source_disable_unref(c->source);
    close_fd(c->fd);
    qdb_buffer_clear(&c->out);
    c->peer = NULL;
}

void peer_close(struct peer *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(p->conns); i++)
        if (p->conns[i].peer)
            peer_conn_close(&p->conns[i]);
    sd_event_source_disable_unref(p->source);
    close_fd(p->fd);
    (void)unlink(p->path);
}

static struct peer_conn *find(struct peer *p, bool watches)
{
    for (size_t i = 0; i < ARRAY_SIZE(p->conns); i++)
        if (p->conns[i].peer && p->conns[i].watches == watches)
            return &p->conns[i];
    return NULL;
}

struct peer_conn *peer_watcher(struct peer *p)
{
    return find(p, true);
}

struct peer_conn *peer_commander(struct peer *p)
{
    return find(p, false);
}

void peer_send_bytes(struct peer_conn *c, const void *bytes, size_t len)
{
    assert_return_code(qdb_buffer_append(&c->out, bytes, len), 0);
    flush(c);
}

void peer_send(struct peer_conn *c, enum qdb_type type, const char *path, const char *value)
{
    uint8_t bytes[QDB_HEADER_SIZE + QDB_VALUE_MAX];

    assert_return_code(qdb_encode(type, path, strlen(value), bytes), 0);
    memcpy(bytes + QDB_HEADER_SIZE, value, strlen(value));
    peer_send_bytes(c, bytes, QDB_HEADER_SIZE + strlen(value));
}
