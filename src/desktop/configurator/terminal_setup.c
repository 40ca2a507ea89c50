/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The steps of setup.h, asked for line by line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "desktop/configurator/terminal_private.h"

#define CONNECT_US UINT64_C(90000000) /* where nobody can say that it is enough */
#define STEP_US    UINT64_C(500000)

enum outcome { GO_ON, DONE, GIVEN_UP };

void terminal_wait_setup(struct terminal *t)
{
    static const bool never;

    while (setup_look(t->setup)->busy) /* each call has its own limit */
        (void)terminal_wait(t, &never, false, STEP_US);
}

/* ---- files ---- */

/* As a shell or a file manager gives it: "~/x", quotes around. */
static bool expand(const char *typed, char *path, size_t size)
{
    const char *home = getenv("HOME");
    size_t len = strlen(typed);
    int n;

    if (len > 1 && (typed[0] == '\'' || typed[0] == '"') && typed[len - 1] == typed[0])
        n = snprintf(path, size, "%.*s", (int)(len - 2), typed + 1);
    else if (typed[0] == '~' && typed[1] == '/' && home != NULL)
        n = snprintf(path, size, "%s%s", home, typed + 1);
    else
        n = snprintf(path, size, "%s", typed);
    return n > 0 && (size_t)n < size;
}

static enum outcome paste(struct terminal *t)
{
    char *text = NULL;
    size_t len = 0;
    int r;

    terminal_say("%s",
                 _("Paste the text now; it is not shown, for it may hold keys. End with a line "
                   "that has only a dot."));
    r = terminal_ask_text(&text, &len);
    if (r < 0) {
        terminal_say("%s", r == -EFBIG ? _("The file is larger than 512 KiB: no profile is.")
                                       : _("No text came."));
        return GIVEN_UP;
    }
    (void)setup_text(t->setup, text, len);
    explicit_bzero(text, len);
    free(text);
    return GO_ON;
}

static enum outcome ask_file(struct terminal *t)
{
    char typed[TERMINAL_LINE], path[TERMINAL_LINE];
    const char *const paths[] = {path};

    terminal_say("%s",
                 _("Which file did your VPN provider give you (.ovpn or .conf)? Files that it "
                   "names are taken from its folder. A \"-\" alone: paste its text. Enter "
                   "alone: back."));
    if (terminal_ask(t, _("File:"), typed, sizeof(typed)) < 0 || typed[0] == '\0')
        return GIVEN_UP;
    if (strcmp(typed, "-") == 0)
        return paste(t);
    if (!expand(typed, path, sizeof(path)))
        return GO_ON;
    (void)setup_files(t->setup, paths, 1);
    return GO_ON;
}

/* ---- what was found ---- */

static void show_list(const char *title, const char *const *list)
{
    if (list[0] == NULL)
        return;
    terminal_say("%s", title);
    for (size_t i = 0; list[i] != NULL; i++) {
        char line[WORDS_LONG + 4];

        (void)snprintf(line, sizeof(line), "- %s", list[i]);
        terminal_indent(2, 4, line);
    }
}

static void show_found(const struct setup_view *v)
{
    terminal_raw("\n");
    if (v->kind[0] != '\0')
        terminal_say(_("A profile for %s."), v->kind);
    show_list(_("Its servers:"), v->servers);
    show_list(_("What is in it:"), v->found);
    show_list(_("What is not used, and why:"), v->left_out);
    show_list(_("Files that it names and that were not found:"), v->missing);
    show_list(_("Why it cannot be taken:"), v->refused);
    for (size_t i = 0; v->needs[i] != NULL; i++)
        terminal_say(_("You will be asked for: %s."), words_secret(v->needs[i]));
}

static enum outcome ask_missing(struct terminal *t)
{
    char typed[TERMINAL_LINE], path[TERMINAL_LINE];
    const char *const paths[] = {path};

    if (terminal_ask(t, _("Path of a missing file (Enter alone: give up):"), typed, sizeof(typed)) <
            0 ||
        typed[0] == '\0' || !expand(typed, path, sizeof(path)))
        return GIVEN_UP;
    if (access(path, R_OK) < 0)
        terminal_say("%s", _("There is no such file."));
    else
        (void)setup_files(t->setup, paths, 1);
    return GO_ON;
}

static enum outcome ask_import(struct terminal *t, const struct setup_view *v)
{
    char prompt[WORDS_LONG], name[WORDS_SHORT];

    if (!v->usable && v->missing[0] != NULL && v->refused[0] == NULL)
        return ask_missing(t);
    if (!v->usable) {
        terminal_say("%s",
                     _("Nothing was imported. Remove what is named above, or ask the provider "
                       "for a plain client profile."));
        setup_back(t->setup);
        return GIVEN_UP;
    }
    (void)snprintf(prompt, sizeof(prompt), _("Name it (Enter: %s; \"-\": do not import):"),
                   v->name);
    if (terminal_ask(t, prompt, name, sizeof(name)) < 0 || strcmp(name, "-") == 0)
        return GIVEN_UP;
    if (name[0] != '\0' && setup_name(t->setup, name) < 0)
        return GO_ON;
    (void)setup_import(t->setup);
    return GO_ON;
}

