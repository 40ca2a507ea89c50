/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/window.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

#define ICON_SIZE 48
#define WAIT_MS   200 /* for the supervisor's first answer, before the window shows without */

static const struct {
    const char *name, *title;
    GtkWidget *(*make)(struct window *w);
    void (*update)(GtkWidget *page, const json_t *status);
} pages[WINDOW_PAGES] = {
    [PAGE_STATE] = {"state", N_("_State"), page_state_new, page_state_update},
    [PAGE_PROFILES] = {"profiles", N_("_Profiles"), page_profiles_new, page_profiles_update},
    [PAGE_ADD] = {"add", N_("_Add a profile"), page_add_new, page_add_update},
    [PAGE_TEST] = {"test", N_("_Leak test"), page_test_new, page_test_update},
    [PAGE_GUIDE] = {"guide", N_("In _dom0"), page_guide_new, page_guide_update},
};

/* Colours are the theme's own, so that it is right in light and dark ones. */
static const char style[] =
    ".sluice-title { font-weight: bold; font-size: 130%; }"
    ".sluice-heading { font-weight: bold; font-size: 110%; }"
    ".sluice-head { padding: 12px 18px; border-bottom: 1px solid alpha(currentColor, 0.2); }"
    ".sluice-nav { padding: 12px 6px; border-right: 1px solid alpha(currentColor, 0.2); }"
    ".sluice-nav button { padding: 6px 12px; margin-bottom: 2px; }"
    ".sluice-lines { padding: 8px 12px; border-radius: 4px;"
    " background-color: alpha(currentColor, 0.08); }"
    ".sluice-drop { padding: 24px; border: 2px dashed alpha(currentColor, 0.4);"
    " border-radius: 8px; }"
    ".sluice-strong { font-weight: bold; }"
    ".sluice-bad { font-weight: bold; color: @error_color; }"
    ".sluice-error { padding: 8px 12px; border-left: 4px solid @error_color;"
    " background-color: alpha(@error_color, 0.1); }";

enum window_page window_page_of(const char *name)
{
    int i = 0;

    while (i < WINDOW_PAGES && strcmp(name, pages[i].name) != 0)
        i++;
    return (enum window_page)i;
}

/* ---- calls ---- */

void window_tell(struct window *w, const char *text)
{
    char clean[WORDS_LONG];

    ui_set(w->bar_text, words_clean(text, clean, sizeof(clean)));
    gtk_widget_set_visible(w->bar, text[0] != '\0');
    gtk_info_bar_set_revealed(GTK_INFO_BAR(w->bar), text[0] != '\0');
}

void window_called(void *data, const json_t *results, const char *error_name, const char *error)
{
    struct window *w = data;
    g_autofree char *text = NULL;
    char said[WORDS_LONG];

    (void)results;
    if (error == NULL || w->top == NULL)
        return;
    if (strcmp(error_name, "Denied") == 0)
        text = g_strdup_printf(_("Not done: this was not permitted. (%s)"), error);
    else if (strcmp(error_name, "Unkept") == 0)
        text = g_strdup(words_said(error, said, sizeof(said))); /* it is done */
    else
        text = g_strdup_printf(_("Not done: %s"), error);
    window_tell(w, text);
}

void window_call(struct window *w, const char *method, const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list args;
    int r;

    window_tell(w, "");
    r = vpn_follow_begin(w->follow, method, &m);
    if (r >= 0) {
        va_start(args, types);
        r = sd_bus_message_appendv(m, types, args);
        va_end(args);
        if (r >= 0)
            r = vpn_follow_send(w->follow, m, window_called, w);
        else
            sd_bus_message_unref(m);
    }
    if (r < 0)
        window_tell(w, r == -ENOTCONN ? _("Not done: the VPN service does not answer.")
                                      : g_strerror(-r));
}

static void on_connect(GtkButton *button, struct window *w)
{
    (void)button;
    window_call(w, "Up", "");
}

static void on_block(GtkButton *button, struct window *w)
{
    (void)button;
    window_call(w, "Down", "");
}

static void on_bar(GtkInfoBar *bar, int response, struct window *w)
{
    (void)bar;
    (void)response;
    window_tell(w, "");
}

/* ---- what is ---- */

static bool is_state(const json_t *status, const char *state)
{
    const char *now = json_string_value(json_object_get(status, "state"));

    return now != NULL && strcmp(now, state) == 0;
}

