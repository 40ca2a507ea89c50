/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OpenVPN's management protocol: the codec on real and hostile lines, the link with a fake peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vpn/client/management.h"
#include "vpn/client/management_link.h"

static struct management_message parse(const char *line)
{
    struct management_message m;

    management_parse(str_from(line), &m);
    return m;
}

static void assert_str(struct str s, const char *expected)
{
    assert_non_null(s.p);
    if (!str_is(s, expected))
        fail_msg("'%.*s' is not '%s'", (int)s.len, s.p, expected);
}

static void assert_addr(const struct addr *a, const char *expected)
{
    char text[ADDR_STR_MAX];

    assert_string_equal(addr_format(a, text), expected);
}

/* Lines as OpenVPN 2.6.14 sent them. */
static void test_state(void **state)
{
    struct management_message m =
        parse(">STATE:1795317875,CONNECTED,SUCCESS,10.8.0.77,203.0.113.10,1194,,,fd00:8::2");

    (void)state;
    assert_int_equal(m.kind, MANAGEMENT_STATE);
    assert_int_equal(m.state, OPENVPN_CONNECTED);
    assert_int_equal(m.time, 1795317875);
    assert_addr(&m.local, "10.8.0.77");
    assert_addr(&m.local6, "fd00:8::2");
    assert_addr(&m.server, "203.0.113.10");
    assert_int_equal(m.port, 1194);
    assert_str(m.text, "SUCCESS");

    m = parse("1795317875,CONNECTED,SUCCESS,10.8.0.77,203.0.113.10,1194,,,fd00:8::2");
    assert_int_equal(m.kind, MANAGEMENT_STATE_WAS);
    assert_int_equal(m.port, 1194);
    m = parse(">STATE:1795317891,RECONNECTING,ping-restart,,,,,");
    assert_int_equal(m.state, OPENVPN_RECONNECTING);
    assert_string_equal(management_reason_words(m.text), "the server went silent");
    assert_null(management_reason_words(str_from("what")));
    m = parse(">STATE:1,WAIT");
    assert_int_equal(m.state, OPENVPN_WAIT);
    assert_int_equal(m.server.family, 0);
}

static void test_state_of_a_liar(void **state)
{
    struct management_message m =
        parse(">STATE:99999999999999999999999,CONNECTED,X,fd00::1,203.0.113.999,70000,,,10.0.0.1");

    (void)state;
    assert_int_equal(m.state, OPENVPN_CONNECTED);
    assert_int_equal(m.time, 0);
    assert_int_equal(m.local.family, 0); /* of the other family */
    assert_int_equal(m.local6.family, 0);
    assert_int_equal(m.server.family, 0);
    assert_int_equal(m.port, 0);
    assert_int_equal(parse(">STATE:").state, OPENVPN_OTHER);
    assert_int_equal(parse(">STATE:1,connected").state, OPENVPN_OTHER);
    assert_int_equal(parse("1,BROKEN,x").kind, MANAGEMENT_OTHER);
    assert_int_equal(parse("x,CONNECTED").kind, MANAGEMENT_OTHER);
}

static void test_password(void **state)
{
    struct management_message m = parse(">PASSWORD:Need 'Auth' username/password");

    (void)state;
    assert_int_equal(m.kind, MANAGEMENT_NEED_USER_PASSWORD);
    assert_null(m.challenge.p);
    m = parse(">PASSWORD:Need 'Auth' username/password SC:1,Enter, PIN");
    assert_int_equal(m.kind, MANAGEMENT_NEED_USER_PASSWORD);
    assert_str(m.challenge, "Enter, PIN");
    assert_true(m.challenge_echo);
    assert_false(parse(">PASSWORD:Need 'Auth' username/password SC:0,").challenge_echo);
    assert_int_equal(parse(">PASSWORD:Need 'Private Key' password").kind,
                     MANAGEMENT_NEED_KEY_PASSWORD);
    assert_int_equal(parse(">PASSWORD:Need 'HTTP Proxy' username/password").kind,
                     MANAGEMENT_NEED_OTHER);
    assert_int_equal(parse(">PASSWORD:Auth-Token:secret").kind, MANAGEMENT_OTHER);
    assert_int_equal(parse(">NEED-OK:Need 'token' confirmation MSG:Insert").kind,
                     MANAGEMENT_NEED_OTHER);
}

