/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a provider's file to a connection: the steps of setup.h, one at a time. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "desktop/configurator/form.h"
#include "desktop/configurator/window.h"

#define FILES_MAX      64  /* more were not meant */
#define CHOOSER_WIDTH  780 /* the toolkit's own is larger than small screens */
#define CHOOSER_HEIGHT 520

enum list { LIST_SERVERS, LIST_FOUND, LIST_REFUSED, LIST_MISSING, LIST_LEFT_OUT, LISTS };
enum action {
    DO_CHOOSE,
    DO_PASTE,
    DO_IMPORT,
    DO_SAVE,
    DO_CONNECT,
    DO_LOOK,
    DO_GUIDE,
    DO_LATER,
    DO_AGAIN,
    ACTIONS
};

static const struct {
    const char *id, *title;
} lists[LISTS] = {
    [LIST_SERVERS] = {"found-servers", N_("Servers")},
    [LIST_FOUND] = {"found-contents", N_("In the file")},
    [LIST_REFUSED] = {"found-refused", N_("Refused: with this it cannot be taken")},
    [LIST_MISSING] = {"found-missing", N_("Missing: files that it names")},
    [LIST_LEFT_OUT] = {"found-left-out", N_("Left out: it has no effect here")},
};

struct page {
    struct window *w;
    GtkWidget *steps, *error, *begin, *spinner, *waiting, *verdict, *name, *done, *ready, *after,
        *secret_title, *secret_box;
    GtkWidget *boxes[LISTS], *items[LISTS], *actions[ACTIONS], *chooser;
    struct form *form;
    char kind[WORDS_SHORT]; /* of the secret that the form asks for */
    enum setup_step shown;
    bool fresh; /* nothing was shown yet */
};

static struct page *page_of(GtkWidget *widget)
{
    return g_object_get_data(G_OBJECT(widget), "page");
}

/* ---- what is shown ---- */

static const char *child_of(enum setup_step step)
{
    switch (step) {
    case SETUP_CHOOSE:
    case SETUP_FAILED:
        return "choose";
    case SETUP_LOOKING:
    case SETUP_IMPORTING:
    case SETUP_CONNECTING:
        return "wait";
    case SETUP_FOUND:
        return "found";
    case SETUP_SECRETS:
        return "secrets";
    case SETUP_READY:
        return "ready";
    case SETUP_DONE:
        return "done";
    }
    return "choose";
}

static bool is_offered(enum action action, const struct setup_view *view)
{
    enum setup_step step = view->step;
    bool begin = step == SETUP_CHOOSE || step == SETUP_FAILED;

    switch (action) {
    case DO_CHOOSE:
        return begin || (step == SETUP_FOUND && view->missing[0] != NULL);
    case DO_PASTE:
        return begin;
    case DO_IMPORT:
        return step == SETUP_FOUND && view->usable;
    case DO_SAVE:
    case DO_LATER:
        return step == SETUP_SECRETS;
    case DO_CONNECT:
        return step == SETUP_READY;
    case DO_LOOK:
        return step == SETUP_CONNECTING || step == SETUP_DONE;
    case DO_GUIDE:
        return step == SETUP_DONE;
    case DO_AGAIN:
        return step == SETUP_FOUND || step == SETUP_READY || step == SETUP_DONE;
    case ACTIONS:
        break;
    }
    return false;
}

static void show_actions(struct page *p, const struct setup_view *view)
{
    for (int i = 0; i < ACTIONS; i++) {
        gtk_widget_set_visible(p->actions[i], is_offered((enum action)i, view));
        gtk_widget_set_sensitive(p->actions[i], !view->busy || i == DO_LOOK);
    }
    gtk_button_set_label(GTK_BUTTON(p->actions[DO_CHOOSE]), view->step == SETUP_FOUND
                                                                ? _("Add missing _files…")
                                                                : _("Choose _files…"));
    gtk_button_set_label(GTK_BUTTON(p->actions[DO_AGAIN]),
                         view->step == SETUP_FOUND ? _("Start o_ver") : _("Add anot_her"));
}

