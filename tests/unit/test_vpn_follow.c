/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The follower (vpn/object/follow.h) and the object (vpn/daemon/bus.h) in one loop, on a socket.
 * How it does on a bus whose owners come and go: tests/desktop/test_notifier.py.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_vpn_bus_fake.h"
#include "vpn/object/follow.h"

#define ROUND_US UINT64_C(10000000) /* no wait is longer */

static struct {
    sd_event *loop;
    struct vpn_follow *f;
    char folder[32], path[64];
    unsigned changes, gone, events, tests, done;
    char kind[32], name[32], error[128];
    size_t results;
} t;

static void on_changed(void *data, const json_t *status)
{
    assert_ptr_equal(data, &t);
    assert_ptr_equal(status, vpn_follow_status(t.f));
    if (status != NULL)
        t.changes++;
    else
        t.gone++;
}

static void on_event(void *data, const char *kind, const char *text)
{
    (void)data;
    assert_true(text[0] != '\0');
    t.events++;
    (void)snprintf(t.kind, sizeof(t.kind), "%s", kind);
}

static void on_tested(void *data, bool sealed, const char *report)
{
    (void)data;
    assert_true(sealed);
    assert_string_equal(report, "{\"sealed\": true}");
    t.tests++;
}

static void on_done(void *data, const json_t *results, const char *error_name, const char *error)
{
    assert_ptr_equal(data, &t);
    assert_true((error == NULL) == (error_name == NULL));
    assert_true((error == NULL) == (results != NULL));
    t.done++;
    t.results = json_array_size(results);
    (void)snprintf(t.name, sizeof(t.name), "%s", error_name != NULL ? error_name : "-");
    (void)snprintf(t.error, sizeof(t.error), "%s", error != NULL ? error : "-");
}

static const struct vpn_follow_ops ops = {on_changed, on_event, on_tested};

/* Runs the loop until *count is at least n. */
static void until(const unsigned *count, unsigned n)
{
    while (*count < n)
        assert_true(sd_event_run(t.loop, ROUND_US) > 0);
}

/* Runs it until nothing is left to do for so long. */
static void settle(uint64_t usec)
{
    while (sd_event_run(t.loop, usec) > 0)
        ;
}

static int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    memset(&fake, 0, sizeof(fake));
    (void)strcpy(t.folder, "/tmp/vpn-follow-XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    (void)snprintf(t.path, sizeof(t.path), "%s/bus", t.folder);
    assert_true(sd_event_new(&t.loop) >= 0);
    assert_int_equal(bus_new(t.loop, NULL, t.path, &fake.bus), 0);
    fake.status.n_profiles = 1;
    (void)snprintf(fake.status.profiles[0].name, sizeof(fake.status.profiles[0].name), "home.ovpn");
    fake.status.seal = SEAL_CLOSED;
    assert_int_equal(vpn_follow_new(&t.f, t.loop, t.path, &ops, &t), 0);
    assert_int_equal(t.changes + t.gone, 0); /* never out of a function */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    t.f = vpn_follow_free(t.f);
    fake.bus = bus_free(fake.bus);
    t.loop = sd_event_unref(t.loop);
    (void)unlink(t.path);
    (void)rmdir(t.folder);
    return 0;
}

static const char *member(const char *key)
{
    const char *text = json_string_value(json_object_get(vpn_follow_status(t.f), key));

    return text != NULL ? text : "";
}

static void test_status_and_changes(void **state)
{
    (void)state;
    assert_null(vpn_follow_status(t.f));
    until(&t.changes, 1);
    assert_string_equal(member("state"), "unconfigured");
    assert_int_equal(vpn_follow_call(t.f, NULL, NULL, "Up", ""), 0);
    until(&t.events, 1);
    until(&t.changes, 2);
    assert_string_equal(t.kind, "up");
    assert_string_equal(member("state"), "up");
    assert_string_equal(member("gateway"), "[2001:db8::1]:1194/udp");
    /* Whole, also what did not change, and what is told on demand only. */
    assert_int_equal(json_array_size(json_object_get(vpn_follow_status(t.f), "profiles")), 1);
    assert_int_equal(json_integer_value(json_object_get(vpn_follow_status(t.f), "bytes_in")), 0);
    assert_int_equal(vpn_follow_refresh(t.f), 0);
    assert_int_equal(vpn_follow_refresh(t.f), 0);
    until(&t.changes, 3);
    assert_int_equal(json_integer_value(json_object_get(vpn_follow_status(t.f), "bytes_in")),
                     5000000000);
    settle(50000);
    assert_int_equal(t.changes, 3);
    assert_int_equal(t.gone, 0);
}

