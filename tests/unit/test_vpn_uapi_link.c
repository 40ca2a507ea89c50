/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A userspace WireGuard that answers late, wrongly, too much or not at all. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vpn/client/uapi.h"
#include "vpn/client/uapi_link.h"

struct answer {
    uint32_t tag;
    int error;
    size_t n_peers;
};

struct world {
    char folder[64], path[96];
    sd_event *loop;
    struct uapi_link *link;
    int listening, peer;
    struct answer answers[16];
    size_t n;
    bool free_at_answer;
};

static void on_answer(uint32_t tag, int error, const struct wg_device *d, void *user)
{
    struct world *w = user;

    assert_true(w->n < ARRAY_SIZE(w->answers));
    assert_true((d != NULL) == (tag != 0));
    w->answers[w->n++] = (struct answer){tag, error, d != NULL ? d->n_peers : 0};
    if (w->free_at_answer)
        w->link = uapi_link_free(w->link);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/sluice-uapi-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof(w->path), "%s/s", w->folder);
    assert_true(sd_event_new(&w->loop) >= 0);
    assert_int_equal(uapi_listen(w->path, &w->listening), 0);
    assert_int_equal(uapi_link_open(w->loop, w->path, on_answer, w, &w->link), 0);
    w->peer = accept4(w->listening, NULL, NULL, SOCK_CLOEXEC);
    assert_true(w->peer >= 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    w->link = uapi_link_free(w->link);
    (void)close_fd(w->peer);
    (void)close_fd(w->listening);
    (void)unlink(w->path);
    (void)rmdir(w->folder);
    (void)sd_event_unref(w->loop);
    free(w);
    return 0;
}

