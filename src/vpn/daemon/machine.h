/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor's state machine: one table of state, event, next state and actions. Pure; the one
 * place where the state changes is machine_step(). An event that a state has no line for leads to
 * "sealed" with its actions, never anywhere more open.
 */
#pragma once

#include <stdbool.h>

enum machine_state {
    STATE_UNCONFIGURED, /* no usable profile, or several and none chosen */
    STATE_SEALED,       /* asked to be down, or waiting before the next try */
    STATE_RESOLVING,    /* looking up the endpoint's name */
    STATE_CONNECTING,   /* the client runs, carriers are admitted, qubes go nowhere */
    STATE_UP,
    STATE_STALLED, /* was up, the server is silent: qubes go into the tunnel or nowhere */
    STATE_FAILED,  /* needs a person: wrong password, refused profile */
    MACHINE_STATES
};

enum machine_event {
    EVENT_START,        /* a profile is there and the user wants up */
    EVENT_DOWN,         /* the user wants down */
    EVENT_NO_PROFILE,
    EVENT_PROFILE_CHANGED, /* another file, another choice, new secret */
    EVENT_PROFILE_BROKEN,
    EVENT_RESOLVED,
    EVENT_RESOLVE_FAILED,
    EVENT_CLIENT_CONNECTING,
    EVENT_CLIENT_UP,      /* and the judge let it pass */
    EVENT_CLIENT_BAD_PUSH, /* no usable address */
    EVENT_CLIENT_STALLED,
    EVENT_CLIENT_ALIVE,
    EVENT_CLIENT_RECONNECTING,
    EVENT_CLIENT_REFUSED,
    EVENT_CLIENT_ENDED,
    EVENT_TIMEOUT,  /* nothing came in the time of the state */
    EVENT_RETRY,    /* the back-off is over */
    EVENT_UPLINK,   /* the uplink is another one, or came back */
    EVENT_RESUMED,  /* the clock jumped: the machine slept */
    EVENT_SEAL_LOST, /* the seal's owner does not answer */
    EVENT_SEAL_BACK,
    EVENT_STOP,
    MACHINE_EVENTS
};

enum machine_action { /* bits, carried out in this order */
    ACTION_CLOSE = 1,         /* wish: no tunnel, no carrier */
    ACTION_STOP_CLIENT = 2,
    ACTION_FORGET_FLOWS = 4,  /* conntrack of the old tunnel */
    ACTION_RESOLVE = 8,
    ACTION_ADMIT = 16,        /* wish: carriers, no tunnel */
    ACTION_START_CLIENT = 32,
    ACTION_RESTART_CLIENT = 64,
    ACTION_CONFIGURE = 128,   /* device, then wish: tunnel, DNS */
    ACTION_BACK_OFF = 256,    /* arm the retry timer */
    ACTION_NEXT_PROFILE = 512, /* fail-over where the user gave a list */
    ACTION_TELL = 1024,
};

struct machine {
    enum machine_state state;
};

/* Does the event; returns the actions (bits) for the caller to do in their order. */
unsigned machine_step(struct machine *m, enum machine_event event);
const char *machine_state_name(enum machine_state state);
const char *machine_event_name(enum machine_event event);
const char *machine_action_name(unsigned bit); /* one bit of enum machine_action */
/* May qubes be let into the tunnel in this state? True for UP and STALLED only. */
bool machine_is_open(enum machine_state state);