static void test_calls(void **state)
{
    (void)state;
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), -ENOTCONN); /* nobody is known */
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Use", "s", "home.ovpn"), 0);
    assert_int_equal(t.done, 0);
    until(&t.done, 1);
    assert_string_equal(t.error, "-");
    assert_string_equal(fake.last, "use home.ovpn");
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Use", "s", "none"), 0);
    until(&t.done, 2);
    assert_string_equal(t.name, "NotFound");
    assert_string_equal(t.error, "There is no such profile");
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "NoSuchMethod", ""), 0);
    until(&t.done, 3);
    assert_string_equal(t.name, ""); /* none of ours */
    assert_int_equal(vpn_follow_call(t.f, NULL, NULL, "Test", NULL), 0);
    until(&t.tests, 1);
}

static void test_call_in_two_steps(void **state)
{
    sd_bus_message *m = NULL;

    (void)state;
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_begin(t.f, "SetOrder", &m), 0);
    assert_true(sd_bus_message_append(m, "as", 1, "home.ovpn") >= 0);
    assert_int_equal(vpn_follow_send(t.f, m, on_done, &t), 0);
    until(&t.done, 1);
    assert_string_equal(fake.last, "order 1 home.ovpn fixed");
}

static void test_forgotten_call_is_done_and_not_told(void **state)
{
    (void)state;
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Use", "s", "home.ovpn"), 0);
    vpn_follow_forget(t.f, &t);
    until(&t.changes, 2);
    settle(50000);
    assert_string_equal(member("profile"), "home.ovpn");
    assert_int_equal(t.done, 0);
}

static void test_supervisor_goes_and_comes(void **state)
{
    (void)state;
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), 0);
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), 0);
    fake.bus = bus_free(fake.bus); /* before it has read them */
    until(&t.gone, 1);
    until(&t.done, 2);
    assert_string_equal(t.name, "");
    assert_true(t.error[0] != '\0' && t.error[0] != '-');
    assert_null(vpn_follow_status(t.f));
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), -ENOTCONN);
    assert_int_equal(vpn_follow_refresh(t.f), -ENOTCONN);
    assert_int_equal(bus_new(t.loop, NULL, t.path, &fake.bus), 0);
    until(&t.changes, 2);
    assert_int_equal(t.gone, 1); /* told once, however often it was tried */
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), 0);
    until(&t.done, 3);
    assert_string_equal(t.error, "-");
}

static void test_nobody_there_is_told_once(void **state)
{
    (void)state;
    fake.bus = bus_free(fake.bus);
    until(&t.gone, 1);
    settle(1500000); /* tried again after a second */
    assert_int_equal(t.gone, 1);
    assert_int_equal(t.changes, 0);
}

static void test_free_with_open_calls(void **state)
{
    (void)state;
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_call(t.f, on_done, &t, "Up", ""), 0);
    assert_int_equal(vpn_follow_refresh(t.f), 0);
    t.f = vpn_follow_free(t.f);
    settle(50000);
    assert_int_equal(t.done, 0);
    assert_int_equal(t.changes, 1);
}

static void test_wrong_socket(void **state)
{
    struct vpn_follow *other = NULL;
    unsigned gone = t.gone;

    (void)state;
    until(&t.changes, 1);
    assert_int_equal(vpn_follow_new(&other, t.loop, "/tmp/a;tcp:host=b", NULL, NULL), -EINVAL);
    assert_null(other);
    assert_int_equal(t.gone, gone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status_and_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_in_two_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forgotten_call_is_done_and_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_supervisor_goes_and_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_with_open_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_socket, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
