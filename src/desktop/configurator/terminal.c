/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/terminal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "desktop/configurator/terminal_private.h"

#define FIRST_US  UINT64_C(5000000)   /* for the first answer */
#define CALL_US   UINT64_C(140000000) /* longer than the follower's own */
#define TESTED_US UINT64_C(60000000)
#define ORDER_MAX 64

/* ---- the session ---- */

static void on_changed(void *data, const json_t *status)
{
    struct terminal *t = data;

    t->known = true;
    if (t->setup != NULL)
        setup_status(t->setup, status);
}

static void on_event(void *data, const char *kind, const char *text)
{
    struct terminal *t = data;
    struct timespec now;

    (void)kind;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    memmove(&t->events[1], &t->events[0], sizeof(t->events) - sizeof(t->events[0]));
    t->events[0].at_us = (uint64_t)now.tv_sec * 1000000;
    (void)words_said(text, t->events[0].text, sizeof(t->events[0].text));
}

static void on_tested(void *data, bool sealed, const char *report)
{
    struct terminal *t = data;

    (void)report;
    t->tested = true;
    t->sealed = sealed;
}

static const struct vpn_follow_ops follow_ops = {on_changed, on_event, on_tested};
static const struct setup_ops setup_ops = {NULL};

int terminal_begin(struct terminal *t, const char *socket)
{
    int r;

    *t = (struct terminal){0};
    r = sd_event_new(&t->event);
    if (r >= 0)
        r = vpn_follow_new(&t->follow, t->event, socket, &follow_ops, t);
    if (r >= 0)
        r = setup_new(&t->setup, t->follow, &setup_ops, t);
    if (r < 0) {
        terminal_say(_("This program cannot work here (%s)."), strerror(-r));
        terminal_end(t);
    } else {
        (void)terminal_wait(t, &t->known, false, FIRST_US);
    }
    return r;
}

void terminal_end(struct terminal *t)
{
    t->setup = setup_free(t->setup);
    t->follow = vpn_follow_free(t->follow);
    t->event = sd_event_unref(t->event);
    json_decref(t->results);
    t->results = NULL;
    (void)fflush(stdout);
}

static void on_done(void *data, const json_t *results, const char *error_name, const char *error)
{
    struct terminal *t = data;
    char text[WORDS_LONG / 2];

    t->answered = true;
    t->ok = error == NULL;
    if (t->ok) {
        t->results = json_incref((json_t *)results);
        return;
    }
    (void)words_said(error, text, sizeof(text));
    if (strcmp(error_name, "Unkept") == 0) /* it is done */
        terminal_say("%s", text);
    else
        terminal_say(_("The VPN service refused this: %s."), text);
    if (strcmp(error_name, "Denied") == 0)
        terminal_say("%s", _("Try it with sudo before this program."));
}

bool terminal_send(struct terminal *t, sd_bus_message *m)
{
    int r;

    json_decref(t->results);
    t->results = NULL;
    t->answered = t->ok = false;
    r = vpn_follow_send(t->follow, m, on_done, t);
    if (r < 0)
        terminal_say(_("The VPN service cannot be asked (%s)."), strerror(-r));
    else if (!terminal_wait(t, &t->answered, false, CALL_US))
        vpn_follow_forget(t->follow, t);
    return t->ok;
}

bool terminal_call(struct terminal *t, const char *method, const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list ap;
    int r = vpn_follow_begin(t->follow, method, &m);

    if (r >= 0 && types[0] != '\0') {
        va_start(ap, types);
        r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
    }
    if (r >= 0)
        return terminal_send(t, m);
    sd_bus_message_unref(m);
    terminal_say(_("The VPN service cannot be asked (%s)."), strerror(-r));
    return false;
}

/* ---- what can be chosen ---- */

static int do_choose(struct terminal *t)
{
    char name[WORDS_SHORT];

    terminal_choose(t, _("Connect with (number):"), name, sizeof(name));
    return name[0] == '\0' || terminal_call(t, "Use", "s", name) ? 0 : 1;
}

static int do_up(struct terminal *t)
{
    return terminal_call(t, "Up", "") ? 0 : 1;
}

static int do_down(struct terminal *t)
{
    if (!terminal_call(t, "Down", ""))
        return 1;
    terminal_say(
        "%s", _("Disconnected. All traffic of the qubes behind is blocked, also after a restart."));
    return 0;
}

static const json_t *find_profile(const json_t *status, const char *name)
{
    size_t i;
    json_t *one;

    json_array_foreach(json_object_get(status, "profiles"), i, one)
    {
        const char *other = json_string_value(json_object_get(one, "name"));

        if (other != NULL && strcmp(other, name) == 0)
            return one;
    }
    return NULL;
}

static int do_secret(struct terminal *t)
{
    char name[WORDS_SHORT];
    const json_t *needs;

    terminal_choose(t, _("Password or code of (number):"), name, sizeof(name));
    if (name[0] == '\0')
        return 0;
    needs = json_object_get(find_profile(vpn_follow_status(t->follow), name), "needs");
    if (json_array_size(needs) == 0) {
        terminal_say("%s", _("That profile needs nothing of the kind."));
        return 0;
    }
    return terminal_secrets(t, name, needs) ? 0 : 1;
}

