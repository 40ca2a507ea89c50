/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The supervisor's end of the seal's socket, against an owner that answers, lies, hangs or dies. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vpn/daemon/seal_link.h"

#define ROUND_USEC 20000
#define ROUNDS_MAX 300

struct fixture {
    sd_event *loop;
    struct seal_link *link;
    char folder[64], path[96];
    int listener, peer;
    unsigned granted, refused, lost, back, reports;
    int lost_error;
    char why[100], report[100];
    uint16_t granted_mtu;
};

static void on_granted(const struct wish *wish, void *user)
{
    struct fixture *f = user;

    f->granted++;
    f->granted_mtu = wish->mtu;
}

static void on_refused(const char *why, void *user)
{
    struct fixture *f = user;

    f->refused++;
    (void)snprintf(f->why, sizeof(f->why), "%s", why);
}

static void on_lost(int error, void *user)
{
    struct fixture *f = user;

    f->lost++;
    f->lost_error = error;
}

static void on_back(void *user)
{
    ((struct fixture *)user)->back++;
}

static void on_report(const char *text, void *user)
{
    struct fixture *f = user;

    f->reports++;
    (void)snprintf(f->report, sizeof(f->report), "%s", text != NULL ? text : "(none)");
}

static void listen_at(struct fixture *f)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    (void)unlink(f->path);
    memcpy(at.sun_path, f->path, strlen(f->path));
    f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(f->listener >= 0);
    assert_return_code(bind(f->listener, (const struct sockaddr *)&at, sizeof(at)), errno);
    assert_return_code(listen(f->listener, 4), errno);
}

static int setup(void **state)
{
    const struct seal_link_ops ops = {on_granted, on_refused, on_lost, on_back, NULL};
    struct seal_link_ops mine = ops;
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->peer = -1;
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/sluice-seal-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/seal.sock", f->folder);
    listen_at(f);
    assert_return_code(sd_event_new(&f->loop), 0);
    mine.user = f;
    assert_return_code(seal_link_new(f->loop, f->path, &mine, &f->link), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->link = seal_link_free(f->link);
    f->loop = sd_event_unref(f->loop);
    (void)close_fd(f->listener);
    (void)close_fd(f->peer);
    (void)unlink(f->path);
    (void)rmdir(f->folder);
    free(f);
    return 0;
}

/* One round of the link, and of the owner: takes the connection. */
static void turn(struct fixture *f)
{
    assert_true(sd_event_run(f->loop, ROUND_USEC) >= 0);
    if (f->peer < 0 && f->listener >= 0)
        f->peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

#define TURN_UNTIL(f, condition)                                                                   \
    do {                                                                                           \
        for (int rounds_ = 0; !(condition); rounds_++) {                                           \
            if (rounds_ == ROUNDS_MAX)                                                             \
                fail_msg("never: %s", #condition);                                                 \
            turn(f);                                                                               \
        }                                                                                          \
    } while (0)

/* Turns for a while; what must not happen has its time to happen. */
static void turn_some(struct fixture *f)
{
    for (int i = 0; i < 10; i++)
        turn(f);
}

/* The next request that the owner gets; "" when there is none yet. */
static size_t hear(struct fixture *f, char *text, size_t size)
{
    ssize_t n = f->peer < 0 ? -1 : recv(f->peer, text, size - 1, MSG_DONTWAIT);

    text[n < 0 ? 0 : n] = '\0';
    return n < 0 ? 0 : (size_t)n;
}

static void answer(const struct fixture *f, const char *text)
{
    assert_int_equal(send(f->peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hang_up(struct fixture *f)
{
    f->peer = close_fd(f->peer);
}

static struct wish tunnel_wish(uint16_t mtu)
{
    struct wish w = {.tunnel = SEAL_TUNNEL, .mtu = mtu};

    w.tunnel_addr[0] = (struct addr){AF_INET, {10, 8, 0, 2}};
    return w;
}

static void set(struct fixture *f, uint16_t mtu)
{
    struct wish w = tunnel_wish(mtu);
    const char *why = "";

    assert_int_equal(seal_link_set(f->link, &w, &why), 0);
}

static void test_grants(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1400);
    assert_false(seal_link_is_settled(f->link));
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    assert_string_equal(text, "set\ntunnel=qubes-vpn\naddress=10.8.0.2\nmtu=1400\n");
    turn_some(f);
    assert_int_equal(f->granted, 0);
    assert_null(seal_link_wish(f->link));
    answer(f, "ok\n");
    TURN_UNTIL(f, f->granted == 1);
    assert_int_equal(f->granted_mtu, 1400);
    assert_true(seal_link_is_settled(f->link));
    assert_int_equal(seal_link_wish(f->link)->mtu, 1400);
}

/* An answer to an older wish grants nothing. */
static void test_only_the_newest_counts(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1300);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    set(f, 1301);
    set(f, 1302);
    answer(f, "ok\n");
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    assert_non_null(strstr(text, "mtu=1302"));
    assert_int_equal(f->granted, 0);
    assert_false(seal_link_is_settled(f->link));
    answer(f, "ok\n");
    TURN_UNTIL(f, f->granted == 1);
    assert_int_equal(f->granted_mtu, 1302);
}

static void test_refusal(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1400);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    answer(f, "error=no such device\x1b\n");
    TURN_UNTIL(f, f->refused == 1);
    assert_string_equal(f->why, "no such device\\x1b");
    assert_int_equal(f->granted, 0);
    turn_some(f);
    assert_int_equal(hear(f, text, sizeof(text)), 0);
}

static void test_what_is_no_wish_stays_here(void **state)
{
    struct fixture *f = *state;
    struct wish w = tunnel_wish(1400);
    char text[WISH_TEXT_MAX];
    const char *why = "";

    (void)snprintf(w.tunnel, sizeof(w.tunnel), "eth0");
    assert_int_equal(seal_link_set(f->link, &w, &why), -EINVAL);
    assert_string_not_equal(why, "");
    turn_some(f);
    assert_int_equal(hear(f, text, sizeof(text)), 0);
}

static void test_owner_restarts(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1400);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    answer(f, "ok\n");
    TURN_UNTIL(f, f->granted == 1);
    f->listener = close_fd(f->listener);
    hang_up(f);
    TURN_UNTIL(f, f->lost == 1);
    assert_false(seal_link_is_settled(f->link));
    turn_some(f);
    assert_int_equal(f->lost, 1); /* said once */
    listen_at(f);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    assert_string_equal(text, "set\ntunnel=qubes-vpn\naddress=10.8.0.2\nmtu=1400\n");
    assert_true(f->back >= 1);
    answer(f, "ok\n");
    TURN_UNTIL(f, f->granted == 2);
}

static void test_answers_that_are_none(void **state)
{
    static const char *const wrong[] = {"yes\n", "ok", "error\n", "\n", "okay\n", "error:x\n"};
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1400);
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
        answer(f, wrong[i]);
        TURN_UNTIL(f, f->lost == i + 1);
        assert_int_equal(f->lost_error, -EPROTO);
        hang_up(f);
    }
    assert_int_equal(f->granted, 0);
}

