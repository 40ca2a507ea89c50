/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/tray/tray.h"

#include <errno.h>
#include <gtk/gtk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "desktop/tray/look.h"
#include "desktop/tray/notice.h"
#include "vpn/object/follow.h"

/* GtkStatusIcon, how its menu is placed: GTK 3 calls them deprecated since desktops of another
 * protocol appeared. Qubes docks by XEmbed, and GTK has nothing else for it. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define WIDTH_CHARS 52
/* Until then the supervisor may answer before an icon says that it does not. */
#define PATIENCE_S 3

struct tray {
    struct vpn_follow *follow;
    struct notice *notice;
    char *socket, *configurator;
    GtkStatusIcon *icon;
    guint patience;
    struct look look;
    char note[WORDS_LONG]; /* the answer to what was asked for last, or "" */
    bool testing;

    /* The menu as it was opened last; all NULL before that. */
    GtkWidget *menu, *status_item, *connect_item, *block_item, *test_item;
    char opened[LOOK_PROFILES][LOOK_ID]; /* what its profile items stand for */
    bool filling;                        /* items change because we say so */
};

/* ---- what is shown ---- */

/* Lines of what is known now: "what is", "what to do", "what came of it". */
static char *tell(const struct tray *t, char *buf, size_t size)
{
    const char *note = t->testing ? _("Leak test: the seal reads itself back…") : t->note;
    int n = snprintf(buf, size, "%s", t->look.summary);

    if (t->look.next[0] != '\0' && n > 0 && (size_t)n < size)
        n += snprintf(buf + n, size - (size_t)n, "\n%s", t->look.next);
    if (note[0] != '\0' && n > 0 && (size_t)n < size)
        (void)snprintf(buf + n, size - (size_t)n, "\n%s", note);
    return buf;
}

/* An open menu stays as it is but for what would be wrong. */
static void update_menu(struct tray *t)
{
    char text[WORDS_LONG * 3 + 3];

    if (t->menu == NULL)
        return;
    gtk_menu_item_set_label(GTK_MENU_ITEM(t->status_item), tell(t, text, sizeof(text)));
    gtk_widget_set_sensitive(t->connect_item, t->look.can_connect);
    gtk_widget_set_sensitive(t->block_item, t->look.can_block);
    gtk_widget_set_sensitive(t->test_item, t->look.can_test && !t->testing);
}

static void update(struct tray *t)
{
    char text[WORDS_LONG * 3 + 3], title[WORDS_SHORT];

    (void)snprintf(title, sizeof(title), _("Qubes VPN: %s"), words_mood_title(t->look.mood));
    gtk_status_icon_set_from_icon_name(t->icon, words_mood_icon(t->look.mood));
    gtk_status_icon_set_title(t->icon, title);
    gtk_status_icon_set_tooltip_text(t->icon, tell(t, text, sizeof(text)));
    gtk_status_icon_set_visible(t->icon, TRUE);
    update_menu(t);
}

static void answer(struct tray *t, const char *icon, const char *text)
{
    (void)snprintf(t->note, sizeof(t->note), "%s", text);
    notice_show(t->notice, icon, text);
    update(t);
}

/* ---- what the supervisor says ---- */

/* Much of a status is not shown here: the panel is only troubled with what is. */
static void on_changed(void *data, const json_t *status)
{
    struct tray *t = data;
    struct look before = t->look;

    if (t->patience != 0)
        (void)g_source_remove(t->patience);
    t->patience = 0;
    look_at(&t->look, status);
    if (t->look.mood != before.mood)
        t->note[0] = '\0';
    if (status == NULL)
        t->testing = false;
    if (!gtk_status_icon_get_visible(t->icon) || !look_same(&t->look, &before))
        update(t);
}

static void on_tested(void *data, bool sealed, const char *report)
{
    struct tray *t = data;
    char text[WORDS_LONG];

    (void)report;
    if (!t->testing) /* somebody else asked, and is told */
        return;
    t->testing = false;
    answer(t, words_mood_icon(sealed ? WORDS_UP : WORDS_ATTENTION),
           look_verdict(sealed, text, sizeof(text)));
}

static gboolean on_patience(gpointer data)
{
    struct tray *t = data;

    t->patience = 0;
    look_at(&t->look, NULL);
    update(t);
    return G_SOURCE_REMOVE;
}

/* ---- what is asked for ---- */

