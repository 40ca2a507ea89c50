/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/machine.h"

#include <stddef.h>

#include "base/cleanup.h"

struct step {
    bool legal;
    enum machine_state next;
    unsigned actions;
};

/* Sealed, nothing runs, nothing of the old tunnel is remembered. */
#define SHUT (ACTION_CLOSE | ACTION_STOP_CLIENT | ACTION_FORGET_FLOWS)
/* The same, and another try after a while; a profile that never came up makes room for the next. */
#define AGAIN (SHUT | ACTION_BACK_OFF | ACTION_TELL)
#define FAIL_OVER (AGAIN | ACTION_NEXT_PROFILE)

#define TO(state, actions) {true, STATE_##state, (actions)}
#define STAY(state)        {true, STATE_##state, 0}

/* What every state does with them. */
#define FROM_ANY                                                                                   \
    [EVENT_DOWN] = TO(SEALED, SHUT | ACTION_TELL),                                                 \
    [EVENT_NO_PROFILE] = TO(UNCONFIGURED, SHUT | ACTION_TELL),                                     \
    [EVENT_STOP] = TO(SEALED, SHUT | ACTION_TELL)

/* States without a client. A new file is taken at once, whatever was wrong with the old one. */
#define AT_REST(state)                                                                             \
    FROM_ANY, [EVENT_START] = TO(RESOLVING, ACTION_RESOLVE | ACTION_TELL),                         \
              [EVENT_PROFILE_CHANGED] = TO(RESOLVING, SHUT | ACTION_RESOLVE | ACTION_TELL),        \
              [EVENT_PROFILE_BROKEN] = TO(FAILED, SHUT | ACTION_TELL),                             \
              [EVENT_UPLINK] = STAY(state), [EVENT_RESUMED] = STAY(state),                         \
              [EVENT_SEAL_LOST] = STAY(state), [EVENT_SEAL_BACK] = STAY(state)

/* States on the way or up: a broken file changes nothing, the old profile goes on. */
#define AT_WORK(state)                                                                             \
    FROM_ANY, [EVENT_START] = STAY(state),                                                         \
              [EVENT_PROFILE_CHANGED] = TO(RESOLVING, SHUT | ACTION_RESOLVE | ACTION_TELL),        \
              [EVENT_PROFILE_BROKEN] = TO(state, ACTION_TELL), [EVENT_RETRY] = STAY(state),        \
              [EVENT_SEAL_BACK] = STAY(state)

/* With a client. */
#define WITH_CLIENT(state)                                                                         \
    AT_WORK(state), [EVENT_CLIENT_BAD_PUSH] = TO(SEALED, FAIL_OVER),                               \
                    [EVENT_CLIENT_REFUSED] = TO(FAILED, SHUT | ACTION_NEXT_PROFILE | ACTION_TELL), \
                    [EVENT_CLIENT_UP] = TO(UP, ACTION_CONFIGURE | ACTION_TELL)

/* The tunnel leaves the wish at once; its flows are forgotten when the next one is another. */
#define RECONNECT TO(CONNECTING, ACTION_ADMIT | ACTION_TELL)
#define RESTART   TO(CONNECTING, ACTION_ADMIT | ACTION_RESTART_CLIENT | ACTION_TELL)

