/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is to be done in dom0, as commands to copy (guide.h). */
#include <string.h>

#include "desktop/configurator/guide.h"
#include "desktop/configurator/window.h"

struct page {
    struct window *w;
    GtkWidget *parts;
    char qube[64];     /* this qube's name, which is its host name */
    char *profile;     /* in use, or NULL */
    json_t *endpoints; /* of it, as far as they are known */
    bool begun;
};

static struct page *page_of(GtkWidget *widget)
{
    return g_object_get_data(G_OBJECT(widget), "page");
}

static void on_copy(GtkWidget *button, const char *commands)
{
    gtk_clipboard_set_text(gtk_widget_get_clipboard(button, GDK_SELECTION_CLIPBOARD), commands, -1);
}

static void add_part(struct page *p, const struct guide_part *part)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL), *copy;
    g_autofree char *name = g_strdup_printf(_("Copy: %s"), part->title);
    g_autofree char *lines = g_strchomp(g_strdup(part->commands));

    gtk_box_pack_start(GTK_BOX(box), ui_heading(part->title), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), ui_label(part->text), FALSE, FALSE, 0);
    if (lines[0] != '\0') {
        gtk_box_pack_start(GTK_BOX(box), ui_lines(lines), FALSE, FALSE, 0);
        copy = gtk_button_new_with_mnemonic(_("C_opy"));
        ui_name(copy, "copy", name, NULL);
        g_signal_connect_data(copy, "clicked", G_CALLBACK(on_copy), g_strdup(part->commands),
                              (GClosureNotify)(void (*)(void))g_free, 0);
        gtk_box_pack_start(GTK_BOX(box), ui_buttons(copy, NULL), FALSE, FALSE, 0);
    }
    gtk_widget_show_all(box);
    gtk_box_pack_start(GTK_BOX(p->parts), box, FALSE, FALSE, 0);
}

static void show(struct page *p)
{
    json_t *shown = json_pack("[s?, O?]", p->profile, p->endpoints);
    struct guide_facts facts = {p->qube, p->profile, p->endpoints};
    struct guide *guide = NULL;

    if (ui_differs(p->parts, shown) && guide_new(&guide, &facts) == 0) {
        ui_clear(p->parts);
        for (size_t i = 0; i < guide->n; i++)
            add_part(p, &guide->parts[i]);
        (void)guide_free(guide);
    }
    json_decref(shown);
}

static void set_endpoints(struct page *p, const json_t *endpoints)
{
    json_decref(p->endpoints);
    p->endpoints = json_deep_copy(endpoints);
}

static void on_described(void *data, const json_t *results, const char *error_name,
                         const char *error)
{
    struct page *p = data;

    (void)error_name;
    if (error == NULL)
        set_endpoints(p, json_object_get(json_array_get(results, 0), "endpoints"));
    show(p);
}

/* Once for each profile, and again when the profiles changed: another file may have its name. */
void page_guide_update(GtkWidget *page, const json_t *status)
{
    struct page *p = page_of(page);
    const char *profile = json_string_value(json_object_get(status, "profile"));
    json_t *asked = json_pack("[s?, O?]", profile, json_object_get(status, "profiles"));
    bool other = ui_differs(page, asked);

    json_decref(asked);
    if (!other && p->begun)
        return;
    p->begun = true;
    if (g_strcmp0(p->profile, profile) != 0)
        set_endpoints(p, NULL);
    g_free(p->profile);
    p->profile = g_strdup(profile);
    vpn_follow_forget(p->w->follow, p);
    if (profile == NULL || profile[0] == '\0' ||
        vpn_follow_call(p->w->follow, on_described, p, "DescribeProfile", "s", profile) < 0)
        show(p);
}

static void on_destroy(GtkWidget *page, struct page *p)
{
    (void)page;
    vpn_follow_forget(p->w->follow, p);
}

static void page_free(struct page *p)
{
    json_decref(p->endpoints);
    g_free(p->profile);
    g_free(p);
}

GtkWidget *page_guide_new(struct window *w)
{
    struct page *p = g_new0(struct page, 1);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, UI_EDGE), *page;

    p->w = w;
    (void)g_strlcpy(p->qube, g_get_host_name(), sizeof(p->qube));
    p->parts = gtk_box_new(GTK_ORIENTATION_VERTICAL, UI_EDGE);
    gtk_box_pack_start(GTK_BOX(box),
                       ui_label(_("What no qube can do for itself. The lines are for a terminal in "
                                  "dom0; read them before you run them.")),
                       FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->parts, FALSE, FALSE, 0);
    page = ui_page(box);
    ui_name(p->parts, "guide", _("What to do in dom0"), NULL);
    g_object_set_data_full(G_OBJECT(page), "page", p, (GDestroyNotify)page_free);
    g_signal_connect(page, "destroy", G_CALLBACK(on_destroy), p);
    return page;
}
