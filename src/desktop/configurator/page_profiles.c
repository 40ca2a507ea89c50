/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The profiles: choose, order for fail-over, rename, delete, give what is missing. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "desktop/configurator/form.h"
#include "desktop/configurator/window.h"

struct page {
    struct window *w;
    GtkWidget *list, *empty, *use, *rename, *remove, *secret, *up, *down, *part, *random;
    json_t *profiles; /* as shown, sorted: those of the order first */
    char *wanted;     /* the one to select after the next change: what was renamed */
    bool filling;     /* what is toggled now, is not by the person */
};

static struct page *page_of(GtkWidget *widget)
{
    return g_object_get_data(G_OBJECT(widget), "page");
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

static json_int_t order_of(const json_t *profile)
{
    return json_integer_value(json_object_get(profile, "order"));
}

static const json_t *selected(const struct page *p)
{
    GtkListBoxRow *row = gtk_list_box_get_selected_row(GTK_LIST_BOX(p->list));

    return row == NULL ? NULL
                       : json_array_get(p->profiles, (size_t)gtk_list_box_row_get_index(row));
}

static size_t in_order(const struct page *p)
{
    size_t n = 0;

    while (n < json_array_size(p->profiles) && order_of(json_array_get(p->profiles, n)) > 0)
        n++;
    return n;
}

/* ---- the list ---- */

/* What is to be known of a profile, in one line. */
static char *describe(const json_t *profile)
{
    GString *s =
        g_string_new(strcmp(text_of(profile, "kind"), "wireguard") == 0 ? "WireGuard" : "OpenVPN");
    const json_t *needs = json_object_get(profile, "needs"), *has = json_object_get(profile, "has");
    char problem[WORDS_LONG];
    json_int_t order = order_of(profile);

    if (json_is_true(json_object_get(profile, "chosen")))
        g_string_append_printf(s, " · %s", _("in use"));
    if (order > 0)
        g_string_append_printf(s, _(" · number %lld of the order"), (long long)order);
    if (json_array_size(needs) > json_array_size(has))
        g_string_append_printf(s, " · %s", _("something is still to be given"));
    (void)words_member(profile, "problem", problem, sizeof(problem));
    if (!json_is_true(json_object_get(profile, "usable")))
        g_string_append_printf(s, " · %s", _("cannot be used"));
    if (problem[0] != '\0')
        g_string_append_printf(s, " · %s", problem);
    return g_string_free(s, FALSE);
}

static GtkWidget *make_row(const json_t *profile)
{
    GtkWidget *row = gtk_list_box_row_new(), *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
    GtkWidget *words = gtk_box_new(GTK_ORIENTATION_VERTICAL, 2), *title, *more;
    bool chosen = json_is_true(json_object_get(profile, "chosen"));
    GtkWidget *mark = gtk_label_new(chosen ? "✔" : "");
    g_autofree char *text = describe(profile), *both = NULL;
    char name[WORDS_SHORT];

    title = ui_label(words_member(profile, "name", name, sizeof(name)));
    more = ui_label(text);
    both = g_strdup_printf("%s: %s", name, text);
    gtk_style_context_add_class(gtk_widget_get_style_context(title), "sluice-heading");
    gtk_style_context_add_class(gtk_widget_get_style_context(more), "dim-label");
    gtk_label_set_width_chars(GTK_LABEL(mark), 2);
    g_object_set(box, "margin", UI_GAP, NULL);
    gtk_box_pack_start(GTK_BOX(words), title, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(words), more, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), mark, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), words, TRUE, TRUE, 0);
    gtk_container_add(GTK_CONTAINER(row), box);
    ui_name(row, "profile-row", both, NULL);
    gtk_widget_show_all(row);
    return row;
}

static int compare(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    json_int_t m = order_of(x), n = order_of(y);

    if ((m > 0) != (n > 0))
        return m > 0 ? -1 : 1;
    if (m != n)
        return m < n ? -1 : 1;
    return strcmp(text_of(x, "name"), text_of(y, "name"));
}

