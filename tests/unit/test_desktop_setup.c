/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The steps of a set-up, with a supervisor that is played here: what it is asked, and what a person
 * sees of its answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "desktop/configurator/setup.h"
#include "vpn/object/value.h"

#define PROFILE                                                                                    \
    "client\ndev tun\nremote 203.0.113.10 1194 udp\nremote-cert-tls server\nauth-user-pass\n"      \
    "<ca>\n-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUJp8d\n-----END "                       \
    "CERTIFICATE-----\n</ca>\n"

/* ---- the follower, in the place of vpn/object/follow.c ---- */

static struct {
    sd_bus *bus;
    json_t *status;
    bool absent;
    char method[64], name[64], kind[64], secret[1200];
    vpn_done_fn done;
    void *data;
    unsigned changes;
} t;

const json_t *vpn_follow_status(const struct vpn_follow *f)
{
    (void)f;
    return t.status;
}

void vpn_follow_forget(struct vpn_follow *f, const void *data)
{
    (void)f;
    if (data == t.data)
        t.done = NULL;
}

int vpn_follow_begin(struct vpn_follow *f, const char *method, sd_bus_message **ret)
{
    (void)f;
    if (t.absent)
        return -ENOTCONN;
    return sd_bus_message_new_method_call(t.bus, ret, VPN_OBJECT_NAME, VPN_OBJECT_PATH,
                                          VPN_OBJECT_NAME, method);
}

static void read_secret(int fd)
{
    ssize_t n = pread(fd, t.secret, sizeof(t.secret) - 1, 0);

    t.secret[n > 0 ? n : 0] = '\0';
}

int vpn_follow_send(struct vpn_follow *f, sd_bus_message *m, vpn_done_fn done, void *data)
{
    const char *name = "", *kind = "";
    int fd;

    (void)f;
    assert_null(t.done); /* one call at a time */
    (void)snprintf(t.method, sizeof(t.method), "%s", sd_bus_message_get_member(m));
    assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
    assert_true(sd_bus_message_rewind(m, 1) >= 0);
    if (strcmp(t.method, "ImportWithFiles") == 0) {
        assert_true(sd_bus_message_read(m, "hs", &fd, &name) > 0);
    } else if (strcmp(t.method, "Use") == 0) {
        assert_true(sd_bus_message_read(m, "s", &name) > 0);
    } else if (strcmp(t.method, "SetSecret") == 0) {
        assert_true(sd_bus_message_read(m, "ssh", &name, &kind, &fd) > 0);
        read_secret(fd);
    }
    (void)snprintf(t.name, sizeof(t.name), "%s", name);
    (void)snprintf(t.kind, sizeof(t.kind), "%s", kind);
    sd_bus_message_unref(m);
    t.done = done;
    t.data = data;
    return 0;
}

int vpn_follow_call(struct vpn_follow *f, vpn_done_fn done, void *data, const char *method,
                    const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list ap;
    int r = vpn_follow_begin(f, method, &m);

    if (r < 0)
        return r;
    va_start(ap, types);
    assert_true(sd_bus_message_appendv(m, types, ap) >= 0);
    va_end(ap);
    return vpn_follow_send(f, m, done, data);
}

/* results is given up. */
static void answer(json_t *results)
{
    vpn_done_fn done = t.done;

    assert_non_null(done);
    t.done = NULL;
    done(t.data, results, NULL, NULL);
    json_decref(results);
}

static void refuse(const char *name, const char *text)
{
    vpn_done_fn done = t.done;

    assert_non_null(done);
    t.done = NULL;
    done(t.data, NULL, name, text);
}

static void on_changed(void *data, const struct setup_view *view)
{
    (void)data;
    assert_non_null(view);
    t.changes++;
}

static struct setup *s;
static const struct setup_view *v;

static int begin(void **state)
{
    static const struct setup_ops ops = {on_changed};
    int pair[2];

    (void)state;
    memset(&t, 0, sizeof(t));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    assert_true(sd_bus_new(&t.bus) >= 0);
    assert_true(sd_bus_set_fd(t.bus, pair[0], pair[0]) >= 0);
    assert_true(sd_bus_negotiate_fds(t.bus, 1) >= 0);
    assert_true(sd_bus_start(t.bus) >= 0);
    (void)close(pair[1]);
    assert_int_equal(setup_new(&s, NULL, &ops, NULL), 0);
    v = setup_look(s);
    return 0;
}

static int end(void **state)
{
    (void)state;
    s = setup_free(s);
    t.bus = sd_bus_unref(t.bus);
    json_decref(t.status);
    return 0;
}

static json_t *description(const char *needs)
{
    json_t *list = json_array();

    if (needs != NULL)
        (void)json_array_append_new(list, json_string(needs));
    return json_pack("[{s:b,s:s,s:[s],s:o},[]]", "usable", 1, "kind", "openvpn", "endpoints",
                     "203.0.113.10:1194/udp", "needs", list);
}

