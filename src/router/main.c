/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-routing-manager: serves chosen qubes to the LAN from a net qube. Runs in the foreground;
 * systemd is welcome, not needed.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "router/client.h"
#include "router/manager.h"

#define DEFAULT_CONTROL "/run/qubes-routing-manager/control.sock"
#define MIN_SIZE        65536 /* what is said beside the addresses fits */

enum verb {
    VERB_RUN,
    VERB_STATUS,
    VERB_CHECK,
    VERB_DRY_RUN,
};

struct options {
    enum verb verb;
    bool json, verbose;
    size_t max_size; /* of an answer in JSON; 0: any */
    struct manager_config config;
};

enum { /* long options without a letter */
    OPTION_STATUS = 256,
    OPTION_CHECK,
    OPTION_DRY_RUN,
    OPTION_JSON,
    OPTION_MAX_SIZE,
    OPTION_QUBESDB,
    OPTION_CONTROL,
    OPTION_SERVICE_DIR,
    OPTION_NFT,
};

static const struct option long_options[] = {
    {"status", no_argument, NULL, OPTION_STATUS},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"json", no_argument, NULL, OPTION_JSON},
    {"max-size", required_argument, NULL, OPTION_MAX_SIZE},
    {"qubesdb", required_argument, NULL, OPTION_QUBESDB},
    {"control", required_argument, NULL, OPTION_CONTROL},
    {"service-dir", required_argument, NULL, OPTION_SERVICE_DIR},
    {"nft", required_argument, NULL, OPTION_NFT},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    printf("qubes-routing-manager: serves chosen qubes to the LAN from a net qube.\n"
           "\n"
           "  qubes-routing-manager              run (in the foreground)\n"
           "  qubes-routing-manager --status     what is served, and why the rest is not [--json]\n"
           "  qubes-routing-manager --check      read everything back from the kernel and say what\n"
           "                                     differed; exit status 1 if anything did [--json]\n"
           "  qubes-routing-manager --dry-run    print what a start would change now [--json]\n"
           "\n"
           "  --max-size BYTES    of --status --json: on one line, cut where it would be longer\n"
           "  --qubesdb SOCKET    QubesDB ($QUBESDB_SOCKET, else the usual place)\n"
           "  --control SOCKET    where --status asks (" DEFAULT_CONTROL ")\n"
           "  --service-dir DIR   Qubes services (/run/qubes-service)\n"
           "  --nft PROGRAM       (/usr/sbin/nft)\n"
           "  -v, --verbose       say more    -h, --help    -V, --version\n");
}

static int wrong_use(const char *what)
{
    (void)fprintf(stderr, "qubes-routing-manager: %s; see --help\n", what);
    return -EINVAL;
}

static int set_size(struct options *o, const char *text)
{
    uint32_t size;

    if (str_to_u32(str_from(text), UINT32_MAX, &size) < 0 || size < MIN_SIZE)
        return wrong_use("--max-size wants a number of bytes, 65536 or more");
    o->max_size = size;
    return 0;
}

static int set_verb(struct options *o, enum verb verb)
{
    if (o->verb != VERB_RUN)
        return wrong_use("only one of --status, --check and --dry-run");
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
        return set_verb(o, VERB_DRY_RUN);
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_MAX_SIZE:
        return set_size(o, optarg);
    case OPTION_QUBESDB:
        o->config.qubesdb = optarg;
        return 0;
    case OPTION_CONTROL:
        o->config.control = optarg;
        return 0;
    case OPTION_SERVICE_DIR:
        o->config.service_dir = optarg;
        return 0;
    case OPTION_NFT:
        if (optarg[0] != '/')
            return wrong_use("--nft wants an absolute path");
        o->config.nft_program = optarg;
        return 0;
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
        print_help();
        return 1;
    case 'V':
        printf("qubes-routing-manager %s\n", SLUICE_VERSION);
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
    if (r == 0 && o->max_size > 0 && (o->verb != VERB_STATUS || !o->json))
        r = wrong_use("--max-size goes with --status --json");
    if (r == 0 && o->json && o->verb == VERB_RUN)
        r = wrong_use("--json goes with --status, --check or --dry-run");
    return r;
}

static int run(const struct options *o)
{
    _cleanup_(manager_freep) struct manager *m = NULL;
    int r;

    log_open("qubes-routing-manager", o->verbose ? LOG_DEBUG : LOG_INFO);
    r = manager_new(&o->config, &m);
    if (r >= 0)
        r = manager_run(m);
    if (r < 0)
        log_error("Cannot go on (%s): nothing new is exposed. It needs CAP_NET_ADMIN and "
                  "CAP_NET_RAW, and the folder of %s must exist",
                  strerror(-r), o->config.control);
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .config = {.control = DEFAULT_CONTROL,
                   .service_dir = "/run/qubes-service",
                   .nft_program = "/usr/sbin/nft"},
    };
    int r = parse_options(argc, argv, &o);

    if (r != 0)
        return r < 0 ? 2 : 0;
    (void)signal(SIGPIPE, SIG_IGN);
    switch (o.verb) {
    case VERB_RUN:
        return run(&o);
    case VERB_STATUS:
        return client_status(o.config.control, o.json, o.max_size);
    case VERB_CHECK:
        return client_check(o.config.control, o.json);
    case VERB_DRY_RUN:
        return client_dry_run(&o.config, o.json);
    }
    return 2;
}