static json_t *sorted(const json_t *profiles)
{
    size_t n = json_array_size(profiles);
    json_t *ret = json_array();
    g_autofree json_t **all = g_new0(json_t *, n + 1);

    for (size_t i = 0; i < n; i++)
        all[i] = json_array_get(profiles, i);
    qsort(all, n, sizeof(json_t *), compare);
    for (size_t i = 0; i < n; i++)
        (void)json_array_append(ret, all[i]);
    return ret;
}

static void show_buttons(struct page *p)
{
    const json_t *profile = selected(p);
    json_int_t order = order_of(profile);
    size_t ordered = in_order(p);

    gtk_widget_set_sensitive(p->use, profile != NULL);
    gtk_widget_set_sensitive(p->rename, profile != NULL);
    gtk_widget_set_sensitive(p->remove, profile != NULL);
    gtk_widget_set_sensitive(p->secret, json_array_size(json_object_get(profile, "needs")) > 0);
    gtk_widget_set_sensitive(p->up, order > 1);
    gtk_widget_set_sensitive(p->down, order > 0 && order < (json_int_t)ordered);
    gtk_widget_set_sensitive(p->part, profile != NULL);
    gtk_widget_set_sensitive(p->random, ordered > 1);
    p->filling = true;
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(p->part), order > 0);
    p->filling = false;
}

/* A profile that was renamed may have got the suffix of its kind. */
static bool is_called(const json_t *profile, const char *name)
{
    const char *whole = text_of(profile, "name");
    size_t len = strlen(name);

    return len > 0 && strncmp(whole, name, len) == 0 &&
           (whole[len] == '\0' || strcmp(whole + len, ".ovpn") == 0 ||
            strcmp(whole + len, ".conf") == 0);
}

/* name: the one to select, "" for the one in use. Where it is gone none is: what is done next is
 * not done to another. */
static void fill(struct page *p, const char *name)
{
    GtkListBoxRow *found = NULL;

    ui_clear(p->list);
    for (size_t i = 0; i < json_array_size(p->profiles); i++) {
        const json_t *profile = json_array_get(p->profiles, i);
        GtkWidget *row = make_row(profile);
        bool chosen = json_is_true(json_object_get(profile, "chosen"));

        gtk_container_add(GTK_CONTAINER(p->list), row);
        if (found == NULL && (name[0] != '\0' ? is_called(profile, name) : chosen))
            found = GTK_LIST_BOX_ROW(row);
    }
    if (found == NULL && name[0] == '\0')
        found = gtk_list_box_get_row_at_index(GTK_LIST_BOX(p->list), 0);
    gtk_list_box_select_row(GTK_LIST_BOX(p->list), found);
}

void page_profiles_update(GtkWidget *page, const json_t *status)
{
    struct page *p = page_of(page);
    const json_t *profiles = json_object_get(status, "profiles"), *before = selected(p);
    g_autofree char *name = g_strdup(p->wanted != NULL ? p->wanted : text_of(before, "name"));
    bool focused = gtk_container_get_focus_child(GTK_CONTAINER(p->list)) != NULL;

    p->filling = true;
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(p->random),
                                 json_is_true(json_object_get(status, "random_order")));
    p->filling = false;
    if (!ui_differs(p->list, profiles) && p->profiles != NULL)
        return;
    json_decref(p->profiles);
    p->profiles = sorted(profiles);
    g_clear_pointer(&p->wanted, g_free);
    fill(p, name);
    if (focused && selected(p) != NULL)
        (void)gtk_widget_grab_focus(
            GTK_WIDGET(gtk_list_box_get_selected_row(GTK_LIST_BOX(p->list))));
    gtk_widget_set_visible(p->empty, json_array_size(p->profiles) == 0);
    gtk_widget_set_visible(p->list, json_array_size(p->profiles) > 0);
    show_buttons(p);
}

/* ---- what a person does ---- */

static void on_select(GtkListBox *list, GtkListBoxRow *row, struct page *p)
{
    (void)list;
    (void)row;
    show_buttons(p);
}