static void show_head(struct window *w, const json_t *status)
{
    enum words_mood mood = words_mood(status);
    const char *name = words_mood_title(mood);
    char text[WORDS_LONG];
    bool wanted = json_is_true(json_object_get(status, "wanted_up"));
    bool some = json_array_size(json_object_get(status, "profiles")) > 0;
    bool busy =
        is_state(status, "up") || is_state(status, "connecting") || is_state(status, "resolving");

    gtk_image_set_from_icon_name(GTK_IMAGE(w->icon), words_mood_icon(mood), GTK_ICON_SIZE_DIALOG);
    gtk_window_set_icon_name(GTK_WINDOW(w->top), words_mood_icon(mood));
    atk_object_set_name(gtk_widget_get_accessible(w->icon), name);
    ui_set(w->title, name);
    ui_set(w->summary, words_summary(status, text, sizeof(text)));
    ui_set(w->next, words_next(status, text, sizeof(text)));
    gtk_widget_set_sensitive(w->connect, some && !(wanted && busy));
    gtk_widget_set_sensitive(w->block, some && wanted);
}

static void show_top(struct window *w)
{
    if (!gtk_widget_get_visible(w->top))
        gtk_window_present(GTK_WINDOW(w->top));
}

static void take_files(struct window *w)
{
    g_auto(GStrv) files = TAKE_PTR(w->files);

    if (files != NULL)
        (void)setup_files(w->setup, (const char *const *)files, g_strv_length(files));
}

static void on_changed(void *data, const json_t *status)
{
    struct window *w = data;
    bool first = !w->known;

    if (w->top == NULL)
        return;
    w->known = true;
    setup_status(w->setup, status);
    show_head(w, status);
    for (int i = 0; i < WINDOW_PAGES; i++) {
        if (w->pages[i] != NULL)
            pages[i].update(w->pages[i], status);
    }
    if (first && !w->chosen) {
        bool none = status != NULL && json_array_size(json_object_get(status, "profiles")) == 0;

        window_page(w, none ? PAGE_ADD : PAGE_STATE);
        w->chosen = false; /* this was not the person's choice */
    }
    show_top(w);
    if (first)
        take_files(w);
}

/* What happened, before what the supervisor says of it. */
static const char *event_words(const char *kind)
{
    static const struct {
        const char *kind, *words;
    } all[] = {
        {"connecting", N_("Connecting")}, {"up", N_("Tunnel")},
        {"stalled", N_("No answer")},     {"down", N_("Blocked")},
        {"lost", N_("Connection lost")},  {"failed", N_("Somebody has to do something")},
        {"secret", N_("Password")},       {"profiles", N_("Profiles")},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (strcmp(kind, all[i].kind) == 0)
            return _(all[i].words);
    }
    return NULL;
}

static void on_event(void *data, const char *kind, const char *text)
{
    struct window *w = data;
    struct window_event *e = w->events;
    const char *what = event_words(kind);
    char clean[WORDS_LONG];

    if (w->top == NULL)
        return;
    memmove(e + 1, e, (WINDOW_EVENTS - 1) * sizeof(*e));
    e->at_us = (uint64_t)g_get_real_time();
    (void)words_clean(text, clean, sizeof(clean));
    (void)g_snprintf(e->text, sizeof(e->text), "%s%s%s", what != NULL ? what : "",
                     what != NULL && clean[0] != '\0' ? ": " : "", clean);
    if (w->n_events < WINDOW_EVENTS)
        w->n_events++;
    if (w->pages[PAGE_STATE] != NULL)
        page_state_events(w->pages[PAGE_STATE]);
}

static void on_tested(void *data, bool sealed, const char *report)
{
    struct window *w = data;

    if (w->top != NULL && w->pages[PAGE_TEST] != NULL)
        page_test_result(w->pages[PAGE_TEST], sealed, report);
}

static void on_setup(void *data, const struct setup_view *view)
{
    struct window *w = data;

    if (w->top == NULL)
        return;
    if (w->pages[PAGE_ADD] != NULL)
        page_add_setup(w->pages[PAGE_ADD], view);
}

static gboolean on_late(gpointer data)
{
    struct window *w = data;

    w->late = 0;
    if (!w->known)
        show_top(w);
    return G_SOURCE_REMOVE;
}

/* ---- pages ---- */

static void need_page(struct window *w, enum window_page page)
{
    if (w->pages[page] != NULL)
        return;
    w->pages[page] = pages[page].make(w);
    gtk_widget_show_all(w->pages[page]);
    gtk_stack_add_named(GTK_STACK(w->stack), w->pages[page], pages[page].name);
    pages[page].update(w->pages[page], vpn_follow_status(w->follow));
    if (page == PAGE_ADD)
        page_add_setup(w->pages[page], setup_look(w->setup));
}

void window_page(struct window *w, enum window_page page)
{
    if (w->top == NULL)
        return;
    w->chosen = true;
    need_page(w, page);
    gtk_stack_set_visible_child(GTK_STACK(w->stack), w->pages[page]);
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(w->nav[page]), TRUE);
}

