/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The leak test that needs no rights: the seal reads itself back from the kernel, told layer by
 * layer. */
#include <string.h>

#include "base/cleanup.h"
#include "desktop/configurator/window.h"

static const struct {
    const char *key, *title, *what;
} layers[] = {
    {"routes", N_("Routing"),
     N_("Nothing but the VPN's own connection has a route to the outside.")},
    {"inet", N_("Firewall"), N_("Everything is dropped that is not for the tunnel.")},
    {"egress", N_("Gates"), N_("Each network device lets out the VPN's own packets alone.")},
};

struct page {
    struct window *w;
    GtkWidget *run, *spinner, *verdict, *when, *table, *rows, *open_box, *open, *missing_box,
        *missing;
};

static struct page *page_of(GtkWidget *widget)
{
    return g_object_get_data(G_OBJECT(widget), "page");
}

/* ---- the answer ---- */

static void add_cell(GtkWidget *grid, int column, int row, const char *text, const char *class)
{
    GtkWidget *label = ui_label(text);

    gtk_widget_set_valign(label, GTK_ALIGN_START);
    if (class != NULL)
        gtk_style_context_add_class(gtk_widget_get_style_context(label), class);
    gtk_widget_set_hexpand(label, column == 2);
    gtk_widget_show(label);
    gtk_grid_attach(GTK_GRID(grid), label, column, row, 1, 1);
}

static void show_layers(struct page *p, const json_t *report)
{
    const json_t *all = json_object_get(report, "layers");

    ui_clear(p->rows);
    for (size_t i = ARRAY_SIZE(layers);
         i-- > 0;) { /* the last that comes is the first that is read */
        const json_t *layer = json_object_get(all, layers[i].key);
        const json_t *owned = json_object_get(layer, "owned");
        bool whole = json_is_true(json_object_get(layer, "whole"));
        const char *verdict = !whole                 ? _("✘ broken")
                              : json_is_false(owned) ? _("✔ whole, but others can change it")
                                                     : _("✔ whole");

        add_cell(p->rows, 2, (int)i, _(layers[i].what), "dim-label");
        add_cell(p->rows, 1, (int)i, verdict, whole ? NULL : "sluice-bad");
        add_cell(p->rows, 0, (int)i, _(layers[i].title), "sluice-strong");
    }
}

/* What has a way out, in words. */
static void show_open(struct page *p, const json_t *report)
{
    const json_t *open = json_object_get(report, "open");
    const json_t *carriers = json_object_get(open, "carriers");
    char tunnel[WORDS_SHORT], address[WORDS_SHORT], protocol[WORDS_SHORT], uplinks[WORDS_LONG];
    size_t n = json_array_size(carriers);

    ui_clear(p->open);
    for (size_t i = 0; i < n && i < UI_MANY; i++) {
        const json_t *c = json_array_get(carriers, i);
        g_autofree char *text =
            g_strdup_printf(_("The VPN's own connection, to %s, port %d, %s"),
                            words_member(c, "address", address, sizeof(address)),
                            (int)json_integer_value(json_object_get(c, "port")),
                            words_member(c, "protocol", protocol, sizeof(protocol)));

        ui_item(p->open, text);
    }
    ui_more(p->open, n > UI_MANY ? n - UI_MANY : 0);
    (void)words_member(open, "tunnel", tunnel, sizeof(tunnel));
    ui_item(p->open, tunnel[0] != '\0' ? _("The qubes behind, into the tunnel")
                                       : _("The qubes behind: nowhere"));
    if (json_is_true(json_object_get(open, "own_lookups")))
        ui_item(p->open, _("Names that firewall rules of the qubes behind ask for, by the tunnel"));
    if (json_is_true(json_object_get(open, "updates_proxy")))
        ui_item(p->open,
                _("The updates proxy, by the network and not by the tunnel: its service is "
                  "on in this qube"));
    (void)ui_join(json_object_get(report, "uplinks"), uplinks, sizeof(uplinks));
    if (uplinks[0] != '\0') {
        g_autofree char *text = g_strdup_printf(_("Network devices that are guarded: %s"), uplinks);

        ui_item(p->open, text);
    }
}

static void show_missing(struct page *p, const json_t *report)
{
    const json_t *missing = json_object_get(report, "missing");
    size_t n = json_array_size(missing);
    char text[WORDS_LONG];

    ui_clear(p->missing);
    for (size_t i = 0; i < n && i < UI_MANY; i++) {
        const char *one = json_string_value(json_array_get(missing, i));

        ui_item(p->missing, words_clean(one != NULL ? one : "", text, sizeof(text)));
    }
    ui_more(p->missing, n > UI_MANY ? n - UI_MANY : 0);
    gtk_widget_set_visible(p->missing_box, n > 0);
}

static void set_running(struct page *p, bool running)
{
    g_object_set(p->spinner, "active", running, NULL);
    gtk_widget_set_sensitive(p->run, !running && vpn_follow_status(p->w->follow) != NULL);
}