static int do_order(struct terminal *t)
{
    /* Numbers are those of the list that was shown, whatever becomes of it meanwhile. */
    _cleanup_(json_decrefp) json_t *profiles =
        json_incref(json_object_get(vpn_follow_status(t->follow), "profiles"));
    char line[TERMINAL_LINE], *rest = NULL;
    sd_bus_message *m = NULL;
    bool random;
    int r;

    terminal_show_profiles(profiles);
    terminal_say("%s", _("One that does not connect is followed by the next. Numbers with blanks "
                         "between, a word \"random\" first for any order; 0 for no order."));
    if (terminal_ask(t, _("Order:"), line, sizeof(line)) < 0 || line[0] == '\0')
        return 0;
    random = strncmp(line, "random", 6) == 0;
    r = vpn_follow_begin(t->follow, random ? "SetRandomOrder" : "SetOrder", &m);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'a', "s");
    for (char *word = strtok_r(random ? line + 6 : line, " ,", &rest); word != NULL && r >= 0;
         word = strtok_r(NULL, " ,", &rest)) {
        unsigned long number = strtoul(word, NULL, 10);
        const char *name = json_string_value(
            json_object_get(json_array_get(profiles, number > 0 ? number - 1 : SIZE_MAX), "name"));

        if (name != NULL)
            r = sd_bus_message_append(m, "s", name);
        else if (strcmp(word, "0") != 0)
            r = -EINVAL;
    }
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    if (r >= 0)
        return terminal_send(t, m) ? 0 : 1;
    sd_bus_message_unref(m);
    terminal_say("%s", _("That is no order: give the numbers of the list."));
    return 1;
}

static int do_rename(struct terminal *t)
{
    char name[WORDS_SHORT], other[WORDS_SHORT];

    terminal_choose(t, _("Rename (number):"), name, sizeof(name));
    if (name[0] == '\0' || terminal_ask(t, _("New name:"), other, sizeof(other)) < 0 ||
        other[0] == '\0')
        return 0;
    return terminal_call(t, "Rename", "ss", name, other) ? 0 : 1;
}

static int do_delete(struct terminal *t)
{
    char name[WORDS_SHORT], answer[16];

    terminal_choose(t, _("Delete (number):"), name, sizeof(name));
    if (name[0] == '\0')
        return 0;
    terminal_say(_("%s goes with its files and passwords."), name);
    if (terminal_ask(t, _("Type \"delete\" to do it:"), answer, sizeof(answer)) < 0 ||
        strcmp(answer, _("delete")) != 0)
        return 0;
    return terminal_call(t, "Delete", "s", name) ? 0 : 1;
}

static int do_test(struct terminal *t)
{
    t->tested = false;
    if (!terminal_call(t, "Test", ""))
        return 1;
    if (!terminal_wait(t, &t->tested, false, TESTED_US)) {
        terminal_say("%s",
                     _("The seal has not answered: it is not known whether this qube is sealed."));
        return 1;
    }
    if (t->sealed)
        terminal_say(
            "%s", _("Sealed: every part of the seal was read back from the kernel and is whole."));
    else
        terminal_say("%s", _("NOT SEALED. Shut the qubes behind down, then look: sudo "
                             "qubes-vpn-forwarding check"));
    terminal_say("%s", _("A test that sends packets and watches the uplink: sudo qubes-vpn test"));
    return t->sealed ? 0 : 1;
}

static int do_guide(struct terminal *t)
{
    terminal_show_guide(t);
    return 0;
}

static const struct {
    const char *text;
    int (*run)(struct terminal *t);
    bool with_profiles; /* makes sense only where there are any */
} choices[] = {
    {N_("Add a profile from your provider's file"), terminal_setup, false},
    {N_("Choose a profile and connect"), do_choose, true},
    {N_("Connect, or try again now"), do_up, true},
    {N_("Disconnect: block everything"), do_down, true},
    {N_("Give a password or a code"), do_secret, true},
    {N_("Order of profiles when one does not connect"), do_order, true},
    {N_("Rename a profile"), do_rename, true},
    {N_("Delete a profile"), do_delete, true},
    {N_("Test the seal"), do_test, false},
    {N_("What is to be done in dom0"), do_guide, false},
};

static void show_choices(bool profiles)
{
    for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
        if (!choices[i].with_profiles || profiles)
            terminal_number(i + 1, gettext(choices[i].text));
    }
    terminal_number(0, _("Leave (Enter alone: look again)"));
}

static bool has_profiles(const struct terminal *t)
{
    return json_array_size(json_object_get(vpn_follow_status(t->follow), "profiles")) > 0;
}

/* Until the person leaves; the exit status is that of the last thing that was asked for. */
static int menu(struct terminal *t)
{
    char answer[16], *end;
    int status = 0;

    for (;;) {
        unsigned long number;

        terminal_raw("\n");
        terminal_show_state(t);
        show_choices(has_profiles(t));
        if (terminal_ask(t, _("Number:"), answer, sizeof(answer)) == -ENODATA ||
            strcmp(answer, "0") == 0)
            return status;
        number = strtoul(answer, &end, 10);
        if (answer[0] == '\0')
            continue;
        if (*end != '\0' || number == 0 || number > ARRAY_SIZE(choices) ||
            (choices[number - 1].with_profiles && !has_profiles(t))) {
            terminal_say("%s", _("That is not in the list."));
            continue;
        }
        status = choices[number - 1].run(t);
    }
}

int terminal_run(const char *socket)
{
    struct terminal t;
    char text[WORDS_LONG];
    int status;

    if (terminal_begin(&t, socket) < 0)
        return 1;
    if (vpn_follow_status(t.follow) == NULL) {
        terminal_say("%s", words_summary(NULL, text, sizeof(text)));
        terminal_say("%s", words_next(NULL, text, sizeof(text)));
        terminal_say(
            "%s",
            _("It runs only where dom0 has switched the service qubes-vpn on for this qube."));
        status = 1;
    } else {
        if (!has_profiles(&t)) {
            terminal_show_state(&t);
            (void)terminal_setup(&t);
        }
        status = menu(&t);
    }
    terminal_end(&t);
    return status;
}
