/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status: what is, once or for as long as one looks. */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/command/sealed.h"

#define TEXT_MAX 512

/* What the supervisor knows, and what is known about the seal. */
struct view {
    json_t *status; /* NULL: the supervisor does not answer */
    json_t *report;
    enum sealed sealed;
    char why[TEXT_MAX];
};

static void view_done(struct view *v)
{
    json_decref(v->status);
    json_decref(v->report);
    v->status = v->report = NULL;
}

/* The supervisor's word is enough that the seal stands; that it does not is asked again. */
static void look_at_seal(struct view *v, const char *socket)
{
    const char *seal = say_get(v->status, "seal");

    v->why[0] = '\0';
    if (v->status != NULL && seal[0] != '\0' && strcmp(seal, "absent") != 0)
        v->sealed = SEALED_YES;
    else
        v->sealed = sealed_ask(socket, &v->report, v->why, sizeof(v->why));
}

static int exit_status(const struct view *v)
{
    if (v->sealed == SEALED_NO)
        return COMMAND_OPEN;
    if (v->sealed == SEALED_UNKNOWN)
        return COMMAND_FAILED;
    return v->status != NULL && strcmp(say_get(v->status, "state"), "up") == 0 ? COMMAND_OK
                                                                               : COMMAND_SEALED;
}

/* ---- for people ---- */

static void print_line(const char *name, const char *value)
{
    if (value[0] != '\0')
        printf("  %-10s %s\n", name, value);
}

static void print_member(const json_t *status, const char *name, const char *key)
{
    char text[TEXT_MAX];

    print_line(name, say_text(status, key, text, sizeof(text)));
}

static void print_head(const json_t *status)
{
    char state[32], since[32], phase[TEXT_MAX], next[32];

    (void)say_text(status, "state", state, sizeof(state));
    (void)say_text(status, "phase", phase, sizeof(phase));
    (void)say_time((uint64_t)json_integer_value(json_object_get(status, "since")), since);
    (void)say_time((uint64_t)json_integer_value(json_object_get(status, "next_try")), next);
    printf("VPN: %s%s%s%s%s\n", state, since[0] != '\0' ? ", since " : "", since,
           phase[0] != '\0' ? ": " : "", phase);
    if (next[0] != '\0')
        print_line("next try", next);
}

static void print_tunnel(const json_t *status)
{
    char text[TEXT_MAX], addresses[128], in[16], out[16];
    char endpoint[300], gateway[80];

    (void)say_text(status, "endpoint", endpoint, sizeof(endpoint));
    (void)say_text(status, "gateway", gateway, sizeof(gateway));
    (void)snprintf(text, sizeof(text), "%s%s%s", endpoint,
                   endpoint[0] != '\0' && gateway[0] != '\0' ? ", " : "", gateway);
    print_line("server", text);
    if (say_get(status, "device")[0] == '\0')
        return;
    (void)say_join(json_object_get(status, "addresses"), addresses, sizeof(addresses));
    (void)snprintf(text, sizeof(text), "%s, MTU %" JSON_INTEGER_FORMAT, addresses,
                   json_integer_value(json_object_get(status, "mtu")));
    print_line("tunnel", text);
    (void)say_join(json_object_get(status, "dns"), text, sizeof(text));
    print_line("DNS",
               text[0] != '\0' ? text : "none: the server named none, so qubes have no names");
    (void)snprintf(
        text, sizeof(text), "%s in, %s out",
        say_bytes((uint64_t)json_integer_value(json_object_get(status, "bytes_in")), in),
        say_bytes((uint64_t)json_integer_value(json_object_get(status, "bytes_out")), out));
    print_line("traffic", text);
}

static void print_seal(const struct view *v)
{
    const char *seal = say_get(v->status, "seal");

    switch (v->sealed) {
    case SEALED_YES:
        if (strcmp(seal, "tunnel") == 0)
            printf("Sealed: qubes reach the tunnel, and nothing else.\n");
        else
            printf("Sealed: nothing of the qubes behind leaves.\n");
        break;
    case SEALED_NO:
        printf("NOT SEALED: %s.\nQubes behind may be going out in the clear. Now: "
               "systemctl start qubes-vpn-forwarding; then qubes-vpn status\n",
               v->why);
        break;
    case SEALED_UNKNOWN:
        printf("It is not known whether this qube is sealed: %s.\nNext: sudo qubes-vpn-forwarding "
               "check\n",
               v->why);
        break;
    }
}

static void print_findings(const json_t *status)
{
    const json_t *pushed = json_object_get(status, "pushed_findings"),
                 *file = json_object_get(status, "profile_findings");
    const char *state = say_get(status, "state");

    if (json_array_size(pushed) > 0) {
        printf("Not taken of what the server wants:\n");
        (void)say_findings(pushed);
    }
    if (json_array_size(file) > 0 &&
        (strcmp(state, "failed") == 0 || strcmp(state, "unconfigured") == 0)) {
        printf("About the profile:\n");
        (void)say_findings(file);
    }
}