static void show_found(struct page *p, const struct setup_view *view)
{
    const char *const *all[LISTS] = {[LIST_SERVERS] = view->servers,
                                     [LIST_FOUND] = view->found,
                                     [LIST_REFUSED] = view->refused,
                                     [LIST_MISSING] = view->missing,
                                     [LIST_LEFT_OUT] = view->left_out};
    g_autofree char *text = NULL;

    if (view->kind[0] == '\0') /* so broken that it is not known */
        text = g_strdup(_("This file cannot be used as it is."));
    else if (view->usable)
        text = g_strdup_printf(_("This %s file can be used."), view->kind);
    else
        text = g_strdup_printf(_("This %s file cannot be used as it is."), view->kind);
    ui_set(p->verdict, text);
    for (int i = 0; i < LISTS; i++)
        gtk_widget_set_visible(p->boxes[i], ui_items(p->items[i], all[i]) > 0);
    gtk_widget_set_sensitive(p->name, view->usable);
    if (p->shown != SETUP_FOUND && p->shown != SETUP_IMPORTING)
        gtk_entry_set_text(GTK_ENTRY(p->name), view->name);
}

static void on_save(GtkWidget *widget, struct page *p)
{
    char user[FORM_TEXT] = "", password[FORM_TEXT] = "", kind[WORDS_SHORT];

    (void)widget;
    if (p->form == NULL)
        return;
    memcpy(kind, p->kind, sizeof(kind));
    if (form_take(p->form, user, password) < 0)
        user[0] = password[0] = '\0'; /* too long: told like an empty one */
    (void)setup_secret(p->w->setup, kind, strcmp(kind, "user-password") == 0 ? user : NULL,
                       password);
    explicit_bzero(user, sizeof(user));
    explicit_bzero(password, sizeof(password));
}

static void show_secrets(struct page *p, const struct setup_view *view)
{
    const char *kind = view->needs[0] != NULL ? view->needs[0] : "";
    g_autofree char *text = NULL;

    if (p->form != NULL && strcmp(kind, p->kind) == 0)
        return;
    (void)g_strlcpy(p->kind, kind, sizeof(p->kind));
    ui_clear(p->secret_box);
    p->form = form_new(kind);
    form_on_enter(p->form, G_CALLBACK(on_save), p);
    gtk_container_add(GTK_CONTAINER(p->secret_box), form_widget(p->form));
    text = g_strdup_printf(_("The profile %s needs: %s. It is kept in this qube, readable for the "
                             "VPN service only."),
                           view->name, words_secret(kind));
    ui_set(p->secret_title, text);
}

static void show_waiting(struct page *p, const struct setup_view *view)
{
    bool waits = strcmp(child_of(view->step), "wait") == 0;

    g_object_set(p->spinner, "active", waits, NULL);
    if (view->step == SETUP_LOOKING)
        ui_set(p->waiting, _("Looking at the file…"));
    else if (view->step == SETUP_IMPORTING)
        ui_set(p->waiting, _("Importing. You may be asked for permission…"));
    else if (view->step == SETUP_CONNECTING)
        ui_set(p->waiting, _("Connecting…"));
}

static void show_ends(struct page *p, const struct setup_view *view)
{
    g_autofree char *ready = g_strdup_printf(_("The profile %s is in this qube now."), view->name);
    g_autofree char *done = g_strdup_printf(_("Connected by %s."), view->name);

    ui_set(p->ready, ready);
    ui_set(p->done, done);
}

/* The keyboard goes where the next thing is to be done; only while the page is seen. */
static void move_focus(struct page *p, const struct setup_view *view)
{
    static const enum action first[] = {DO_IMPORT, DO_CONNECT, DO_CHOOSE, DO_LOOK, DO_AGAIN};

    if (!gtk_widget_get_mapped(p->steps))
        return;
    if (view->step == SETUP_SECRETS) {
        if (!view->busy)
            form_focus(p->form);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        if (is_offered(first[i], view) && gtk_widget_get_sensitive(p->actions[first[i]])) {
            gtk_widget_grab_focus(p->actions[first[i]]);
            return;
        }
    }
}

void page_add_setup(GtkWidget *page, const struct setup_view *view)
{
    struct page *p = page_of(page);
    bool moved = p->fresh || p->shown != view->step;

    if (view->step != SETUP_SECRETS && p->form != NULL) {
        ui_clear(p->secret_box);
        p->form = NULL;
    }
    ui_set(p->error, view->error);
    if (view->step == SETUP_FOUND)
        show_found(p, view);
    if (view->step == SETUP_SECRETS)
        show_secrets(p, view);
    show_waiting(p, view);
    show_ends(p, view);
    show_actions(p, view);
    gtk_stack_set_visible_child_name(GTK_STACK(p->steps), child_of(view->step));
    p->shown = view->step;
    p->fresh = false;
    if (moved)
        move_focus(p, view);
}

void page_add_update(GtkWidget *page, const json_t *status)
{
    struct page *p = page_of(page);
    bool none = json_array_size(json_object_get(status, "profiles")) == 0;

    ui_set(
        p->begin,
        status != NULL && none
            ? _("To begin, get a configuration file for OpenVPN (.ovpn) or WireGuard (.conf) from "
                "your VPN provider, copy it into this qube, and choose it here.")
            : _("Choose the file that your VPN provider gave you: OpenVPN (.ovpn) or WireGuard "
                "(.conf)."));
}