static void test_password_failed(void **state)
{
    struct management_message m = parse(">PASSWORD:Verification Failed: 'Auth'");

    (void)state;
    assert_int_equal(m.kind, MANAGEMENT_FAILED);
    assert_int_equal(m.failed, FAILED_USER_PASSWORD);
    assert_null(m.challenge.p);
    m = parse(">PASSWORD:Verification Failed: 'Auth' ['no such user']");
    assert_str(m.text, "no such user");
    assert_int_equal(parse(">PASSWORD:Verification Failed: 'Private Key'").failed,
                     FAILED_KEY_PASSWORD);
    m = parse(">PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:sid:Zm9v:Enter: PIN']");
    assert_str(m.challenge, "Enter: PIN");
    assert_str(m.state_id, "sid");
    assert_str(m.user, "Zm9v");
    assert_true(m.challenge_echo);
    assert_null(parse(">PASSWORD:Verification Failed: 'Auth' ['CRV1:R:sid']").challenge.p);
    assert_null(parse(">PASSWORD:Verification Failed: 'Auth' ['CRV1:R::Zm9v:x']").challenge.p);
    assert_int_equal(parse(">PASSWORD:Verification Failed: ['").kind, MANAGEMENT_FAILED);
}

static void test_other_lines(void **state)
{
    struct management_message m = parse(">UPDOWN:ENV,ifconfig_local=10.8.0.2");

    (void)state;
    assert_int_equal(m.kind, MANAGEMENT_ENV);
    assert_str(m.text, "ifconfig_local=10.8.0.2");
    assert_int_equal(parse(">UPDOWN:UP").kind, MANAGEMENT_UP);
    assert_int_equal(parse(">UPDOWN:DOWN").kind, MANAGEMENT_DOWN);
    assert_int_equal(parse(">UPDOWN:ENV,END").kind, MANAGEMENT_ENV_END);
    assert_int_equal(parse(">UPDOWN:UPPER").kind, MANAGEMENT_OTHER);
    m = parse(">BYTECOUNT:9899,9224");
    assert_int_equal(m.bytes_in, 9899);
    assert_int_equal(m.bytes_out, 9224);
    assert_int_equal(parse(">BYTECOUNT:1,2,3").kind, MANAGEMENT_OTHER);
    m = parse("SUCCESS: nclients=0,bytesin=7,bytesout=8");
    assert_int_equal(m.kind, MANAGEMENT_BYTES);
    assert_int_equal(m.bytes_out, 8);
    assert_int_equal(parse("SUCCESS: hold release succeeded").kind, MANAGEMENT_SUCCESS);
    assert_int_equal(parse("ERROR: x").kind, MANAGEMENT_ERROR);
    assert_int_equal(parse("END").kind, MANAGEMENT_END);
    assert_int_equal(parse(">HOLD:Waiting for hold release:0").kind, MANAGEMENT_HOLD);
    assert_str(parse(">FATAL:no way").text, "no way");
    assert_int_equal(parse(">INFOMSG:WEB_AUTH::https://x").kind, MANAGEMENT_WEB_LOGIN);
    assert_int_equal(parse(">INFOMSG:OPEN_URL:https://x").kind, MANAGEMENT_WEB_LOGIN);
    m = parse(">INFOMSG:CR_TEXT:R:Say: it");
    assert_int_equal(m.kind, MANAGEMENT_TEXT_CHALLENGE);
    assert_str(m.challenge, "Say: it");
    assert_false(m.challenge_echo);
    assert_int_equal(parse("").kind, MANAGEMENT_OTHER);
    assert_int_equal(parse(">").kind, MANAGEMENT_OTHER);
}

static void test_lines(void **state)
{
    static struct management_reader r;
    static char big[MANAGEMENT_LINE_MAX + 2];
    struct str bytes = STR_LITERAL("one\r\ntw"), line;

    (void)state;
    memset(&r, 0, sizeof(r));
    assert_true(management_read(&r, &bytes, &line));
    assert_str(line, "one");
    assert_false(management_read(&r, &bytes, &line));
    bytes = STR_LITERAL("o\n\nx");
    assert_true(management_read(&r, &bytes, &line));
    assert_str(line, "two");
    assert_true(management_read(&r, &bytes, &line));
    assert_int_equal(line.len, 0);
    assert_false(management_read(&r, &bytes, &line));

    memset(big, 'a', sizeof(big));
    for (int i = 0; i < 3; i++) {
        bytes = (struct str){big, sizeof(big)};
        assert_false(management_read(&r, &bytes, &line));
    }
    bytes = STR_LITERAL("end of it\nnext\n");
    assert_true(management_read(&r, &bytes, &line));
    assert_str(line, "next"); /* the long one is gone as a whole */
}

