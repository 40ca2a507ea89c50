/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that are one call: up, down, use, list, rename, delete, order; and what they all say. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"

#define UP_SECONDS 40
#define MOMENT_US  UINT64_C(1000000)
#define TEXT_MAX   512

int command_connect(const struct command_options *o, struct line *l)
{
    int r = line_open(l, o->bus);

    if (r >= 0)
        return COMMAND_OK;
    line_close(l);
    say_failed("The seal does not need the supervisor: what is sealed stays so.",
               "Next: systemctl status qubes-vpn; qubes-vpn status",
               "cannot reach the supervisor%s%s: %s", o->bus != NULL ? " at " : "",
               o->bus != NULL ? o->bus : "", strerror(-r));
    return COMMAND_FAILED;
}

static const char *what_next(const struct line *l, int error)
{
    if (strcmp(l->error_name, "NotFound") == 0)
        return "Next: qubes-vpn list";
    if (strcmp(l->error_name, "Exists") == 0)
        return "Next: choose another name, or qubes-vpn delete the one that has it";
    if (strcmp(l->error_name, "Denied") == 0 || error == -EACCES || error == -EPERM)
        return "Next: the same with sudo";
    if (strcmp(l->error_name, "NoSeal") == 0)
        return "Next: systemctl status qubes-vpn-forwarding";
    if (l->error_name[0] == '\0')
        return "Next: systemctl status qubes-vpn";
    return NULL;
}

int command_refused(const struct line *l, int error, const char *what)
{
    say_failed(SAY_UNCHANGED, what_next(l, error), "%s: %s", what,
               l->error[0] != '\0' ? l->error : strerror(-error));
    return COMMAND_FAILED;
}

static int finish(struct line *l, int r, const char *failed, const char *done)
{
    int status = COMMAND_OK;

    if (r < 0)
        status = command_refused(l, r, failed);
    else
        printf("%s\n", done);
    line_close(l);
    return status;
}

/* ---- up, down ---- */

static int on_change(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)m;
    (void)user;
    (void)e;
    return 0;
}

/* Needs a person; but it may be about to look at a new profile, so it is given a moment. */
static bool is_stuck(const char *state)
{
    return strcmp(state, "failed") == 0 || strcmp(state, "unconfigured") == 0;
}

/* Waits for a change of anything; false when the time is over. */
static bool wait_change(struct line *l, uint64_t deadline)
{
    for (;;) {
        int r = sd_bus_process(l->bus, NULL);
        uint64_t now = clock_now_us();

        if (r < 0)
            return false;
        if (r > 0)
            return true;
        if (now >= deadline || sd_bus_wait(l->bus, deadline - now) < 0)
            return false;
    }
}

static int tell_outcome(const json_t *status)
{
    char state[32], profile[80], server[300], error[TEXT_MAX];

    (void)say_text(status, "state", state, sizeof(state));
    (void)say_text(status, "profile", profile, sizeof(profile));
    (void)say_text(status, "endpoint", server, sizeof(server));
    (void)say_text(status, "last_error", error, sizeof(error));
    if (strcmp(state, "up") == 0) {
        printf("Up: %s%s%s\n", profile, server[0] != '\0' ? ", " : "", server);
        return COMMAND_OK;
    }
    say_failed("Nothing of the qubes behind leaves meanwhile.", "See: qubes-vpn status --watch",
               "not connected (%s)%s%s", state, error[0] != '\0' ? ": " : "", error);
    return COMMAND_SEALED;
}

int command_up(const struct command_options *o)
{
    uint64_t deadline = clock_now_us() + UP_SECONDS * UINT64_C(1000000), moment;
    json_t *status = NULL;
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    r = sd_bus_match_signal(l.bus, NULL, NULL, "/org/qubes_os/Vpn1",
                            "org.freedesktop.DBus.Properties", "PropertiesChanged", on_change,
                            NULL);
    if (r >= 0)
        r = line_call(&l, NULL, "Up", "");
    while (r >= 0) {
        json_decref(status);
        status = NULL;
        r = line_get_all(&l, &status);
        if (r < 0 || strcmp(say_get(status, "state"), "up") == 0)
            break;
        moment = clock_now_us() + MOMENT_US;
        if (!wait_change(&l, is_stuck(say_get(status, "state")) && moment < deadline ? moment
                                                                                     : deadline))
            break;
    }
    r = r < 0 ? command_refused(&l, r, "cannot connect") : tell_outcome(status);
    json_decref(status);
    line_close(&l);
    return r;
}