/* ---- secrets ---- */

static const char *prompt_of(const char *kind)
{
    if (strcmp(kind, "key-password") == 0)
        return _("Password of the private key:");
    if (strcmp(kind, "challenge") == 0)
        return _("One-time code:");
    return _("Password:");
}

/* false: nothing was given. */
static bool ask_one(struct terminal *t, const char *kind, char *user, char *password)
{
    user[0] = password[0] = '\0';
    if (strcmp(kind, "user-password") == 0 &&
        (terminal_ask(t, _("User name (Enter alone: later):"), user, TERMINAL_SECRET) < 0 ||
         user[0] == '\0'))
        return false;
    return terminal_ask_secret(prompt_of(kind), password, TERMINAL_SECRET) == 0 &&
           password[0] != '\0';
}

static enum outcome ask_secrets(struct terminal *t, const struct setup_view *v)
{
    char user[TERMINAL_SECRET], password[TERMINAL_SECRET], kind[WORDS_SHORT];

    (void)snprintf(kind, sizeof(kind), "%s", v->needs[0] != NULL ? v->needs[0] : "");
    if (kind[0] == '\0' || !ask_one(t, kind, user, password))
        (void)setup_skip(t->setup);
    else
        (void)setup_secret(t->setup, kind, user, password);
    explicit_bzero(user, sizeof(user));
    explicit_bzero(password, sizeof(password));
    return GO_ON;
}

/* The same for a profile that is there already: a step of the setup, from its middle. */
bool terminal_secrets(struct terminal *t, const char *profile, const json_t *needs)
{
    const struct setup_view *v = setup_look(t->setup);

    if (setup_resume(t->setup, profile, needs) < 0)
        return false;
    while (v->step == SETUP_SECRETS && !v->busy) {
        if (v->error[0] != '\0')
            terminal_say("%s", v->error);
        (void)ask_secrets(t, v);
        terminal_wait_setup(t);
    }
    if (v->needs[0] == NULL)
        terminal_say("%s", _("Kept, where only the VPN service can read it."));
    return v->needs[0] == NULL;
}

/* ---- the connection ---- */

static enum outcome ask_connect(struct terminal *t, const struct setup_view *v)
{
    char name[WORDS_SHORT];

    terminal_say(_("The profile %s is here."), words_clean(v->name, name, sizeof(name)));
    if (v->needs[0] != NULL)
        terminal_say("%s", _("It will not connect without what was not given."));
    if (t->over || !terminal_agree(t, _("Connect now? (Enter: yes, n: no)")))
        return DONE;
    (void)setup_connect(t->setup);
    return GO_ON;
}

static enum outcome wait_connected(struct terminal *t, const struct setup_view *v)
{
    bool person = isatty(STDIN_FILENO) != 0;
    char told[WORDS_LONG * 2] = "", line[TERMINAL_LINE];
    static const bool never;

    terminal_say("%s", person ? _("Connecting. Enter: do not wait for it.") : _("Connecting."));
    for (uint64_t gone = 0; v->step == SETUP_CONNECTING && gone < CONNECT_US; gone += STEP_US) {
        (void)terminal_wait(t, &never, person, STEP_US);
        if (t->typed) {
            (void)terminal_ask(t, "", line, sizeof(line));
            terminal_say("%s", _("It goes on trying."));
            return DONE;
        }
        if (v->error[0] != '\0' && strcmp(told, v->error) != 0)
            terminal_say("%s", v->error);
        (void)snprintf(told, sizeof(told), "%s", v->error);
    }
    if (v->step == SETUP_CONNECTING)
        terminal_say("%s", _("Not connected yet; it goes on trying."));
    return v->step == SETUP_CONNECTING ? DONE : GO_ON;
}

/* ---- the way ---- */

static enum outcome step(struct terminal *t, const struct setup_view *v)
{
    if (v->busy) {
        terminal_wait_setup(t);
        return GO_ON;
    }
    if (v->error[0] != '\0' && v->step != SETUP_CONNECTING)
        terminal_say("%s", v->error);
    switch (v->step) {
    case SETUP_CHOOSE:
        return ask_file(t);
    case SETUP_LOOKING:
    case SETUP_IMPORTING:
        return GIVEN_UP; /* never without a call on its way */
    case SETUP_FOUND:
        show_found(v);
        return ask_import(t, v);
    case SETUP_SECRETS:
        return ask_secrets(t, v);
    case SETUP_READY:
        return ask_connect(t, v);
    case SETUP_CONNECTING:
        return wait_connected(t, v);
    case SETUP_DONE:
        terminal_say("%s", _("Connected. What is to be done in dom0 stands in the list below."));
        return DONE;
    case SETUP_FAILED:
        setup_back(t->setup);
        return t->over ? GIVEN_UP : GO_ON;
    }
    return GIVEN_UP;
}

int terminal_setup(struct terminal *t)
{
    const struct setup_view *v = setup_look(t->setup);
    enum outcome outcome;

    setup_back(t->setup);
    do {
        outcome = step(t, v);
    } while (outcome == GO_ON);
    setup_back(t->setup);
    return outcome == DONE ? 0 : 1;
}
