/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "qubesdb/server.h"

static const char usage_text[] =
    "Usage: qubesdb-server SOCKET [--ro-socket PATH] [--mode OCTAL]\n"
    "A QubesDB without Xen, in the foreground; SIGTERM ends it.\n"
    "  --ro-socket PATH  listen there too, for clients that only read\n"
    "  --mode OCTAL      mode of SOCKET (0666)\n"
    "  --help, --version\n";

static int parse_mode(const char *text, mode_t *ret)
{
    char *end;
    unsigned long v;

    errno = 0;
    v = strtoul(text, &end, 8);
    if (errno || end == text || *end || text[0] == '-' || v == 0 || v > 0777)
        return -EINVAL;
    *ret = (mode_t)v;
    return 0;
}

/* 0: go on; 1: done; 2: wrong usage. */
static int parse_options(int argc, char **argv, struct qdb_server_config *config)
{
    static const struct option options[] = {
        {"ro-socket", required_argument, NULL, 'r'}, {"mode", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},            {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int o;

    while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (o) {
        case 'r':
            config->ro_socket = optarg;
            break;
        case 'm':
            if (parse_mode(optarg, &config->mode) < 0) {
                fprintf(stderr, "qubesdb-server: not a mode: %s\n", optarg);
                return 2;
            }
            break;
        case 'h':
            fputs(usage_text, stdout);
            return 1;
        case 'V':
            puts("qubesdb-server " SLUICE_VERSION);
            return 1;
        default:
            return 2;
        }
    }
    if (argc - optind != 1) {
        fputs(usage_text, stderr);
        return 2;
    }
    config->socket = argv[optind];
    return 0;
}

static void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* without it there is room for fewer clients */
}

static int run(const struct qdb_server_config *config)
{
    _cleanup_(sd_event_unrefp) sd_event *event = NULL;
    _cleanup_(qdb_server_freep) struct qdb_server *server = NULL;
    sigset_t signals;
    int r = sd_event_new(&event);

    if (r < 0)
        return r;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return -errno;
    /* Without a handler of ours, sd-event ends the loop on the signal. */
    r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = qdb_server_new(event, config, &server);
    if (r < 0)
        return r;
    (void)sd_notify(0, "READY=1");
    return sd_event_loop(event);
}

int main(int argc, char **argv)
{
    struct qdb_server_config config = {0};
    int r = parse_options(argc, argv, &config);

    if (r > 0)
        return r == 1 ? 0 : r;
    raise_fd_limit();
    r = run(&config);
    if (r < 0) {
        fprintf(stderr, "qubesdb-server: %s: %s\n", config.socket, strerror(-r));
        return 1;
    }
    return 0;
}
