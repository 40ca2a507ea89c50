/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/bus.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vpn/daemon/bus_private.h"

#define SYSTEM_BUS   "unix:path=/run/dbus/system_bus_socket"

/* Answers of RequestName (D-Bus specification, "org.freedesktop.DBus.RequestName"). */
#define NAME_OURS         UINT32_C(1)
#define NAME_OURS_ALREADY UINT32_C(4)

#define RETRY_MIN_US UINT64_C(1000000)
#define RETRY_MAX_US UINT64_C(30000000)

/* ---- telling ---- */

typedef int (*tell_fn)(sd_bus *connection, const void *what);

/* Errors are those of one connection that is going away; it hears nothing more anyway. */
static void tell_all(struct bus *b, tell_fn tell, const void *what)
{
    if (b->system != NULL && sd_bus_is_ready(b->system) > 0)
        (void)tell(b->system, what);
    for (size_t i = 0; i < BUS_PEERS_MAX; i++) {
        if (b->peers[i].connection != NULL && sd_bus_is_ready(b->peers[i].connection) > 0)
            (void)tell(b->peers[i].connection, what);
    }
}

static int tell_changed(sd_bus *connection, const void *what)
{
    (void)what;
    return bus_object_emit_changed(connection);
}

static int on_told(sd_event_source *s, void *user)
{
    (void)s;
    tell_all(user, tell_changed, NULL);
    return 0;
}

void bus_changed(struct bus *b)
{
    (void)sd_event_source_set_enabled(b->told, SD_EVENT_ONESHOT);
}

struct event_words {
    const char *kind, *text;
};

static int tell_event(sd_bus *connection, const void *what)
{
    const struct event_words *w = what;

    return sd_bus_emit_signal(connection, BUS_PATH, BUS_INTERFACE, "Event", "ss", w->kind, w->text);
}

void bus_event(struct bus *b, enum vpn_event event, const char *text)
{
    tell_all(b, tell_event, &(struct event_words){vpn_event_name(event), text});
}

struct test_words {
    bool sealed;
    const char *report;
};

static int tell_test(sd_bus *connection, const void *what)
{
    const struct test_words *w = what;

    return sd_bus_emit_signal(connection, BUS_PATH, BUS_INTERFACE, "TestResult", "bs",
                              (int)w->sealed, w->report);
}

void bus_test_result(struct bus *b, bool sealed, const char *json)
{
    tell_all(b, tell_test, &(struct test_words){sealed, json != NULL ? json : ""});
}

/* ---- the system bus ---- */

static void forget_system(struct bus *b)
{
    if (b->system == NULL)
        return;
    bus_call_end_all(b, b->system);
    (void)sd_bus_detach_event(b->system);
    b->system = sd_bus_close_unref(b->system);
}

static int try_later(struct bus *b)
{
    uint64_t usec = RETRY_MIN_US << (b->failures < 5 ? b->failures : 5);

    b->failures++;
    forget_system(b);
    if (usec > RETRY_MAX_US)
        usec = RETRY_MAX_US;
    (void)sd_event_source_set_time_relative(b->retry, usec);
    (void)sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT);
    return 0;
}

static int on_disconnected(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)m;
    (void)e;
    return try_later(user);
}

static int on_name(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct bus *b = user;
    uint32_t answer = 0;

    (void)e;
    if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "u", &answer) <= 0 ||
        (answer != NAME_OURS && answer != NAME_OURS_ALREADY)) {
        (void)try_later(b); /* not permitted yet, or somebody else has it */
        return 1;           /* the connection is closed: with 0 sd-bus (252) goes on with it and aborts */
    }
    b->failures = 0;
    bus_changed(b);
    return 0;
}

static int connect_system(struct bus *b)
{
    const char *address = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
    int r = sd_bus_new(&b->system);

    if (r < 0)
        return r;
    r = sd_bus_set_address(b->system, address != NULL ? address : SYSTEM_BUS);
    if (r >= 0)
        r = sd_bus_set_bus_client(b->system, 1);
    if (r >= 0)
        r = sd_bus_negotiate_fds(b->system, 1);
    if (r >= 0)
        r = sd_bus_start(b->system);
    if (r >= 0)
        r = sd_bus_attach_event(b->system, b->loop, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal_async(b->system, NULL, "org.freedesktop.DBus.Local", NULL,
                                      "org.freedesktop.DBus.Local", "Disconnected", on_disconnected,
                                      NULL, b);
    if (r >= 0)
        r = bus_object_add(b, b->system);
    if (r >= 0)
        r = sd_bus_request_name_async(b->system, NULL, BUS_NAME, 0, on_name, b);
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    struct bus *b = user;

    (void)s;
    (void)usec;
    return connect_system(b) < 0 ? try_later(b) : 0;
}

/* ---- a socket of our own ---- */

static void forget_peer(struct bus_peer *p)
{
    if (p->connection == NULL)
        return;
    bus_call_end_all(p->bus, p->connection);
    (void)sd_bus_detach_event(p->connection);
    p->connection = sd_bus_close_unref(p->connection);
}

static int on_peer_gone(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)m;
    (void)e;
    forget_peer(user);
    return 0;
}