static void find(const char *needs)
{
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    assert_int_equal(v->step, SETUP_LOOKING);
    assert_string_equal(t.method, "DescribeWithFiles");
    answer(description(needs));
    assert_int_equal(v->step, SETUP_FOUND);
}

static void import(const char *needs)
{
    find(needs);
    assert_int_equal(setup_import(s), 0);
    assert_int_equal(v->step, SETUP_IMPORTING);
    answer(json_pack("[[]]"));
}

static void status(const char *state, const char *profile, bool wanted, const char *missing)
{
    json_decref(t.status);
    t.status = json_pack("{s:s,s:s,s:b,s:I,s:s,s:I,s:[],s:[{s:s,s:[s]}]}", "state", state,
                         "profile", profile, "wanted_up", (int)wanted, "since", INT64_MAX / 2,
                         "last_error", "the server refused the log-in", "last_error_time",
                         INT64_MAX / 2, "missing_secrets", "profiles", "name", "203.0.113.10.ovpn",
                         "needs", "user-password");
    assert_non_null(t.status);
    if (missing != NULL)
        (void)json_array_append_new(json_object_get(t.status, "missing_secrets"),
                                    json_string(missing));
    setup_status(s, t.status);
}

/* ---- the way ---- */

static void test_the_whole_way(void **state)
{
    char user[] = "me", password[] = "hid den";

    (void)state;
    assert_int_equal(v->step, SETUP_CHOOSE);
    find("user-password");
    assert_true(v->usable);
    assert_string_equal(v->kind, "OpenVPN");
    assert_string_equal(v->name, "203.0.113.10.ovpn");
    assert_string_equal(v->servers[0], "203.0.113.10:1194/udp");
    assert_string_equal(v->needs[0], "user-password");
    assert_int_equal(json_array_size(v->endpoints), 1);
    assert_int_equal(setup_import(s), 0);
    assert_string_equal(t.method, "ImportWithFiles");
    assert_string_equal(t.name, "203.0.113.10.ovpn");
    assert_int_equal(setup_import(s), -EBUSY);
    answer(json_pack("[[]]"));
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_int_equal(setup_secret(s, "user-password", user, password), 0);
    assert_string_equal(t.secret, "me\nhid den");
    assert_memory_equal(user, "\0\0\0", 3);
    assert_memory_equal(password, "\0\0\0\0\0\0\0\0", 8);
    answer(json_pack("[]"));
    assert_int_equal(v->step, SETUP_READY);
    assert_null(v->needs[0]);
    assert_int_equal(setup_connect(s), 0);
    assert_string_equal(t.method, "Use");
    answer(json_pack("[]"));
    assert_int_equal(v->step, SETUP_CONNECTING);
    status("up", "another.ovpn", true, NULL); /* the one before, still */
    assert_int_equal(v->step, SETUP_CONNECTING);
    status("connecting", "203.0.113.10.ovpn", true, NULL);
    assert_int_equal(v->step, SETUP_CONNECTING);
    status("up", "203.0.113.10.ovpn", true, NULL);
    assert_int_equal(v->step, SETUP_DONE);
    assert_string_equal(v->error, "");
}

static void test_wrong_password_is_asked_for_again(void **state)
{
    (void)state;
    import(NULL);
    assert_int_equal(v->step, SETUP_READY);
    assert_int_equal(setup_connect(s), 0);
    status("failed", "203.0.113.10.ovpn", true, NULL); /* not before the answer */
    assert_int_equal(v->step, SETUP_CONNECTING);
    answer(json_pack("[]"));
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_string_equal(v->needs[0], "user-password");
    assert_non_null(strstr(v->error, "the server refused the log-in"));
    assert_non_null(strstr(v->error, "sealed"));
    assert_int_equal(setup_skip(s), 0);
    assert_int_equal(v->step, SETUP_READY);
}

static void test_code_is_asked_for_while_it_connects(void **state)
{
    char code[] = "123456";

    (void)state;
    import(NULL);
    assert_int_equal(setup_connect(s), 0);
    answer(json_pack("[]"));
    status("connecting", "203.0.113.10.ovpn", true, "challenge");
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_string_equal(v->needs[0], "challenge");
    assert_int_equal(setup_secret(s, "challenge", NULL, code), 0);
    assert_string_equal(t.secret, "123456");
    assert_string_equal(t.kind, "challenge");
}

static void test_somebody_blocks_meanwhile(void **state)
{
    (void)state;
    import(NULL);
    assert_int_equal(setup_connect(s), 0);
    answer(json_pack("[]"));
    status("sealed", "203.0.113.10.ovpn", true, NULL);
    assert_int_equal(v->step, SETUP_CONNECTING); /* waits for the next try */
    setup_status(s, NULL);
    assert_int_equal(v->step, SETUP_CONNECTING);
    status("sealed", "203.0.113.10.ovpn", false, NULL);
    assert_int_equal(v->step, SETUP_READY);
}

