/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor's messages as JSON; and the follower where a name's owner answers with an error.
 * More of the follower: test_vpn_follow.c, and on a real bus tests/desktop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vpn/object/follow.h"
#include "vpn/object/value.h"

static void test_names(void **state)
{
    static const char *const pairs[][2] = {{"State", "state"},
                                           {"WantedUp", "wanted_up"},
                                           {"LastErrorTime", "last_error_time"},
                                           {"", ""}};
    char buf[32], small[6];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        vpn_value_name(pairs[i][0], buf, sizeof(buf));
        assert_string_equal(buf, pairs[i][1]);
    }
    vpn_value_name("VeryLongName", small, sizeof(small));
    assert_true(strlen(small) < sizeof(small));
}

static void test_addresses(void **state)
{
    char buf[64], small[20];

    (void)state;
    assert_int_equal(vpn_value_address("/run/x/bus", buf, sizeof(buf)), 0);
    assert_string_equal(buf, "unix:path=/run/x/bus");
    assert_int_equal(vpn_value_address("/run/x/bus", small, sizeof(small)), -EINVAL);
    assert_int_equal(vpn_value_address("", buf, sizeof(buf)), -EINVAL);
    assert_int_equal(vpn_value_address("/a,guid=0", buf, sizeof(buf)), -EINVAL);
    assert_int_equal(vpn_value_address("/a;tcp:host=x", buf, sizeof(buf)), -EINVAL);
}

/* ---- messages ---- */

struct bus { /* a message needs a bus that has begun; nobody is at its other end */
    sd_bus *bus;
    int other;
};

static int setup(void **state)
{
    static struct bus b;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(sd_bus_new(&b.bus), 0);
    assert_true(sd_bus_set_fd(b.bus, fds[0], fds[0]) >= 0);
    assert_true(sd_bus_start(b.bus) >= 0);
    b.other = fds[1];
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    struct bus *b = *state;

    b->bus = sd_bus_close_unref(b->bus);
    b->other = close_fd(b->other);
    return 0;
}

static sd_bus_message *new_message(struct bus *b)
{
    sd_bus_message *m = NULL;

    assert_true(sd_bus_message_new_signal(b->bus, &m, VPN_OBJECT_PATH, VPN_OBJECT_NAME, "X") >= 0);
    return m;
}

/* Seals it and reads it from the beginning. */
static int read_back(sd_bus_message *m, json_t **ret)
{
    assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
    assert_true(sd_bus_message_rewind(m, 1) >= 0);
    return vpn_value_read(m, ret);
}

static void check_text(const json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_properties(void **state)
{
    sd_bus_message *m = new_message(*state);
    json_t *value = NULL;

    assert_true(sd_bus_message_append(m, "a{sv}", 5, "State", "s", "up", "WantedUp", "b", 1,
                                      "Since", "t", UINT64_C(1700000000000000), "Dns", "as", 2,
                                      "10.0.0.1", "fd00::1", "PushedFindings", "a(suss)", 1,
                                      "left-out", 0u, "route", "why") >= 0);
    assert_true(sd_bus_message_append(m, "as", 0) >= 0);
    assert_int_equal(read_back(m, &value), 0);
    check_text(value, "[{\"dns\":[\"10.0.0.1\",\"fd00::1\"],"
                      "\"pushed_findings\":[[\"left-out\",0,\"route\",\"why\"]],"
                      "\"since\":1700000000000000,\"state\":\"up\",\"wanted_up\":true},[]]");
    json_decref(value);
    sd_bus_message_unref(m);
}

static void test_nothing_is_an_empty_array(void **state)
{
    sd_bus_message *m = new_message(*state);
    json_t *value = NULL;

    assert_int_equal(read_back(m, &value), 0);
    check_text(value, "[]");
    json_decref(value);
    sd_bus_message_unref(m);
}

static void test_foreign_types_are_errors(void **state)
{
    sd_bus_message *m = new_message(*state);
    json_t *value = NULL;

    assert_true(sd_bus_message_append(m, "sd", "text", 1.5) >= 0);
    assert_int_equal(read_back(m, &value), -EBADMSG);
    assert_null(value);
    sd_bus_message_unref(m);
    m = new_message(*state);
    assert_true(sd_bus_message_append(m, "a{sv}", 1, "File", "h", 0) >= 0);
    assert_int_equal(read_back(m, &value), -EBADMSG);
    assert_null(value);
    sd_bus_message_unref(m);
}

static void test_depth_has_an_end(void **state)
{
    sd_bus_message *m = new_message(*state);
    json_t *value = NULL;

    for (size_t i = 0; i < 12; i++)
        assert_true(sd_bus_message_open_container(m, 'v', i < 11 ? "v" : "s") >= 0);
    assert_true(sd_bus_message_append(m, "s", "deep") >= 0);
    for (size_t i = 0; i < 12; i++)
        assert_true(sd_bus_message_close_container(m) >= 0);
    assert_int_equal(read_back(m, &value), -EBADMSG);
    assert_null(value);
    sd_bus_message_unref(m);
}

/* ---- a bus, where the supervisor's name has an owner ---- */

static struct {
    sd_event *loop;
    sd_bus *peer;
    unsigned refused, changes, gone; /* refused: how many GetAll are still to be */
    bool silent;                     /* the next GetNameOwner is not answered */
} other;

static int on_call(sd_bus_message *m, void *user, sd_bus_error *e)
{
    const char *member = sd_bus_message_get_member(m);

    (void)user;
    (void)e;
    if (sd_bus_message_is_method_call(m, NULL, "Hello") > 0)
        return sd_bus_reply_method_return(m, "s", ":1.9");
    if (other.silent && sd_bus_message_is_method_call(m, NULL, "GetNameOwner") > 0) {
        other.silent = false;
        return 1;
    }
    if (sd_bus_message_is_method_call(m, NULL, "GetNameOwner") > 0)
        return sd_bus_reply_method_return(m, "s", ":1.1");
    if (member == NULL || strcmp(member, "GetAll") != 0)
        return sd_bus_reply_method_return(m, "");
    if (other.refused > 0) {
        other.refused--;
        return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_NO_REPLY, "too slow");
    }
    return sd_bus_reply_method_return(m, "a{sv}", 1, "State", "s", "up");
}

