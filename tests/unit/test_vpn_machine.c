/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor's table, every pair of state and event, held against what has to be true of all of
 * them; and ways through it. With the argument --table it prints the table for the documentation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_random.h"
#include "vpn/daemon/machine.h"

#define ALL_ACTIONS ((unsigned)ACTION_TELL * 2 - 1)

static bool has_client(enum machine_state state)
{
    return state == STATE_CONNECTING || machine_is_open(state);
}

/* Why the step is wrong, NULL when it is right. */
static const char *judge(enum machine_state from, enum machine_event event, enum machine_state to,
                         unsigned actions)
{
    bool wish_without_tunnel = actions & (ACTION_CLOSE | ACTION_ADMIT);

    if (to >= MACHINE_STATES || actions & ~ALL_ACTIONS)
        return "not in the enumerations";
    if (machine_is_open(to) && !machine_is_open(from) && event != EVENT_CLIENT_UP)
        return "open, and the client did not say that it is up";
    if ((actions & ACTION_CONFIGURE) && (event != EVENT_CLIENT_UP || to != STATE_UP))
        return "the tunnel is wished for by something else than the client";
    if (event == EVENT_CLIENT_UP && to == STATE_UP && !has_client(from))
        return "up without a client";
    if (machine_is_open(from) && !machine_is_open(to) && !wish_without_tunnel)
        return "the tunnel stays in the wish";
    if (has_client(from) && !has_client(to) && !(actions & ACTION_STOP_CLIENT))
        return "the client is left running";
    if (has_client(from) && !has_client(to) && !(actions & ACTION_CLOSE))
        return "the client's endpoints stay open";
    if (has_client(from) && !has_client(to) && !(actions & ACTION_FORGET_FLOWS))
        return "flows of the old tunnel stay";
    if ((actions & ACTION_START_CLIENT) && (!(actions & ACTION_ADMIT) || to != STATE_CONNECTING))
        return "a client starts that is not admitted";
    if ((actions & ACTION_ADMIT) && to != STATE_CONNECTING)
        return "endpoints are opened for nobody";
    if ((actions & ACTION_RESOLVE) && to != STATE_RESOLVING)
        return "a look-up nobody waits for";
    if ((actions & ACTION_BACK_OFF) && to != STATE_SEALED)
        return "another try is planned where nobody waits for it";
    if (from != to && !(actions & ACTION_TELL))
        return "a change of state that nobody hears of";
    if ((actions & ACTION_CLOSE) && (actions & ACTION_ADMIT))
        return "closed and opened at once";
    return NULL;
}

static void test_every_pair(void **state)
{
    (void)state;
    for (unsigned s = 0; s <= MACHINE_STATES; s++)
        for (unsigned e = 0; e <= MACHINE_EVENTS; e++) {
            struct machine m = {(enum machine_state)s};
            unsigned actions = machine_step(&m, (enum machine_event)e);
            const char *why = judge((enum machine_state)s, (enum machine_event)e, m.state, actions);

            if (why != NULL)
                fail_msg("%s + %s -> %s: %s", machine_state_name((enum machine_state)s),
                         machine_event_name((enum machine_event)e), machine_state_name(m.state),
                         why);
        }
}

static void test_down_and_stop_seal_from_anywhere(void **state)
{
    static const enum machine_event ends[] = {EVENT_DOWN, EVENT_STOP, EVENT_NO_PROFILE};
    unsigned shut = ACTION_CLOSE | ACTION_STOP_CLIENT | ACTION_FORGET_FLOWS;

    (void)state;
    for (unsigned s = 0; s < MACHINE_STATES; s++)
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
            struct machine m = {(enum machine_state)s};
            unsigned actions = machine_step(&m, ends[i]);

            assert_int_equal(actions & shut, shut);
            assert_false(actions & ACTION_BACK_OFF);
            assert_int_equal(m.state,
                             ends[i] == EVENT_NO_PROFILE ? STATE_UNCONFIGURED : STATE_SEALED);
        }
}

static void test_illegal_is_sealed_and_tried_again(void **state)
{
    struct machine m = {STATE_SEALED};

    (void)state;
    assert_true(machine_step(&m, EVENT_CLIENT_UP) & ACTION_BACK_OFF);
    assert_int_equal(m.state, STATE_SEALED);
    m.state = STATE_UP;
    assert_true(machine_step(&m, EVENT_RESOLVED) & ACTION_CLOSE);
    assert_int_equal(m.state, STATE_SEALED);
}

