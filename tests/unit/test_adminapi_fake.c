/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_adminapi_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"

uint64_t fake_now_ms(void)
{
    return clock_now_us() / 1000;
}

void fake_run_quiet(sd_event *event, unsigned ms)
{
    uint64_t until = fake_now_ms() + 5000;

    while (sd_event_run(event, (uint64_t)ms * 1000) > 0)
        assert_true(fake_now_ms() < until);
}

void fake_close(struct fake_conn *c)
{
    if (!c->fake)
        return;
    c->fake->now_open--;
    c->source = sd_event_source_disable_unref(c->source);
    c->fd = close_fd(c->fd);
    c->fake = NULL;
}

static void request_done(struct fake_conn *c)
{
    size_t header_len = strnlen(c->in, c->len);

    assert_true(header_len < c->len);
    c->asked = true;
    c->header = c->in;
    c->payload = c->in + header_len + 1;
    c->payload_len = c->len - header_len - 1;
    c->fake->requests++;
    c->fake->script(c);
}

static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct fake_conn *c = user;
    ssize_t n;

    (void)source;
    (void)revents;
    n = recv(fd, c->in + c->len, sizeof(c->in) - c->len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0) {
        fake_close(c);
        return 0;
    }
    c->len += (size_t)n;
    if (n > 0)
        return 0;
    if (revents & EPOLLHUP) { /* both directions: the client has gone */
        fake_close(c);
        return 0;
    }
    assert_return_code(sd_event_source_set_io_events(c->source, 0), 0);
    if (!c->asked)
        request_done(c);
    return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct fake *f = user;
    struct fake_conn *c = f->conns;

    (void)source;
    (void)revents;
    while (c->fake)
        c++;
    assert_true(c < f->conns + ARRAY_SIZE(f->conns));
    memset(c, 0, sizeof(*c));
    c->fake = f;
    c->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(c->fd >= 0);
    assert_return_code(sd_event_add_io(f->event, &c->source, c->fd, EPOLLIN, on_conn, c), 0);
    f->accepted++;
    if (++f->now_open > f->most_open)
        f->most_open = f->now_open;
    return 0;
}

void fake_init(struct fake *f, sd_event *event)
{
    memset(f, 0, sizeof(*f));
    f->event = event;
    f->fd = -1;
    snprintf(f->directory, sizeof(f->directory), "/tmp/admin-test.XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->socket, sizeof(f->socket), "%s/qubesd.sock", f->directory);
}

void fake_listen(struct fake *f, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(f->fd >= 0);
    memcpy(address.sun_path, f->socket, strlen(f->socket));
    (void)unlink(f->socket);
    assert_return_code(bind(f->fd, (const struct sockaddr *)&address, sizeof(address)), errno);
    assert_return_code(listen(f->fd, backlog), errno);
    if (backlog > 0)
        assert_return_code(sd_event_add_io(f->event, &f->source, f->fd, EPOLLIN, on_accept, f), 0);
}

void fake_stop(struct fake *f, bool unlink_socket)
{
    for (size_t i = 0; i < ARRAY_SIZE(f->conns); i++)
        fake_close(&f->conns[i]);
    f->source = sd_event_source_disable_unref(f->source);
    f->fd = close_fd(f->fd);
    if (unlink_socket)
        (void)unlink(f->socket);
}

void fake_done(struct fake *f)
{
    fake_stop(f, true);
    (void)rmdir(f->directory);
}

void fake_send(struct fake_conn *c, const void *bytes, size_t len)
{
    /* Blocking is fine: what a test sends fits the socket, or the client would be to blame. */
    assert_int_equal(send(c->fd, bytes, len, MSG_NOSIGNAL), len);
}

void fake_answer(struct fake_conn *c, const void *bytes, size_t len)
{
    fake_send(c, bytes, len);
    fake_close(c);
}

void fake_ok(struct fake_conn *c, const char *content)
{
    FAKE_SEND(c, "0\0");
    fake_answer(c, content, strlen(content));
}

void fake_exception(struct fake_conn *c, const char *type, const char *message)
{
    FAKE_SEND(c, "2\0");
    fake_send(c, type, strlen(type) + 1);
    FAKE_SEND(c, "\0");
    fake_answer(c, message, strlen(message) + 1);
}

bool fake_is(const struct fake_conn *c, const char *header)
{
    return c->asked && strcmp(c->header, header) == 0;
}

struct fake_conn *fake_find(struct fake *f, const char *header)
{
    for (size_t i = 0; i < ARRAY_SIZE(f->conns); i++)
        if (f->conns[i].fake && fake_is(&f->conns[i], header))
            return &f->conns[i];
    return NULL;
}
