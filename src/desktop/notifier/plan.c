/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/notifier/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000)

/* What it takes to be told. */
#define SOON    SECOND        /* longer than a change takes that comes in pieces */
#define LONG    (15 * SECOND) /* most servers are there again by then */
#define SETTLED (10 * SECOND) /* a tunnel, where tunnels come and go */
#define SERVICE (20 * SECOND) /* a restart, or the boot */
/* So many at once, then one in that time: of those that come and go by themselves, and of those
 * that follow what somebody does. */
#define BURST     4
#define BURST_ASK 12
#define PAUSE     (60 * SECOND)
/* So many tunnels lost in that time are worth a word. */
#define UNSTEADY 3
#define MEMORY   (600 * SECOND)

#define SHOWN_MAX 3 /* findings, name servers */

/* ---- texts ---- */

__attribute__((format(printf, 2, 3))) static void add(struct notice *n, const char *format, ...)
{
    size_t used = strlen(n->body);
    char line[WORDS_LONG * 2], clean[WORDS_LONG];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    (void)words_clean(line, clean, sizeof(clean));
    /* A line too many is left out whole: the first ones say what counts. */
    if (clean[0] != '\0' && used + strlen(clean) + 2 <= sizeof(n->body))
        (void)snprintf(n->body + used, sizeof(n->body) - used, "%s%s", used > 0 ? "\n" : "", clean);
}

static void set_key(struct notice *n, const json_t *status, const char *more)
{
    char profile[WORDS_SHORT];

    (void)snprintf(n->key, sizeof(n->key), "%d %s %s", (int)n->kind,
                   words_member(status, "profile", profile, sizeof(profile)), more);
}

static bool is_kind(const json_t *finding, const char *kind)
{
    const char *text = json_string_value(json_array_get(finding, 0));

    return text != NULL && strcmp(text, kind) == 0;
}

static size_t count_refused(const json_t *findings)
{
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(findings); i++)
        n += is_kind(json_array_get(findings, i), "refused");
    return n;
}

/* The first findings that are no mere notes; refused: only what is refused. */
static void add_findings(struct notice *n, const json_t *findings, bool refused)
{
    size_t shown = 0, more = 0;
    char text[WORDS_LONG];

    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *one = json_array_get(findings, i);

        if (refused ? !is_kind(one, "refused") : is_kind(one, "note"))
            continue;
        if (shown == SHOWN_MAX) {
            more++;
            continue;
        }
        add(n, "%s", words_finding(one, text, sizeof(text)));
        shown++;
    }
    if (more > 0)
        add(n, ngettext("… and %zu more.", "… and %zu more.", more), more);
}

static void add_unusable_profiles(struct notice *n, const json_t *status)
{
    const json_t *profiles = json_object_get(status, "profiles");
    char name[WORDS_SHORT], problem[WORDS_LONG / 2];
    size_t shown = 0;

    for (size_t i = 0; i < json_array_size(profiles) && shown < SHOWN_MAX; i++) {
        const json_t *one = json_array_get(profiles, i);

        if (!json_is_false(json_object_get(one, "usable")))
            continue;
        add(n, _("“%s” cannot be used: %s."), words_member(one, "name", name, sizeof(name)),
            words_member(one, "problem", problem, sizeof(problem)));
        shown++;
    }
}

static void add_summary(struct notice *n, const json_t *status)
{
    char text[WORDS_LONG];

    add(n, "%s", words_summary(status, text, sizeof(text)));
}

static void add_next(struct notice *n, const json_t *status)
{
    char text[WORDS_LONG];

    add(n, "%s", words_next(status, text, sizeof(text)));
}

static void set_title(struct notice *n, const char *title)
{
    (void)words_clean(title, n->title, sizeof(n->title));
}

static void say_up(struct notice *n, const json_t *status)
{
    char server[WORDS_SHORT * 2], dns[WORDS_LONG / 2], kind[16];
    const json_t *pushed = json_object_get(status, "pushed_findings");
    bool wireguard;

    set_title(n, _("VPN connected"));
    n->category = "network.connected";
    (void)words_server(status, server, sizeof(server));
    (void)words_list(json_object_get(status, "dns"), SHOWN_MAX, dns, sizeof(dns));
    wireguard = strcmp(words_member(status, "kind", kind, sizeof(kind)), "wireguard") == 0;
    add(n, _("Server: %s, by %s"), server, wireguard ? "WireGuard" : "OpenVPN");
    if (dns[0] != '\0')
        add(n, _("Name servers: %s"), dns);
    else
        add_next(n, status);
    add(n, "%s", _("All traffic of the qubes behind goes through the tunnel."));
    if (json_array_size(pushed) > 0)
        add(n, "%s", _("Not all that the server wants is done:"));
    add_findings(n, pushed, false);
    (void)snprintf(server + strlen(server), sizeof(server) - strlen(server), " %zu",
                   json_array_size(pushed));
    set_key(n, status, server);
}