static void on_use(GtkWidget *button, struct page *p)
{
    const json_t *profile = selected(p);

    (void)button;
    if (profile != NULL)
        window_call(p->w, "Use", "s", text_of(profile, "name"));
}

static void on_activate(GtkListBox *list, GtkListBoxRow *row, struct page *p)
{
    (void)row;
    on_use(GTK_WIDGET(list), p);
}

/* Profiles by their place in the new order; NULL ends it. */
static void set_order(struct page *p, const char *const *names)
{
    bool random = gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(p->random));
    sd_bus_message *m = NULL;
    int r;

    window_tell(p->w, "");
    r = vpn_follow_begin(p->w->follow, random ? "SetRandomOrder" : "SetOrder", &m);
    if (r >= 0) {
        r = sd_bus_message_append_strv(m, (char **)(uintptr_t)names);
        if (r >= 0)
            r = vpn_follow_send(p->w->follow, m, window_called, p->w);
        else
            sd_bus_message_unref(m);
    }
    if (r < 0)
        window_tell(p->w, g_strerror(-r));
}

/* The order with the selected profile moved by step, put at the end, or (out) left out. */
static void change_order(struct page *p, int step, bool out)
{
    const json_t *profile = selected(p);
    size_t n = in_order(p), k = 0, at = n;
    g_autofree const char **names = g_new0(const char *, n + 2);

    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(p->profiles, i);

        if (one == profile)
            at = k;
        if (one != profile || !out)
            names[k++] = text_of(one, "name");
    }
    if (at == n && step == 0 && !out && profile != NULL) {
        names[k++] = text_of(profile, "name");
    } else if (step != 0 && at < n && (step > 0 ? at + 1 < n : at > 0)) {
        size_t other = step > 0 ? at + 1 : at - 1;
        const char *name = names[at];

        names[at] = names[other];
        names[other] = name;
    }
    set_order(p, names);
}

static void on_up(GtkWidget *button, struct page *p)
{
    (void)button;
    change_order(p, -1, false);
}

static void on_down(GtkWidget *button, struct page *p)
{
    (void)button;
    change_order(p, 1, false);
}

static void on_part(GtkToggleButton *button, struct page *p)
{
    if (!p->filling)
        change_order(p, 0, !gtk_toggle_button_get_active(button));
}

static void on_random(GtkToggleButton *button, struct page *p)
{
    size_t n = in_order(p);
    g_autofree const char **names = g_new0(const char *, n + 1);

    (void)button;
    if (p->filling)
        return;
    for (size_t i = 0; i < n; i++)
        names[i] = text_of(json_array_get(p->profiles, i), "name");
    set_order(p, names);
}

/* ---- dialogs: each answers by a signal, nothing waits ---- */

static const char *dialog_name(GtkWidget *dialog)
{
    return g_object_get_data(G_OBJECT(dialog), "name");
}

static void keep_name(GtkWidget *dialog, const json_t *profile)
{
    g_object_set_data_full(G_OBJECT(dialog), "name", g_strdup(text_of(profile, "name")), g_free);
}

static void on_delete_answer(GtkWidget *dialog, int answer, struct page *p)
{
    if (answer == GTK_RESPONSE_ACCEPT)
        window_call(p->w, "Delete", "s", dialog_name(dialog));
    gtk_widget_destroy(dialog);
}