static int on_connection(sd_event_source *s, int fd, uint32_t events, void *user)
{
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)s;
    (void)events;
    (void)user;
    assert_true(peer >= 0);
    other.peer = sd_bus_close_unref(other.peer);
    assert_int_equal(sd_bus_new(&other.peer), 0);
    assert_true(sd_bus_set_fd(other.peer, peer, peer) >= 0);
    assert_true(sd_bus_set_server(
                    other.peer, 1,
                    SD_ID128_MAKE(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)) >= 0);
    assert_true(sd_bus_start(other.peer) >= 0);
    assert_true(sd_bus_add_filter(other.peer, NULL, on_call, NULL) >= 0);
    assert_true(sd_bus_attach_event(other.peer, other.loop, SD_EVENT_PRIORITY_NORMAL) >= 0);
    return 0;
}

static void on_changed(void *data, const json_t *status)
{
    (void)data;
    other.changes += status != NULL;
    other.gone += status == NULL;
}

static void follow_until_it_answers(void)
{
    static const struct vpn_follow_ops ops = {.changed = on_changed};
    char folder[] = "/tmp/vpn-object-XXXXXX", address[64];
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct vpn_follow *f = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_non_null(mkdtemp(folder));
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s/bus", folder);
    (void)snprintf(address, sizeof(address), "unix:path=%s/bus", folder);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1), 0);
    assert_true(sd_event_new(&other.loop) >= 0);
    assert_true(sd_event_add_io(other.loop, NULL, fd, EPOLLIN, on_connection, NULL) >= 0);
    assert_int_equal(vpn_follow_new(&f, other.loop, NULL, &ops, NULL), 0);
    while (other.changes == 0)
        assert_true(sd_event_run(other.loop, UINT64_C(10000000)) > 0);
    assert_int_equal(other.gone, 1);
    assert_string_equal(json_string_value(json_object_get(vpn_follow_status(f), "state")), "up");
    f = vpn_follow_free(f);
    other.peer = sd_bus_close_unref(other.peer);
    other.loop = sd_event_unref(other.loop);
    (void)close_fd(fd);
    (void)unlink(at.sun_path);
    (void)rmdir(folder);
}

/* It may have been slow once, and have nothing to tell for hours. */
static void test_owner_that_did_not_answer_is_asked_again(void **state)
{
    (void)state;
    memset(&other, 0, sizeof(other));
    other.refused = 1;
    follow_until_it_answers();
}

/* The bus is left out of the library's own look at what took too long. */
static void test_bus_that_hangs_is_left(void **state)
{
    (void)state;
    memset(&other, 0, sizeof(other));
    other.silent = true;
    assert_int_equal(setenv("SYSTEMD_BUS_TIMEOUT", "1", 1), 0);
    follow_until_it_answers();
    assert_int_equal(unsetenv("SYSTEMD_BUS_TIMEOUT"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test_setup_teardown(test_properties, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_an_empty_array, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_types_are_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth_has_an_end, setup, teardown),
        cmocka_unit_test(test_owner_that_did_not_answer_is_asked_again),
        cmocka_unit_test(test_bus_that_hangs_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
