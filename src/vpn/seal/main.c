/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "vpn/seal/owner.h"
#include "vpn/seal/switches.h"
#include "vpn/seal/verbs.h"

enum verb { VERB_NONE, VERB_ON, VERB_BLACKHOLE, VERB_CHECK, VERB_RUN };

struct options {
    enum verb verb;
    bool json, verbose;
    const char *user, *supervisor;
    struct owner_config config;
};

enum {
    OPTION_JSON = 256,
    OPTION_USER,
    OPTION_SUPERVISOR,
    OPTION_SOCKET,
    OPTION_NFT,
    OPTION_LAYERS
};

static const struct option long_options[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"user", required_argument, NULL, OPTION_USER},
    {"supervisor-user", required_argument, NULL, OPTION_SUPERVISOR},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"nft", required_argument, NULL, OPTION_NFT},
    {"layers", required_argument, NULL, OPTION_LAYERS},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void print_help(void)
{
    puts("qubes-vpn-forwarding VERB [OPTION...]\n"
         "The seal of a VPN qube: nothing leaves by an uplink but the VPN's own connection.\n\n"
         "  on          seal whatever is not; keep an open tunnel\n"
         "  blackhole   seal, and close the tunnel\n"
         "  check       say what is in place and what is missing (--json); status 0: sealed\n"
         "  run         stay, hold the seal and put back what is taken (the service)\n\n"
         "  --user USER             runs the VPN client (default qubes-vpn; name or number)\n"
         "  --supervisor-user USER  may ask the running owner (default qubes-vpnd)\n"
         "  --socket PATH           of the owner (default " SEAL_SOCKET_DEFAULT ")\n"
         "  --nft PROGRAM           absolute path (default /usr/sbin/nft)\n"
         "  --layers RNG            for tests: only these layers; never counts as sealed\n"
         "  -v, --verbose   -h, --help   -V, --version\n\n"
         "Nothing here opens: there is no \"off\". See qubes-vpn-forwarding(8).");
}

static int wrong_use(const char *why)
{
    fprintf(stderr, "qubes-vpn-forwarding: %s. See --help\n", why);
    return -EINVAL;
}

static int parse_layers(const char *text, unsigned *ret)
{
    *ret = 0;
    for (; *text != '\0'; text++) {
        if (*text == 'R')
            *ret |= LAYER_ROUTES;
        else if (*text == 'N')
            *ret |= LAYER_INET;
        else if (*text == 'G')
            *ret |= LAYER_EGRESS;
        else
            return wrong_use("--layers wants letters of RNG");
    }
    return 0;
}

static int take_option(struct options *o, int option)
{
    switch (option) {
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_USER:
        o->user = optarg;
        return 0;
    case OPTION_SUPERVISOR:
        o->supervisor = optarg;
        return 0;
    case OPTION_SOCKET:
        o->config.socket = optarg;
        return 0;
    case OPTION_NFT:
        if (optarg[0] != '/')
            return wrong_use("--nft wants an absolute path");
        o->config.nft_program = optarg;
        return 0;
    case OPTION_LAYERS:
        return parse_layers(optarg, &o->config.seal.layers);
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
        print_help();
        return 1;
    case 'V':
        printf("qubes-vpn-forwarding %s\n", SLUICE_VERSION);
        return 1;
    default:
        return wrong_use("unknown option");
    }
}

static int parse_verb(int argc, char **argv, struct options *o)
{
    static const char *const names[] = {[VERB_ON] = "on",
                                        [VERB_BLACKHOLE] = "blackhole",
                                        [VERB_CHECK] = "check",
                                        [VERB_RUN] = "run"};

    if (optind != argc - 1)
        return wrong_use("one verb is wanted: on, blackhole, check or run");
    for (size_t i = VERB_ON; i < ARRAY_SIZE(names); i++)
        if (strcmp(argv[optind], names[i]) == 0)
            o->verb = (enum verb)i;
    if (o->verb == VERB_NONE)
        return wrong_use(strcmp(argv[optind], "off") == 0
                             ? "there is no \"off\": the seal stays until the qube is shut down"
                             : "unknown verb");
    if (o->json && o->verb != VERB_CHECK)
        return wrong_use("--json goes with check");
    return 0;
}

/* The client must have a user of its own: as root it would be everybody. */
static int find_user(const char *name, bool root_too, uint32_t *ret)
{
    const struct passwd *pw;
    uint32_t number;

    if (str_to_u32(str_from(name), UINT32_MAX - 1, &number) < 0) {
        pw = getpwnam(name);
        if (pw == NULL)
            return -ENOENT;
        number = pw->pw_uid;
    }
    if (number == 0 && !root_too)
        return -EINVAL;
    *ret = number;
    return 0;
}

static int find_users(struct options *o)
{
    int r = find_user(o->user, false, &o->config.seal.uid);

    if (r < 0) {
        log_error(
            "There is no user \"%s\" to run the VPN client (it must not be root): nothing was "
            "armed%s%s",
            o->user, o->verb == VERB_CHECK ? "" : "; forwarding ",
            o->verb == VERB_CHECK ? "" : switches_close_forwarding());
        return r;
    }
    /* without a supervisor's user root alone may ask */
    if (find_user(o->supervisor, true, &o->config.supervisor) < 0)
        o->config.supervisor = 0;
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .user = "qubes-vpn",
        .supervisor = "qubes-vpnd",
        .config = {.seal = {.layers = LAYERS_ALL},
                   .nft_program = "/usr/sbin/nft",
                   .socket = SEAL_SOCKET_DEFAULT},
    };
    int option, r = 0;

    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, "vhV", long_options, NULL)) != -1)
        r = take_option(&o, option);
    if (r == 0)
        r = parse_verb(argc, argv, &o);
    if (r != 0)
        return r < 0 ? 2 : 0;
    log_open("qubes-vpn-forwarding", o.verbose ? LOG_DEBUG : LOG_INFO);
    if (find_users(&o) < 0)
        return 1;
    (void)signal(SIGPIPE, SIG_IGN);
    switch (o.verb) {
    case VERB_ON:
    case VERB_BLACKHOLE:
        return verb_arm(&o.config, o.verb == VERB_BLACKHOLE);
    case VERB_CHECK:
        return verb_check(&o.config, o.json);
    case VERB_RUN:
        return owner_run(&o.config);
    case VERB_NONE:
        break;
    }
    return 2;
}