static void on_remove(GtkWidget *button, struct page *p)
{
    const json_t *profile = selected(p);
    GtkWidget *dialog;
    char name[WORDS_SHORT];

    (void)button;
    if (profile == NULL)
        return;
    dialog = gtk_message_dialog_new(GTK_WINDOW(p->w->top),
                                    GTK_DIALOG_MODAL | GTK_DIALOG_DESTROY_WITH_PARENT,
                                    GTK_MESSAGE_QUESTION, GTK_BUTTONS_NONE, _("Delete %s?"),
                                    words_member(profile, "name", name, sizeof(name)));
    gtk_message_dialog_format_secondary_text(
        GTK_MESSAGE_DIALOG(dialog), "%s",
        json_is_true(json_object_get(profile, "chosen"))
            ? _("Its files and passwords go too. It is in use: the qubes behind are cut off until "
                "another profile connects.")
            : _("Its files and passwords go too."));
    (void)gtk_dialog_add_button(GTK_DIALOG(dialog), _("_Keep"), GTK_RESPONSE_CANCEL);
    gtk_style_context_add_class(gtk_widget_get_style_context(gtk_dialog_add_button(
                                    GTK_DIALOG(dialog), _("_Delete"), GTK_RESPONSE_ACCEPT)),
                                "destructive-action");
    gtk_dialog_set_default_response(GTK_DIALOG(dialog), GTK_RESPONSE_CANCEL);
    keep_name(dialog, profile);
    ui_name(dialog, "delete-dialog", _("Delete the profile"), NULL);
    g_signal_connect(dialog, "response", G_CALLBACK(on_delete_answer), p);
    gtk_widget_show(dialog);
}

static GtkWidget *make_dialog(struct page *p, const char *title, const char *accept,
                              GtkWidget *content, const json_t *profile)
{
    GtkWidget *dialog = gtk_dialog_new_with_buttons(
        title, GTK_WINDOW(p->w->top), GTK_DIALOG_MODAL | GTK_DIALOG_DESTROY_WITH_PARENT,
        _("_Cancel"), GTK_RESPONSE_CANCEL, accept, GTK_RESPONSE_ACCEPT, NULL);

    g_object_set(content, "margin", UI_EDGE, NULL);
    gtk_container_add(GTK_CONTAINER(gtk_dialog_get_content_area(GTK_DIALOG(dialog))), content);
    gtk_dialog_set_default_response(GTK_DIALOG(dialog), GTK_RESPONSE_ACCEPT);
    keep_name(dialog, profile);
    gtk_widget_show_all(content);
    return dialog;
}

static void on_rename_answer(GtkWidget *dialog, int answer, struct page *p)
{
    GtkWidget *entry = g_object_get_data(G_OBJECT(dialog), "entry");
    const char *name = gtk_entry_get_text(GTK_ENTRY(entry));

    if (answer == GTK_RESPONSE_ACCEPT && name[0] != '\0' &&
        strcmp(name, dialog_name(dialog)) != 0) {
        g_free(p->wanted);
        p->wanted = g_strdup(name);
        window_call(p->w, "Rename", "ss", dialog_name(dialog), name);
    }
    gtk_widget_destroy(dialog);
}

static void on_rename(GtkWidget *button, struct page *p)
{
    const json_t *profile = selected(p);
    GtkWidget *dialog, *entry, *grid;

    (void)button;
    if (profile == NULL)
        return;
    grid = gtk_grid_new();
    gtk_grid_set_column_spacing(GTK_GRID(grid), UI_EDGE);
    entry = gtk_entry_new();
    gtk_entry_set_text(GTK_ENTRY(entry), text_of(profile, "name"));
    gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
    ui_name(entry, "new-name", NULL, NULL);
    ui_row(grid, 0, _("New _name"), entry);
    dialog = make_dialog(p, _("Rename the profile"), _("_Rename"), grid, profile);
    g_object_set_data(G_OBJECT(dialog), "entry", entry);
    ui_name(dialog, "rename-dialog", NULL, NULL);
    g_signal_connect(dialog, "response", G_CALLBACK(on_rename_answer), p);
    gtk_widget_show(dialog);
    (void)gtk_widget_grab_focus(entry);
}

static void on_secret_answer(GtkWidget *dialog, int answer, struct page *p)
{
    struct form *form = g_object_get_data(G_OBJECT(dialog), "form");

    if (answer == GTK_RESPONSE_ACCEPT)
        form_send(form, p->w, dialog_name(dialog));
    gtk_widget_destroy(dialog);
}