/* fd is taken over in any case. */
static int serve_peer(struct bus_peer *p, int fd)
{
    _cleanup_(closep) int own = fd;
    sd_id128_t id;
    int r = sd_id128_randomize(&id);

    if (r >= 0)
        r = sd_bus_new(&p->connection);
    if (r < 0)
        return r;
    r = sd_bus_set_fd(p->connection, own, own);
    if (r < 0)
        return r;
    (void)TAKE_FD(own);
    r = sd_bus_set_server(p->connection, 1, id);
    if (r >= 0)
        r = sd_bus_negotiate_fds(p->connection, 1);
    if (r >= 0)
        r = sd_bus_start(p->connection);
    if (r >= 0)
        r = sd_bus_attach_event(p->connection, p->bus->loop, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal_async(p->connection, NULL, "org.freedesktop.DBus.Local", NULL,
                                      "org.freedesktop.DBus.Local", "Disconnected", on_peer_gone,
                                      NULL, p);
    return r < 0 ? r : bus_object_add(p->bus, p->connection);
}

static bool is_welcome(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static struct bus_peer *free_peer(struct bus *b)
{
    for (size_t i = 0; i < BUS_PEERS_MAX; i++) {
        if (b->peers[i].connection == NULL)
            return &b->peers[i];
    }
    return NULL;
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct bus *b = user;
    struct bus_peer *p;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)s;
    (void)revents;
    if (peer < 0)
        return 0;
    p = free_peer(b);
    if (p == NULL || !is_welcome(peer)) {
        (void)close_fd(peer);
        return 0;
    }
    if (serve_peer(p, peer) < 0)
        forget_peer(p);
    return 0;
}

static int listen_at(struct bus *b, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct stat st;
    mode_t mask;
    int r;

    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path) + 1);
    b->path = strdup(path);
    b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (b->path == NULL || b->listener < 0)
        return b->path == NULL ? -ENOMEM : -errno;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        (void)unlink(path); /* of an earlier life */
    mask = umask(0117);
    r = bind(b->listener, (struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
    (void)umask(mask);
    if (r == 0 && listen(b->listener, BUS_PEERS_MAX) < 0)
        r = -errno;
    return r < 0 ? r : sd_event_add_io(b->loop, &b->accept, b->listener, EPOLLIN, on_accept, b);
}

/* ---- life ---- */

static int prepare(struct bus *b)
{
    int r = sd_event_add_defer(b->loop, &b->told, on_told, b);

    if (r >= 0)
        r = sd_event_source_set_enabled(b->told, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time_relative(b->loop, &b->retry, CLOCK_MONOTONIC, 0, 1, on_retry, b);
    return r < 0 ? r : sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
}

int bus_new(sd_event *loop, struct manager *m, const char *path, struct bus **ret)
{
    _cleanup_(bus_freep) struct bus *b = calloc(1, sizeof(*b));
    int r;

    if (b == NULL)
        return -ENOMEM;
    b->loop = loop;
    b->manager = m;
    b->listener = -1;
    LIST_INIT(&b->calls);
    for (size_t i = 0; i < BUS_PEERS_MAX; i++)
        b->peers[i].bus = b;
    r = prepare(b);
    if (r >= 0 && path != NULL)
        r = listen_at(b, path);
    else if (r >= 0 && connect_system(b) < 0)
        r = try_later(b);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(b);
    return 0;
}

struct bus *bus_free(struct bus *b)
{
    if (b == NULL)
        return NULL;
    bus_call_end_all(b, NULL);
    forget_system(b);
    for (size_t i = 0; i < BUS_PEERS_MAX; i++)
        forget_peer(&b->peers[i]);
    sd_event_source_disable_unref(b->told);
    sd_event_source_disable_unref(b->retry);
    sd_event_source_disable_unref(b->accept);
    if (b->listener >= 0 && b->path != NULL)
        (void)unlink(b->path);
    (void)close_fd(b->listener);
    free(b->path);
    free(b);
    return NULL;
}

void bus_freep(struct bus **b)
{
    *b = bus_free(*b);
}