/* ---- what a person does ---- */

static void on_chosen(GtkWidget *dialog, int answer, struct page *p)
{
    GSList *files = gtk_file_chooser_get_filenames(GTK_FILE_CHOOSER(dialog));
    const char *paths[FILES_MAX];
    size_t n = 0;

    gtk_widget_destroy(dialog);
    p->chooser = NULL;
    for (GSList *one = files; one != NULL && n < FILES_MAX; one = one->next)
        paths[n++] = one->data;
    if (answer == GTK_RESPONSE_ACCEPT && n > 0)
        (void)setup_files(p->w->setup, paths, n); /* the view says what is wrong */
    g_slist_free_full(files, g_free);
}

static void add_filter(GtkWidget *dialog, const char *name, const char *const *patterns)
{
    GtkFileFilter *filter = gtk_file_filter_new();

    gtk_file_filter_set_name(filter, name);
    for (; *patterns != NULL; patterns++)
        gtk_file_filter_add_pattern(filter, *patterns);
    gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(dialog), filter);
}

/* Where files from other qubes arrive, if any did. */
static void start_folder(GtkWidget *dialog)
{
    g_autofree char *incoming = g_build_filename(g_get_home_dir(), "QubesIncoming", NULL);

    (void)gtk_file_chooser_set_current_folder(
        GTK_FILE_CHOOSER(dialog),
        g_file_test(incoming, G_FILE_TEST_IS_DIR) ? incoming : g_get_home_dir());
}

static void on_choose(GtkWidget *button, struct page *p)
{
    static const char *const profiles[] = {"*.ovpn", "*.conf", "*.crt", "*.pem",
                                           "*.key",  "*.p12",  NULL};
    static const char *const all[] = {"*", NULL};

    (void)button;
    if (p->chooser != NULL) {
        gtk_window_present(GTK_WINDOW(p->chooser));
        return;
    }
    p->chooser = gtk_file_chooser_dialog_new(
        _("Files of the provider"), GTK_WINDOW(p->w->top), GTK_FILE_CHOOSER_ACTION_OPEN,
        _("_Cancel"), GTK_RESPONSE_CANCEL, _("_Open"), GTK_RESPONSE_ACCEPT, NULL);
    gtk_window_set_modal(GTK_WINDOW(p->chooser), TRUE);
    gtk_window_set_destroy_with_parent(GTK_WINDOW(p->chooser), TRUE);
    gtk_dialog_set_default_response(GTK_DIALOG(p->chooser), GTK_RESPONSE_ACCEPT);
    start_folder(p->chooser);
    gtk_file_chooser_set_select_multiple(GTK_FILE_CHOOSER(p->chooser), TRUE);
    gtk_file_chooser_set_local_only(GTK_FILE_CHOOSER(p->chooser), TRUE);
    add_filter(p->chooser, _("Profiles, certificates and keys"), profiles);
    add_filter(p->chooser, _("All files"), all);
    ui_name(p->chooser, "chooser", NULL, NULL);
    gtk_widget_realize(p->chooser); /* chooses its own size first */
    gtk_window_resize(GTK_WINDOW(p->chooser), CHOOSER_WIDTH, CHOOSER_HEIGHT);
    g_signal_connect(p->chooser, "response", G_CALLBACK(on_chosen), p);
    gtk_widget_show(p->chooser);
}

void page_add_dropped(GtkWidget *page, const char *const *uris, const char *text)
{
    struct page *p = page_of(page);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

    if (uris == NULL) {
        if (text != NULL && text[0] != '\0')
            (void)setup_text(p->w->setup, text, strlen(text));
        return;
    }
    for (size_t i = 0; uris[i] != NULL && paths->len < FILES_MAX; i++) {
        char *path = g_filename_from_uri(uris[i], NULL, NULL);

        if (path != NULL)
            g_ptr_array_add(paths, path);
    }
    if (paths->len > 0)
        (void)setup_files(p->w->setup, (const char *const *)paths->pdata, paths->len);
    else
        window_tell(p->w, _("What was dropped is no file of this qube."));
}

/* The page may be gone when the text comes; data is a reference of its own. */
static void on_text(GtkClipboard *clipboard, const char *text, gpointer data)
{
    g_autoptr(GtkWidget) page = data;
    struct page *p = page_of(page);

    (void)clipboard;
    if (p == NULL || p->w->top == NULL)
        return;
    if (text == NULL || text[0] == '\0')
        window_tell(p->w, _("There is no text in the clipboard."));
    else
        (void)setup_text(p->w->setup, text, strlen(text));
}

