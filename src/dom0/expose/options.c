/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/options.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/when.h"
#include "dom0/tree/tree.h"
#include "exposure/allow.h"

#define LIMIT_MAX 1000000 /* as the record has it */
#define SHOWN_MAX 160     /* of an argument, in a message */

enum {
    OPTION_IP = 256,
    OPTION_ALLOW,
    OPTION_PUBLISH,
    OPTION_LIMIT,
    OPTION_LOG,
    OPTION_NO_LOG,
    OPTION_KEEP,
    OPTION_NO_KEEP,
    OPTION_FOR,
    OPTION_UNTIL,
    OPTION_OFF,
    OPTION_DRY_RUN,
    OPTION_YES,
    OPTION_NO,
    OPTION_LIST,
    OPTION_EXPLAIN,
    OPTION_FROM,
    OPTION_PORT,
    OPTION_CHECK,
    OPTION_MAP,
    OPTION_SVG,
    OPTION_JSON,
    OPTION_STATUS_COMMAND,
    OPTION_QUBESD,
    OPTION_QUBESDB,
};

static const struct option long_options[] = {
    {"ip", required_argument, NULL, OPTION_IP},
    {"allow", required_argument, NULL, OPTION_ALLOW},
    {"publish", required_argument, NULL, OPTION_PUBLISH},
    {"limit", required_argument, NULL, OPTION_LIMIT},
    {"log", no_argument, NULL, OPTION_LOG},
    {"no-log", no_argument, NULL, OPTION_NO_LOG},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"no-keep", no_argument, NULL, OPTION_NO_KEEP},
    {"for", required_argument, NULL, OPTION_FOR},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"off", no_argument, NULL, OPTION_OFF},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"yes", no_argument, NULL, OPTION_YES},
    {"no", no_argument, NULL, OPTION_NO},
    {"list", no_argument, NULL, OPTION_LIST},
    {"explain", no_argument, NULL, OPTION_EXPLAIN},
    {"from", required_argument, NULL, OPTION_FROM},
    {"port", required_argument, NULL, OPTION_PORT},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"map", no_argument, NULL, OPTION_MAP},
    {"svg", required_argument, NULL, OPTION_SVG},
    {"json", no_argument, NULL, OPTION_JSON},
    {"status-command", required_argument, NULL, OPTION_STATUS_COMMAND},
    {"qubesd", required_argument, NULL, OPTION_QUBESD},
    {"qubesdb", required_argument, NULL, OPTION_QUBESDB},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