/* ---- errors ---- */

static void test_secrets_are_wiped_whatever_happens(void **state)
{
    char user[] = "me\nyou", password[] = "x", again[] = "me", empty[] = "";
    char late[] = "secret";

    (void)state;
    assert_int_equal(setup_secret(s, "challenge", NULL, late), -EBUSY);
    assert_memory_equal(late, "\0\0\0\0\0\0", 6);
    import("user-password");
    assert_int_equal(setup_secret(s, "user-password", user, password), -EINVAL);
    assert_memory_equal(user, "\0\0\0\0\0\0", 6);
    assert_int_equal(password[0], 0);
    assert_true(v->error[0] != '\0');
    assert_int_equal(setup_secret(s, "user-password", again, empty), -EINVAL);
    t.absent = true;
    password[0] = 'x';
    (void)strcpy(again, "me");
    assert_int_equal(setup_secret(s, "user-password", again, password), -ENOTCONN);
    assert_int_equal(password[0], 0);
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_false(v->busy);
}

static void test_nobody_answers(void **state)
{
    (void)state;
    t.absent = true;
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), -ENOTCONN);
    assert_int_equal(v->step, SETUP_FAILED);
    assert_non_null(strstr(v->error, "does not answer"));
    setup_back(s);
    assert_int_equal(v->step, SETUP_CHOOSE);
    assert_string_equal(v->error, "");
    assert_int_equal(setup_import(s), -EBUSY);
    assert_int_equal(setup_connect(s), -EBUSY);
    assert_int_equal(setup_skip(s), -EBUSY);
}

static void test_refused_calls_say_why(void **state)
{
    char user[] = "me", password[] = "x";

    (void)state;
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    refuse("Busy", "Too many calls are at work");
    assert_int_equal(v->step, SETUP_FAILED);
    setup_back(s);
    find("user-password");
    assert_int_equal(setup_import(s), 0);
    refuse("Exists", "a profile of that name is there already");
    assert_int_equal(v->step, SETUP_FOUND);
    assert_non_null(strstr(v->error, "Choose another name"));
    assert_int_equal(setup_name(s, "other"), 0);
    assert_string_equal(v->name, "other.ovpn");
    assert_int_equal(setup_import(s), 0);
    assert_string_equal(t.name, "other.ovpn");
    answer(json_pack("[[]]"));
    assert_int_equal(setup_secret(s, "user-password", user, password), 0);
    refuse("Denied", "not permitted \x1b[31mto you");
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_null(strchr(v->error, '\x1b'));
    assert_string_equal(v->needs[0], "user-password");
}

/* Who goes back is not told of what was on its way. */
static void test_an_answer_that_comes_too_late(void **state)
{
    (void)state;
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    setup_back(s);
    assert_null(t.done);
    assert_false(v->busy);
    find(NULL);
    assert_int_equal(setup_import(s), 0);
    s = setup_free(s);
    assert_null(t.done);
}

static void test_names(void **state)
{
    static const char *const bad[] = {
        "",           ".x",
        " x",         "a/b",
        "\xc3\xa4",   "a\n",
        "x.conf\x1b", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz0123456789"};

    (void)state;
    t.status = json_pack("{s:[{s:s}]}", "profiles", "name", "203.0.113.10.ovpn");
    find(NULL);
    assert_string_equal(v->name, "203.0.113.10-2.ovpn"); /* the first is taken */
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(setup_name(s, bad[i]), -EINVAL);
        assert_true(v->error[0] != '\0');
    }
    assert_int_equal(setup_name(s, "203.0.113.10"), -EINVAL);
    assert_string_equal(v->name, "203.0.113.10-2.ovpn");
    assert_int_equal(setup_name(s, "work.OVPN"), 0);
    assert_string_equal(v->name, "work.OVPN");
    assert_string_equal(v->error, "");
}

static void test_refused_file(void **state)
{
    (void)state;
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    answer(json_pack("[{s:b},[[s,i,s,s],[s,i,s,s]]]", "usable", 0, "refused", 7, "plugin",
                     "loads code into the client", "left-out", 3, "up", "no script is run"));
    assert_int_equal(v->step, SETUP_FOUND);
    assert_false(v->usable);
    assert_string_equal(v->refused[0], "Line 7 (plugin) is refused: loads code into the client.");
    assert_string_equal(v->left_out[0], "Line 3 (up) is not used: no script is run.");
    assert_int_equal(setup_import(s), -EINVAL);
}