/* Nobody asked for it: such an owner is not to be believed. */
static void test_unasked_answer(void **state)
{
    struct fixture *f = *state;

    TURN_UNTIL(f, f->peer >= 0);
    answer(f, "ok\n");
    TURN_UNTIL(f, f->lost == 1);
    assert_int_equal(f->granted, 0);
}

static void test_owner_hangs(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    set(f, 1400);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    TURN_UNTIL(f, f->lost == 1);
    assert_int_equal(f->lost_error, -ETIMEDOUT);
    hang_up(f);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0); /* asked again, on another connection */
    assert_int_equal(f->granted, 0);
}

static void test_report(void **state)
{
    struct fixture *f = *state;
    char text[WISH_TEXT_MAX];

    assert_int_equal(seal_link_check(f->link, on_report, f), -ENOTCONN);
    TURN_UNTIL(f, f->peer >= 0);
    assert_int_equal(seal_link_check(f->link, on_report, f), 0);
    assert_int_equal(seal_link_check(f->link, on_report, f), -EBUSY);
    set(f, 1400);
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    assert_string_equal(text, "check\n");
    answer(f, "ok\n{\"armed\":true}");
    TURN_UNTIL(f, f->reports == 1);
    assert_string_equal(f->report, "{\"armed\":true}");
    TURN_UNTIL(f, hear(f, text, sizeof(text)) > 0);
    assert_memory_equal(text, "set\n", 4);
    assert_int_equal(seal_link_check(f->link, on_report, f), 0);
    hang_up(f);
    TURN_UNTIL(f, f->reports == 2);
    assert_string_equal(f->report, "(none)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_grants, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_the_newest_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_wish_stays_here, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owner_restarts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_that_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unasked_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owner_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_report, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
