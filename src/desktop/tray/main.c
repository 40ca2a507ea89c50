/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <getopt.h>
#include <glib-unix.h>
#include <gtk/gtk.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "desktop/glib/event.h"
#include "desktop/tray/tray.h"
#include "desktop/words/words.h"

#define SERVICE_SWITCH "/run/qubes-service/qubes-vpn"

struct options {
    const char *socket, *configurator;
};

static void usage(FILE *to)
{
    (void)fprintf(to,
                  _("usage: %s [--bus SOCKET] [--configurator PROGRAM]\n"
                    "Shows the VPN of this qube in the tray of the session.\n"
                    "\n"
                    "  --bus SOCKET            where the supervisor serves, instead of the system bus\n"
                    "  --configurator PROGRAM  started by Configure and Details\n"
                    "  -h, --help              print this\n"
                    "  -V, --version           print the version\n"),
                  "qubes-vpn-tray");
}

/* Returns the exit status of a program that is done, or -1 to go on. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"bus", required_argument, NULL, 'b'},
        {"configurator", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            o->socket = optarg;
            break;
        case 'c':
            o->configurator = optarg;
            break;
        case 'h':
            usage(stdout);
            return EXIT_SUCCESS;
        case 'V':
            (void)printf("qubes-vpn-tray %s\n", SLUICE_VERSION);
            return EXIT_SUCCESS;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind == argc)
        return -1;
    usage(stderr);
    return 2;
}

static gboolean on_end(gpointer data)
{
    (void)data;
    gtk_main_quit();
    return G_SOURCE_REMOVE;
}

static int run(const struct options *o)
{
    sd_event *event = NULL;
    struct tray *tray = NULL;
    GSource *source;
    int r = sd_event_new(&event);

    if (r >= 0)
        r = tray_new(&tray, event, o->socket, o->configurator);
    if (r < 0) {
        (void)fprintf(stderr, "qubes-vpn-tray: %s\n", strerror(-r));
        sd_event_unref(event);
        return EXIT_FAILURE;
    }
    source = glib_event_attach(event);
    (void)g_unix_signal_add(SIGTERM, on_end, NULL);
    (void)g_unix_signal_add(SIGINT, on_end, NULL);
    gtk_main();
    tray = tray_free(tray);
    g_source_destroy(source);
    g_source_unref(source);
    sd_event_unref(event);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct options o = {.configurator = TRAY_CONFIGURATOR};
    int status;

    words_begin(NULL);
    status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    /* Autostart is for every qube of the template; a bus that was named means somebody knows. */
    if (o.socket == NULL && access(SERVICE_SWITCH, F_OK) < 0)
        return EXIT_SUCCESS;
    /* An icon needs no GL, whose library is larger than all else. */
    (void)setenv("GDK_GL", "disable", 0);
    (void)setenv("GDK_BACKEND", "x11", 0);
    g_set_prgname("qubes-vpn-tray");
    if (!gtk_init_check(NULL, NULL)) {
        (void)fprintf(stderr, _("qubes-vpn-tray: there is no display\n"));
        return EXIT_FAILURE;
    }
    return run(&o);
}
