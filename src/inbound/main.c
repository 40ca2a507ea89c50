/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-inbound: opens an exposed qube's own firewall at the exposed ports. Runs in the foreground;
 * systemd is welcome, not needed.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "inbound/manager.h"
#include "inbound/status.h"

struct options {
    bool status, dry_run, json, verbose;
    struct manager_config config;
};

enum { /* long options without a letter */
    OPTION_STATUS = 256,
    OPTION_DRY_RUN,
    OPTION_JSON,
    OPTION_QUBESDB,
    OPTION_NFT,
};

static const struct option long_options[] = {
    {"status", no_argument, NULL, OPTION_STATUS},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"json", no_argument, NULL, OPTION_JSON},
    {"qubesdb", required_argument, NULL, OPTION_QUBESDB},
    {"nft", required_argument, NULL, OPTION_NFT},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    printf("qubes-inbound: opens this qube's own firewall at the ports that dom0 exposes.\n"
           "\n"
           "  qubes-inbound              run (in the foreground)\n"
           "  qubes-inbound --status     what is to be open, and whether the kernel has it; exit\n"
           "                             status 1 if anything differs or is refused [--json]\n"
           "  qubes-inbound --dry-run    print what a start would change now [--json]\n"
           "\n"
           "  --qubesdb SOCKET    QubesDB ($QUBESDB_SOCKET, else the usual place)\n"
           "  --nft PROGRAM       (/usr/sbin/nft)\n"
           "  -v, --verbose       say more    -h, --help    -V, --version\n");
}

static int wrong_use(const char *what)
{
    (void)fprintf(stderr, "qubes-inbound: %s; see --help\n", what);
    return -EINVAL;
}

/* 0, 1: nothing left to do, -EINVAL: said. */
static int take_option(struct options *o, int option)
{
    switch (option) {
    case OPTION_STATUS:
        o->status = true;
        return 0;
    case OPTION_DRY_RUN:
        o->dry_run = true;
        return 0;
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_QUBESDB:
        o->config.qubesdb = optarg;
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
        printf("qubes-inbound %s\n", SLUICE_VERSION);
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
    if (r == 0 && o->status && o->dry_run)
        r = wrong_use("only one of --status and --dry-run");
    if (r == 0 && o->json && !o->status && !o->dry_run)
        r = wrong_use("--json goes with --status or --dry-run");
    return r;
}

static int run(const struct options *o)
{
    _cleanup_(manager_freep) struct manager *m = NULL;
    int r;

    log_open("qubes-inbound", o->verbose ? LOG_DEBUG : LOG_INFO);
    r = manager_new(&o->config, &m);
    if (r >= 0)
        r = manager_run(m);
    if (r < 0)
        log_error("Cannot go on (%s). It needs CAP_NET_ADMIN", strerror(-r));
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.config = {.nft_program = "/usr/sbin/nft"}};
    int r = parse_options(argc, argv, &o);

    if (r != 0)
        return r < 0 ? 2 : 0;
    (void)signal(SIGPIPE, SIG_IGN);
    if (o.status || o.dry_run)
        return status_print(o.config.qubesdb, o.dry_run, o.json);
    return run(&o);
}