static void say_on_the_way(struct notice *n, const json_t *status, bool was_up)
{
    char error[WORDS_LONG / 2];

    set_title(n, was_up ? _("VPN connection lost") : _("VPN is not connected yet"));
    n->category = "network.disconnected";
    add_summary(n, status);
    if (words_member(status, "last_error", error, sizeof(error))[0] != '\0' &&
        strstr(n->body, error) == NULL)
        add(n, _("The last error: %s."), error);
    set_key(n, status, was_up ? "lost" : "");
}

static void say_unconfigured(struct notice *n, const json_t *status)
{
    bool any = json_array_size(json_object_get(status, "profiles")) > 0;

    set_title(n, any ? _("VPN: no profile is chosen") : _("VPN is not set up yet"));
    add_summary(n, status);
    add_unusable_profiles(n, status);
    add_next(n, status);
    add(n, "%s",
        any ? _("Open “Qubes VPN” in the menu, or in a terminal: qubes-vpn list")
            : _("Open “Qubes VPN” in the menu, or in a terminal: sudo qubes-vpn import FILE"));
    set_key(n, status, any ? "choose" : "");
}

static void say_problem(struct notice *n, const json_t *status)
{
    char error[WORDS_LONG / 2];

    add_summary(n, status);
    add_findings(n, json_object_get(status, "profile_findings"), true);
    if (n->kind == PLAN_FAILED)
        add_findings(n, json_object_get(status, "pushed_findings"), true);
    add_next(n, status);
    set_key(n, status, words_member(status, "last_error", error, sizeof(error)));
}

/* ---- the kind ---- */

static bool is_state(const json_t *status, const char *state)
{
    const char *text = json_string_value(json_object_get(status, "state"));

    return text != NULL && strcmp(text, state) == 0;
}

static enum plan_kind kind_of(const json_t *status)
{
    const char *seal = json_string_value(json_object_get(status, "seal"));

    if (status == NULL)
        return PLAN_SILENT;
    if (seal != NULL && strcmp(seal, "absent") == 0)
        return PLAN_NO_SEAL;
    if (json_array_size(json_object_get(status, "missing_secrets")) > 0)
        return PLAN_SECRET;
    if (is_state(status, "unconfigured"))
        return PLAN_UNCONFIGURED;
    if (is_state(status, "failed"))
        return count_refused(json_object_get(status, "profile_findings")) > 0 ? PLAN_BROKEN
                                                                              : PLAN_FAILED;
    switch (words_mood(status)) {
    case WORDS_UP:
        return PLAN_UP;
    case WORDS_BLOCKED:
        return PLAN_DOWN;
    case WORDS_CONNECTING:
        return PLAN_ON_THE_WAY;
    case WORDS_ATTENTION:
        break;
    }
    return PLAN_FAILED;
}

static void say(struct notice *n, const json_t *status, enum plan_kind kind, bool was_up)
{
    *n = (struct notice){.kind = kind,
                         .urgency = PLAN_NORMAL,
                         .icon = words_mood_icon(words_mood(status)),
                         .category = "network"};
    switch (kind) {
    case PLAN_NOTHING:
        break;
    case PLAN_UP:
        say_up(n, status);
        break;
    case PLAN_DOWN:
        set_title(n, _("VPN disconnected"));
        n->category = "network.disconnected";
        add_summary(n, status);
        set_key(n, NULL, "");
        break;
    case PLAN_ON_THE_WAY:
        say_on_the_way(n, status, was_up);
        break;
    case PLAN_UNCONFIGURED:
        say_unconfigured(n, status);
        break;
    case PLAN_SECRET:
    case PLAN_BROKEN:
    case PLAN_FAILED:
        set_title(n, kind == PLAN_SECRET   ? _("VPN needs a password or code")
                     : kind == PLAN_BROKEN ? _("VPN profile cannot be used")
                                           : _("VPN needs attention"));
        n->category = "network.error";
        n->stays = true;
        say_problem(n, status);
        break;
    case PLAN_NO_SEAL:
    case PLAN_SILENT:
        set_title(n, kind == PLAN_NO_SEAL ? _("VPN: is this qube sealed?")
                                          : _("VPN service does not answer"));
        n->category = "network.error";
        n->urgency = kind == PLAN_NO_SEAL ? PLAN_CRITICAL : PLAN_NORMAL;
        n->stays = true;
        add_summary(n, status);
        add_next(n, status);
        set_key(n, NULL, "");
        break;
    }
}

