/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/ui.h"

#include <string.h>

void ui_name(GtkWidget *w, const char *id, const char *name, const char *description)
{
    AtkObject *a = gtk_widget_get_accessible(w);

    gtk_widget_set_name(w, id);
    atk_object_set_accessible_id(a, id);
    if (name != NULL)
        atk_object_set_name(a, name);
    if (description != NULL)
        atk_object_set_description(a, description);
}

static void wrap(GtkWidget *label)
{
    gtk_label_set_line_wrap(GTK_LABEL(label), TRUE);
    gtk_label_set_line_wrap_mode(GTK_LABEL(label), PANGO_WRAP_WORD_CHAR);
    gtk_label_set_xalign(GTK_LABEL(label), 0);
}

GtkWidget *ui_label(const char *text)
{
    GtkWidget *label = gtk_label_new(text);

    wrap(label);
    return label;
}

GtkWidget *ui_heading(const char *text)
{
    GtkWidget *label = ui_label(text);

    gtk_style_context_add_class(gtk_widget_get_style_context(label), "sluice-heading");
    atk_object_set_role(gtk_widget_get_accessible(label), ATK_ROLE_HEADING);
    return label;
}

GtkWidget *ui_value(const char *id)
{
    GtkWidget *label = ui_label("");

    gtk_label_set_selectable(GTK_LABEL(label), TRUE);
    ui_name(label, id, NULL, NULL);
    return label;
}

GtkWidget *ui_lines(const char *text)
{
    GtkWidget *label = ui_label(text);

    gtk_label_set_selectable(GTK_LABEL(label), TRUE);
    gtk_style_context_add_class(gtk_widget_get_style_context(label), "monospace");
    gtk_style_context_add_class(gtk_widget_get_style_context(label), "sluice-lines");
    return label;
}

void ui_wrap(GtkWidget *button)
{
    GtkWidget *label = gtk_bin_get_child(GTK_BIN(button));

    if (GTK_IS_LABEL(label))
        wrap(label);
}

GtkWidget *ui_button(const char *id, const char *text, GCallback clicked, gpointer data)
{
    GtkWidget *button = gtk_button_new_with_mnemonic(text);

    ui_name(button, id, NULL, NULL);
    g_signal_connect(button, "clicked", clicked, data);
    return button;
}

GtkWidget *ui_box(GtkOrientation orientation)
{
    return gtk_box_new(orientation, UI_GAP);
}

GtkWidget *ui_buttons(GtkWidget *first, ...)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_HORIZONTAL);
    va_list args;

    gtk_widget_set_margin_top(box, UI_GAP);
    va_start(args, first);
    for (GtkWidget *w = first; w != NULL; w = va_arg(args, GtkWidget *))
        gtk_box_pack_start(GTK_BOX(box), w, FALSE, FALSE, 0);
    va_end(args);
    return box;
}

void ui_row(GtkWidget *grid, int row, const char *text, GtkWidget *value)
{
    GtkWidget *key = gtk_label_new_with_mnemonic(text);

    gtk_label_set_xalign(GTK_LABEL(key), 0);
    gtk_label_set_line_wrap(GTK_LABEL(key), TRUE);
    gtk_widget_set_valign(key, GTK_ALIGN_BASELINE);
    gtk_widget_set_valign(value, GTK_ALIGN_BASELINE);
    gtk_widget_set_hexpand(value, TRUE);
    gtk_style_context_add_class(gtk_widget_get_style_context(key), "dim-label");
    gtk_label_set_mnemonic_widget(GTK_LABEL(key), value);
    if (GTK_IS_ENTRY(value))
        atk_object_set_name(gtk_widget_get_accessible(value), gtk_label_get_text(GTK_LABEL(key)));
    gtk_grid_attach(GTK_GRID(grid), value, 1, row, 1, 1);
    gtk_grid_attach(GTK_GRID(grid), key, 0, row, 1, 1);
    gtk_widget_set_no_show_all(key, TRUE); /* seen when its value is */
    g_object_bind_property(value, "visible", key, "visible", G_BINDING_SYNC_CREATE);
}

