/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person reads on the desktop: the supervisor's state in sentences, translated (gettext,
 * domain "sluice"). Everything that came from outside (a provider's file, a server, a profile's
 * name) is shown through words_clean() alone: valid UTF-8, one line, no control, format or
 * direction characters, cut with an ellipsis. Programs hand texts to toolkits as plain text, never
 * as markup. Pure but for the locale; strings go into the caller's buffers. status is what
 * vpn/object/follow.h gives; NULL: the supervisor does not answer.
 */
#pragma once

#include <jansson.h>
#include <libintl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef _ /* GLib's headers have the same */
#define _(text) gettext(text)
#endif
#ifndef N_ /* marked here, translated where it is used */
#define N_(text) (text)
#endif

#define WORDS_SHORT 128 /* a name, in bytes, NUL and ellipsis included */
#define WORDS_LONG  512 /* a sentence */

/* What the tray's icon, the window's head and the notification agree on. */
enum words_mood {
    WORDS_UP,         /* qubes are in the tunnel */
    WORDS_CONNECTING, /* blocked, on the way */
    WORDS_BLOCKED,    /* blocked because asked to be */
    WORDS_ATTENTION,  /* somebody has to do something, or it is not known whether it is sealed */
};

/* Sets the locale and the domain. dir: NULL for the installed one (or SLUICE_LOCALE). */
void words_begin(const char *dir);

/* Outside text made fit to be seen. Returns buf. */
char *words_clean(const char *outside, char *buf, size_t size);
/* What the supervisor said, cleaned, and translated where it is one of its fixed phrases
 * (po/phrases.py). Never for names. */
char *words_said(const char *text, char *buf, size_t size);
/* A member of an object, cleaned; "" when missing or no string. Errors, phase: as words_said(). */
char *words_member(const json_t *object, const char *key, char *buf, size_t size);
/* Strings of an array, cleaned: "a, b, c and 2 more"; at most n of them. */
char *words_list(const json_t *strings, size_t n, char *buf, size_t size);

enum words_mood words_mood(const json_t *status);
/* The name of an icon: "qubes-vpn-up", "qubes-vpn-connecting" ... */
const char *words_mood_icon(enum words_mood mood);
/* "Connected", "Blocked", "Connecting"... */
const char *words_mood_title(enum words_mood mood);
/* One sentence: what is, to which server, what it means for the qubes behind. */
char *words_summary(const json_t *status, char *buf, size_t size);
/* "vpn.example.net (203.0.113.10:1194/udp)", or what of it is known. */
char *words_server(const json_t *status, char *buf, size_t size);
/* What the person can do next, "" for nothing: set a profile up, give a password, look at ... */
char *words_next(const json_t *status, char *buf, size_t size);
/* A finding [kind, line, word, text] as a sentence: what, why, what becomes of it. */
char *words_finding(const json_t *finding, char *buf, size_t size);
/* "user-password" and the like as a person calls them. */
const char *words_secret(const char *kind);
/* Bytes in units of 1024; a time (microseconds of CLOCK_REALTIME) as the locale writes it. */
char *words_bytes(uint64_t bytes, char *buf, size_t size);
char *words_time(uint64_t usec, char *buf, size_t size);
