/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/form.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory_file.h"

#define PARTS 3 /* kinds there are */

struct part {
    char kind[WORDS_SHORT];
    GtkWidget *user, *password; /* user: NULL but for "user-password" */
};

struct form {
    GtkWidget *grid;
    struct part parts[PARTS];
    size_t n;
    int row;
};

static GtkWidget *add_entry(struct form *f, const char *id, const char *text, bool secret)
{
    GtkWidget *entry = gtk_entry_new();

    gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
    gtk_entry_set_input_hints(GTK_ENTRY(entry),
                              GTK_INPUT_HINT_NO_SPELLCHECK | GTK_INPUT_HINT_NO_EMOJI);
    if (secret) {
        gtk_entry_set_visibility(GTK_ENTRY(entry), FALSE);
        gtk_entry_set_input_purpose(GTK_ENTRY(entry), GTK_INPUT_PURPOSE_PASSWORD);
    }
    ui_name(entry, id, NULL, NULL);
    ui_row(f->grid, f->row++, text, entry);
    return entry;
}

static void add_part(struct form *f, const char *kind)
{
    struct part *p = &f->parts[f->n];

    if (f->n == PARTS)
        return;
    (void)g_strlcpy(p->kind, kind, sizeof(p->kind));
    if (strcmp(kind, "user-password") == 0) {
        p->user = add_entry(f, "secret-user", _("Use_r name"), false);
        p->password = add_entry(f, "secret-password", _("Pass_word"), true);
    } else if (strcmp(kind, "key-password") == 0) {
        p->password = add_entry(f, "secret-key", _("Password of the _key"), true);
    } else if (strcmp(kind, "challenge") == 0) {
        p->password = add_entry(f, "secret-code", _("One-_time code"), true);
    } else {
        return; /* newer than this program */
    }
    f->n++;
}

static struct form *begin(void)
{
    struct form *f = g_new0(struct form, 1);

    f->grid = gtk_grid_new();
    gtk_grid_set_row_spacing(GTK_GRID(f->grid), UI_GAP);
    gtk_grid_set_column_spacing(GTK_GRID(f->grid), UI_EDGE);
    g_object_set_data_full(G_OBJECT(f->grid), "form", f, g_free);
    return f;
}

struct form *form_new(const char *kind)
{
    struct form *f = begin();

    add_part(f, kind);
    gtk_widget_show_all(f->grid);
    return f;
}

struct form *form_new_json(const json_t *kinds)
{
    struct form *f = begin();

    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));

        if (kind != NULL)
            add_part(f, kind);
    }
    gtk_widget_show_all(f->grid);
    return f;
}

GtkWidget *form_widget(const struct form *f)
{
    return f->grid;
}

void form_on_enter(struct form *f, GCallback enter, gpointer data)
{
    if (f->n > 0)
        g_signal_connect(f->parts[f->n - 1].password, "activate", enter, data);
}

void form_focus(const struct form *f)
{
    if (f->n > 0)
        (void)gtk_widget_grab_focus(f->parts[0].user != NULL ? f->parts[0].user
                                                             : f->parts[0].password);
}

/* The toolkit wipes an entry's text where it is replaced. */
static void take(GtkWidget *entry, char buf[FORM_TEXT])
{
    buf[0] = '\0';
    if (entry == NULL)
        return;
    (void)g_strlcpy(buf, gtk_entry_get_text(GTK_ENTRY(entry)), FORM_TEXT);
    gtk_entry_set_text(GTK_ENTRY(entry), "");
}

static bool too_long(GtkWidget *entry)
{
    return entry != NULL && strlen(gtk_entry_get_text(GTK_ENTRY(entry))) >= FORM_TEXT;
}

static int take_part(const struct part *p, char user[FORM_TEXT], char password[FORM_TEXT])
{
    if (too_long(p->user) || too_long(p->password))
        return -E2BIG;
    take(p->user, user);
    take(p->password, password);
    return 0;
}

int form_take(struct form *f, char user[FORM_TEXT], char password[FORM_TEXT])
{
    return f->n > 0 ? take_part(&f->parts[0], user, password) : -ENOENT;
}

static int send_secret(struct window *w, const char *profile, const char *kind, const char *text)
{
    _cleanup_(closep) int fd = -1;
    sd_bus_message *m = NULL;
    int r = memory_file("secret", text, strlen(text), &fd);

    if (r < 0)
        return r;
    r = vpn_follow_begin(w->follow, "SetSecret", &m);
    if (r < 0)
        return r;
    r = sd_bus_message_append(m, "ssh", profile, kind, fd);
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    return vpn_follow_send(w->follow, m, window_called, w);
}

void form_send(struct form *f, struct window *w, const char *profile)
{
    char user[FORM_TEXT], password[FORM_TEXT], text[2 * FORM_TEXT + 2];
    int r = 0;

    window_tell(w, "");
    for (size_t i = 0; i < f->n && r >= 0; i++) {
        const struct part *p = &f->parts[i];

        r = take_part(p, user, password);
        if (r < 0 || password[0] == '\0')
            continue;
        if (p->user != NULL)
            (void)g_snprintf(text, sizeof(text), "%s\n%s\n", user, password);
        else
            (void)g_snprintf(text, sizeof(text), "%s\n", password);
        r = send_secret(w, profile, p->kind, text);
    }
    explicit_bzero(user, sizeof(user));
    explicit_bzero(password, sizeof(password));
    explicit_bzero(text, sizeof(text));
    if (r < 0)
        window_tell(w, g_strerror(-r));
}
