/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qvm-expose: makes qubes reachable from the LAN, and tells why one is or is not. In dom0.
 */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/say.h"
#include "dom0/expose/show.h"

static void print_help(void)
{
    printf(
        "qvm-expose: makes qubes reachable from the LAN, and tells why one is or is not.\n"
        "\n"
        "  qvm-expose QUBE                  what is exposed of it; changes nothing\n"
        "  qvm-expose QUBE OPTION...        expose it, or change how it is exposed\n"
        "    --allow RULE     open under its own address: tcp/22,443, 'udp/53 from 192.168.1.0/24',\n"
        "                     icmp, any (every port); more than once; none: not any more\n"
        "    --publish MAP    a port of the net qube leads to it: tcp/8443:443; none: no port\n"
        "    --ip ADDRESS     give it this address (IPv4, IPv6 or both)\n"
        "    --for TIME       90s, 30m, 2h, 1d12h, 2w\n"
        "    --until TIME     18:00, '2026-12-31 18:00', 2026-12-31T18:00:00Z, never\n"
        "    --limit N        new connections a second from each source; none\n"
        "    --log, --keep    log new peers; let connections go on after the end (--no-log, --no-keep)\n"
        "    --dry-run        only say what would be done\n"
        "    --yes, --no      the answer to every question\n"
        "  qvm-expose QUBE --off            nothing of it is exposed any more\n"
        "  qvm-expose --list                all that are exposed, or asked to be\n"
        "  qvm-expose --explain QUBE [--from HOST --port PORT[/udp]]\n"
        "                                   each hop on the way, and the first reason why not\n"
        "  qvm-expose --check               everything; exit status 3 if something is not as wished\n"
        "  qvm-expose --map [--svg FILE]    the network tree with what is exposed\n"
        "\n"
        "  --json                   for QUBE alone, --list, --explain, --check\n"
        "  --status-command PROGRAM asks a net qube: PROGRAM QUBE (default: qrexec-client)\n"
        "  --qubesd SOCKET          ($QUBESD_SOCKET, /var/run/qubesd.sock)\n"
        "  --qubesdb DIRECTORY      of qubesdb.QUBE.sock ($QUBESDB_DIRECTORY, /var/run/qubes)\n"
        "  -h, --help               -V, --version\n"
        "\n"
        "Exit status: 0 done, or nothing stands in the way; 1 failed; 2 wrong use; 3 something\n"
        "stands in the way; 4 refused, nothing was changed.\n");
}

static int run(const struct options *o)
{
    switch (o->verb) {
    case VERB_CHANGE:
        return expose_change(o);
    case VERB_SHOW:
        return expose_show(o);
    case VERB_LIST:
        return expose_list(o);
    case VERB_EXPLAIN:
        return expose_explain(o);
    case VERB_CHECK:
        return expose_check(o);
    case VERB_MAP:
        return expose_map(o);
    case VERB_HELP:
        print_help();
        return EXPOSE_OK;
    case VERB_VERSION:
        printf("qvm-expose %s\n", SLUICE_VERSION);
        return EXPOSE_OK;
    }
    return EXPOSE_FAILED;
}

int main(int argc, char **argv)
{
    _cleanup_(options_done) struct options o = {0};
    char why[OPTIONS_WHY_MAX];
    int r;

    (void)setlocale(LC_CTYPE, "");
    (void)signal(SIGPIPE, SIG_IGN);
    r = options_parse(argc, argv, (int64_t)time(NULL), &o, why);
    if (r < 0) {
        say_failed("See: qvm-expose --help", "%s", r == -EINVAL ? why : strerror(-r));
        return r == -EINVAL ? EXPOSE_USAGE : EXPOSE_FAILED;
    }
    r = run(&o);
    if (fflush(stdout) != 0 && r == EXPOSE_OK) {
        say_failed(NULL, "the answer cannot be written: %s", strerror(errno));
        r = EXPOSE_FAILED;
    }
    return r;
}
