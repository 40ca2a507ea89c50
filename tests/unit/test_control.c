/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "control/client.h"
#include "control/server.h"

#define LONG_SIZE (1u << 20) /* more than a socket takes at once */

static struct {
    char folder[32], path[64], questions[256];
    sd_event *event;
    struct control_server *server;
} t;

static json_t *answer(const char *question, void *user)
{
    assert_ptr_equal(user, &t);
    (void)strcat(strcat(t.questions, question), ";");
    if (strcmp(question, "status") == 0)
        return json_pack("{ss}", "state", "fine");
    if (strcmp(question, "long") == 0) {
        _cleanup_(freep) char *text = calloc(1, LONG_SIZE + 1);

        assert_non_null(text);
        memset(text, 'x', LONG_SIZE);
        return json_pack("{ss}", "text", text);
    }
    return NULL;
}

static const struct control_config config = {
    .path = t.path, .mode = 0640, .answer = answer, .user = &t};

static int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    (void)strcpy(t.folder, "/tmp/control-XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    (void)snprintf(t.path, sizeof(t.path), "%s/control.sock", t.folder);
    assert_return_code(sd_event_new(&t.event), 0);
    assert_return_code(control_server_new(t.event, &config, &t.server), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    t.server = control_server_free(t.server);
    t.event = sd_event_unref(t.event);
    assert_int_equal(access(t.path, F_OK), -1);
    assert_return_code(rmdir(t.folder), errno);
    return 0;
}

static void run(void)
{
    while (sd_event_run(t.event, 0) > 0)
        ;
}

static int connected(void)
{
    int fd = -1;

    assert_return_code(control_connect(t.path, &fd), 0);
    run();
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    run();
}

/* What has come so far; -1: nothing, and the connection stands. */
static ssize_t heard(int fd, char *buf, size_t size)
{
    ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);

    if (n < 0 && errno == ECONNRESET)
        return 0; /* it ended before all that was said had been read */
    assert_true(n >= 0 || errno == EAGAIN);
    return n;
}

static void assert_ended(int fd)
{
    char byte;

    assert_int_equal(heard(fd, &byte, 1), 0);
    (void)close_fd(fd);
}

static void assert_stands(int fd)
{
    char byte;

    assert_int_equal(heard(fd, &byte, 1), -1);
}

static void assert_answered(int fd)
{
    char buf[64] = "";

    assert_int_equal(heard(fd, buf, sizeof(buf)), 16);
    assert_string_equal(buf, "{\"state\":\"fine\"}");
    assert_ended(fd);
}

static void test_one_question(void **state)
{
    struct stat st;
    int fd = connected();

    (void)state;
    say(fd, "status\n");
    assert_answered(fd);
    assert_string_equal(t.questions, "status;");
    assert_return_code(stat(t.path, &st), errno);
    assert_int_equal(st.st_mode, S_IFSOCK | 0640);
}

static void test_pieces(void **state)
{
    int fd = connected();

    (void)state;
    for (const char *p = "status"; *p != '\0'; p++) {
        say(fd, (char[]){*p, '\0'});
        assert_stands(fd);
    }
    say(fd, "\nstatus\n"); /* one is all it takes */
    assert_answered(fd);
    assert_string_equal(t.questions, "status;");
}

static void test_no_question(void **state)
{
    const char *const texts[] = {"what\n", "\n", "statusstatusstat", "sixteen bytes...\n"};
    int fd;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        fd = connected();
        say(fd, texts[i]);
        assert_ended(fd);
    }
    fd = connected();
    say(fd, "stat");
    assert_return_code(shutdown(fd, SHUT_WR), errno);
    run();
    assert_ended(fd);
    assert_string_equal(t.questions, "what;;");
}

/* Those who say nothing make room, the oldest first; who waits for the rest of an answer does not. */
static void test_many(void **state)
{
    int reading = connected(), silent[CONTROL_PEERS_MAX + 3];

    (void)state;
    say(reading, "long\n");
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
        silent[i] = connected();
        say(silent[i], "st");
    }
    for (size_t i = 0; i < 4; i++)
        assert_ended(silent[i]);
    for (size_t i = 4; i < ARRAY_SIZE(silent); i++) {
        assert_stands(silent[i]);
        say(silent[i], "atus\n");
        assert_answered(silent[i]);
    }
    assert_true(heard(reading, (char[1]){0}, 1) == 1);
    (void)close_fd(reading);
}

static void test_time_limit(void **state)
{
    int fd = connected();
    uint64_t begin = clock_now_us();
    char byte;

    (void)state;
    while (heard(fd, &byte, 1) < 0)
        assert_true(sd_event_run(t.event, 20000000) > 0);
    assert_in_range(clock_now_us() - begin, 4000000, 60000000);
    (void)close_fd(fd);
}

static void test_predecessor(void **state)
{
    struct control_server *second = NULL;
    char longer[200] = "";
    struct control_config other = config;

    (void)state;
    assert_return_code(control_server_new(t.event, &config, &second), 0); /* of one that died */
    assert_null(control_server_free(second));
    assert_return_code(mkdir(t.path, 0700), errno);
    assert_int_equal(control_server_new(t.event, &config, &second), -EADDRINUSE);
    assert_return_code(rmdir(t.path), errno);
    memset(longer, 'a', sizeof(longer) - 1);
    other.path = longer;
    assert_int_equal(control_server_new(t.event, &other, &second), -ENAMETOOLONG);
}

/* ---- the client ---- */

struct asking {
    const char *question;
    json_t *answer;
    int result;
    int done[2];
};

static void *ask(void *user)
{
    struct asking *a = user;

    a->result = control_ask(t.path, a->question, &a->answer);
    assert_int_equal(write(a->done[1], "", 1), 1);
    return NULL;
}

static int on_done(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)fd;
    (void)revents;
    (void)user;
    return sd_event_exit(t.event, 0);
}

static struct asking asked(const char *question)
{
    struct asking a = {.question = question};
    pthread_t thread;

    assert_return_code(pipe(a.done), errno);
    assert_return_code(sd_event_add_io(t.event, NULL, a.done[0], 1, on_done, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, ask, &a), 0);
    assert_int_equal(sd_event_loop(t.event), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)close_fd(a.done[1]);
    return a; /* the event source keeps the reading end until the loop is freed */
}

static void test_client_asks(void **state)
{
    struct asking a = asked("long\n");

    (void)state;
    assert_int_equal(a.result, 0);
    assert_int_equal(json_string_length(json_object_get(a.answer, "text")), LONG_SIZE);
    json_decref(a.answer);
    (void)close_fd(a.done[0]);
}

static void test_client_not_answered(void **state)
{
    struct asking a = asked("what\n");
    json_t *none = NULL;

    (void)state;
    assert_int_equal(a.result, -EBADMSG);
    assert_null(a.answer);
    (void)close_fd(a.done[0]);
    t.server = control_server_free(t.server);
    assert_int_equal(control_ask(t.path, "status\n", &none), -ENOENT);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_question, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_question, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_predecessor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_not_answered, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