static void print_view(const struct view *v)
{
    char text[TEXT_MAX];

    if (v->status == NULL) {
        printf("VPN: the supervisor (qubes-vpn.service) does not answer\n");
        print_seal(v);
        return;
    }
    print_head(v->status);
    print_member(v->status, "profile", "profile");
    print_tunnel(v->status);
    print_member(v->status, "last error", "last_error");
    (void)say_join(json_object_get(v->status, "missing_secrets"), text, sizeof(text));
    if (text[0] != '\0')
        printf("  %-10s %s; give it with: qubes-vpn set-secret PROFILE\n", "missing", text);
    if (json_is_true(json_object_get(v->status, "updates_proxy")))
        print_line("exception", "the updates proxy of this qube goes by the uplink");
    print_findings(v->status);
    print_seal(v);
}

static int print_json(const struct view *v, bool line)
{
    json_t *root = v->status != NULL ? json_deep_copy(v->status) : json_object();
    int r;

    if (root == NULL)
        return -ENOMEM;
    (void)json_object_set_new(root, "running", json_boolean(v->status != NULL));
    (void)json_object_set_new(root, "sealed", v->sealed == SEALED_UNKNOWN
                                                  ? json_null()
                                                  : json_boolean(v->sealed == SEALED_YES));
    if (v->sealed != SEALED_YES)
        (void)json_object_set_new(root, "why_not_sealed", json_string(v->why));
    if (v->report != NULL)
        (void)json_object_set(root, "seal_report", v->report);
    r = say_json(root, line);
    json_decref(root);
    return r;
}

/* ---- watching ---- */

struct watch {
    const struct command_options *options;
    struct line *line;
    char last[TEXT_MAX];
    int status; /* exit status of what was shown last; below 0: end */
};

static void print_moment(const json_t *status, struct watch *w)
{
    char state[32], profile[80], phase[256], line[TEXT_MAX], now[32];

    (void)snprintf(line, sizeof(line), "%-12s %s%s%s",
                   say_text(status, "state", state, sizeof(state)),
                   say_text(status, "profile", profile, sizeof(profile)),
                   say_get(status, "phase")[0] != '\0' ? ": " : "",
                   say_text(status, "phase", phase, sizeof(phase)));
    if (strcmp(line, w->last) == 0)
        return;
    (void)snprintf(w->last, sizeof(w->last), "%s", line);
    printf("%s  %s\n", say_time((uint64_t)time(NULL) * 1000000, now), line);
    (void)fflush(stdout);
}

static void show_now(struct watch *w)
{
    struct view v = {0};

    if (line_get_all(w->line, &v.status) < 0) {
        w->status = -1;
        return;
    }
    look_at_seal(&v, w->options->seal);
    w->status = exit_status(&v);
    if (w->options->json) {
        if (print_json(&v, true) < 0)
            w->status = -1;
    } else {
        print_moment(v.status, w);
        if (v.sealed != SEALED_YES)
            print_seal(&v);
    }
    view_done(&v);
}

static int on_change(sd_bus_message *m, void *user, sd_bus_error *e)
{
    bool *changed = user;

    (void)m;
    (void)e;
    *changed = true;
    return 0;
}

static int on_event(sd_bus_message *m, void *user, sd_bus_error *e)
{
    const struct watch *w = user;
    const char *kind, *text;
    char safe[TEXT_MAX], now[32];

    (void)e;
    if (w->options->json || sd_bus_message_read(m, "ss", &kind, &text) < 0)
        return 0;
    printf("%s  - %s\n", say_time((uint64_t)time(NULL) * 1000000, now),
           str_escape(str_from(text), safe, sizeof(safe)));
    (void)fflush(stdout);
    return 0;
}

static int subscribe(struct line *l, struct watch *w, bool *changed)
{
    const char *sender = w->options->bus == NULL ? "org.qubes_os.Vpn1" : NULL;
    int r = sd_bus_match_signal(l->bus, NULL, sender, "/org/qubes_os/Vpn1",
                                "org.freedesktop.DBus.Properties", "PropertiesChanged", on_change,
                                changed);

    return r < 0 ? r
                 : sd_bus_match_signal(l->bus, NULL, sender, "/org/qubes_os/Vpn1",
                                       "org.qubes_os.Vpn1", "Event", on_event, w);
}

static int watch_status(const struct command_options *o)
{
    struct line l;
    struct watch w = {.options = o, .line = &l, .status = COMMAND_FAILED};
    bool changed = true;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    r = subscribe(&l, &w, &changed);
    while (r >= 0 && w.status >= 0) {
        if (changed) {
            changed = false;
            show_now(&w);
            continue; /* the call may have left signals in the queue */
        }
        r = sd_bus_process(l.bus, NULL);
        if (r == 0)
            r = sd_bus_wait(l.bus, UINT64_MAX);
    }
    line_close(&l);
    say_failed(NULL, "See: qubes-vpn status",
               "the supervisor has ended or does not answer any more");
    return COMMAND_FAILED;
}

int command_status(const struct command_options *o)
{
    _cleanup_(view_done) struct view v = {0};
    struct line l;
    int r;

    if (o->watch)
        return watch_status(o);
    if (line_open(&l, o->bus) >= 0)
        (void)line_get_all(&l, &v.status);
    line_close(&l);
    look_at_seal(&v, o->seal);
    if (o->json) {
        r = print_json(&v, false);
        if (r < 0)
            return COMMAND_FAILED;
    } else {
        print_view(&v);
    }
    return exit_status(&v);
}