void window_files(struct window *w, const char *const *paths, size_t n)
{
    g_strfreev(w->files);
    w->files = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++)
        w->files[i] = g_strdup(paths[i]);
    window_page(w, PAGE_ADD);
    if (w->known)
        take_files(w);
}

void window_front(struct window *w)
{
    if (w->top != NULL && gtk_widget_get_visible(w->top))
        gtk_window_present(GTK_WINDOW(w->top));
}

static void on_nav(GtkToggleButton *button, struct window *w)
{
    if (!gtk_toggle_button_get_active(button))
        return;
    for (int i = 0; i < WINDOW_PAGES; i++) {
        if (w->nav[i] == GTK_WIDGET(button) &&
            (w->pages[i] == NULL ||
             gtk_stack_get_visible_child(GTK_STACK(w->stack)) != w->pages[i]))
            window_page(w, (enum window_page)i);
    }
}

static void on_drop(GtkWidget *top, GdkDragContext *context, int x, int y, GtkSelectionData *data,
                    guint info, guint when, struct window *w)
{
    g_auto(GStrv) uris = gtk_selection_data_get_uris(data);
    g_autofree guchar *text = uris == NULL ? gtk_selection_data_get_text(data) : NULL;

    (void)top;
    (void)x;
    (void)y;
    (void)info;
    gtk_drag_finish(context, uris != NULL || text != NULL, FALSE, when);
    if (uris == NULL && text == NULL)
        return;
    window_page(w, PAGE_ADD);
    page_add_dropped(w->pages[PAGE_ADD], (const char *const *)uris, (const char *)text);
    if (text != NULL)
        explicit_bzero(text, strlen((const char *)text));
}

static gboolean on_key(GtkWidget *top, GdkEventKey *event, struct window *w)
{
    GtkWidget *focus = gtk_window_get_focus(GTK_WINDOW(top));
    bool control = (event->state & gtk_accelerator_get_default_mod_mask()) == GDK_CONTROL_MASK;

    if (!control)
        return GDK_EVENT_PROPAGATE;
    if (event->keyval == GDK_KEY_q || event->keyval == GDK_KEY_w) {
        gtk_window_close(GTK_WINDOW(top));
        return GDK_EVENT_STOP;
    }
    if (event->keyval == GDK_KEY_v && !GTK_IS_EDITABLE(focus) && w->pages[PAGE_ADD] != NULL &&
        gtk_widget_get_mapped(w->pages[PAGE_ADD])) {
        page_add_paste(w->pages[PAGE_ADD]);
        return GDK_EVENT_STOP;
    }
    return GDK_EVENT_PROPAGATE;
}

/* ---- building ---- */

static GtkWidget *make_head(struct window *w)
{
    GtkWidget *head = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
    GtkWidget *words = ui_box(GTK_ORIENTATION_VERTICAL),
              *buttons = ui_box(GTK_ORIENTATION_VERTICAL);

    gtk_style_context_add_class(gtk_widget_get_style_context(head), "sluice-head");
    w->icon = gtk_image_new();
    gtk_image_set_pixel_size(GTK_IMAGE(w->icon), ICON_SIZE);
    gtk_widget_set_valign(w->icon, GTK_ALIGN_START);
    ui_name(w->icon, "mood", NULL, NULL);
    w->title = ui_label("");
    gtk_style_context_add_class(gtk_widget_get_style_context(w->title), "sluice-title");
    ui_name(w->title, "title", NULL, NULL);
    w->summary = ui_label("");
    ui_name(w->summary, "summary", NULL, NULL);
    w->next = ui_label("");
    ui_name(w->next, "next", NULL, NULL);
    w->connect = ui_button("connect", _("_Connect"), G_CALLBACK(on_connect), w);
    gtk_style_context_add_class(gtk_widget_get_style_context(w->connect), "suggested-action");
    w->block = ui_button("block", _("_Block"), G_CALLBACK(on_block), w);
    gtk_widget_set_tooltip_text(w->block,
                                _("Disconnect. The qubes behind reach nothing until you connect."));
    gtk_box_pack_start(GTK_BOX(words), w->title, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(words), w->summary, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(words), w->next, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(buttons), w->connect, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(buttons), w->block, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(head), w->icon, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(head), words, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(head), buttons, FALSE, FALSE, 0);
    return head;
}

