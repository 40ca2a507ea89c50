/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-vpnd: keeps the tunnel of a VPN qube. Runs in the foreground; systemd and a system bus are
 * welcome, not needed.
 */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "vpn/daemon/bus.h"
#include "vpn/daemon/manager.h"
#include "vpn/wish/wish.h"

#define PROGRAM "qubes-vpnd"

enum {
    OPTION_FOLDER = 256,
    OPTION_RUNTIME,
    OPTION_SEAL,
    OPTION_BUS,
    OPTION_CLIENT_USER,
    OPTION_OPENVPN,
    OPTION_WIREGUARD_GO,
    OPTION_QUBESDB,
    OPTION_RESOLV_CONF,
    OPTION_SERVICE_DIR,
    OPTION_PROXY_USER,
    OPTION_END,
};

static const struct option long_options[] = {
    {"folder", required_argument, NULL, OPTION_FOLDER},
    {"runtime", required_argument, NULL, OPTION_RUNTIME},
    {"seal", required_argument, NULL, OPTION_SEAL},
    {"bus", required_argument, NULL, OPTION_BUS},
    {"client-user", required_argument, NULL, OPTION_CLIENT_USER},
    {"openvpn", required_argument, NULL, OPTION_OPENVPN},
    {"wireguard-go", required_argument, NULL, OPTION_WIREGUARD_GO},
    {"qubesdb", required_argument, NULL, OPTION_QUBESDB},
    {"resolv-conf", required_argument, NULL, OPTION_RESOLV_CONF},
    {"service-dir", required_argument, NULL, OPTION_SERVICE_DIR},
    {"proxy-user", required_argument, NULL, OPTION_PROXY_USER},
    {"end", no_argument, NULL, OPTION_END},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

struct options {
    struct manager_config config;
    const char *bus, *client_user;
    bool verbose, end;
};

struct daemon {
    const struct options *options;
    sd_event *loop;
    struct manager *manager;
    struct bus *bus;
    sd_event_source *runtime_source;
    bool handover;
};

static void print_help(void)
{
    printf(PROGRAM
           ": keeps the tunnel of a VPN qube.\n"
           "\n"
           "  " PROGRAM "          run (in the foreground)\n"
           "  " PROGRAM " --end    end a client that was left behind; for ExecStopPost=\n"
           "\n"
           "  --folder DIR            profiles (/rw/config/qubes-vpn)\n"
           "  --runtime DIR           (/run/qubes-vpn)\n"
           "  --seal SOCKET           of qubes-vpn-forwarding (" SEAL_SOCKET_DEFAULT ")\n"
           "  --bus SOCKET            serve D-Bus on this socket instead of the system bus\n"
           "  --client-user USER      name or number (qubes-vpn)\n"
           "  --openvpn PROGRAM, --wireguard-go PROGRAM\n"
           "  --qubesdb SOCKET        ($QUBESDB_SOCKET, else the usual place)\n"
           "  --resolv-conf FILE      where QubesDB names no server (/etc/resolv.conf)\n"
           "  --service-dir DIR       Qubes services (/run/qubes-service)\n"
           "  --proxy-user USER       of the updates proxy (tinyproxy)\n"
           "  -v, --verbose           say more    -h, --help    -V, --version\n");
}

static int wrong_use(const char *what)
{
    (void)fprintf(stderr, PROGRAM ": %s; see --help\n", what);
    return -EINVAL;
}

static int take_path(const char **ret)
{
    if (optarg[0] != '/')
        return wrong_use("a program, folder or socket wants an absolute path");
    *ret = optarg;
    return 0;
}

/* 0, 1: nothing left to do, -EINVAL: said. */
static int take_option(struct options *o, int option)
{
    switch (option) {
    case OPTION_FOLDER:
        return take_path(&o->config.folder);
    case OPTION_RUNTIME:
        return take_path(&o->config.runtime);
    case OPTION_SEAL:
        return take_path(&o->config.seal);
    case OPTION_BUS:
        return take_path(&o->bus);
    case OPTION_CLIENT_USER:
        o->client_user = optarg;
        return 0;
    case OPTION_OPENVPN:
        return take_path(&o->config.openvpn);
    case OPTION_WIREGUARD_GO:
        return take_path(&o->config.wireguard_go);
    case OPTION_QUBESDB:
        return take_path(&o->config.qubesdb);
    case OPTION_RESOLV_CONF:
        return take_path(&o->config.resolv_conf);
    case OPTION_SERVICE_DIR:
        return take_path(&o->config.services);
    case OPTION_PROXY_USER:
        o->config.proxy_user = optarg;
        return 0;
    case OPTION_END:
        o->end = true;
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
    return r;
}

/* A name, or a number that need not have one. The client must not be root. */
static int find_client_user(struct options *o)
{
    const struct passwd *account = getpwnam(o->client_user);
    uint32_t number = 0;

    if (account != NULL) {
        o->config.client_uid = account->pw_uid;
        o->config.client_gid = account->pw_gid;
    } else if (str_to_u32(str_from(o->client_user), UINT32_MAX - 1, &number) == 0) {
        o->config.client_uid = (uid_t)number;
        o->config.client_gid = (gid_t)number;
    } else {
        return wrong_use("the client's user does not exist");
    }
    return o->config.client_uid == 0 ? wrong_use("the client must not run as root") : 0;
}

/* ---- debug ---- */

static void set_log_level(const struct options *o)
{
    char path[4096];
    bool debug;

    (void)snprintf(path, sizeof(path), "%s/debug", o->config.runtime);
    debug = o->verbose || access(path, F_OK) == 0;
    log_open(PROGRAM, debug ? LOG_DEBUG : LOG_INFO);
}

static int on_runtime(sd_event_source *s, const struct inotify_event *event, void *user)
{
    const struct daemon *d = user;

    (void)s;
    if (event->len == 0 || strcmp(event->name, "debug") == 0)
        set_log_level(d->options);
    return 0;
}

/* ---- signals ---- */

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    struct daemon *d = user;

    (void)s;
    if (si->ssi_signo == SIGHUP) {
        manager_reload(d->manager);
    } else if (si->ssi_signo == SIGUSR1) { /* RestartKillSignal: a successor takes over */
        d->handover = true;
        return sd_event_exit(d->loop, 0);
    } else {
        (void)sd_notify(0, "STOPPING=1");
        manager_stop(d->manager);
    }
    return 0;
}

static int add_sources(struct daemon *d)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    sigset_t set;
    int r = 0;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        (void)sigaddset(&set, signals[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    for (size_t i = 0; i < ARRAY_SIZE(signals) && r >= 0; i++)
        r = sd_event_add_signal(d->loop, NULL, signals[i], on_signal, d);
    if (r >= 0)
        r = sd_event_add_inotify(d->loop, &d->runtime_source, d->options->config.runtime,
                                 IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM, on_runtime,
                                 d);
    return r;
}

/* ---- run ---- */

static void on_changed(void *user)
{
    const struct daemon *d = user;

    if (d->bus != NULL)
        bus_changed(d->bus);
}

static void on_event(enum vpn_event event, const char *text, void *user)
{
    const struct daemon *d = user;

    if (d->bus != NULL)
        bus_event(d->bus, event, text);
}

static void on_test_result(bool sealed, const char *json, void *user)
{
    const struct daemon *d = user;

    if (d->bus != NULL)
        bus_test_result(d->bus, sealed, json);
}

static int start(struct daemon *d)
{
    const struct manager_listener listener = {on_changed, on_event, on_test_result, d};
    int r = sd_event_new(&d->loop);

    if (r >= 0)
        r = add_sources(d);
    if (r >= 0)
        r = manager_new(d->loop, &d->options->config, &d->manager);
    if (r < 0)
        return r;
    r = bus_new(d->loop, d->manager, d->options->bus, &d->bus);
    if (r < 0) /* the tunnel matters more than who may look at it */
        log_error("The D-Bus object cannot be served (%s): qubes-vpn will not work", strerror(-r));
    manager_listen(d->manager, &listener);
    return manager_begin(d->manager);
}

static int run(const struct options *o)
{
    struct daemon d = {.options = o};
    int r;

    set_log_level(o);
    if (mkdir(o->config.runtime, 0755) < 0 && errno != EEXIST) {
        log_error("%s cannot be made (%s)", o->config.runtime, strerror(errno));
        return 1;
    }
    r = start(&d);
    if (r >= 0)
        r = sd_event_loop(d.loop);
    if (r < 0)
        log_error("Cannot go on (%s): the qube stays sealed. It needs CAP_NET_ADMIN, CAP_SETUID, "
                  "CAP_SETGID and CAP_KILL",
                  strerror(-r));
    d.bus = bus_free(d.bus);
    d.manager = manager_free(d.manager, d.handover || r < 0);
    d.runtime_source = sd_event_source_disable_unref(d.runtime_source);
    d.loop = sd_event_unref(d.loop);
    return r < 0 ? 1 : r;
}

/*
 * After the service has ended, from systemd: a supervisor that ended in order has ended its client
 * itself; one that hung at the end has not. One that crashed left it to the successor, and so did
 * one that was told to (see systemd.exec, $SERVICE_RESULT).
 */
static int end_left_behind(const struct options *o)
{
    const char *result = getenv("SERVICE_RESULT");
    int r;

    if (result != NULL && strcmp(result, "timeout") != 0)
        return 0;
    log_open(PROGRAM, LOG_INFO);
    r = client_sweep(o->config.runtime, o->config.client_uid);
    if (r < 0)
        log_error("A client that was left behind cannot be ended (%s)", strerror(-r));
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .config = {.folder = "/rw/config/qubes-vpn",
                   .runtime = "/run/qubes-vpn",
                   .seal = SEAL_SOCKET_DEFAULT,
                   .services = "/run/qubes-service",
                   .resolv_conf = "/etc/resolv.conf",
                   .proxy_user = "tinyproxy"},
        .client_user = "qubes-vpn",
    };
    int r = parse_options(argc, argv, &o);

    if (r == 0)
        r = find_client_user(&o);
    if (r != 0)
        return r < 0 ? 2 : 0;
    (void)signal(SIGPIPE, SIG_IGN);
    return o.end ? end_left_behind(&o) : run(&o);
}
