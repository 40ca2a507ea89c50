/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The D-Bus object on its own socket (vpn/daemon/bus.h), with a manager that only notes things. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_vpn_bus_fake.h"
#include "vpn/daemon/bus_read.h"

static struct {
    sd_event *loop;
    sd_bus *client;
    char folder[32], path[64];
    sd_bus_message *answer;
    unsigned changes, events;
} t;

static int on_signal(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)e;
    (void)m;
    (*(unsigned *)user)++;
    return 0;
}

static int on_answer(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)user;
    (void)e;
    t.answer = sd_bus_message_ref(m);
    return 0;
}

static int setup(void **state)
{
    char address[128];

    (void)state;
    memset(&t, 0, sizeof(t));
    memset(&fake, 0, sizeof(fake));
    (void)strcpy(t.folder, "/tmp/vpn-bus-XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    (void)snprintf(t.path, sizeof(t.path), "%s/bus", t.folder);
    assert_true(sd_event_new(&t.loop) >= 0);
    assert_int_equal(bus_new(t.loop, NULL, t.path, &fake.bus), 0);
    (void)snprintf(address, sizeof(address), "unix:path=%s", t.path);
    assert_true(sd_bus_new(&t.client) >= 0);
    assert_true(sd_bus_set_address(t.client, address) >= 0);
    assert_true(sd_bus_negotiate_fds(t.client, 1) >= 0);
    assert_true(sd_bus_start(t.client) >= 0);
    assert_true(sd_bus_attach_event(t.client, t.loop, 0) >= 0);
    assert_true(sd_bus_match_signal(t.client, NULL, NULL, BUS_PATH,
                                    "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                    on_signal, &t.changes) >= 0);
    assert_true(sd_bus_match_signal(t.client, NULL, NULL, BUS_PATH, BUS_INTERFACE, "Event",
                                    on_signal, &t.events) >= 0);
    while (sd_bus_is_ready(t.client) == 0) /* sending a descriptor would wait for it */
        assert_true(sd_event_run(t.loop, 1000000) >= 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sd_bus_message_unref(t.answer);
    sd_bus_close_unref(t.client);
    fake.bus = bus_free(fake.bus);
    assert_int_equal(access(t.path, F_OK), -1);
    assert_int_equal(rmdir(t.folder), 0);
    sd_event_unref(t.loop);
    return 0;
}

/* Sends it and runs the loop until the answer is there (12 s at most). */
static sd_bus_message *call(sd_bus_message *m)
{
    time_t end = time(NULL) + 12;

    t.answer = sd_bus_message_unref(t.answer);
    assert_true(sd_bus_call_async(t.client, NULL, m, on_answer, NULL, 0) >= 0);
    sd_bus_message_unref(m);
    while (t.answer == NULL && time(NULL) < end)
        assert_true(sd_event_run(t.loop, 100000) >= 0);
    assert_non_null(t.answer);
    return t.answer;
}

static sd_bus_message *method(const char *name)
{
    sd_bus_message *m = NULL;

    assert_true(sd_bus_message_new_method_call(t.client, &m, BUS_NAME, BUS_PATH, BUS_INTERFACE,
                                               name) >= 0);
    return m;
}

static void check_error(sd_bus_message *answer, const char *name, const char *text)
{
    const sd_bus_error *e = sd_bus_message_get_error(answer);

    assert_true(sd_bus_message_is_method_error(answer, NULL));
    assert_string_equal(e->name, name);
    if (text != NULL)
        assert_non_null(strstr(e->message, text));
}

static int file_of(const char *text, size_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    return fd; /* its offset is at the end, which must not matter */
}

static void import_text(const char *name, const char *text)
{
    _cleanup_(closep) int fd = file_of(text, strlen(text));
    sd_bus_message *m = method("Import");

    assert_true(sd_bus_message_append(m, "hs", fd, name) >= 0);
    assert_false(sd_bus_message_is_method_error(call(m), NULL));
}

static void run_until(const unsigned *counter)
{
    time_t end = time(NULL) + 12;

    while (*counter == 0 && time(NULL) < end)
        assert_true(sd_event_run(t.loop, 100000) >= 0);
    assert_true(*counter > 0);
}

static void test_up_and_down(void **state)
{
    (void)state;
    check_error(call(method("Up")), "org.qubes_os.Vpn1.Error.NotFound", "There is no profile");
    import_text("one", "client\n");
    assert_false(sd_bus_message_is_method_error(call(method("Up")), NULL));
    run_until(&t.changes);
    run_until(&t.events);
    assert_false(sd_bus_message_is_method_error(call(method("Down")), NULL));
    assert_string_equal(fake.last, "down");
}

static void check_string(const char *property, const char *expected)
{
    sd_bus_message *m = NULL;
    const char *text;

    assert_true(sd_bus_message_new_method_call(t.client, &m, BUS_NAME, BUS_PATH,
                                               "org.freedesktop.DBus.Properties", "Get") >= 0);
    assert_true(sd_bus_message_append(m, "ss", BUS_INTERFACE, property) >= 0);
    assert_true(sd_bus_message_read(call(m), "v", "s", &text) > 0);
    assert_string_equal(text, expected);
}

static void test_properties(void **state)
{
    sd_bus_message *m = NULL;

    (void)state;
    check_string("State", "unconfigured");
    check_string("Gateway", "");
    import_text("one", "client\n");
    (void)call(method("Up"));
    check_string("State", "up");
    check_string("Gateway", "[2001:db8::1]:1194/udp");
    check_string("Seal", "tunnel");
    assert_true(sd_bus_message_new_method_call(t.client, &m, BUS_NAME, BUS_PATH,
                                               "org.freedesktop.DBus.Properties", "GetAll") >= 0);
    assert_true(sd_bus_message_append(m, "s", BUS_INTERFACE) >= 0);
    assert_false(sd_bus_message_is_method_error(call(m), NULL));
}

static void test_nothing_can_be_written(void **state)
{
    sd_bus_message *m = NULL;

    (void)state;
    assert_true(sd_bus_message_new_method_call(t.client, &m, BUS_NAME, BUS_PATH,
                                               "org.freedesktop.DBus.Properties", "Set") >= 0);
    assert_true(sd_bus_message_append(m, "ssv", BUS_INTERFACE, "State", "s", "up") >= 0);
    check_error(call(m), "org.freedesktop.DBus.Error.PropertyReadOnly", NULL);
}

static void test_import(void **state)
{
    _cleanup_(closep) int fd = file_of("client\nca ca.crt\n", 17), other = file_of("cert", 4);
    const char *kind, *word, *text;
    uint32_t line;
    sd_bus_message *m = method("ImportWithFiles");

    (void)state;
    assert_true(sd_bus_message_append(m, "hsa{sh}", fd, "one", 1, "ca.crt", other) >= 0);
    (void)call(m);
    assert_true(sd_bus_message_enter_container(t.answer, 'a', "(suss)") > 0);
    assert_true(sd_bus_message_read(t.answer, "(suss)", &kind, &line, &word, &text) > 0);
    assert_string_equal(kind, "left-out");
    assert_int_equal(line, 7);
    assert_string_equal(fake.last, "import one");
    assert_int_equal(fake.len, 17);
    assert_string_equal(fake.other, "ca.crt=4");
}

static void test_import_refused(void **state)
{
    _cleanup_(closep) int fd = file_of("bad", 3);
    sd_bus_message *m = method("Import");

    (void)state;
    assert_true(sd_bus_message_append(m, "hs", fd, "one") >= 0);
    check_error(call(m), "org.qubes_os.Vpn1.Error.Invalid", "line 3: up: would run a program");
}

static void test_describe(void **state)
{
    _cleanup_(closep) int fd = file_of("client\n", 7), bad = file_of("bad", 3);
    sd_bus_message *m = method("Describe");

    (void)state;
    assert_true(sd_bus_message_append(m, "h", fd) >= 0);
    assert_string_equal(sd_bus_message_get_signature(call(m), 1), "a{sv}a(suss)");
    m = method("Describe"); /* what is wrong with a file is the answer, not an error */
    assert_true(sd_bus_message_append(m, "h", bad) >= 0);
    assert_string_equal(sd_bus_message_get_signature(call(m), 1), "a{sv}a(suss)");
}

static void test_describe_profile(void **state)
{
    sd_bus_message *m = method("DescribeProfile");

    (void)state;
    assert_true(sd_bus_message_append(m, "s", "work.ovpn") >= 0);
    assert_string_equal(sd_bus_message_get_signature(call(m), 1), "a{sv}a(suss)");
    assert_string_equal(fake.last, "describe-profile|work.ovpn");
    m = method("DescribeProfile");
    assert_true(sd_bus_message_append(m, "s", "none") >= 0);
    check_error(call(m), "org.qubes_os.Vpn1.Error.NotFound", "no such profile");
}

static void test_too_big(void **state)
{
    _cleanup_(freep) char *big = calloc(1, BUS_FILE_MAX + 1);
    _cleanup_(closep) int fd = file_of(big, BUS_FILE_MAX + 1), fits = file_of(big, BUS_FILE_MAX);
    sd_bus_message *m = method("Import");

    (void)state;
    assert_true(sd_bus_message_append(m, "hs", fd, "one") >= 0);
    check_error(call(m), "org.qubes_os.Vpn1.Error.Invalid", "512 KiB");
    m = method("Import");
    assert_true(sd_bus_message_append(m, "hs", fits, "one") >= 0);
    assert_false(sd_bus_message_is_method_error(call(m), NULL));
    assert_int_equal(fake.len, BUS_FILE_MAX);
}

static void test_no_file(void **state)
{
    static const char *const paths[] = {"/dev/zero", "/proc/self/status", "/"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        _cleanup_(closep) int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        sd_bus_message *m = method("Import");

        assert_true(fd >= 0);
        assert_true(sd_bus_message_append(m, "hs", fd, "one") >= 0);
        check_error(call(m), "org.qubes_os.Vpn1.Error.Invalid", "neither a pipe nor a file");
    }
}

static void test_pipe(void **state)
{
    sd_bus_message *m = method("SetSecret");
    int fds[2];

    (void)state;
    import_text("one", "client\n");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], "me\nhidden\n", 10), 10);
    assert_true(sd_bus_message_append(m, "ssh", "one", "user-password", fds[0]) >= 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_false(sd_bus_message_is_method_error(call(m), NULL));
    assert_string_equal(fake.text, "me\nhidden");
    assert_string_equal(fake.last, "secret one 0");
}

/* A pipe that never ends: the loop goes on meanwhile, and the call ends. */
static void test_pipe_without_end(void **state)
{
    sd_bus_message *m = method("SetSecret");
    unsigned before;
    int fds[2];

    (void)state;
    import_text("one", "client\n");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_true(sd_bus_message_append(m, "ssh", "one", "key-password", fds[0]) >= 0);
    assert_true(sd_bus_call_async(t.client, NULL, m, on_answer, NULL, 0) >= 0);
    sd_bus_message_unref(m);
    before = t.changes;
    bus_changed(fake.bus);
    while (t.changes == before)
        assert_true(sd_event_run(t.loop, 100000) >= 0);
    t.answer = sd_bus_message_unref(t.answer);
    while (t.answer == NULL)
        assert_true(sd_event_run(t.loop, 1000000) >= 0);
    check_error(t.answer, "org.qubes_os.Vpn1.Error.TimedOut", "5 seconds");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void test_secret_of_no_kind(void **state)
{
    _cleanup_(closep) int fd = file_of("x", 1);
    sd_bus_message *m = method("SetSecret");

    (void)state;
    assert_true(sd_bus_message_append(m, "ssh", "one", "pin", fd) >= 0);
    check_error(call(m), "org.qubes_os.Vpn1.Error.Invalid", "no secret of that kind");
}

static void test_order(void **state)
{
    sd_bus_message *m = method("SetOrder");

    (void)state;
    assert_true(sd_bus_message_append(m, "as", 2, "one", "two") >= 0);
    (void)call(m);
    assert_string_equal(fake.last, "order 2 two fixed");
    m = method("SetRandomOrder");
    assert_true(sd_bus_message_append(m, "as", 0) >= 0);
    (void)call(m);
    assert_string_equal(fake.last, "order 0  random");
}

/* Calls that hang are counted, so that one peer cannot fill the memory. */
static void test_too_many_calls(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    for (int i = 0; i < 9; i++) {
        sd_bus_message *m = method("SetSecret");

        assert_true(sd_bus_message_append(m, "ssh", "one", "challenge", fds[0]) >= 0);
        assert_true(sd_bus_call_async(t.client, NULL, m, on_answer, NULL, 0) >= 0);
        sd_bus_message_unref(m);
    }
    while (t.answer == NULL)
        assert_true(sd_event_run(t.loop, 1000000) >= 0);
    check_error(t.answer, "org.qubes_os.Vpn1.Error.Busy", NULL);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* The object goes while calls are at work: nothing of them is left (the sanitizer looks). */
static void test_end_in_work(void **state)
{
    test_too_many_calls(state);
}

static void test_garbage(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fds[20];

    (void)state;
    (void)strcpy(at.sun_path, t.path);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) { /* more than have room */
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&at, sizeof(at)), 0);
        (void)send(fds[i], "\0AUTH ANONYMOUS\r\n\xff\xff\xff", 20, MSG_NOSIGNAL);
        assert_true(sd_event_run(t.loop, 1000) >= 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        (void)close(fds[i]);
    for (int i = 0; i < 100; i++)
        assert_true(sd_event_run(t.loop, 1000) >= 0);
    check_string("State", "unconfigured");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_up_and_down),   TEST(test_properties),        TEST(test_nothing_can_be_written),
        TEST(test_import),        TEST(test_import_refused),    TEST(test_describe),
        TEST(test_describe_profile),
        TEST(test_too_big),       TEST(test_no_file),           TEST(test_pipe),
        TEST(test_pipe_without_end), TEST(test_secret_of_no_kind), TEST(test_order),
        TEST(test_too_many_calls), TEST(test_end_in_work),      TEST(test_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
