/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of `--terminal` and `--edit` share: the session (one thread, its own event loop),
 * printing and asking. Everything printed goes through terminal_say(), which lets no control
 * character pass and writes ASCII where the locale's character set is not UTF-8. Nothing depends on
 * what the terminal can do. For these files only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "desktop/configurator/setup.h"
#include "desktop/configurator/terminal.h"
#include "desktop/words/words.h"
#include "vpn/object/follow.h"

#define TERMINAL_LINE   4096
#define TERMINAL_SECRET 500
#define TERMINAL_EVENTS 5

struct terminal_event {
    uint64_t at_us; /* CLOCK_REALTIME */
    char text[WORDS_LONG / 2];
};

struct terminal {
    sd_event *event;
    struct vpn_follow *follow;
    struct setup *setup;
    bool known;      /* the first status came, or that there is none */
    bool answered;   /* the call that is waited for */
    bool ok;         /* ... and it went well */
    json_t *results; /* of that call; owned */
    bool typed;      /* something can be read from standard input */
    bool tested, sealed;
    bool over;                                     /* standard input has ended */
    struct terminal_event events[TERMINAL_EVENTS]; /* the newest is 0 */
};

/* ---- terminal_ask.c ---- */

/* Wrapped at 78 columns, with a line end. first, more: blanks before the first and other lines. */
__attribute__((format(printf, 1, 2))) void terminal_say(const char *format, ...);
void terminal_indent(unsigned first, unsigned more, const char *text);
/* A line of a numbered list. */
void terminal_number(size_t number, const char *text);
/* As it is, for commands to copy: not wrapped. */
void terminal_raw(const char *text);

/* Runs the loop until *flag, or usec have gone (UINT64_MAX: no limit), or, with input, something
 * can be read: t->typed. Returns *flag. */
bool terminal_wait(struct terminal *t, const bool *flag, bool input, uint64_t usec);

/* A line without its end and without blanks around. -ENODATA: the input has ended; -E2BIG. */
int terminal_ask(struct terminal *t, const char *prompt, char *buf, size_t size);
/* Enter, or anything that does not begin with "n": true. */
bool terminal_agree(struct terminal *t, const char *question);
/* Without echo; the caller wipes. -ENOTTY: nobody could keep it from being seen, which was said. */
int terminal_ask_secret(const char *prompt, char *buf, size_t size);
/* Lines up to one with a dot alone, without echo on a terminal. *ret is wiped by the caller. */
int terminal_ask_text(char **ret, size_t *ret_len);

/* ---- terminal.c ---- */

int terminal_begin(struct terminal *t, const char *socket);
void terminal_end(struct terminal *t);
/* Sends and waits; says why it failed. m is taken over. t->results is set when it went well. */
bool terminal_send(struct terminal *t, sd_bus_message *m);
/* types and words as of sd_bus_message_append(). */
bool terminal_call(struct terminal *t, const char *method, const char *types, ...);

/* ---- terminal_show.c ---- */

void terminal_show_state(struct terminal *t);
void terminal_show_guide(struct terminal *t);
/* profiles: as the status has them. */
void terminal_show_profiles(const json_t *profiles);
/* By number or name; "" when nothing was chosen. */
void terminal_choose(struct terminal *t, const char *prompt, char *buf, size_t size);

/* ---- terminal_setup.c ---- */

/* Until no call of the setup is on its way. */
void terminal_wait_setup(struct terminal *t);
/* 0 connected, or stopped by the person; 1 not done. */
int terminal_setup(struct terminal *t);
/* Asks for these secrets (names of the bus) of a profile; false when one was not given. */
bool terminal_secrets(struct terminal *t, const char *profile, const json_t *needs);