void page_test_result(GtkWidget *page, bool sealed, const char *report)
{
    struct page *p = page_of(page);
    json_t *json = json_loads(report, JSON_REJECT_DUPLICATES, NULL);
    bool known = json_is_object(json);
    char when[WORDS_SHORT];
    g_autofree char *text =
        g_strdup_printf(_("Read back from the kernel at %s"),
                        words_time((uint64_t)g_get_real_time(), when, sizeof(when)));

    set_running(p, false);
    if (!known)
        ui_set(p->verdict,
               _("Not known: the seal's service did not answer. What it armed stays. Look "
                 "at it: systemctl status qubes-vpn-forwarding"));
    else if (sealed)
        ui_set(p->verdict, _("✔ Sealed: nothing leaves but the VPN's own connection."));
    else
        ui_set(p->verdict,
               _("✘ NOT SEALED as it should be. Shut the qubes behind down, then look at "
                 "the service: systemctl status qubes-vpn-forwarding"));
    ui_set(p->when, text);
    gtk_widget_set_visible(p->table, known);
    gtk_widget_set_visible(p->open_box, known);
    show_layers(p, json);
    show_open(p, json);
    show_missing(p, json);
    json_decref(json);
}

void page_test_update(GtkWidget *page, const json_t *status)
{
    struct page *p = page_of(page);
    gboolean running = FALSE;

    g_object_get(p->spinner, "active", &running, NULL);
    set_running(p, running && status != NULL);
}

static void on_run_answer(void *data, const json_t *results, const char *error_name,
                          const char *error)
{
    struct page *p = data;

    if (error == NULL)
        return; /* the result is a signal */
    set_running(p, false);
    window_called(p->w, results, error_name, error);
}

static void on_run(GtkWidget *button, struct page *p)
{
    (void)button;
    window_tell(p->w, "");
    if (vpn_follow_call(p->w->follow, on_run_answer, p, "Test", "") < 0)
        window_tell(p->w, _("Not done: the VPN service does not answer."));
    else
        set_running(p, true);
}

static void on_destroy(GtkWidget *page, struct page *p)
{
    (void)page;
    vpn_follow_forget(p->w->follow, p);
}

static void on_copy(GtkWidget *button, struct page *p)
{
    (void)p;
    gtk_clipboard_set_text(gtk_widget_get_clipboard(button, GDK_SELECTION_CLIPBOARD),
                           "sudo qubes-vpn test", -1);
}

/* ---- building ---- */

static GtkWidget *make_section(const char *id, const char *title, GtkWidget *content)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL);

    ui_name(content, id, title, NULL);
    gtk_box_pack_start(GTK_BOX(box), ui_heading(title), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), content, FALSE, FALSE, 0);
    gtk_widget_show_all(box);
    gtk_widget_set_no_show_all(box, TRUE);
    gtk_widget_hide(box);
    return box;
}

GtkWidget *page_test_new(struct window *w)
{
    struct page *p = g_new0(struct page, 1);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, UI_EDGE), *page, *start;

    p->w = w;
    p->spinner = gtk_spinner_new();
    p->run = ui_button("run", _("_Run the test"), G_CALLBACK(on_run), p);
    gtk_style_context_add_class(gtk_widget_get_style_context(p->run), "suggested-action");
    start = ui_buttons(p->run, p->spinner, NULL);
    p->verdict = ui_heading("");
    gtk_widget_set_no_show_all(p->verdict, TRUE);
    ui_name(p->verdict, "test-verdict", NULL, NULL);
    p->when = ui_label("");
    gtk_widget_set_no_show_all(p->when, TRUE);
    gtk_style_context_add_class(gtk_widget_get_style_context(p->when), "dim-label");
    p->rows = gtk_grid_new();
    gtk_grid_set_row_spacing(GTK_GRID(p->rows), UI_GAP);
    gtk_grid_set_column_spacing(GTK_GRID(p->rows), UI_EDGE);
    p->table = make_section("layers", _("Layers: each alone stops the qubes behind"), p->rows);
    p->open = ui_list();
    p->open_box = make_section("open", _("What has a way out"), p->open);
    p->missing = ui_list();
    p->missing_box = make_section("missing", _("What is missing"), p->missing);
    gtk_box_pack_start(GTK_BOX(box), ui_heading(_("Leak test")), FALSE, FALSE, 0);
    gtk_box_pack_start(
        GTK_BOX(box),
        ui_label(_("Reads back from the kernel whether each layer of the seal is whole. "
                   "Safe at any time; nothing is changed.")),
        FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), start, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->verdict, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->table, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->missing_box, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->open_box, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->when, FALSE, FALSE, 0);
    gtk_box_pack_start(
        GTK_BOX(box),
        ui_label(_("There is also a test with real packets: it tries to get out by every "
                   "way and watches the network. It needs root, in a terminal:")),
        FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), ui_lines("sudo qubes-vpn test"), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box),
                       ui_buttons(ui_button("copy-test", _("C_opy"), G_CALLBACK(on_copy), p), NULL),
                       FALSE, FALSE, 0);
    page = ui_page(box);
    g_object_set_data_full(G_OBJECT(page), "page", p, g_free);
    g_signal_connect(page, "destroy", G_CALLBACK(on_destroy), p);
    return page;
}