void page_add_paste(GtkWidget *page)
{
    struct page *p = page_of(page);

    if (gtk_widget_get_visible(p->actions[DO_PASTE]))
        gtk_clipboard_request_text(gtk_widget_get_clipboard(page, GDK_SELECTION_CLIPBOARD), on_text,
                                   g_object_ref(page));
}

static void on_paste(GtkWidget *button, struct page *p)
{
    (void)button;
    page_add_paste(p->w->pages[PAGE_ADD]);
}

static void on_import(GtkWidget *widget, struct page *p)
{
    const struct setup_view *view = setup_look(p->w->setup);
    g_autofree char *name = g_strdup(gtk_entry_get_text(GTK_ENTRY(p->name)));

    (void)widget;
    if (!view->usable)
        return;
    if (strcmp(name, view->name) != 0 && setup_name(p->w->setup, name) < 0) {
        gtk_widget_grab_focus(p->name);
        return;
    }
    (void)setup_import(p->w->setup);
}

static void on_later(GtkWidget *button, struct page *p)
{
    (void)button;
    (void)setup_skip(p->w->setup);
}

static void on_connect(GtkWidget *button, struct page *p)
{
    (void)button;
    (void)setup_connect(p->w->setup);
}

static void on_look(GtkWidget *button, struct page *p)
{
    (void)button;
    window_page(p->w, PAGE_STATE);
}

static void on_guide(GtkWidget *button, struct page *p)
{
    (void)button;
    window_page(p->w, PAGE_GUIDE);
}

static void on_again(GtkWidget *button, struct page *p)
{
    (void)button;
    setup_back(p->w->setup);
}

static void on_map(GtkWidget *steps, struct page *p)
{
    (void)steps;
    move_focus(p, setup_look(p->w->setup));
}

/* ---- building ---- */

static void add_step(struct page *p, const char *name, GtkWidget *content)
{
    gtk_widget_show_all(content);
    gtk_stack_add_named(GTK_STACK(p->steps), content, name);
}

static void make_choose(struct page *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12), *drop;

    p->begin = ui_label("");
    ui_name(p->begin, "begin", NULL, NULL);
    drop = ui_label(_("You can also drop the files on this window, or paste the text.\n"
                      "Certificates and keys that the file names: choose them together with it, or "
                      "leave them in its folder."));
    gtk_style_context_add_class(gtk_widget_get_style_context(drop), "sluice-drop");
    gtk_box_pack_start(GTK_BOX(box), ui_heading(_("Add a profile")), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->begin, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), drop, FALSE, FALSE, 0);
    add_step(p, "choose", box);
}

static void make_wait(struct page *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);

    p->spinner = gtk_spinner_new();
    p->waiting = ui_label("");
    ui_name(p->waiting, "waiting", NULL, NULL);
    gtk_box_pack_start(GTK_BOX(box), p->spinner, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->waiting, TRUE, TRUE, 0);
    gtk_widget_set_valign(box, GTK_ALIGN_START);
    add_step(p, "wait", box);
}

static void make_found(struct page *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12), *grid = gtk_grid_new();

    p->verdict = ui_heading("");
    ui_name(p->verdict, "verdict", NULL, NULL);
    gtk_grid_set_column_spacing(GTK_GRID(grid), UI_EDGE);
    p->name = gtk_entry_new();
    gtk_entry_set_max_length(GTK_ENTRY(p->name), 64);
    ui_name(p->name, "name", NULL, NULL);
    g_signal_connect(p->name, "activate", G_CALLBACK(on_import), p);
    ui_row(grid, 0, _("_Name of the profile"), p->name);
    gtk_box_pack_start(GTK_BOX(box), p->verdict, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), grid, FALSE, FALSE, 0);
    for (int i = 0; i < LISTS; i++) {
        p->boxes[i] = ui_box(GTK_ORIENTATION_VERTICAL);
        p->items[i] = ui_list();
        ui_name(p->items[i], lists[i].id, _(lists[i].title), NULL);
        gtk_box_pack_start(GTK_BOX(p->boxes[i]), ui_heading(_(lists[i].title)), FALSE, FALSE, 0);
        gtk_box_pack_start(GTK_BOX(p->boxes[i]), p->items[i], FALSE, FALSE, 0);
        gtk_widget_show_all(p->boxes[i]);
        gtk_widget_set_no_show_all(p->boxes[i], TRUE);
        gtk_box_pack_start(GTK_BOX(box), p->boxes[i], FALSE, FALSE, 0);
    }
    add_step(p, "found", box);
}