static void test_commands(void **state)
{
    static char huge[2000];
    char buf[MANAGEMENT_COMMAND_MAX];

    (void)state;
    assert_int_equal(management_write(buf, "state on", NULL, NULL), 9);
    assert_string_equal(buf, "state on\n");
    assert_true(management_write(buf, "password", "Auth", "a\"b\\c d'") > 0);
    assert_string_equal(buf, "password \"Auth\" \"a\\\"b\\\\c d'\"\n");
    assert_true(management_write(buf, "password", "Auth", "") > 0);
    assert_true(management_write(buf, "password", "Auth", "\xc3\xa4\xff") > 0);
    assert_int_equal(management_write(buf, "password", "Auth", "a\nsignal SIGTERM"), -EINVAL);
    assert_int_equal(management_write(buf, "password", "Auth", "a\rb"), -EINVAL);
    assert_int_equal(management_write(buf, "password", "Auth", "\x7f"), -EINVAL);
    memset(huge, '"', sizeof(huge) - 1);
    for (size_t n = sizeof(huge) - 1; n > 400; n--) {
        huge[n] = '\0';
        int len = management_write(buf, "password", "Auth", huge);
        assert_true(len == -E2BIG || (len > 0 && (size_t)len < sizeof(buf) && buf[len] == '\0'));
        len = management_write(buf, "password", huge, "x");
        assert_true(len == -E2BIG || (len > 0 && (size_t)len < sizeof(buf) && buf[len] == '\0'));
    }
}

static void test_base64(void **state)
{
    static const struct {
        const char *plain, *packed;
    } pairs[] = {{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},
                 {"foo", "Zm9v"},  {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
                 {"\xff\xfe\xfd", "//79"}};
    char text[64];
    size_t len;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        const char *plain = pairs[i].plain;

        assert_int_equal(base64_write(plain, strlen(plain), text, sizeof(text)), 0);
        assert_string_equal(text, pairs[i].packed);
        assert_int_equal(base64_read(str_from(pairs[i].packed), text, sizeof(text), &len), 0);
        assert_string_equal(text, pairs[i].plain);
        assert_int_equal(len, strlen(pairs[i].plain));
    }
    assert_int_equal(base64_write("foob", 4, text, 8), -E2BIG);
    assert_int_equal(base64_write("foob", 4, text, 9), 0);
    assert_int_equal(base64_read(str_from("Zm9vYg=="), text, 4, &len), -E2BIG);
    assert_int_equal(base64_read(str_from("Zm9v!"), text, sizeof(text), &len), -EINVAL);
    assert_int_equal(base64_read(str_from("Z"), text, sizeof(text), &len), -EINVAL);
}

/* The examples of management-notes.txt. */
static void test_responses(void **state)
{
    const struct str id = STR_LITERAL("Om01u7Fh");
    char text[128];

    (void)state;
    assert_int_equal(management_static_response("bar", "8675309", text, sizeof(text)), 0);
    assert_string_equal(text, "SCRV1:YmFy:ODY3NTMwOQ==");
    assert_int_equal(management_static_response("bar", "8675309", text, 20), -E2BIG);
    assert_int_equal(management_dynamic_response(id, "8675309", text, sizeof(text)), 0);
    assert_string_equal(text, "CRV1::Om01u7Fh::8675309");
    assert_int_equal(management_dynamic_response(id, "8675309", text, 20), -E2BIG);
}

/* The link: a peer in this process, or in one of its own. */

struct fixture {
    sd_event *loop;
    struct management_link *link;
    char folder[32], path[64];
    size_t messages;
    int gone;
    bool free_in_message, quit_on_message;
};

static bool fixture_message(const struct management_message *m, void *user)
{
    struct fixture *f = user;

    (void)m;
    f->messages++;
    if (f->quit_on_message)
        (void)sd_event_exit(f->loop, 0);
    if (f->free_in_message) {
        f->link = management_link_free(f->link);
        (void)sd_event_exit(f->loop, 0);
        return false;
    }
    return true;
}

static void fixture_gone(int error, void *user)
{
    struct fixture *f = user;

    f->gone = error;
    f->link = management_link_free(f->link);
    (void)sd_event_exit(f->loop, 0);
}

static const struct management_link_ops fixture_ops = {fixture_message, fixture_gone};

static int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/sluice-link-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/management", f->folder);
    assert_true(sd_event_new(&f->loop) >= 0);
    *state = f;
    return 0;
}

static int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    f->link = management_link_free(f->link);
    (void)sd_event_unref(f->loop);
    (void)unlink(f->path);
    (void)rmdir(f->folder);
    free(f);
    return 0;
}

static int fixture_listen(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->path);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void fixture_open(struct fixture *f, pid_t pid, unsigned limit_ms)
{
    assert_int_equal(management_link_new(f->loop, f->path, pid, geteuid(), limit_ms, &fixture_ops,
                                         f, &f->link), 0);
}

