/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is there, told line by line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "desktop/configurator/guide.h"
#include "desktop/configurator/terminal_private.h"

#define PROFILES_MAX 50 /* in a list; more are chosen by name */
#define LIST_MAX     8
#define LOOK_US      UINT64_C(2000000)

/* A line of what and its value, where there is one. */
static void row(const char *what, const char *value)
{
    char line[WORDS_LONG * 2];

    if (value[0] == '\0')
        return;
    (void)snprintf(line, sizeof(line), "%s %s", what, value);
    terminal_indent(2, 4, line);
}

/* Counters change without a signal: asked for again, and waited for a moment. */
static void refresh(struct terminal *t)
{
    if (vpn_follow_refresh(t->follow) < 0)
        return;
    t->known = false;
    (void)terminal_wait(t, &t->known, false, LOOK_US);
    t->known = true;
}

static void show_traffic(const json_t *status)
{
    char in[WORDS_SHORT], out[WORDS_SHORT], line[WORDS_LONG];
    uint64_t bytes_in = (uint64_t)json_integer_value(json_object_get(status, "bytes_in")),
             bytes_out = (uint64_t)json_integer_value(json_object_get(status, "bytes_out"));

    (void)snprintf(line, sizeof(line), _("%s in, %s out"), words_bytes(bytes_in, in, sizeof(in)),
                   words_bytes(bytes_out, out, sizeof(out)));
    row(_("Traffic:"), line);
}

static void show_tunnel(const json_t *status)
{
    char text[WORDS_LONG];

    row(_("Profile:"), words_member(status, "profile", text, sizeof(text)));
    if (json_array_size(json_object_get(status, "addresses")) == 0)
        return;
    row(_("Server:"), words_server(status, text, sizeof(text)));
    row(_("Address in the tunnel:"),
        words_list(json_object_get(status, "addresses"), LIST_MAX, text, sizeof(text)));
    row(_("Name servers:"),
        words_list(json_object_get(status, "dns"), LIST_MAX, text, sizeof(text)));
    show_traffic(status);
}

static void show_findings(const char *title, const json_t *findings)
{
    char text[WORDS_LONG];
    size_t i, n = json_array_size(findings);

    if (n == 0)
        return;
    terminal_indent(2, 4, title);
    for (i = 0; i < n && i < LIST_MAX; i++)
        terminal_indent(4, 6, words_finding(json_array_get(findings, i), text, sizeof(text)));
    if (i < n) {
        (void)snprintf(text, sizeof(text), ngettext("and %zu more", "and %zu more", n - i), n - i);
        terminal_indent(4, 6, text);
    }
}

static void show_events(const struct terminal *t)
{
    char when[WORDS_SHORT], line[WORDS_LONG];

    for (size_t i = 0; i < TERMINAL_EVENTS && t->events[i].at_us != 0; i++) {
        if (i == 0)
            terminal_indent(2, 4, _("What happened last:"));
        (void)snprintf(line, sizeof(line), "%s  %s",
                       words_time(t->events[i].at_us, when, sizeof(when)), t->events[i].text);
        terminal_indent(4, 6, line);
    }
}

void terminal_show_state(struct terminal *t)
{
    const json_t *status;
    char text[WORDS_LONG], when[WORDS_SHORT];
    json_int_t since;

    refresh(t);
    status = vpn_follow_status(t->follow);
    terminal_say("%s: %s", words_mood_title(words_mood(status)),
                 words_summary(status, text, sizeof(text)));
    if (words_next(status, text, sizeof(text))[0] != '\0')
        terminal_say("%s", text);
    if (status == NULL)
        return;
    since = json_integer_value(json_object_get(status, "since"));
    row(_("Since:"), words_time(since > 0 ? (uint64_t)since : 0, when, sizeof(when)));
    show_tunnel(status);
    row(_("Last error:"), words_member(status, "last_error", text, sizeof(text)));
    show_findings(_("Not taken of what the server wants:"),
                  json_object_get(status, "pushed_findings"));
    show_events(t);
}

