/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-vpn-notifier: tells the session of a VPN qube what becomes of its VPN. Links no toolkit.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "desktop/notifier/popup.h"
#include "desktop/words/words.h"
#include "vpn/object/follow.h"

/* The platform makes this file where dom0 has switched the service on. */
#define SERVICE "/run/qubes-service/qubes-vpn"

enum { OPTION_BUS = 256 };

struct notifier {
    sd_event *event;
    sd_event_source *later;
    struct vpn_follow *follow;
    struct popup *popup;
    struct plan plan;
};

static void notifier_done(struct notifier *n)
{
    n->follow = vpn_follow_free(n->follow);
    n->popup = popup_free(n->popup);
    n->later = sd_event_source_disable_unref(n->later);
    n->event = sd_event_unref(n->event);
}

static void tell(struct notifier *n)
{
    struct notice notice;
    uint64_t next;

    if (plan_due(&n->plan, clock_now_us(), &notice, &next)) {
        log_info("%s", notice.title);
        popup_show(n->popup, &notice);
    }
    if (next == PLAN_NEVER) {
        (void)sd_event_source_set_enabled(n->later, SD_EVENT_OFF);
        return;
    }
    (void)sd_event_source_set_time(n->later, next);
    (void)sd_event_source_set_enabled(n->later, SD_EVENT_ONESHOT);
}

static void on_changed(void *data, const json_t *status)
{
    struct notifier *n = data;

    plan_status(&n->plan, status, clock_now_us());
    tell(n);
}

static int on_later(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    tell(user);
    return 0;
}

static int run(const char *socket)
{
    static const struct vpn_follow_ops ops = {.changed = on_changed};
    _cleanup_(notifier_done) struct notifier n = {0};
    sigset_t signals;
    int r = sd_event_new(&n.event);

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    if (r >= 0)
        r = sd_event_add_signal(n.event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(n.event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_time(n.event, &n.later, CLOCK_MONOTONIC, 0, 100000, on_later, &n);
    if (r >= 0)
        r = sd_event_source_set_enabled(n.later, SD_EVENT_OFF);
    if (r >= 0)
        r = popup_new(&n.popup, n.event);
    if (r >= 0)
        r = vpn_follow_new(&n.follow, n.event, socket, &ops, &n);
    return r < 0 ? r : sd_event_loop(n.event);
}

static void print_help(void)
{
    printf(
        _("qubes-vpn-notifier: tells a session what becomes of the VPN of this qube.\n"
          "\n"
          "  --bus SOCKET     the supervisor's own socket instead of the system bus\n"
          "  -v, --verbose    say what is told\n"
          "  -h, --help       -V, --version\n"
          "\n"
          "Ends at once, with status 0, where the service qubes-vpn is not switched on for this\n"
          "qube, and where another notifier has this session.\n"));
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"bus", required_argument, NULL, OPTION_BUS},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    const char *socket = NULL;
    int option, r, level = LOG_NOTICE;

    words_begin(NULL);
    while ((option = getopt_long(argc, argv, "hvV", options, NULL)) != -1) {
        switch (option) {
        case OPTION_BUS:
            socket = optarg;
            break;
        case 'v':
            level = LOG_INFO;
            break;
        case 'h':
            print_help();
            return 0;
        case 'V':
            printf("qubes-vpn-notifier %s\n", SLUICE_VERSION);
            return 0;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "qubes-vpn-notifier: no arguments; see --help\n");
        return 2;
    }
    log_open("qubes-vpn-notifier", level);
    if (access(SERVICE, F_OK) < 0) {
        log_info("The service qubes-vpn is not switched on for this qube");
        return 0;
    }
    r = run(socket);
    if (r < 0)
        log_error("%s", strerror(-r));
    return r < 0 ? 1 : 0;
}