static GtkWidget *make_bar(struct window *w)
{
    w->bar = gtk_info_bar_new();
    w->bar_text = ui_label("");
    ui_name(w->bar_text, "told", NULL, NULL);
    ui_name(w->bar, "bar", _("Message"), NULL);
    atk_object_set_role(gtk_widget_get_accessible(w->bar), ATK_ROLE_ALERT);
    gtk_info_bar_set_message_type(GTK_INFO_BAR(w->bar), GTK_MESSAGE_WARNING);
    (void)gtk_info_bar_add_button(GTK_INFO_BAR(w->bar), _("_OK"), GTK_RESPONSE_CLOSE);
    gtk_container_add(GTK_CONTAINER(gtk_info_bar_get_content_area(GTK_INFO_BAR(w->bar))),
                      w->bar_text);
    g_signal_connect(w->bar, "response", G_CALLBACK(on_bar), w);
    return w->bar;
}

static GtkWidget *make_nav(struct window *w)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0), *first = NULL;

    gtk_style_context_add_class(gtk_widget_get_style_context(box), "sluice-nav");
    ui_name(box, "pages", _("Pages"), NULL);
    for (int i = 0; i < WINDOW_PAGES; i++) {
        GtkWidget *button = gtk_radio_button_new_with_mnemonic_from_widget(
            first != NULL ? GTK_RADIO_BUTTON(first) : NULL, _(pages[i].title));
        g_autofree char *id = g_strconcat("page-", pages[i].name, NULL);

        if (first == NULL)
            first = button;
        gtk_toggle_button_set_mode(GTK_TOGGLE_BUTTON(button), FALSE);
        gtk_button_set_relief(GTK_BUTTON(button), GTK_RELIEF_NONE);
        gtk_label_set_xalign(GTK_LABEL(gtk_bin_get_child(GTK_BIN(button))), 0);
        ui_name(button, id, NULL, NULL);
        g_signal_connect(button, "toggled", G_CALLBACK(on_nav), w);
        gtk_box_pack_start(GTK_BOX(box), button, FALSE, FALSE, 0);
        w->nav[i] = button;
    }
    return box;
}

static void add_style(void)
{
    g_autoptr(GtkCssProvider) css = gtk_css_provider_new();

    (void)gtk_css_provider_load_from_data(css, style, -1, NULL);
    gtk_style_context_add_provider_for_screen(gdk_screen_get_default(), GTK_STYLE_PROVIDER(css),
                                              GTK_STYLE_PROVIDER_PRIORITY_APPLICATION);
}

static void make_top(struct window *w)
{
    GtkWidget *all = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *low = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);

    add_style();
    w->top = gtk_application_window_new(w->app);
    gtk_window_set_title(GTK_WINDOW(w->top), _("Qubes VPN"));
    gtk_window_set_default_size(GTK_WINDOW(w->top), 860, 640);
    w->stack = gtk_stack_new();
    gtk_stack_set_vhomogeneous(GTK_STACK(w->stack), FALSE);
    gtk_box_pack_start(GTK_BOX(low), make_nav(w), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(low), w->stack, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(all), make_head(w), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(all), make_bar(w), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(all), low, TRUE, TRUE, 0);
    gtk_container_add(GTK_CONTAINER(w->top), all);
    gtk_widget_show_all(all);
    window_tell(w, "");
    gtk_drag_dest_set(w->top, GTK_DEST_DEFAULT_ALL, NULL, 0, GDK_ACTION_COPY);
    gtk_drag_dest_add_uri_targets(w->top);
    gtk_drag_dest_add_text_targets(w->top);
    g_signal_connect(w->top, "drag-data-received", G_CALLBACK(on_drop), w);
    g_signal_connect(w->top, "destroy", G_CALLBACK(gtk_widget_destroyed), &w->top);
    g_signal_connect(w->top, "key-press-event", G_CALLBACK(on_key), w);
}

int window_new(struct window **ret, GtkApplication *app, sd_event *event, const char *socket,
               enum window_page page)
{
    static const struct vpn_follow_ops follow_ops = {on_changed, on_event, on_tested};
    static const struct setup_ops setup_ops = {on_setup};
    struct window *w = calloc(1, sizeof(*w));
    int r;

    if (w == NULL)
        return -ENOMEM;
    w->app = app;
    r = vpn_follow_new(&w->follow, event, socket, &follow_ops, w);
    if (r >= 0)
        r = setup_new(&w->setup, w->follow, &setup_ops, w);
    if (r < 0) {
        (void)window_free(w);
        return r;
    }
    make_top(w);
    show_head(w, NULL);
    if (page != WINDOW_PAGES)
        window_page(w, page);
    w->late = g_timeout_add(WAIT_MS, on_late, w);
    *ret = w;
    return 0;
}

struct window *window_free(struct window *w)
{
    if (w == NULL)
        return NULL;
    if (w->late != 0)
        (void)g_source_remove(w->late);
    if (w->top != NULL)
        gtk_widget_destroy(w->top);
    w->setup = setup_free(w->setup);
    w->follow = vpn_follow_free(w->follow);
    g_strfreev(w->files);
    free(w);
    return NULL;
}
