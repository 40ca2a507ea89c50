/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-vpn, the user's command: one function for each verb, told by the table in main.c. They talk
 * to the person and return the exit status; they never open anything, the supervisor and the seal
 * do not know how.
 */
#pragma once

#include <stdbool.h>

#include "vpn/command/line.h"

enum command_status { /* documented in qubes-vpn(1) */
    COMMAND_OK = 0,     /* status: up */
    COMMAND_FAILED = 1, /* also: it cannot be told */
    COMMAND_USAGE = 2,
    COMMAND_SEALED = 3, /* not connected, sealed */
    COMMAND_OPEN = 4,   /* not sealed */
};

struct command_options {
    const char *bus;  /* socket; NULL: the system bus */
    const char *seal; /* socket of the seal's owner */
    const char *name; /* --name */
    const char *kind; /* --kind */
    bool json, watch, random, all;
    char **words; /* after the verb */
    int n_words;
};

int command_status(const struct command_options *o);
int command_up(const struct command_options *o);
int command_down(const struct command_options *o);
int command_use(const struct command_options *o);
int command_list(const struct command_options *o);
int command_import(const struct command_options *o);
int command_test(const struct command_options *o);
int command_explain(const struct command_options *o);
int command_set_secret(const struct command_options *o);
int command_rename(const struct command_options *o);
int command_delete(const struct command_options *o);
int command_order(const struct command_options *o);

/* Opens the line and says so when it cannot be: COMMAND_OK, or the exit status. */
int command_connect(const struct command_options *o, struct line *l);
/* Says why a call failed. Returns COMMAND_FAILED. */
int command_refused(const struct line *l, int error, const char *what);