static void on_done(void *data, const json_t *results, const char *error_name, const char *error)
{
    struct tray *t = data;
    char text[WORDS_LONG];

    (void)results;
    if (error != NULL)
        answer(t, words_mood_icon(WORDS_ATTENTION),
               look_failure(error_name, error, text, sizeof(text)));
}

static void on_test_done(void *data, const json_t *results, const char *error_name,
                         const char *error)
{
    struct tray *t = data;

    if (error != NULL)
        t->testing = false;
    on_done(t, results, error_name, error);
}

static void ask(struct tray *t, const char *method, const char *profile)
{
    bool test = strcmp(method, "Test") == 0;
    vpn_done_fn done = test ? on_test_done : on_done;
    int r = profile != NULL ? vpn_follow_call(t->follow, done, t, method, "s", profile)
                            : vpn_follow_call(t->follow, done, t, method, "");

    t->note[0] = '\0';
    t->testing = (t->testing || test) && r >= 0;
    if (r < 0)
        on_done(t, NULL, "", r == -ENOTCONN ? _("the VPN service does not answer") : strerror(-r));
    else
        update(t);
}

static void on_ask(GtkMenuItem *item, gpointer data)
{
    ask(data, g_object_get_data(G_OBJECT(item), "method"), NULL);
}

static void on_profile(GtkCheckMenuItem *item, gpointer data)
{
    struct tray *t = data;

    if (!t->filling && gtk_check_menu_item_get_active(item))
        ask(t, "Use", g_object_get_data(G_OBJECT(item), "profile"));
}

static void on_window(GtkMenuItem *item, gpointer data)
{
    struct tray *t = data;
    const char *page = g_object_get_data(G_OBJECT(item), "page");
    const char *argv[6] = {t->configurator};
    g_autoptr(GError) error = NULL;
    size_t n = 1;
    char text[WORDS_LONG];

    if (t->socket != NULL) {
        argv[n++] = "--bus";
        argv[n++] = t->socket;
    }
    if (page != NULL) {
        argv[n++] = "--page";
        argv[n++] = page;
    }
    /* GLib collects it when it ends */
    if (!g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &error))
        answer(t, words_mood_icon(WORDS_ATTENTION),
               look_failure("", error->message, text, sizeof(text)));
}

/* ---- the menu ---- */

static GtkWidget *add(struct tray *t, GtkWidget *item)
{
    gtk_menu_shell_append(GTK_MENU_SHELL(t->menu), item);
    return item;
}

static GtkWidget *add_action(struct tray *t, const char *label, const char *method)
{
    GtkWidget *item = add(t, gtk_menu_item_new_with_mnemonic(label));

    g_object_set_data(G_OBJECT(item), "method", (gpointer)method);
    g_signal_connect(item, "activate", G_CALLBACK(on_ask), t);
    return item;
}

static void add_window(struct tray *t, const char *label, bool mnemonic, const char *page)
{
    GtkWidget *item = add(t, mnemonic ? gtk_menu_item_new_with_mnemonic(label)
                                      : gtk_menu_item_new_with_label(label));

    g_object_set_data(G_OBJECT(item), "page", (gpointer)page);
    g_signal_connect(item, "activate", G_CALLBACK(on_window), t);
}

/* A line that is read and not chosen: it is insensitive, but not as pale as themes draw that. Plain
 * text: no mnemonic, no markup. */
static GtkWidget *add_line(struct tray *t)
{
    g_autoptr(GtkCssProvider) css = gtk_css_provider_new();
    GtkWidget *item = add(t, gtk_menu_item_new_with_label(""));
    GtkLabel *label = GTK_LABEL(gtk_bin_get_child(GTK_BIN(item)));

    (void)gtk_css_provider_load_from_data(css, "label { color: @theme_fg_color; }", -1, NULL);
    gtk_style_context_add_provider(gtk_widget_get_style_context(GTK_WIDGET(label)),
                                   GTK_STYLE_PROVIDER(css),
                                   GTK_STYLE_PROVIDER_PRIORITY_APPLICATION);
    gtk_label_set_line_wrap(label, TRUE);
    gtk_label_set_max_width_chars(label, WIDTH_CHARS);
    gtk_widget_set_sensitive(item, FALSE);
    return item;
}