static void on_secret(GtkWidget *button, struct page *p)
{
    const json_t *profile = selected(p);
    GtkWidget *dialog;
    struct form *form;

    (void)button;
    if (profile == NULL)
        return;
    form = form_new_json(json_object_get(profile, "needs"));
    dialog = make_dialog(p, _("What the server asks for"), _("_Save"), form_widget(form), profile);
    g_object_set_data(G_OBJECT(dialog), "form", form);
    ui_name(dialog, "secret-dialog", NULL, NULL);
    g_signal_connect(dialog, "response", G_CALLBACK(on_secret_answer), p);
    gtk_widget_show(dialog);
    form_focus(form);
}

static void on_add(GtkWidget *button, struct page *p)
{
    (void)button;
    window_page(p->w, PAGE_ADD);
}

/* ---- building ---- */

static GtkWidget *make_buttons(struct page *p)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL);
    const struct {
        GtkWidget **ret;
        const char *id, *text;
        GCallback clicked;
    } all[] = {
        {&p->use, "use", _("_Use"), G_CALLBACK(on_use)},
        {&p->secret, "secret", _("Pass_word…"), G_CALLBACK(on_secret)},
        {&p->rename, "rename", _("Rena_me…"), G_CALLBACK(on_rename)},
        {&p->remove, "delete", _("D_elete…"), G_CALLBACK(on_remove)},
        {&p->up, "up", _("Earl_ier"), G_CALLBACK(on_up)},
        {&p->down, "down", _("La_ter"), G_CALLBACK(on_down)},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        *all[i].ret = ui_button(all[i].id, all[i].text, all[i].clicked, p);
        gtk_box_pack_start(GTK_BOX(box), *all[i].ret, FALSE, FALSE, 0);
    }
    return box;
}

static GtkWidget *make_check(const char *id, const char *text, GCallback toggled, struct page *p)
{
    GtkWidget *check = gtk_check_button_new_with_mnemonic(text);

    ui_wrap(check);
    ui_name(check, id, NULL, NULL);
    g_signal_connect(check, "toggled", toggled, p);
    return check;
}

static void page_free(struct page *p)
{
    json_decref(p->profiles);
    g_free(p->wanted);
    g_free(p);
}

GtkWidget *page_profiles_new(struct window *w)
{
    struct page *p = g_new0(struct page, 1);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12), *page, *frame, *edit;
    GtkWidget *middle = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);

    p->w = w;
    p->list = gtk_list_box_new();
    gtk_list_box_set_activate_on_single_click(GTK_LIST_BOX(p->list), FALSE);
    ui_name(p->list, "profiles", _("Profiles"), NULL);
    g_signal_connect(p->list, "row-selected", G_CALLBACK(on_select), p);
    g_signal_connect(p->list, "row-activated", G_CALLBACK(on_activate), p);
    p->empty = ui_label(_("There is no profile yet. Add the file of your VPN provider."));
    gtk_widget_set_no_show_all(p->empty, TRUE);
    frame = gtk_frame_new(NULL);
    gtk_container_add(GTK_CONTAINER(frame), p->list);
    gtk_widget_set_valign(frame, GTK_ALIGN_START);
    gtk_box_pack_start(GTK_BOX(middle), frame, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(middle), make_buttons(p), FALSE, FALSE, 0);
    p->part = make_check(
        "fail-over", _("Try this profile in its turn when another does not connect (_fail-over)"),
        G_CALLBACK(on_part), p);
    p->random = make_check("random", _("Try them in ra_ndom order"), G_CALLBACK(on_random), p);
    edit = ui_label(_("To change a profile in your editor, in a terminal:"));
    gtk_box_pack_start(GTK_BOX(box), ui_heading(_("Profiles")), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->empty, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), middle, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->part, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->random, FALSE, FALSE, 0);
    gtk_box_pack_start(
        GTK_BOX(box), ui_buttons(ui_button("add", _("Add anot_her…"), G_CALLBACK(on_add), p), NULL),
        FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), edit, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), ui_lines("qubes-vpn-configurator --edit NAME"), FALSE, FALSE,
                       0);
    page = ui_page(box);
    g_object_set_data_full(G_OBJECT(page), "page", p, (GDestroyNotify)page_free);
    return page;
}