/* Neither endless nor with anything that a terminal or a toolkit would take for more than text. */
static void test_hostile_answer(void **state)
{
    json_t *findings = json_array(), *endpoints = json_array();
    char text[400];
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof(text), "%d \x1b[2J <b>\xe2\x80\xae %0300d", i, i);
        (void)json_array_append_new(findings, json_pack("[s,i,s,s]", "refused", i, text, text));
        (void)json_array_append_new(endpoints, json_string(text));
    }
    (void)json_array_append_new(findings, json_integer(1));
    (void)json_array_append_new(endpoints, json_null());
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    answer(json_pack("[{s:s,s:o,s:s},o]", "kind", "\x1b", "endpoints", endpoints, "needs", "x",
                     findings));
    assert_int_equal(v->step, SETUP_FOUND);
    for (; v->refused[n] != NULL; n++) {
        assert_null(strpbrk(v->refused[n], "\x1b\n"));
        assert_null(strstr(v->refused[n], "\xe2\x80\xae"));
        assert_true(strlen(v->refused[n]) < 512);
    }
    assert_true(n < 20);
    assert_string_equal(v->refused[n - 1], "and 988 more");
    for (n = 0; v->servers[n] != NULL; n++)
        assert_null(strpbrk(v->servers[n], "\x1b\n"));
    assert_true(n < 20);
    setup_back(s);
    assert_int_equal(setup_text(s, PROFILE, sizeof(PROFILE) - 1), 0);
    answer(NULL); /* no answer at all */
    assert_false(v->usable);
    assert_int_equal(setup_import(s), -EINVAL);
}

static void test_missing_file_hides_what_follows_of_it(void **state)
{
    static const char text[] = "client\ndev tun\nremote 203.0.113.10\nca ca.crt\n";
    const char *const paths[] = {"/nonexistent/other.crt"};

    (void)state;
    assert_int_equal(setup_text(s, text, sizeof(text) - 1), 0);
    answer(json_pack("[{s:b},[[s,i,s,s],[s,i,s,s]]]", "usable", 0, "refused", 4, "ca",
                     "ca.crt is missing; it belongs beside the profile", "refused", 0, "ca",
                     "is missing: nothing says which server is the right one"));
    assert_string_equal(v->missing[0], "ca.crt: not there");
    assert_null(v->missing[1]);
    assert_null(v->refused[0]);
    assert_int_equal(setup_files(s, paths, 1), 0); /* added to the pasted text, which is kept */
    assert_int_equal(v->step, SETUP_LOOKING);
    answer(description(NULL));
    assert_string_equal(v->missing[0], "ca.crt: not there");
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Chosen alone, so it was meant; what is added to it is another matter. */
static void test_file_of_another_name_is_completed(void **state)
{
    char folder[] = "/tmp/setup-XXXXXX", file[64], ca[64];
    const char *const first[] = {file}, *const second[] = {ca};

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(file, sizeof(file), "%s/provider.txt", folder);
    (void)snprintf(ca, sizeof(ca), "%s/other.crt", folder);
    write_file(file, "client\ndev tun\nremote 203.0.113.10\nca keys/other.crt\n");
    write_file(ca, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    assert_int_equal(setup_files(s, first, 1), 0);
    answer(json_pack("[{s:b},[]]", "usable", 0));
    assert_string_equal(v->missing[0], "keys/other.crt: not there");
    assert_int_equal(setup_files(s, second, 1), 0);
    assert_string_equal(v->error, "");
    answer(description(NULL));
    assert_int_equal(v->step, SETUP_FOUND);
    assert_null(v->missing[0]);
    (void)unlink(file);
    (void)unlink(ca);
    (void)rmdir(folder);
}

static void test_resume_for_secrets(void **state)
{
    json_t *needs = json_pack("[s]", "key-password");
    char password[] = "x";

    (void)state;
    assert_int_equal(setup_resume(s, "work.ovpn", needs), 0);
    json_decref(needs);
    assert_int_equal(v->step, SETUP_SECRETS);
    assert_int_equal(setup_secret(s, "key-password", NULL, password), 0);
    assert_string_equal(t.name, "work.ovpn");
    assert_int_equal(setup_resume(s, "work.ovpn", NULL), -EBUSY);
    answer(json_pack("[]"));
    assert_int_equal(v->step, SETUP_READY);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_whole_way),
        TEST(test_wrong_password_is_asked_for_again),
        TEST(test_code_is_asked_for_while_it_connects),
        TEST(test_somebody_blocks_meanwhile),
        TEST(test_secrets_are_wiped_whatever_happens),
        TEST(test_nobody_answers),
        TEST(test_refused_calls_say_why),
        TEST(test_an_answer_that_comes_too_late),
        TEST(test_names),
        TEST(test_refused_file),
        TEST(test_hostile_answer),
        TEST(test_missing_file_hides_what_follows_of_it),
        TEST(test_file_of_another_name_is_completed),
        TEST(test_resume_for_secrets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
