/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line as data. Rules, maps, addresses and times are parsed here with the grammar that
 * everybody else uses (src/exposure), so nothing that does not parse is ever stored. Pure, but for
 * getopt's globals and the time zone. Strings are borrowed from argv where not told otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define OPTIONS_WHY_MAX 1024

enum verb {
    VERB_CHANGE, /* a qube and something to change */
    VERB_SHOW,   /* a qube and nothing else */
    VERB_LIST,
    VERB_EXPLAIN,
    VERB_CHECK,
    VERB_MAP,
    VERB_HELP,
    VERB_VERSION,
};

enum toggle {
    TOGGLE_LEAVE,
    TOGGLE_ON,
    TOGGLE_OFF,
};

struct options {
    enum verb verb;
    const char *qube;
    struct addr ip[2];        /* [0] IPv4, [1] IPv6; family 0: not given */
    char *allow, *publish;    /* owned, all of them joined; NULL: not given */
    bool no_allow;            /* --allow none: not under its own address any more */
    bool no_publish;          /* --publish none */
    bool has_expires;
    int64_t expires;          /* 0: never */
    bool has_limit;
    uint32_t limit;           /* 0: no limit */
    enum toggle log, keep;
    bool off, dry_run, json;
    bool yes, no;             /* the answer to every question */
    const char *svg;
    bool has_question;        /* --from, --port */
    struct addr from;
    uint8_t proto;            /* IPPROTO_* */
    uint16_t port;
    const char *status_command, *qubesd, *qubesdb; /* NULL: the usual place */
};

/*
 * 0, -ENOMEM, or -EINVAL: why is a message for people, with the option's name and the place (it may
 * have more than one line, without the last newline). options_done() is due in any case.
 */
int options_parse(int argc, char **argv, int64_t now, struct options *ret,
                  char why[static OPTIONS_WHY_MAX]);
void options_done(struct options *o);