/* ---- profiles ---- */

static void show_profile(size_t number, const json_t *one)
{
    const char *kind = json_string_value(json_object_get(one, "kind"));
    char name[WORDS_SHORT], problem[WORDS_SHORT * 2], line[WORDS_LONG * 2];
    json_int_t order = json_integer_value(json_object_get(one, "order"));
    char place[WORDS_SHORT] = "";

    (void)words_member(one, "problem", problem, sizeof(problem));
    if (order > 0)
        (void)snprintf(place, sizeof(place), _(", tried as number %lld"), (long long)order);
    (void)snprintf(line, sizeof(line), "%s (%s%s%s%s%s)",
                   words_member(one, "name", name, sizeof(name)),
                   kind != NULL && strcmp(kind, "wireguard") == 0 ? "WireGuard" : "OpenVPN",
                   json_is_true(json_object_get(one, "chosen")) ? _(", chosen") : "", place,
                   problem[0] != '\0' ? ": " : "", problem);
    terminal_number(number, line);
}

void terminal_show_profiles(const json_t *profiles)
{
    size_t i, n = json_array_size(profiles);
    char text[WORDS_LONG];

    for (i = 0; i < n && i < PROFILES_MAX; i++)
        show_profile(i + 1, json_array_get(profiles, i));
    if (i < n) {
        (void)snprintf(text, sizeof(text), ngettext("and %zu more", "and %zu more", n - i), n - i);
        terminal_indent(6, 6, text);
    }
}

void terminal_choose(struct terminal *t, const char *prompt, char *buf, size_t size)
{
    /* A number is that of the list that was shown, whatever becomes of it meanwhile. */
    _cleanup_(json_decrefp) json_t *profiles =
        json_incref(json_object_get(vpn_follow_status(t->follow), "profiles"));
    char answer[WORDS_SHORT], *end;
    unsigned long number;
    const char *name;

    buf[0] = '\0';
    terminal_show_profiles(profiles);
    if (terminal_ask(t, prompt, answer, sizeof(answer)) < 0 || answer[0] == '\0')
        return;
    number = strtoul(answer, &end, 10);
    name = *end == '\0' && number > 0
               ? json_string_value(json_object_get(json_array_get(profiles, number - 1), "name"))
               : answer;
    if (name != NULL)
        (void)snprintf(buf, size, "%s", name);
    else
        terminal_say("%s", _("That is not in the list."));
}

/* ---- dom0 ---- */

void terminal_show_guide(struct terminal *t)
{
    /* Kept: the answer is waited for, and the status may be another one by then. */
    _cleanup_(json_decrefp) json_t *kept =
        json_incref(json_object_get(vpn_follow_status(t->follow), "profile"));
    const char *profile = json_string_value(kept);
    _cleanup_(guide_freep) struct guide *guide = NULL;
    struct guide_facts facts = {.profile = profile};
    char host[64] = "";

    if (profile != NULL && profile[0] != '\0' && terminal_call(t, "DescribeProfile", "s", profile))
        facts.endpoints = json_object_get(json_array_get(t->results, 0), "endpoints");
    if (gethostname(host, sizeof(host) - 1) == 0)
        facts.qube = host;
    if (guide_new(&guide, &facts) < 0)
        return;
    for (size_t i = 0; i < guide->n; i++) {
        terminal_raw("\n");
        terminal_say("%zu. %s", i + 1, guide->parts[i].title);
        terminal_indent(3, 3, guide->parts[i].text);
        for (const char *line = guide->parts[i].commands; *line != '\0';) {
            size_t len = strcspn(line, "\n");
            char text[WORDS_LONG];

            (void)snprintf(text, sizeof(text), "    %.*s\n", (int)len, line);
            terminal_raw(text);
            line += len + (line[len] == '\n');
        }
    }
}
