/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qubes-vpn-configurator: the window of the VPN, or the same steps without one. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "desktop/configurator/application.h"
#include "desktop/configurator/terminal.h"
#include "desktop/words/words.h"

enum option_code { OPT_BUS = 256, OPT_PAGE, OPT_TERMINAL, OPT_EDIT };

struct options {
    const char *socket, *page, *edit;
    char **files;
    bool terminal;
};

static int usage(FILE *out)
{
    (void)fputs(
        _("Usage: qubes-vpn-configurator [OPTION]... [FILE]...\n"
          "Sets the VPN of this qube up, and shows what it does. FILE: of your provider.\n\n"
          "  --page NAME     begin with a page: state, profiles, add, test, guide\n"
          "  --terminal      the same steps in a terminal\n"
          "  --edit PROFILE  change a profile in your editor\n"
          "  --bus SOCKET    the supervisor's own socket instead of the system bus\n"
          "  -h, --help, -V, --version\n"),
        out);
    return out == stderr ? 2 : 0;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *ret)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"bus", required_argument, NULL, OPT_BUS},
        {"page", required_argument, NULL, OPT_PAGE},
        {"terminal", no_argument, NULL, OPT_TERMINAL},
        {"edit", required_argument, NULL, OPT_EDIT},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "hV", options, NULL)) >= 0) {
        if (c == 'h')
            return usage(stdout);
        if (c == 'V')
            return puts("qubes-vpn-configurator " SLUICE_VERSION) < 0;
        if (c == OPT_BUS)
            ret->socket = optarg;
        else if (c == OPT_PAGE && application_has_page(optarg))
            ret->page = optarg;
        else if (c == OPT_TERMINAL)
            ret->terminal = true;
        else if (c == OPT_EDIT)
            ret->edit = optarg;
        else
            return usage(stderr);
    }
    ret->files = argv + optind;
    if ((ret->terminal && ret->edit != NULL) ||
        (ret->files[0] != NULL && (ret->terminal || ret->edit != NULL)))
        return usage(stderr);
    return -1;
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0};
    struct options o = {.socket = NULL};
    int r;

    (void)setrlimit(RLIMIT_CORE, &no_core); /* keys and passwords are in memory */
    words_begin(NULL);
    r = read_options(argc, argv, &o);
    if (r >= 0)
        return r;
    if (o.edit != NULL)
        return terminal_edit(o.socket, o.edit);
    if (o.terminal)
        return terminal_run(o.socket);
    return application_run(o.socket, o.page, o.files);
}