static void test_link_talks(void **state)
{
    struct fixture *f = *state;
    char text[64] = "";
    int listener, peer;

    fixture_open(f, getpid(), 5000);
    assert_int_equal(management_link_send(f->link, "state on", NULL, NULL), 0); /* waits */
    assert_true(sd_event_run(f->loop, 0) >= 0);                                 /* no socket yet */
    listener = fixture_listen(f);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    while ((peer = accept(listener, NULL, NULL)) < 0 && errno == EAGAIN)
        assert_true(sd_event_run(f->loop, 1000000) > 0);
    f->quit_on_message = true;
    assert_int_equal(write(peer, ">HOLD:x\r\n>INFO:", 15), 15);
    assert_true(sd_event_loop(f->loop) >= 0);
    assert_int_equal(f->messages, 1);
    assert_int_equal(read(peer, text, sizeof(text) - 1), 9);
    assert_string_equal(text, "state on\n");
    (void)close(peer);
    (void)close(listener);
}

static void run_until_gone(struct fixture *f)
{
    assert_true(sd_event_loop(f->loop) >= 0);
    assert_null(f->link);
}

static void test_link_refuses_another_process(void **state)
{
    struct fixture *f = *state;
    int listener = fixture_listen(f);

    fixture_open(f, getpid() + 1, 5000);
    run_until_gone(f);
    assert_int_equal(f->gone, -EPERM);
    (void)close(listener);
}

static void test_link_gives_up(void **state)
{
    struct fixture *f = *state;

    fixture_open(f, getpid(), 20); /* there never is a socket */
    run_until_gone(f);
    assert_int_equal(f->gone, -ETIMEDOUT);
}

static void test_link_gives_up_on_silence(void **state)
{
    struct fixture *f = *state;
    int listener = fixture_listen(f);

    fixture_open(f, getpid(), 20);
    run_until_gone(f);
    assert_int_equal(f->gone, -ETIMEDOUT);
    (void)close(listener);
}

static void test_link_sees_the_end(void **state)
{
    struct fixture *f = *state;
    int listener = fixture_listen(f), peer;

    fixture_open(f, getpid(), 5000);
    assert_true(sd_event_run(f->loop, 1000000) >= 0);
    peer = accept(listener, NULL, NULL);
    assert_int_equal(write(peer, "a\nb\nc", 5), 5);
    (void)close(peer);
    run_until_gone(f);
    assert_int_equal(f->gone, -EPIPE);
    assert_int_equal(f->messages, 2);
    (void)close(listener);
}

static void test_link_freed_by_its_owner(void **state)
{
    struct fixture *f = *state;
    int listener = fixture_listen(f), peer;

    f->free_in_message = true;
    fixture_open(f, getpid(), 5000);
    assert_true(sd_event_run(f->loop, 1000000) >= 0);
    peer = accept(listener, NULL, NULL);
    assert_int_equal(write(peer, "a\nb\nc\n", 6), 6);
    assert_true(sd_event_loop(f->loop) >= 0);
    assert_int_equal(f->messages, 1);
    (void)close(peer);
    (void)close(listener);
}

static int on_second(sd_event_source *source, uint64_t us, void *user)
{
    (void)us;
    (void)user;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* A process of its own that listens, and then says one line n times to who comes. */
static pid_t fixture_flood(const struct fixture *f, const char *line, long n)
{
    int ready[2];
    pid_t pid;
    char c;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int peer, listener = fixture_listen(f);

        (void)!write(ready[1], "x", 1);
        peer = accept(listener, NULL, NULL);
        while (n-- > 0 && send(peer, line, strlen(line), MSG_NOSIGNAL) > 0)
            ;
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

/* Ten million lines: in a second no more of them are looked at than the allowance has room for. */
static void test_link_bounds_a_flood(void **state)
{
    static const char line[] = ">LOG:1795317875,I,nothing of importance\r\n";
    struct fixture *f = *state;
    struct rusage before, after;
    pid_t pid = fixture_flood(f, line, 10000000);
    double work;

    fixture_open(f, pid, 5000);
    assert_true(sd_event_add_time_relative(f->loop, NULL, CLOCK_MONOTONIC, 1000000, 1, on_second,
                                           NULL) >= 0);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_true(sd_event_loop(f->loop) >= 0);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    assert_non_null(f->link);
    f->link = management_link_free(f->link);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    work = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
           (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6;
    print_message("%zu lines in a second, %.3f s of work\n", f->messages, work);
    assert_true(f->messages > 1000);
    assert_true(f->messages < (256 + 2 * 64 + 32) * 1024 / (sizeof(line) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_state_of_a_liar),
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_password_failed),
        cmocka_unit_test(test_other_lines),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_responses),
        cmocka_unit_test_setup_teardown(test_link_talks, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_refuses_another_process, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_gives_up, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_gives_up_on_silence, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_sees_the_end, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_freed_by_its_owner, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_link_bounds_a_flood, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