static const struct step table[MACHINE_STATES][MACHINE_EVENTS] = {
    [STATE_UNCONFIGURED] = {AT_REST(UNCONFIGURED), [EVENT_RETRY] = STAY(UNCONFIGURED)},
    [STATE_SEALED] = {AT_REST(SEALED),
                      [EVENT_RETRY] = TO(RESOLVING, ACTION_RESOLVE | ACTION_TELL)},
    [STATE_FAILED] = {AT_REST(FAILED), [EVENT_RETRY] = STAY(FAILED)},
    [STATE_RESOLVING] = {AT_WORK(RESOLVING),
                         [EVENT_RESOLVED] =
                             TO(CONNECTING, ACTION_ADMIT | ACTION_START_CLIENT | ACTION_TELL),
                         [EVENT_RESOLVE_FAILED] = TO(SEALED, FAIL_OVER),
                         [EVENT_TIMEOUT] = TO(SEALED, FAIL_OVER),
                         [EVENT_UPLINK] = TO(RESOLVING, ACTION_RESOLVE),
                         [EVENT_RESUMED] = TO(RESOLVING, ACTION_RESOLVE),
                         [EVENT_SEAL_LOST] = TO(SEALED, AGAIN)},
    [STATE_CONNECTING] = {WITH_CLIENT(CONNECTING),
                          [EVENT_CLIENT_CONNECTING] = STAY(CONNECTING),
                          [EVENT_CLIENT_STALLED] = STAY(CONNECTING),
                          [EVENT_CLIENT_ALIVE] = STAY(CONNECTING),
                          [EVENT_CLIENT_RECONNECTING] = STAY(CONNECTING),
                          [EVENT_CLIENT_ENDED] = TO(SEALED, FAIL_OVER),
                          [EVENT_TIMEOUT] = TO(SEALED, FAIL_OVER),
                          [EVENT_UPLINK] = TO(CONNECTING, ACTION_RESTART_CLIENT),
                          [EVENT_RESUMED] = TO(CONNECTING, ACTION_RESTART_CLIENT),
                          [EVENT_SEAL_LOST] = TO(SEALED, AGAIN)},
    [STATE_UP] = {WITH_CLIENT(UP),
                  [EVENT_CLIENT_CONNECTING] = RECONNECT,
                  [EVENT_CLIENT_RECONNECTING] = RECONNECT,
                  [EVENT_CLIENT_STALLED] = TO(STALLED, ACTION_TELL),
                  [EVENT_CLIENT_ALIVE] = STAY(UP),
                  [EVENT_CLIENT_ENDED] = TO(SEALED, AGAIN),
                  [EVENT_UPLINK] = RESTART,
                  [EVENT_RESUMED] = RESTART,
                  /* what the kernel was told stays in force, and nothing can be added to it */
                  [EVENT_SEAL_LOST] = TO(UP, ACTION_TELL)},
    [STATE_STALLED] = {WITH_CLIENT(STALLED),
                       [EVENT_CLIENT_CONNECTING] = RECONNECT,
                       [EVENT_CLIENT_RECONNECTING] = RECONNECT,
                       [EVENT_CLIENT_STALLED] = STAY(STALLED),
                       [EVENT_CLIENT_ALIVE] = TO(UP, ACTION_TELL),
                       [EVENT_CLIENT_ENDED] = TO(SEALED, AGAIN),
                       /* the name may mean another address by now */
                       [EVENT_TIMEOUT] = TO(RESOLVING, SHUT | ACTION_RESOLVE | ACTION_TELL),
                       [EVENT_UPLINK] = RESTART,
                       [EVENT_RESUMED] = RESTART,
                       [EVENT_SEAL_LOST] = TO(STALLED, ACTION_TELL)},
};

static const struct step illegal = {true, STATE_SEALED, AGAIN};

unsigned machine_step(struct machine *m, enum machine_event event)
{
    const struct step *s = &illegal;

    if (m->state < MACHINE_STATES && event < MACHINE_EVENTS && table[m->state][event].legal)
        s = &table[m->state][event];
    m->state = s->next;
    return s->actions;
}

const char *machine_state_name(enum machine_state state)
{
    static const char *const names[MACHINE_STATES] = {
        [STATE_UNCONFIGURED] = "unconfigured", [STATE_SEALED] = "sealed",
        [STATE_RESOLVING] = "resolving",       [STATE_CONNECTING] = "connecting",
        [STATE_UP] = "up",                     [STATE_STALLED] = "stalled",
        [STATE_FAILED] = "failed",
    };

    return state < MACHINE_STATES ? names[state] : "?";
}

const char *machine_event_name(enum machine_event event)
{
    static const char *const names[MACHINE_EVENTS] = {
        [EVENT_START] = "start",
        [EVENT_DOWN] = "down",
        [EVENT_NO_PROFILE] = "no-profile",
        [EVENT_PROFILE_CHANGED] = "profile-changed",
        [EVENT_PROFILE_BROKEN] = "profile-broken",
        [EVENT_RESOLVED] = "resolved",
        [EVENT_RESOLVE_FAILED] = "resolve-failed",
        [EVENT_CLIENT_CONNECTING] = "client-connecting",
        [EVENT_CLIENT_UP] = "client-up",
        [EVENT_CLIENT_BAD_PUSH] = "client-bad-push",
        [EVENT_CLIENT_STALLED] = "client-stalled",
        [EVENT_CLIENT_ALIVE] = "client-alive",
        [EVENT_CLIENT_RECONNECTING] = "client-reconnecting",
        [EVENT_CLIENT_REFUSED] = "client-refused",
        [EVENT_CLIENT_ENDED] = "client-ended",
        [EVENT_TIMEOUT] = "timeout",
        [EVENT_RETRY] = "retry",
        [EVENT_UPLINK] = "uplink",
        [EVENT_RESUMED] = "resumed",
        [EVENT_SEAL_LOST] = "seal-lost",
        [EVENT_SEAL_BACK] = "seal-back",
        [EVENT_STOP] = "stop",
    };

    return event < MACHINE_EVENTS ? names[event] : "?";
}

const char *machine_action_name(unsigned bit)
{
    static const char *const names[] = {"close",   "stop-client",  "forget-flows",   "resolve",
                                        "admit",   "start-client", "restart-client", "configure",
                                        "back-off", "next-profile", "tell"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (bit == 1u << i)
            return names[i];
    return "?";
}

bool machine_is_open(enum machine_state state)
{
    return state == STATE_UP || state == STATE_STALLED;
}