static void make_secrets(struct page *p)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);

    p->secret_title = ui_label("");
    ui_name(p->secret_title, "secret-title", NULL, NULL);
    p->secret_box = ui_box(GTK_ORIENTATION_VERTICAL);
    gtk_box_pack_start(GTK_BOX(box), ui_heading(_("What the server asks for")), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->secret_title, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->secret_box, FALSE, FALSE, 0);
    add_step(p, "secrets", box);
}

static void make_ends(struct page *p)
{
    GtkWidget *ready = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);
    GtkWidget *done = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);

    p->ready = ui_heading("");
    ui_name(p->ready, "ready", NULL, NULL);
    p->done = ui_heading("");
    ui_name(p->done, "done", NULL, NULL);
    gtk_box_pack_start(GTK_BOX(ready), p->ready, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(ready),
                       ui_label(_("Connect now, or later by the button above. Until then the qubes "
                                  "behind reach nothing.")),
                       FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(done), p->done, FALSE, FALSE, 0);
    gtk_box_pack_start(
        GTK_BOX(done),
        ui_label(_("From now on it connects by itself when this qube starts. Qubes use "
                   "it when dom0 gives them this qube as their net qube.")),
        FALSE, FALSE, 0);
    add_step(p, "ready", ready);
    add_step(p, "done", done);
}

static GtkWidget *make_actions(struct page *p)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_HORIZONTAL);
    const struct {
        const char *id, *text;
        GCallback clicked;
        bool main;
    } all[ACTIONS] = {
        [DO_CHOOSE] = {"choose", _("Choose _files…"), G_CALLBACK(on_choose), true},
        [DO_PASTE] = {"paste", _("Paste _text"), G_CALLBACK(on_paste), false},
        [DO_IMPORT] = {"import", _("_Import"), G_CALLBACK(on_import), true},
        [DO_SAVE] = {"save", _("Sa_ve"), G_CALLBACK(on_save), true},
        [DO_CONNECT] = {"connect-now", _("Connect _now"), G_CALLBACK(on_connect), true},
        [DO_LOOK] = {"look", _("Sho_w the state"), G_CALLBACK(on_look), true},
        [DO_GUIDE] = {"dom0", _("What to do _in dom0"), G_CALLBACK(on_guide), false},
        [DO_LATER] = {"later", _("Not no_w"), G_CALLBACK(on_later), false},
        [DO_AGAIN] = {"again", _("Start o_ver"), G_CALLBACK(on_again), false},
    };

    g_object_set(box, "margin", 12, "margin-start", UI_EDGE, NULL);
    for (int i = 0; i < ACTIONS; i++) {
        p->actions[i] = ui_button(all[i].id, all[i].text, all[i].clicked, p);
        if (all[i].main)
            gtk_style_context_add_class(gtk_widget_get_style_context(p->actions[i]),
                                        "suggested-action");
        gtk_widget_set_no_show_all(p->actions[i], TRUE);
        gtk_box_pack_start(GTK_BOX(box), p->actions[i], FALSE, FALSE, 0);
    }
    return box;
}

GtkWidget *page_add_new(struct window *w)
{
    struct page *p = g_new0(struct page, 1);
    GtkWidget *page = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12);

    p->w = w;
    p->fresh = true;
    p->steps = gtk_stack_new();
    gtk_stack_set_vhomogeneous(GTK_STACK(p->steps), FALSE);
    gtk_stack_set_hhomogeneous(GTK_STACK(p->steps), FALSE);
    p->error = ui_label("");
    gtk_widget_set_no_show_all(p->error, TRUE);
    gtk_style_context_add_class(gtk_widget_get_style_context(p->error), "sluice-error");
    ui_name(p->error, "setup-error", NULL, NULL);
    atk_object_set_role(gtk_widget_get_accessible(p->error), ATK_ROLE_ALERT);
    gtk_box_pack_start(GTK_BOX(box), p->error, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->steps, FALSE, FALSE, 0);
    make_choose(p);
    make_wait(p);
    make_found(p);
    make_secrets(p);
    make_ends(p);
    gtk_box_pack_start(GTK_BOX(page), ui_page(box), TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(page), gtk_separator_new(GTK_ORIENTATION_HORIZONTAL), FALSE, FALSE,
                       0);
    gtk_box_pack_start(GTK_BOX(page), make_actions(p), FALSE, FALSE, 0);
    g_object_set_data_full(G_OBJECT(page), "page", p, g_free);
    g_signal_connect(p->steps, "map", G_CALLBACK(on_map), p);
    return page;
}