GtkWidget *ui_page(GtkWidget *content)
{
    GtkWidget *scrolled = gtk_scrolled_window_new(NULL, NULL);

    g_object_set(content, "margin", UI_EDGE, NULL);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scrolled), GTK_POLICY_NEVER,
                                   GTK_POLICY_AUTOMATIC);
    gtk_container_add(GTK_CONTAINER(scrolled), content);
    /* Keyboard: what gets the focus scrolls into view. */
    gtk_container_set_focus_vadjustment(
        GTK_CONTAINER(gtk_bin_get_child(GTK_BIN(scrolled))),
        gtk_scrolled_window_get_vadjustment(GTK_SCROLLED_WINDOW(scrolled)));
    return scrolled;
}

void ui_set(GtkWidget *label, const char *text)
{
    if (strcmp(gtk_label_get_text(GTK_LABEL(label)), text) != 0)
        gtk_label_set_text(GTK_LABEL(label), text);
    gtk_widget_set_visible(label, text[0] != '\0');
}

void ui_clear(GtkWidget *container)
{
    GList *children = gtk_container_get_children(GTK_CONTAINER(container));

    g_list_free_full(children, (GDestroyNotify)gtk_widget_destroy);
}

GtkWidget *ui_list(void)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL);

    atk_object_set_role(gtk_widget_get_accessible(box), ATK_ROLE_LIST);
    return box;
}

void ui_item(GtkWidget *box, const char *text)
{
    GtkWidget *row = ui_box(GTK_ORIENTATION_HORIZONTAL), *dot = gtk_label_new("•");
    GtkWidget *label = ui_label(text);

    gtk_widget_set_valign(dot, GTK_ALIGN_START);
    atk_object_set_role(gtk_widget_get_accessible(dot), ATK_ROLE_SEPARATOR);
    atk_object_set_role(gtk_widget_get_accessible(row), ATK_ROLE_LIST_ITEM);
    atk_object_set_name(gtk_widget_get_accessible(row), text);
    gtk_box_pack_start(GTK_BOX(row), dot, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(row), label, TRUE, TRUE, 0);
    gtk_widget_show_all(row);
    gtk_box_pack_start(GTK_BOX(box), row, FALSE, FALSE, 0);
}

void ui_more(GtkWidget *box, size_t n)
{
    g_autofree char *text = NULL;

    if (n == 0)
        return;
    text = g_strdup_printf(ngettext("and %zu more", "and %zu more", n), n);
    ui_item(box, text);
}

size_t ui_items(GtkWidget *box, const char *const *texts)
{
    size_t n = 0;

    ui_clear(box);
    for (; texts != NULL && texts[n] != NULL; n++) {
        if (n < UI_MANY)
            ui_item(box, texts[n]);
    }
    ui_more(box, n > UI_MANY ? n - UI_MANY : 0);
    return n;
}

bool ui_differs(GtkWidget *w, const json_t *value)
{
    const json_t *last = g_object_get_data(G_OBJECT(w), "shown");

    if (last != NULL && json_equal(last, value))
        return false;
    g_object_set_data_full(G_OBJECT(w), "shown", json_deep_copy(value),
                           (GDestroyNotify)json_decref);
    return true;
}

size_t ui_findings(GtkWidget *box, const json_t *findings)
{
    size_t n = json_array_size(findings);
    char text[WORDS_LONG];

    if (!ui_differs(box, findings))
        return n;
    ui_clear(box);
    for (size_t i = 0; i < n && i < UI_MANY; i++)
        ui_item(box, words_finding(json_array_get(findings, i), text, sizeof(text)));
    ui_more(box, n > UI_MANY ? n - UI_MANY : 0);
    return n;
}

char *ui_join(const json_t *array, char *buf, size_t size)
{
    char one[WORDS_SHORT];
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        int n = g_snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "",
                           words_clean(text != NULL ? text : "", one, sizeof(one)));

        if (n < 0 || (size_t)n >= size - used) { /* whole members only */
            buf[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
    return buf;
}