/* ---- the time ---- */

static unsigned count_losses(const struct plan *p, uint64_t now)
{
    unsigned n = 0;

    for (size_t i = 0; i < PLAN_LOSSES; i++)
        n += p->losses[i] != 0 && now - p->losses[i] < MEMORY;
    return n;
}

/* How long the wanted kind has to last. */
static uint64_t patience(const struct plan *p, uint64_t now)
{
    switch (p->wanted.kind) {
    case PLAN_UP:
        return count_losses(p, now) >= UNSTEADY ? SETTLED : 0;
    case PLAN_NOTHING:
    case PLAN_DOWN:
        return 0;
    case PLAN_UNCONFIGURED:
    case PLAN_SECRET:
    case PLAN_BROKEN:
    case PLAN_FAILED:
        return SOON;
    case PLAN_ON_THE_WAY:
        /* What stands there that somebody has to do has been done: not for long. */
        return p->told == PLAN_NOTHING || p->told == PLAN_UP || p->told == PLAN_DOWN ? LONG : SOON;
    case PLAN_NO_SEAL:
    case PLAN_SILENT:
        return SERVICE;
    }
    return 0;
}

static bool comes_and_goes(enum plan_kind kind)
{
    return kind == PLAN_UP || kind == PLAN_ON_THE_WAY;
}

/* Before that, more would be told of this kind than anybody reads. */
static uint64_t free_at(const struct plan *p, enum plan_kind kind)
{
    bool by_itself = comes_and_goes(kind);
    uint64_t spent = p->spent[by_itself];
    uint64_t allowed = by_itself ? (BURST - 1) * PAUSE : (BURST_ASK - 1) * PAUSE;

    return spent > allowed ? spent - allowed : 0;
}

static void spend(struct plan *p, enum plan_kind kind, uint64_t now)
{
    uint64_t *spent = &p->spent[comes_and_goes(kind)];

    *spent = (*spent > now ? *spent : now) + PAUSE;
}

void plan_status(struct plan *p, const json_t *status, uint64_t now)
{
    enum plan_kind kind = kind_of(status), before = p->wanted.kind;

    if (before == PLAN_UP && kind != PLAN_UP && kind != PLAN_DOWN) {
        p->losses[p->next_loss] = now > 0 ? now : 1;
        p->next_loss = (p->next_loss + 1) % PLAN_LOSSES;
    }
    if (kind == PLAN_UP)
        p->was_up = true;
    else if (kind == PLAN_DOWN || kind == PLAN_UNCONFIGURED)
        p->was_up = false;
    if (kind != before)
        p->wanted_since = now;
    say(&p->wanted, status, kind, p->was_up);
}

bool plan_due(struct plan *p, uint64_t now, struct notice *ret, uint64_t *ret_next)
{
    uint64_t due;
    unsigned losses = count_losses(p, now);

    *ret_next = PLAN_NEVER;
    if (p->wanted.kind == PLAN_NOTHING ||
        (p->wanted.kind == p->told && strcmp(p->wanted.key, p->told_key) == 0))
        return false;
    due = p->wanted_since + patience(p, now);
    if (due < free_at(p, p->wanted.kind))
        due = free_at(p, p->wanted.kind);
    if (due > now) {
        *ret_next = due;
        return false;
    }
    *ret = p->wanted;
    if (losses >= UNSTEADY && (ret->kind == PLAN_UP || ret->kind == PLAN_ON_THE_WAY))
        add(ret,
            ngettext("The connection was lost %u time in the last minutes.",
                     "The connection was lost %u times in the last minutes.", losses),
            losses);
    p->told = ret->kind;
    memcpy(p->told_key, ret->key, sizeof(p->told_key));
    spend(p, ret->kind, now);
    return true;
}