static void add_profiles(struct tray *t)
{
    /* A radio group has always one that is on; with nothing chosen it is this one, which is not
     * shown. */
    GtkWidget *none = gtk_radio_menu_item_new(NULL);
    char more[WORDS_SHORT];

    gtk_menu_shell_append(GTK_MENU_SHELL(t->menu), none);
    gtk_widget_set_no_show_all(none, TRUE);
    for (size_t i = 0; i < t->look.n; i++) {
        const struct look_profile *p = &t->look.profiles[i];
        GtkWidget *item = add(t, gtk_radio_menu_item_new_with_label_from_widget(
                                     GTK_RADIO_MENU_ITEM(none), p->name));

        memcpy(t->opened[i], p->id, sizeof(t->opened[i]));
        g_object_set_data(G_OBJECT(item), "profile", t->opened[i]);
        gtk_check_menu_item_set_active(GTK_CHECK_MENU_ITEM(item), p->chosen);
        gtk_widget_set_sensitive(item, p->usable || p->chosen);
        g_signal_connect(item, "activate", G_CALLBACK(on_profile), t);
    }
    if (t->look.more > 0) {
        (void)snprintf(more, sizeof(more),
                       ngettext("%zu more profile…", "%zu more profiles…", t->look.more),
                       t->look.more);
        add_window(t, more, false, "profiles");
    }
}

/* Made anew each time it is opened: the last one is not on the screen any more. */
static void make_menu(struct tray *t)
{
    if (t->menu != NULL) {
        gtk_widget_destroy(t->menu);
        g_object_unref(t->menu);
    }
    t->menu = g_object_ref_sink(gtk_menu_new());
    atk_object_set_name(gtk_widget_get_accessible(t->menu), _("Qubes VPN"));
    t->status_item = add_line(t);
    (void)add(t, gtk_separator_menu_item_new());
    if (t->look.n > 0) {
        t->filling = true;
        add_profiles(t);
        t->filling = false;
        (void)add(t, gtk_separator_menu_item_new());
    }
    t->connect_item = add_action(t, _("_Connect"), "Up");
    t->block_item = add_action(t, _("_Block"), "Down");
    t->test_item = add_action(t, _("Leak _test"), "Test");
    (void)add(t, gtk_separator_menu_item_new());
    add_window(t, _("C_onfigure…"), true, t->look.n > 0 ? "profiles" : "add");
    add_window(t, _("_Details…"), true, "state");
    update_menu(t);
    gtk_widget_show_all(t->menu);
}

static void popup(struct tray *t, guint button, guint32 when)
{
    make_menu(t);
    gtk_menu_popup(GTK_MENU(t->menu), NULL, NULL, gtk_status_icon_position_menu, t->icon, button,
                   when);
}

static void on_popup(GtkStatusIcon *icon, guint button, guint when, gpointer data)
{
    (void)icon;
    popup(data, button, when);
}

static void on_click(GtkStatusIcon *icon, gpointer data)
{
    (void)icon;
    popup(data, 1, gtk_get_current_event_time());
}

/* ---- life ---- */

static int begin(struct tray *t, sd_event *event, const char *socket, const char *configurator)
{
    static const struct vpn_follow_ops ops = {on_changed, NULL, on_tested};
    int r;

    t->look.mood = WORDS_ATTENTION;
    t->configurator = strdup(configurator);
    if (t->configurator == NULL || (socket != NULL && (t->socket = strdup(socket)) == NULL))
        return -ENOMEM;
    t->icon = gtk_status_icon_new();
    gtk_status_icon_set_visible(t->icon, FALSE);
    gtk_status_icon_set_name(t->icon, "qubes-vpn-tray");
    g_signal_connect(t->icon, "popup-menu", G_CALLBACK(on_popup), t);
    g_signal_connect(t->icon, "activate", G_CALLBACK(on_click), t);
    t->patience = g_timeout_add_seconds(PATIENCE_S, on_patience, t);
    r = notice_new(&t->notice, event);
    return r < 0 ? r : vpn_follow_new(&t->follow, event, socket, &ops, t);
}

int tray_new(struct tray **ret, sd_event *event, const char *socket, const char *configurator)
{
    struct tray *t = calloc(1, sizeof(*t));
    int r;

    if (t == NULL)
        return -ENOMEM;
    r = begin(t, event, socket, configurator);
    if (r < 0) {
        (void)tray_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

struct tray *tray_free(struct tray *t)
{
    if (t == NULL)
        return NULL;
    t->follow = vpn_follow_free(t->follow);
    t->notice = notice_free(t->notice);
    if (t->patience != 0)
        (void)g_source_remove(t->patience);
    if (t->menu != NULL) {
        gtk_widget_destroy(t->menu);
        g_object_unref(t->menu);
    }
    g_clear_object(&t->icon);
    free(t->socket);
    free(t->configurator);
    free(t);
    return NULL;
}
