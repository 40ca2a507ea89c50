/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An sd_event inside GLib's loop: nothing is lost whatever else the loop does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "desktop/glib/event.h"

static struct {
    sd_event *event;
    GSource *source;
    GMainLoop *loop;
    sd_event_source *timer, *io;
    int fds[2];
    unsigned fired, read, deferred, idles;
} t;

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    (void)user;
    t.fired++;
    g_main_loop_quit(t.loop);
    return 0;
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    char c;

    (void)s;
    (void)revents;
    (void)user;
    assert_int_equal(read(fd, &c, 1), 1);
    t.read++;
    if (c == 'q')
        g_main_loop_quit(t.loop);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    assert_true(sd_event_new(&t.event) >= 0);
    t.source = glib_event_attach(t.event);
    t.loop = g_main_loop_new(NULL, FALSE);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, t.fds), 0);
    assert_true(sd_event_add_io(t.event, &t.io, t.fds[0], EPOLLIN, on_input, NULL) >= 0);
    t.fired = t.read = t.deferred = t.idles = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    t.timer = sd_event_source_disable_unref(t.timer);
    t.io = sd_event_source_disable_unref(t.io);
    g_source_destroy(t.source);
    g_source_unref(t.source);
    g_main_loop_unref(t.loop);
    t.event = sd_event_unref(t.event);
    (void)close_fd(t.fds[0]);
    (void)close_fd(t.fds[1]);
    return 0;
}

static void arm(uint64_t usec)
{
    assert_true(sd_event_add_time_relative(t.event, &t.timer, CLOCK_MONOTONIC, usec, 1, on_timer,
                                           NULL) >= 0);
}

static void test_timer(void **state)
{
    (void)state;
    arm(20000);
    g_main_loop_run(t.loop);
    assert_int_equal(t.fired, 1);
}

static void test_input(void **state)
{
    (void)state;
    assert_int_equal(write(t.fds[1], "abcq", 4), 4);
    g_main_loop_run(t.loop);
    assert_int_equal(t.read, 4);
}

static int on_defer(sd_event_source *s, void *user)
{
    (void)s;
    (void)user;
    t.deferred++;
    g_main_loop_quit(t.loop);
    return 0;
}

static gboolean begin_something(gpointer user)
{
    (void)user;
    assert_true(sd_event_add_defer(t.event, NULL, on_defer, NULL) >= 0);
    return G_SOURCE_REMOVE;
}

/* What a callback of GTK adds is seen without an event of the descriptor. */
static void test_work_added_from_outside(void **state)
{
    (void)state;
    (void)g_idle_add(begin_something, NULL);
    g_main_loop_run(t.loop);
    assert_int_equal(t.deferred, 1);
}

static gboolean busy(gpointer user)
{
    (void)user;
    return ++t.idles < 2000 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* Sources that come first for a long time leave the loop half way: it has to go on from there. */
static void test_beside_a_busy_source_of_higher_priority(void **state)
{
    (void)state;
    arm(1000);
    assert_int_equal(write(t.fds[1], "ab", 2), 2);
    (void)g_idle_add_full(G_PRIORITY_HIGH, busy, NULL, NULL);
    g_main_loop_run(t.loop);
    assert_int_equal(t.idles, 2000);
    assert_int_equal(t.fired, 1);
    assert_int_equal(write(t.fds[1], "q", 1), 1);
    g_main_loop_run(t.loop);
    assert_int_equal(t.read, 3);
}

static int on_nested(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    GMainLoop *inner = g_main_loop_new(NULL, FALSE);
    char c;

    (void)s;
    (void)revents;
    (void)user;
    assert_int_equal(read(fd, &c, 1), 1);
    /* As a dialog does. What is for the sd_event waits until this has returned. */
    (void)g_timeout_add(20, (GSourceFunc)(void (*)(void))g_main_loop_quit, inner);
    g_main_loop_run(inner);
    g_main_loop_unref(inner);
    t.read++;
    return 0;
}

static void test_nested_loop(void **state)
{
    sd_event_source *other = NULL;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_true(sd_event_add_io(t.event, &other, fds[0], EPOLLIN, on_nested, NULL) >= 0);
    assert_int_equal(write(fds[1], "n", 1), 1);
    arm(5000);
    g_main_loop_run(t.loop);
    assert_int_equal(t.fired, 1);
    assert_int_equal(t.read, 1);
    sd_event_source_disable_unref(other);
    (void)close_fd(fds[0]);
    (void)close_fd(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_added_from_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beside_a_busy_source_of_higher_priority, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nested_loop, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