int command_down(const struct command_options *o)
{
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    r = line_call(&l, NULL, "Down", "");
    if (r < 0 && strcmp(l.error_name, "Unkept") == 0) {
        say_failed("It is down now, and sealed: nothing of the qubes behind leaves.",
                   "Next: free space in /rw, then qubes-vpn down once more", "%s", l.error);
        line_close(&l);
        return COMMAND_FAILED;
    }
    return finish(&l, r, "cannot disconnect",
                  "Down, and sealed: nothing of the qubes behind leaves.");
}

/* ---- profiles ---- */

static int call_with_name(const struct command_options *o, const char *method, const char *verb,
                          const char *done)
{
    char name[160], failed[220];
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    (void)snprintf(failed, sizeof(failed), "cannot %s %s", verb,
                   str_escape(str_from(o->words[0]), name, sizeof(name)));
    return finish(&l, line_call(&l, NULL, method, "s", o->words[0]), failed, done);
}

int command_use(const struct command_options *o)
{
    return call_with_name(o, "Use", "use", "Chosen. See: qubes-vpn status");
}

int command_delete(const struct command_options *o)
{
    return call_with_name(o, "Delete", "delete", "Deleted, with its files and secrets.");
}

int command_rename(const struct command_options *o)
{
    char name[160], failed[220];
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    (void)snprintf(failed, sizeof(failed), "cannot rename %s",
                   str_escape(str_from(o->words[0]), name, sizeof(name)));
    return finish(&l, line_call(&l, NULL, "Rename", "ss", o->words[0], o->words[1]), failed,
                  "Renamed.");
}

int command_order(const struct command_options *o)
{
    struct line l;
    sd_bus_message *m = NULL;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    r = line_begin(&l, o->random ? "SetRandomOrder" : "SetOrder", &m);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'a', "s");
    for (int i = 0; i < o->n_words && r >= 0; i++)
        r = sd_bus_message_append(m, "s", o->words[i]);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    if (r < 0)
        sd_bus_message_unref(m);
    else
        r = line_send(&l, m, NULL);
    return finish(&l, r, "cannot set the order",
                  o->n_words == 0 ? "Only the chosen profile is tried."
                  : o->random     ? "These are tried in random order until one connects."
                                  : "These are tried one after the other until one connects.");
}

static int add_profile(struct say_table *t, const json_t *p)
{
    char order[24] = "", needs[128];
    json_int_t place = json_integer_value(json_object_get(p, "order"));
    bool chosen = json_is_true(json_object_get(p, "chosen"));

    if (place > 0)
        (void)snprintf(order, sizeof(order), "%" JSON_INTEGER_FORMAT, place);
    (void)say_join(json_object_get(p, "needs"), needs, sizeof(needs));
    return say_table_add(t, (const char *const[]){chosen ? "*" : "", say_get(p, "name"),
                                                  say_get(p, "kind"), order, needs,
                                                  say_get(p, "problem")});
}

static int print_profiles(const json_t *profiles)
{
    static const char *const columns[] = {"", "PROFILE", "KIND", "ORDER", "NEEDS", "PROBLEM", NULL};
    struct say_table *t = say_table_new(columns);
    size_t i;
    json_t *p;
    int r = t != NULL ? 0 : -ENOMEM;

    if (json_array_size(profiles) == 0)
        printf("There is no profile. Next: qubes-vpn import FILE\n");
    json_array_foreach((json_t *)profiles, i, p) {
        if (r == 0)
            r = add_profile(t, p);
    }
    return r < 0 ? r : say_table_print(t);
}

int command_list(const struct command_options *o)
{
    json_t *status = NULL;
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    r = line_get_all(&l, &status);
    if (r < 0)
        r = command_refused(&l, r, "cannot list the profiles");
    else if (o->json)
        r = say_json(json_object_get(status, "profiles"), false) < 0 ? COMMAND_FAILED : COMMAND_OK;
    else
        r = print_profiles(json_object_get(status, "profiles")) < 0 ? COMMAND_FAILED : COMMAND_OK;
    json_decref(status);
    line_close(&l);
    return r;
}
