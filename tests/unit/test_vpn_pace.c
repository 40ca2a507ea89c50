/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a WireGuard server is there, told by counters alone: a model peer, second by second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vpn/client/wireguard_pace.h"

#define S 1000000ull

/* Looks whenever the pace asks for it, and keeps the last verdict that was one. */
struct run {
    struct pace pace;
    struct pace_sample now;
    uint64_t at, next;
    unsigned looks, stalled, back, nexts, ups;
};

static void look(struct run *r)
{
    switch (pace_look(&r->pace, r->at, &r->now)) {
    case PACE_NOTHING:
        break;
    case PACE_UP:
        r->ups++;
        break;
    case PACE_STALLED:
        r->stalled++;
        break;
    case PACE_BACK:
        r->back++;
        break;
    case PACE_NEXT:
        r->nexts++;
        break;
    }
    r->looks++;
    r->next = r->at + pace_interval(&r->pace);
    assert_true(pace_accuracy(&r->pace) > 0);
    assert_true(pace_interval(&r->pace) >= 30000);
}

/* Each second tx and rx grow by so much; looks come as asked for. */
static void pass(struct run *r, unsigned seconds, uint64_t tx, uint64_t rx)
{
    for (unsigned i = 0; i < seconds * 100; i++) {
        r->at += S / 100;
        if (i % 100 == 99) {
            r->now.tx += tx;
            r->now.rx += rx;
        }
        if (r->at >= r->next)
            look(r);
    }
}

static struct run begin(unsigned keepalive)
{
    struct run r = {.at = 1000 * S};

    pace_begin(&r.pace, r.at, keepalive, 0);
    r.next = r.at + pace_interval(&r.pace);
    return r;
}

static struct run begin_up(unsigned keepalive)
{
    struct run r = begin(keepalive);

    pass(&r, 1, 148, 0);
    r.now.handshake_ns = 1;
    r.now.rx = 92;
    pass(&r, 1, 0, 0);
    assert_int_equal(r.ups, 1);
    return r;
}

static void test_asking(void **state)
{
    struct run r = begin(0);

    (void)state;
    pass(&r, 11, 30, 0);
    assert_int_equal(r.nexts, 0);
    assert_in_range(r.looks, 40, 55);
    pass(&r, 2, 30, 0);
    assert_int_equal(r.nexts, 1);
    pass(&r, 12, 30, 0);
    assert_int_equal(r.nexts, 2);
    r.now.handshake_ns = 5;
    pass(&r, 1, 0, 0);
    assert_int_equal(r.ups, 1);
}

/* Nobody there for an hour: not more than one look a second. */
static void test_asking_for_long(void **state)
{
    struct run r = begin(25);

    (void)state;
    pace_begin(&r.pace, r.at, 25, 3);
    pass(&r, 3600, 30, 0);
    assert_in_range(r.looks, 3500, 3620);
    assert_in_range(r.nexts, 270, 300);
}

static void test_idle_is_no_fault(void **state)
{
    struct run r = begin_up(0);

    (void)state;
    r.looks = 0;
    pass(&r, 3600, 0, 0);
    assert_int_equal(r.stalled, 0);
    assert_in_range(r.looks, 119, 122); /* two a minute */
}

static void test_in_use(void **state)
{
    struct run r = begin_up(0);

    (void)state;
    r.looks = 0;
    pass(&r, 3600, 100000, 200);
    assert_int_equal(r.stalled, 0);
    assert_in_range(r.looks, 239, 242);
}

/* Keepalives of ours are not answered but for the handshake every two minutes. */
static void test_keepalives_alone(void **state)
{
    struct run r = begin_up(25);

    (void)state;
    for (unsigned i = 0; i < 600; i++) {
        pass(&r, 25, 0, 0);
        r.now.tx += 32;
        if (i % 5 == 4) {
            r.now.tx += 148;
            r.now.rx += 92;
            r.now.handshake_ns++;
        }
    }
    assert_int_equal(r.stalled, 0);
}

/* The other side only takes: it acknowledges every 10 s. */
static void test_one_way_traffic(void **state)
{
    struct run r = begin_up(0);

    (void)state;
    for (unsigned i = 0; i < 360; i++) {
        pass(&r, 10, 5000, 0);
        r.now.rx += 32;
    }
    assert_int_equal(r.stalled, 0);
}

static void test_silent_server(void **state)
{
    struct run r = begin_up(0);
    uint64_t since;

    (void)state;
    pass(&r, 100, 5000, 5000);
    since = r.at;
    while (r.stalled == 0 && r.at < since + 60 * S)
        pass(&r, 1, 300, 0);
    assert_in_range(r.at - since, 20 * S, 52 * S);
    assert_int_equal(r.nexts, 0);
    pass(&r, 12, 300, 0);
    assert_int_equal(r.nexts, 1);
    pass(&r, 10, 300, 0);
    assert_int_equal(r.nexts, 2);
    assert_int_equal(r.back, 0);
}

static void test_silent_server_with_keepalives_alone(void **state)
{
    struct run r = begin_up(25);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        pass(&r, 25, 0, 0);
        r.now.tx += 32;
    }
    assert_int_equal(r.stalled, 0);
    for (unsigned i = 0; i < 12; i++) { /* now it asks for a handshake each 5 s */
        r.now.tx += 148;
        pass(&r, 5, 0, 0);
    }
    assert_int_equal(r.stalled, 1);
}

/* It does not hear us, and asks for a handshake itself. */
static void test_deaf_server(void **state)
{
    struct run r = begin_up(0);
    uint64_t since;

    (void)state;
    pass(&r, 40, 5000, 5000);
    since = r.at;
    while (r.stalled == 0 && r.at < since + 90 * S) {
        pass(&r, 5, 300, 0);
        r.now.rx += 148;
        r.now.tx += 92;
    }
    assert_in_range(r.at - since, 20 * S, 55 * S);
    pass(&r, 3, 300, 52);
    assert_int_equal(r.back, 1);
}

static void test_a_short_silence(void **state)
{
    struct run r = begin_up(0);

    (void)state;
    pass(&r, 30, 300, 0);
    pass(&r, 5, 300, 100);
    assert_int_equal(r.stalled, 0);
    assert_int_equal(r.back, 0);
    pass(&r, 60, 300, 0);
    assert_true(r.stalled == 1 && r.back == 0);
    pass(&r, 3, 300, 100);
    assert_int_equal(r.back, 1);
    pass(&r, 600, 300, 100);
    assert_true(r.stalled == 1 && r.back == 1);
}

static void test_adopted(void **state)
{
    struct run r = {.at = 5 * S, .now = {.handshake_ns = 7, .rx = 1000, .tx = 100000}};

    (void)state;
    pace_adopt(&r.pace, r.at, 0, &r.now);
    r.next = r.at + pace_interval(&r.pace);
    pass(&r, 600, 0, 0);
    assert_true(r.ups == 0 && r.stalled == 0);
    r.now.tx = 0; /* counters set back by somebody else */
    r.now.rx = 0;
    pass(&r, 60, 0, 0);
    assert_int_equal(r.stalled, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asking),
        cmocka_unit_test(test_asking_for_long),
        cmocka_unit_test(test_idle_is_no_fault),
        cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_keepalives_alone),
        cmocka_unit_test(test_one_way_traffic),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_silent_server_with_keepalives_alone),
        cmocka_unit_test(test_deaf_server),
        cmocka_unit_test(test_a_short_silence),
        cmocka_unit_test(test_adopted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