static void walk(struct machine *m, const enum machine_event *events, size_t n,
                 const enum machine_state *states)
{
    for (size_t i = 0; i < n; i++) {
        (void)machine_step(m, events[i]);
        if (m->state != states[i])
            fail_msg("step %zu, %s: %s", i, machine_event_name(events[i]),
                     machine_state_name(m->state));
    }
}

static void test_a_life(void **state)
{
    static const enum machine_event events[] = {
        EVENT_START,           EVENT_RESOLVED,       EVENT_CLIENT_CONNECTING,
        EVENT_CLIENT_UP,       EVENT_CLIENT_STALLED, EVENT_CLIENT_ALIVE,
        EVENT_CLIENT_RECONNECTING, EVENT_CLIENT_UP,  EVENT_UPLINK,
        EVENT_CLIENT_UP,       EVENT_CLIENT_ENDED,   EVENT_RETRY,
        EVENT_RESOLVE_FAILED,  EVENT_RETRY,          EVENT_RESOLVED,
        EVENT_CLIENT_REFUSED,  EVENT_RETRY,          EVENT_START,
        EVENT_DOWN,
    };
    static const enum machine_state states[] = {
        STATE_RESOLVING,  STATE_CONNECTING, STATE_CONNECTING, STATE_UP,         STATE_STALLED,
        STATE_UP,         STATE_CONNECTING, STATE_UP,         STATE_CONNECTING, STATE_UP,
        STATE_SEALED,     STATE_RESOLVING,  STATE_SEALED,     STATE_RESOLVING,  STATE_CONNECTING,
        STATE_FAILED,     STATE_FAILED,     STATE_RESOLVING,  STATE_SEALED,
    };
    struct machine m = {STATE_SEALED};

    (void)state;
    walk(&m, events, ARRAY_SIZE(events), states);
}

/* A file that got broken leaves what works alone. */
static void test_broken_file(void **state)
{
    static const enum machine_state at_work[] = {STATE_RESOLVING, STATE_CONNECTING, STATE_UP,
                                                 STATE_STALLED};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(at_work); i++) {
        struct machine m = {at_work[i]};

        assert_int_equal(machine_step(&m, EVENT_PROFILE_BROKEN), ACTION_TELL);
        assert_int_equal(m.state, at_work[i]);
    }
}

/* From wherever it is, a start and good news lead to a tunnel: nothing gets stuck. */
static void test_nothing_gets_stuck(void **state)
{
    static const enum machine_event way[] = {EVENT_DOWN, EVENT_START, EVENT_RESOLVED,
                                             EVENT_CLIENT_UP};
    struct rnd r = random_begin("machine");

    (void)state;
    for (int run = 0; run < 10000; run++) {
        struct machine m = {(enum machine_state)random_below(&r, MACHINE_STATES)};

        for (int i = 0; i < 20; i++)
            (void)machine_step(&m, (enum machine_event)random_below(&r, MACHINE_EVENTS));
        for (size_t i = 0; i < ARRAY_SIZE(way); i++)
            (void)machine_step(&m, way[i]);
        assert_int_equal(m.state, STATE_UP);
    }
}

static void print_actions(unsigned actions)
{
    const char *between = " ";

    for (unsigned bit = 1; bit <= ACTION_TELL; bit *= 2)
        if (actions & bit & ~(unsigned)ACTION_TELL) {
            printf("%s%s", between, machine_action_name(bit));
            between = ", ";
        }
}

static void print_table(void)
{
    printf("| state | event | next | actions |\n|---|---|---|---|\n");
    for (unsigned s = 0; s < MACHINE_STATES; s++)
        for (unsigned e = 0; e < MACHINE_EVENTS; e++) {
            struct machine m = {(enum machine_state)s};
            unsigned actions = machine_step(&m, (enum machine_event)e);

            if (m.state == (enum machine_state)s && actions == 0)
                continue; /* nothing happens */
            printf("| %s | %s | %s |", machine_state_name((enum machine_state)s),
                   machine_event_name((enum machine_event)e), machine_state_name(m.state));
            print_actions(actions);
            printf(" |\n");
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair),
        cmocka_unit_test(test_down_and_stop_seal_from_anywhere),
        cmocka_unit_test(test_illegal_is_sealed_and_tried_again),
        cmocka_unit_test(test_a_life),
        cmocka_unit_test(test_broken_file),
        cmocka_unit_test(test_nothing_gets_stuck),
    };

    if (argc == 2 && strcmp(argv[1], "--table") == 0) {
        print_table();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
