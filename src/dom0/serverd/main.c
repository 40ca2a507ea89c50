/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-network-serverd: tells net qubes which qubes they expose to the LAN. Runs in dom0, in the
 * foreground, as a member of group qubes; systemd is welcome, not needed.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dom0/serverd/client.h"
#include "dom0/serverd/manager.h"

#define PROGRAM         "qubes-network-serverd"
#define DEFAULT_RUNTIME "/run/qubes-network-serverd"

enum verb {
    VERB_RUN,
    VERB_STATUS,
    VERB_CHECK,
    VERB_DRY_RUN,
    VERB_WITHDRAW,
};

struct options {
    enum verb verb;
    bool verbose;
    struct manager_config config;
};

enum { /* long options without a letter */
    OPTION_STATUS = 256,
    OPTION_CHECK,
    OPTION_DRY_RUN,
    OPTION_WITHDRAW,
    OPTION_JSON,
    OPTION_QUBESD,
    OPTION_QUBESDB,
    OPTION_RUNTIME,
};

static const struct option long_options[] = {
    {"status", no_argument, NULL, OPTION_STATUS},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"withdraw", no_argument, NULL, OPTION_WITHDRAW},
    {"json", no_argument, NULL, OPTION_JSON},
    {"qubesd", required_argument, NULL, OPTION_QUBESD},
    {"qubesdb-directory", required_argument, NULL, OPTION_QUBESDB},
    {"runtime", required_argument, NULL, OPTION_RUNTIME},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    printf(PROGRAM ": tells net qubes which qubes they expose to the LAN.\n"
           "\n"
           "  " PROGRAM "              run (in the foreground)\n"
           "  " PROGRAM " --status     what is exposed, and why the rest is not [--json]\n"
           "  " PROGRAM " --check      exit status 1 when anything is not as wished [--json]\n"
           "  " PROGRAM " --dry-run    print what a start would write now [--json]\n"
           "  " PROGRAM " --withdraw   take everything back from all net qubes\n"
           "\n"
           "  --qubesd SOCKET           ($QUBESD_SOCKET, else /var/run/qubesd.sock)\n"
           "  --qubesdb-directory DIR   ($QUBESDB_DIRECTORY, else /var/run/qubes)\n"
           "  --runtime DIR             ($RUNTIME_DIRECTORY, else " DEFAULT_RUNTIME ")\n"
           "  -v, --verbose       say more    -h, --help    -V, --version\n");
}

static int wrong_use(const char *what)
{
    (void)fprintf(stderr, PROGRAM ": %s; see --help\n", what);
    return -EINVAL;
}

static int set_verb(struct options *o, enum verb verb)
{
    if (o->verb != VERB_RUN)
        return wrong_use("only one of --status, --check, --dry-run and --withdraw");
    o->verb = verb;
    return 0;
}

/* 0, 1: nothing left to do, -EINVAL: said. */
static int take_option(struct options *o, int option)
{
    switch (option) {
    case OPTION_STATUS:
        return set_verb(o, VERB_STATUS);
    case OPTION_CHECK:
        return set_verb(o, VERB_CHECK);
    case OPTION_DRY_RUN:
        o->config.dry_run = true;
        return set_verb(o, VERB_DRY_RUN);
    case OPTION_WITHDRAW:
        return set_verb(o, VERB_WITHDRAW);
    case OPTION_JSON:
        o->config.json = true;
        return 0;
    case OPTION_QUBESD:
        o->config.qubesd = optarg;
        return 0;
    case OPTION_QUBESDB:
        o->config.qubesdb_directory = optarg;
        return 0;
    case OPTION_RUNTIME:
        o->config.runtime = optarg;
        return 0;
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
        print_help();
        return 1;
    case 'V':
        printf(PROGRAM " %s\n", SLUICE_VERSION);
        return 1;
    default:
        return wrong_use("unknown option");
    }
}

static int parse_options(int argc, char **argv, struct options *o)
{
    int option, r = 0;

    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, "vhV", long_options, NULL)) != -1)
        r = take_option(o, option);
    if (r == 0 && optind < argc)
        r = wrong_use("it takes no arguments");
    if (r == 0 && o->config.json && (o->verb == VERB_RUN || o->verb == VERB_WITHDRAW))
        r = wrong_use("--json goes with --status, --check or --dry-run");
    return r;
}

static int run(const struct options *o)
{
    _cleanup_(manager_freep) struct manager *m = NULL;
    int r = manager_new(&o->config, &m);

    if (r >= 0)
        r = manager_run(m);
    if (r < 0)
        log_error("Cannot go on (%s): what is exposed stays, nothing new opens. The folder %s must "
                  "exist and be mine", strerror(-r), o->config.runtime);
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    const char *runtime = secure_getenv("RUNTIME_DIRECTORY");
    struct options o = {
        .config = {.runtime = runtime && runtime[0] == '/' ? runtime : DEFAULT_RUNTIME},
    };
    int r = parse_options(argc, argv, &o);

    if (r != 0)
        return r < 0 ? 2 : 0;
    (void)signal(SIGPIPE, SIG_IGN);
    /* Who only asks wants an answer, not the journal. */
    log_open(PROGRAM, o.verbose ? LOG_DEBUG : o.verb == VERB_RUN ? LOG_INFO : LOG_ERR);
    switch (o.verb) {
    case VERB_RUN:
        return run(&o);
    case VERB_STATUS:
        return client_status(o.config.runtime, o.config.json);
    case VERB_CHECK:
        return client_check(o.config.runtime, o.config.json);
    case VERB_DRY_RUN:
        return client_dry_run(&o.config);
    case VERB_WITHDRAW:
        return client_withdraw(&o.config);
    }
    return 2;
}
