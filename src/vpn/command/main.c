/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qubes-vpn: the VPN of this qube as its user sees it.
 */
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/wish/wish.h"

#define WORDS_ANY 256

static const struct verb {
    const char *name;
    int least, most; /* words behind it */
    int (*run)(const struct command_options *o);
    const char *words, *help;
} verbs[] = {
    {"status", 0, 0, command_status, "[--watch]", "what is; --watch: and what becomes of it"},
    {"up", 0, 0, command_up, "", "connect, and stay connected"},
    {"down", 0, 0, command_down, "", "disconnect; the qubes behind stay cut off"},
    {"use", 1, 1, command_use, "PROFILE", "choose a profile"},
    {"list", 0, 0, command_list, "", "the profiles, and what is wrong with them"},
    {"import", 1, 1, command_import, "FILE [--name N]", "take in a provider's file"},
    {"rename", 2, 2, command_rename, "PROFILE NAME", "rename a profile"},
    {"delete", 1, 1, command_delete, "PROFILE", "delete a profile, its files and secrets"},
    {"order", 0, WORDS_ANY, command_order, "[--random] [PROFILE...]",
     "profiles to try one after the other; none: only the chosen one"},
    {"set-secret", 1, 1, command_set_secret, "PROFILE [--kind K]",
     "user-password (default), key-password or challenge"},
    {"test", 0, 0, command_test, "", "try to leak, and say what came of it (root)"},
    {"explain", 2, 2, command_explain, "QUBE HOST[:PORT]",
     "where a packet of the qube with that address would go"},
};

enum {
    OPTION_BUS = 256,
    OPTION_SEAL,
    OPTION_JSON,
    OPTION_NAME,
    OPTION_KIND,
    OPTION_RANDOM,
    OPTION_WATCH,
};

static const struct option long_options[] = {
    {"bus", required_argument, NULL, OPTION_BUS},
    {"seal", required_argument, NULL, OPTION_SEAL},
    {"json", no_argument, NULL, OPTION_JSON},
    {"name", required_argument, NULL, OPTION_NAME},
    {"kind", required_argument, NULL, OPTION_KIND},
    {"random", no_argument, NULL, OPTION_RANDOM},
    {"watch", no_argument, NULL, OPTION_WATCH},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    printf("qubes-vpn: the VPN of this qube.\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        char left[64];

        (void)snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].words);
        printf("  qubes-vpn %-35s %s\n", left, verbs[i].help);
    }
    printf("\n"
           "  --json           answer in JSON (status, list, import, test, explain)\n"
           "  --bus SOCKET     the supervisor's own socket instead of the system bus\n"
           "  --seal SOCKET    where the seal's owner answers (" SEAL_SOCKET_DEFAULT ")\n"
           "  -h, --help       -V, --version\n"
           "\n"
           "Exit status: 0 done (status: up); 1 failed; 2 wrong use; 3 not connected, but sealed;\n"
           "4 NOT SEALED.\n");
}

static int wrong_use(const char *what)
{
    say_failed(NULL, NULL, "%s; see --help", what);
    return -1;
}

/* 0, 1: nothing left to do, -1: said. */
static int take_option(struct command_options *o, int option)
{
    switch (option) {
    case OPTION_BUS:
        o->bus = optarg;
        return 0;
    case OPTION_SEAL:
        o->seal = optarg;
        return 0;
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_NAME:
        o->name = optarg;
        return 0;
    case OPTION_KIND:
        o->kind = optarg;
        return 0;
    case OPTION_RANDOM:
        o->random = true;
        return 0;
    case OPTION_WATCH:
        o->watch = true;
        return 0;
    case 'h':
        print_help();
        return 1;
    case 'V':
        printf("qubes-vpn %s\n", SLUICE_VERSION);
        return 1;
    default:
        return wrong_use("unknown option, or one without its value");
    }
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct command_options o = {.seal = SEAL_SOCKET_DEFAULT};
    const struct verb *verb;
    int option, r = 0;

    (void)setlocale(LC_CTYPE, "");
    (void)signal(SIGPIPE, SIG_IGN);
    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, "hV", long_options, NULL)) != -1)
        r = take_option(&o, option);
    if (r != 0)
        return r < 0 ? COMMAND_USAGE : COMMAND_OK;
    if (optind == argc) {
        print_help();
        return COMMAND_USAGE;
    }
    verb = find_verb(argv[optind]);
    if (verb == NULL) {
        (void)wrong_use("there is no such verb");
        return COMMAND_USAGE;
    }
    o.words = argv + optind + 1;
    o.n_words = argc - optind - 1;
    if (o.n_words < verb->least || o.n_words > verb->most) {
        say_failed(NULL, NULL, "usage: qubes-vpn %s %s", verb->name, verb->words);
        return COMMAND_USAGE;
    }
    return verb->run(&o);
}