static void say(struct world *w, const char *text)
{
    assert_int_equal(send(w->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void run(struct world *w, size_t answers, unsigned seconds)
{
    const time_t until = time(NULL) + (time_t)seconds;

    while (w->n < answers && time(NULL) <= until)
        assert_true(sd_event_run(w->loop, 200000) >= 0);
    assert_int_equal(w->n, answers);
}

static void check_quiet(struct world *w)
{
    assert_int_equal(sd_event_run(w->loop, 50000), 0);
}

#define PATIENCE 1000000 /* microseconds */

#define K(b)   b b b b b b b b
#define KEY(b) K(b) K(b) K(b) K(b)

/* What the link has sent since; "" when it sends nothing. */
static void expect(struct world *w, const char *text)
{
    char got[1024];
    ssize_t n = recv(w->peer, got, sizeof(got) - 1, MSG_DONTWAIT);

    got[n < 0 ? 0 : n] = '\0';
    assert_string_equal(got, text);
}

/* One request at a time: wireguard-go forgets what comes right behind a "set". */
static void test_in_order(void **state)
{
    struct world *w = *state;
    struct wg_device d = {.n_peers = 1};
    struct stat st;

    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(uapi_link_set(w->link, 7, &d, WG_SET_KEEPALIVE), 0);
    assert_int_equal(uapi_link_get(w->link, 8), 0);
    assert_int_equal(uapi_link_get(w->link, 9), 0);
    expect(w, "set=1\npublic_key=" KEY("00") "\nupdate_only=true\n"
              "persistent_keepalive_interval=0\n\n");
    say(w, "errno=0\n\n");
    run(w, 1, 2);
    expect(w, "get=1\n\n");
    say(w, "public_key=" KEY("11") "\ner");
    assert_true(sd_event_run(w->loop, 200000) >= 0);
    assert_int_equal(w->n, 1);
    expect(w, "");
    say(w, "rno=0\n\n");
    run(w, 2, 2);
    expect(w, "get=1\n\n");
    say(w, "errno=-22\n\n");
    run(w, 3, 2);
    assert_true(w->answers[0].tag == 7 && w->answers[0].error == 0);
    assert_true(w->answers[1].tag == 8 && w->answers[1].n_peers == 1);
    assert_true(w->answers[2].tag == 9 && w->answers[2].error == -EINVAL);
    check_quiet(w);
}

static void check_broken(struct world *w, int error)
{
    run(w, 1, 8);
    assert_int_equal(w->answers[0].tag, 0);
    assert_int_equal(w->answers[0].error, error);
    check_quiet(w);
    assert_int_equal(uapi_link_get(w->link, 3), -ENOTCONN);
}

static void test_hangs_up(void **state)
{
    struct world *w = *state;

    assert_int_equal(uapi_link_get(w->link, 1), 0);
    say(w, "errno=0\n");
    w->peer = close_fd(w->peer);
    check_broken(w, -ECONNRESET);
}

static void test_hangs_up_while_idle(void **state)
{
    struct world *w = *state;

    w->peer = close_fd(w->peer);
    check_broken(w, -ECONNRESET);
}

static void test_answer_to_nothing(void **state)
{
    struct world *w = *state;

    say(w, "errno=0\n\n");
    check_broken(w, -EBADMSG);
}

static void test_says_nothing(void **state)
{
    struct world *w = *state;

    uapi_link_set_patience(w->link, 1, PATIENCE);
    assert_int_equal(uapi_link_get(w->link, 1), 0);
    check_broken(w, -ETIMEDOUT);
}

static void test_says_nothing_more(void **state)
{
    struct world *w = *state;
    struct timespec before, after;

    uapi_link_set_patience(w->link, 60 * PATIENCE, PATIENCE);
    assert_int_equal(uapi_link_get(w->link, 1), 0);
    say(w, "errno=0\n\n");
    run(w, 1, 2);
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    w->n = 0;
    assert_int_equal(uapi_link_get(w->link, 2), 0);
    check_broken(w, -ETIMEDOUT);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true((after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000 >=
                PATIENCE);
}

static void hold_up(void)
{
    struct timespec left = {.tv_sec = 1, .tv_nsec = 50000000}; /* beyond PATIENCE */

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* Its answer was there in time; we were not. */
static void test_we_were_held_up(void **state)
{
    struct world *w = *state;

    uapi_link_set_patience(w->link, PATIENCE, PATIENCE);
    assert_int_equal(uapi_link_get(w->link, 1), 0);
    say(w, "errno=0\n\n");
    hold_up();
    run(w, 1, 2);
    assert_int_equal(w->answers[0].tag, 1);
    check_quiet(w);
}

static int ask_late(sd_event_source *source, void *user)
{
    struct world *w = user;

    (void)source;
    hold_up(); /* as a start does: processes, a device */
    assert_int_equal(uapi_link_get(w->link, 1), 0);
    return 0;
}

/* Its time begins when it is asked, not when the round of the loop began. */
static void test_asked_late_in_a_round(void **state)
{
    struct world *w = *state;
    sd_event_source *source = NULL;

    uapi_link_set_patience(w->link, PATIENCE, PATIENCE);
    assert_true(sd_event_add_defer(w->loop, &source, ask_late, w) >= 0);
    assert_int_equal(sd_event_run(w->loop, 0), 1);
    check_quiet(w);
    say(w, "errno=0\n\n");
    run(w, 1, 2);
    assert_int_equal(w->answers[0].tag, 1);
    (void)sd_event_source_unref(source);
}

/* Without an end: bounded, and broken off. */
static void test_says_too_much(void **state)
{
    struct world *w = *state;
    char line[] = "allowed_ip=0.0.0.0/0\n";

    assert_int_equal(uapi_link_get(w->link, 1), 0);
    for (size_t sent = 0; w->n == 0 && sent < 4 * UAPI_REPLY_MAX;) {
        ssize_t n = send(w->peer, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            sent += (size_t)n;
        else
            assert_true(sd_event_run(w->loop, 200000) >= 0);
    }
    check_broken(w, -EMSGSIZE);
}

static void test_owes_too_much(void **state)
{
    struct world *w = *state;

    for (uint32_t i = 1; i <= 8; i++)
        assert_int_equal(uapi_link_get(w->link, i), 0);
    assert_int_equal(uapi_link_get(w->link, 9), -EBUSY);
    say(w, "errno=0\n\n");
    run(w, 1, 2);
    assert_int_equal(uapi_link_get(w->link, 9), 0);
}

static void test_freed_in_callback(void **state)
{
    struct world *w = *state;

    w->free_at_answer = true;
    assert_int_equal(uapi_link_get(w->link, 1), 0);
    assert_int_equal(uapi_link_get(w->link, 2), 0);
    say(w, "errno=0\n\nerrno=0\n\n");
    run(w, 1, 2);
    check_quiet(w);
    assert_int_equal(w->n, 1);
}

static void test_freed_when_broken(void **state)
{
    struct world *w = *state;

    w->free_at_answer = true;
    w->peer = close_fd(w->peer);
    run(w, 1, 2);
    check_quiet(w);
}

/* Larger than a socket takes at once: the rest follows when there is room. */
static void test_large_request(void **state)
{
    static struct prefix many[128];
    struct world *w = *state;
    struct wg_device d = {.n_peers = WG_PEERS_MAX};
    char got[4096];
    size_t total = 0, answered = 0;
    int small = 4096;

    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (struct prefix){{AF_INET6, {0xff, 0xee, 0xdd, [15] = (uint8_t)i}}, 128};
    for (size_t i = 0; i < WG_PEERS_MAX; i++) {
        d.peers[i].allowed = many;
        d.peers[i].n_allowed = ARRAY_SIZE(many);
    }
    (void)setsockopt(w->peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (uint32_t i = 1; i <= 6; i++)
        assert_int_equal(uapi_link_set(w->link, i, &d, WG_SET_ALL), 0);
    for (unsigned idle = 0; idle < 3;) {
        ssize_t n = recv(w->peer, got, sizeof(got), MSG_DONTWAIT);

        if (n > 0) {
            total += (size_t)n;
            idle = 0;
        } else if (sd_event_run(w->loop, 20000) == 0 && ++idle == 2 && answered < 6) {
            say(w, "errno=0\n\n"); /* this one is whole: the next may come */
            answered++;
            idle = 0;
        }
    }
    assert_true(total > 6 * 16 * 128 * 20);
    run(w, 6, 2);
}

static void test_asks_now(void **state)
{
    struct world *w = *state;
    struct wg_device d;

    assert_int_equal(uapi_ask_now("/tmp/sluice-no-such-socket", &d), -ENOENT);
    assert_int_equal(uapi_ask_now(w->path, &d), -ETIMEDOUT); /* listening, and nobody accepts */
    w->listening = close_fd(w->listening);
    assert_int_equal(uapi_ask_now(w->path, &d), -ECONNREFUSED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_in_order),          TEST(test_hangs_up),
        TEST(test_hangs_up_while_idle), TEST(test_answer_to_nothing),
        TEST(test_says_nothing),      TEST(test_says_too_much),
        TEST(test_owes_too_much),     TEST(test_freed_in_callback),
        TEST(test_freed_when_broken), TEST(test_large_request),
        TEST(test_asks_now),          TEST(test_says_nothing_more),
        TEST(test_we_were_held_up),   TEST(test_asked_late_in_a_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