struct parser {
    struct options *o;
    int64_t now;
    char *why;
    bool verb_given, change_given, for_given, port_given, from_given;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(p->why, OPTIONS_WHY_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

/*
 * A refused text with the place under it. The grammar quotes what it stumbled over; the quote is
 * looked up in the text, and where it is not found (escaped, cut) there is no mark.
 */
static int refuse_text(struct parser *p, const char *option, const char *text, const char *why)
{
    const char *open = strchr(why, '"'), *close = open != NULL ? strchr(open + 1, '"') : NULL;
    char shown[SHOWN_MAX], mark[SHOWN_MAX] = "", token[ALLOW_WHY_MAX] = "";
    const char *place = NULL;

    (void)str_escape(str_from(text), shown, sizeof(shown));
    if (close != NULL && close > open + 1 && (size_t)(close - open) < sizeof(token)) {
        memcpy(token, open + 1, (size_t)(close - open - 1));
        place = strstr(shown, token);
    }
    if (place != NULL) {
        size_t at = (size_t)(place - shown), n = strlen(token);

        memset(mark, ' ', at);
        memset(mark + at, '^', n);
        mark[at + n] = '\0';
    }
    return refuse(p, "%s: %s\n  %s%s%s", option, why, shown, mark[0] != '\0' ? "\n  " : "", mark);
}

/* ---- values ---- */

static int join(char **list, const char *one)
{
    char *joined = NULL;

    if (*list == NULL) {
        *list = strdup(one);
        return *list != NULL ? 0 : -ENOMEM;
    }
    if (asprintf(&joined, "%s;%s", *list, one) < 0)
        return -ENOMEM;
    free(*list);
    *list = joined;
    return 0;
}

static int take_allow(struct parser *p, const char *text)
{
    _cleanup_(allow_done) struct allow allow = {0};
    char why[ALLOW_WHY_MAX];
    int r;

    if (p->o->no_allow || (strcmp(text, "none") == 0 && p->o->allow != NULL))
        return refuse(p, "--allow none goes with no other --allow");
    if (strcmp(text, "none") == 0) {
        p->o->no_allow = true;
        return 0;
    }
    r = allow_parse(str_from(text), &allow, why);
    if (r == -EINVAL || r == -E2BIG)
        return refuse_text(p, "--allow", text, why);
    if (r == 0 && p->o->allow != NULL && (allow.n == 0 || str_trim(str_from(p->o->allow)).len == 0))
        return refuse(p, "--allow '' opens nothing: it goes with no other --allow");
    return r < 0 ? r : join(&p->o->allow, text);
}

static int take_publish(struct parser *p, const char *text)
{
    _cleanup_(publish_done) struct publish publish = {0};
    char why[ALLOW_WHY_MAX];
    int r;

    if (p->o->no_publish || (strcmp(text, "none") == 0 && p->o->publish != NULL))
        return refuse(p, "--publish none goes with no other --publish");
    if (strcmp(text, "none") == 0) {
        p->o->no_publish = true;
        return 0;
    }
    r = publish_parse(str_from(text), &publish, why);
    if (r == -EINVAL || r == -E2BIG)
        return refuse_text(p, "--publish", text, why);
    if (r == 0 && publish.n == 0)
        return refuse(p, "--publish wants a port, like tcp/8443:443, or none");
    return r < 0 ? r : join(&p->o->publish, text);
}

static int take_address(struct parser *p, const char *option, const char *text, struct addr *ret)
{
    char shown[SHOWN_MAX];

    if (addr_parse(str_from(text), ret) == 0)
        return 0;
    return refuse(p, "%s: \"%s\" is no IPv4 or IPv6 address", option,
                  str_escape(str_from(text), shown, sizeof(shown)));
}

static int take_ip(struct parser *p, const char *text)
{
    struct addr a;
    const char *unusable;
    int r = take_address(p, "--ip", text, &a);

    if (r < 0)
        return r;
    unusable = addr_why_unusable(&a);
    if (unusable != NULL)
        return refuse(p, "--ip: no qube can be reached at %s: %s", text, unusable);
    if (p->o->ip[a.family == AF_INET6].family != 0)
        return refuse(p, "--ip: one IPv4 and one IPv6 address at most");
    p->o->ip[a.family == AF_INET6] = a;
    return 0;
}

static int take_limit(struct parser *p, const char *text)
{
    char shown[SHOWN_MAX];

    p->o->has_limit = true;
    if (strcmp(text, "none") == 0)
        return 0;
    if (str_to_u32(str_from(text), LIMIT_MAX, &p->o->limit) == 0 && p->o->limit > 0)
        return 0;
    return refuse(p, "--limit: \"%s\" is no number of connections a second, 1 to %d, or none",
                  str_escape(str_from(text), shown, sizeof(shown)), LIMIT_MAX);
}

static int take_for(struct parser *p, const char *text)
{
    char shown[SHOWN_MAX];
    int64_t span;
    int r = when_parse_span(str_from(text), &span);

    (void)str_escape(str_from(text), shown, sizeof(shown));
    if (p->o->has_expires)
        return refuse(p, "one --for or --until");
    if (r == -ERANGE)
        return refuse(p, "--for: \"%s\" is nothing, or more than ten years", shown);
    if (r < 0)
        return refuse(p, "--for: \"%s\" is no length of time, like 90s, 30m, 2h, 1d12h or 2w", shown);
    p->o->has_expires = true;
    p->o->expires = p->now + span;
    return 0;
}

static int take_until(struct parser *p, const char *text)
{
    char shown[SHOWN_MAX];
    int r = strcmp(text, "never") == 0 ? 0 : when_parse_time(str_from(text), p->now, &p->o->expires);

    (void)str_escape(str_from(text), shown, sizeof(shown));
    if (p->o->has_expires)
        return refuse(p, "one --for or --until");
    if (r == -ERANGE)
        return refuse(p, "--until: \"%s\" has passed, or is more than ten years away", shown);
    if (r < 0)
        return refuse(p, "--until: \"%s\" is no time, like 18:00, \"2026-12-31 18:00\", "
                      "2026-12-31T18:00:00Z or never", shown);
    p->o->has_expires = true;
    return 0;
}

/* "443", "443/tcp", "53/udp", "icmp" */
static int take_port(struct parser *p, const char *text)
{
    struct str rest = str_from(text), number;
    char shown[SHOWN_MAX];
    uint32_t port;

    p->port_given = true;
    if (strcmp(text, "icmp") == 0) {
        p->o->proto = IPPROTO_ICMP;
        return 0;
    }
    (void)str_next(&rest, '/', &number);
    if (str_to_u32(number, UINT16_MAX, &port) < 0 || port == 0 ||
        (rest.p != NULL && !str_is(rest, "tcp") && !str_is(rest, "udp")))
        return refuse(p, "--port: \"%s\" is no port, like 443, 53/udp or icmp",
                      str_escape(str_from(text), shown, sizeof(shown)));
    p->o->port = (uint16_t)port;
    p->o->proto = rest.p != NULL && str_is(rest, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
    return 0;
}

/* ---- options ---- */

static int set_verb(struct parser *p, enum verb verb)
{
    if (p->verb_given && p->o->verb != verb)
        return refuse(p, "only one of --list, --explain, --check and --map");
    p->o->verb = verb;
    p->verb_given = true;
    return 0;
}

static int set_toggle(struct parser *p, enum toggle *toggle, enum toggle to)
{
    p->change_given = true;
    if (*toggle != TOGGLE_LEAVE && *toggle != to)
        return refuse(p, toggle == &p->o->log ? "--log or --no-log, not both"
                                              : "--keep or --no-keep, not both");
    *toggle = to;
    return 0;
}

/* Options that change something about the qube. -ENOENT: it is none of these. */
static int take_change(struct parser *p, int option)
{
    switch (option) {
    case OPTION_IP:
        return take_ip(p, optarg);
    case OPTION_ALLOW:
        return take_allow(p, optarg);
    case OPTION_PUBLISH:
        return take_publish(p, optarg);
    case OPTION_LIMIT:
        return take_limit(p, optarg);
    case OPTION_LOG:
        return set_toggle(p, &p->o->log, TOGGLE_ON);
    case OPTION_NO_LOG:
        return set_toggle(p, &p->o->log, TOGGLE_OFF);
    case OPTION_KEEP:
        return set_toggle(p, &p->o->keep, TOGGLE_ON);
    case OPTION_NO_KEEP:
        return set_toggle(p, &p->o->keep, TOGGLE_OFF);
    case OPTION_FOR:
        return take_for(p, optarg);
    case OPTION_UNTIL:
        return take_until(p, optarg);
    default:
        return -ENOENT;
    }
}

static int take_other(struct parser *p, int option)
{
    struct options *o = p->o;

    switch (option) {
    case OPTION_OFF:
        o->off = true;
        return 0;
    case OPTION_DRY_RUN:
        o->dry_run = true;
        return 0;
    case OPTION_YES:
        o->yes = true;
        return 0;
    case OPTION_NO:
        o->no = true;
        return 0;
    case OPTION_LIST:
        return set_verb(p, VERB_LIST);
    case OPTION_EXPLAIN:
        return set_verb(p, VERB_EXPLAIN);
    case OPTION_CHECK:
        return set_verb(p, VERB_CHECK);
    case OPTION_MAP:
        return set_verb(p, VERB_MAP);
    case OPTION_FROM:
        p->from_given = true;
        return take_address(p, "--from", optarg, &o->from);
    case OPTION_PORT:
        return take_port(p, optarg);
    case OPTION_SVG:
        o->svg = optarg;
        return 0;
    case OPTION_JSON:
        o->json = true;
        return 0;
    case OPTION_STATUS_COMMAND:
        o->status_command = optarg;
        return 0;
    case OPTION_QUBESD:
        o->qubesd = optarg;
        return 0;
    case OPTION_QUBESDB:
        o->qubesdb = optarg;
        return 0;
    default:
        return -ENOENT;
    }
}

static int take_option(struct parser *p, int option, char **argv)
{
    char shown[SHOWN_MAX];
    int r;

    if (option == 'h' || option == 'V') {
        p->o->verb = option == 'h' ? VERB_HELP : VERB_VERSION;
        return 1;
    }
    if (option == ':')
        return refuse(p, "%s wants a value", str_escape(str_from(argv[optind - 1]), shown,
                                                        sizeof(shown)));
    r = take_change(p, option);
    p->change_given |= r != -ENOENT;
    if (r == -ENOENT)
        r = take_other(p, option);
    if (r == -ENOENT)
        return refuse(p, "%s is no option, or not one that takes a value",
                      str_escape(str_from(argv[optind - 1]), shown, sizeof(shown)));
    return r;
}

static int check_qube(struct parser *p, int argc, char **argv)
{
    bool wants = p->o->verb == VERB_CHANGE || p->o->verb == VERB_SHOW || p->o->verb == VERB_EXPLAIN;
    char shown[SHOWN_MAX];

    if (argc - optind > 1)
        return refuse(p, "one qube at a time; \"%s\" is too much",
                      str_escape(str_from(argv[optind + 1]), shown, sizeof(shown)));
    if (wants && argc == optind)
        return refuse(p, "which qube? For example: qvm-expose web --allow tcp/443");
    if (!wants && argc > optind)
        return refuse(p, "--list, --check and --map are about all qubes");
    if (argc == optind)
        return 0;
    p->o->qube = argv[optind];
    if (!tree_valid_name(str_from(p->o->qube)))
        return refuse(p, "\"%s\" is not the name of a qube",
                      str_escape(str_from(p->o->qube), shown, sizeof(shown)));
    return 0;
}

static int check_together(struct parser *p)
{
    const struct options *o = p->o;
    bool changes = p->change_given || o->off;

    if (changes && p->verb_given)
        return refuse(p, "--list, --explain, --check and --map change nothing: they go alone");
    if (o->off && p->change_given)
        return refuse(p, "--off takes everything away: it goes alone");
    if (o->yes && o->no)
        return refuse(p, "--yes or --no, not both");
    if ((o->dry_run || o->yes || o->no) && !changes)
        return refuse(p, "--dry-run, --yes and --no go with a change");
    if (o->no_allow && o->no_publish)
        return refuse(p, "--allow none --publish none leaves nothing: that is --off");
    if (o->svg != NULL && o->verb != VERB_MAP)
        return refuse(p, "--svg goes with --map");
    if ((p->from_given || p->port_given) && o->verb != VERB_EXPLAIN)
        return refuse(p, "--from and --port go with --explain");
    if (p->from_given != p->port_given)
        return refuse(p, "--from HOST and --port PORT go together");
    if (o->json && (changes || o->verb == VERB_MAP))
        return refuse(p, "--json goes with a qube alone, --list, --explain and --check");
    return 0;
}

/* What was fine one by one has to be fine together. */
static int check_joined(struct parser *p)
{
    _cleanup_(allow_done) struct allow allow = {0};
    _cleanup_(publish_done) struct publish publish = {0};
    char why[ALLOW_WHY_MAX];
    int r = 0;

    if (p->o->allow != NULL)
        r = allow_parse(str_from(p->o->allow), &allow, why);
    if (r == -EINVAL || r == -E2BIG)
        return refuse_text(p, "--allow, all together", p->o->allow, why);
    if (r == 0 && p->o->publish != NULL)
        r = publish_parse(str_from(p->o->publish), &publish, why);
    if (r == -EINVAL || r == -E2BIG)
        return refuse_text(p, "--publish, all together", p->o->publish, why);
    return r;
}

int options_parse(int argc, char **argv, int64_t now, struct options *ret,
                  char why[static OPTIONS_WHY_MAX])
{
    struct parser p = {.o = ret, .now = now, .why = why};
    int option, r = 0;

    *ret = (struct options){0};
    why[0] = '\0';
    optind = 0; /* begin anew, also after an earlier call */
    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, ":hV", long_options, NULL)) != -1)
        r = take_option(&p, option, argv);
    if (r != 0)
        return r < 0 ? r : 0;
    if (!p.verb_given)
        ret->verb = p.change_given || ret->off ? VERB_CHANGE : VERB_SHOW;
    if (ret->proto == IPPROTO_ICMP && ret->from.family == AF_INET6)
        ret->proto = IPPROTO_ICMPV6;
    ret->has_question = p.from_given;
    r = check_together(&p);
    if (r == 0)
        r = check_qube(&p, argc, argv);
    return r < 0 ? r : check_joined(&p);
}

void options_done(struct options *o)
{
    free(o->allow);
    free(o->publish);
    *o = (struct options){0};
}
