/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is: live. Counters are asked for each second, while the page can be seen and a tunnel is up.
 */
#include <string.h>

#include "desktop/configurator/plot.h"
#include "desktop/configurator/window.h"

enum row {
    ROW_PROFILE,
    ROW_SERVER,
    ROW_SINCE,
    ROW_DNS,
    ROW_TUNNEL,
    ROW_TRY,
    ROW_SEAL,
    ROW_ERROR,
    ROWS
};

static const struct {
    const char *id, *text;
} rows[ROWS] = {
    [ROW_PROFILE] = {"profile", N_("Profile")},
    [ROW_SERVER] = {"server", N_("Server")},
    [ROW_SINCE] = {"since", N_("Since")},
    [ROW_DNS] = {"dns", N_("Name servers")},
    [ROW_TUNNEL] = {"addresses", N_("Address in the tunnel")},
    [ROW_TRY] = {"try", N_("Next try")},
    [ROW_SEAL] = {"seal", N_("Seal")},
    [ROW_ERROR] = {"error", N_("Last trouble")},
};

struct page {
    struct window *w;
    GtkWidget *values[ROWS], *traffic, *plot, *pushed_box, *pushed, *events_box, *events;
    struct rate rate;
    guint tick;
    bool open;   /* a tunnel that counts */
    bool hidden; /* iconified */
};

static struct page *page_of(GtkWidget *widget)
{
    return g_object_get_data(G_OBJECT(widget), "page");
}

static uint64_t number(const json_t *status, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(status, key));

    return n > 0 ? (uint64_t)n : 0;
}

/* ---- traffic ---- */

static gboolean on_tick(gpointer data)
{
    struct page *p = data;

    (void)vpn_follow_refresh(p->w->follow);
    return G_SOURCE_CONTINUE;
}

/* The timer runs only while somebody may look. */
static void set_tick(struct page *p)
{
    bool wanted = p->open && !p->hidden && gtk_widget_get_mapped(p->plot);

    if (wanted && p->tick == 0) {
        p->tick = g_timeout_add_seconds(1, on_tick, p);
        (void)vpn_follow_refresh(p->w->follow);
    } else if (!wanted && p->tick != 0) {
        (void)g_source_remove(p->tick);
        p->tick = 0;
        rate_break(&p->rate);
    }
}

static void on_map(GtkWidget *plot, struct page *p)
{
    (void)plot;
    set_tick(p);
}

static gboolean on_window(GtkWidget *top, const GdkEventWindowState *event, struct page *p)
{
    (void)top;
    p->hidden =
        (event->new_window_state & (GDK_WINDOW_STATE_ICONIFIED | GDK_WINDOW_STATE_WITHDRAWN)) != 0;
    set_tick(p);
    return GDK_EVENT_PROPAGATE;
}

static void show_traffic(struct page *p, const json_t *status)
{
    const char *state = json_string_value(json_object_get(status, "state"));
    uint64_t now = (uint64_t)g_get_monotonic_time();

    p->open = state != NULL && (strcmp(state, "up") == 0 || strcmp(state, "stalled") == 0);
    if (p->open)
        rate_add(&p->rate, now, number(status, "bytes_in"), number(status, "bytes_out"));
    else
        rate_break(&p->rate);
    gtk_widget_set_visible(p->traffic, p->open);
    if (p->open)
        plot_update(p->plot, now, number(status, "bytes_in"), number(status, "bytes_out"));
    set_tick(p);
}

/* ---- what is ---- */

static const char *seal_words(const char *seal)
{
    if (strcmp(seal, "tunnel") == 0)
        return _("closed but for the tunnel");
    if (strcmp(seal, "carrier") == 0)
        return _("closed but for the VPN's own connection");
    if (strcmp(seal, "closed") == 0)
        return _("closed: nothing leaves");
    return _("its service does not answer; what it armed stays. See the page Leak test.");
}

static void show_server(struct page *p, const json_t *status)
{
    char endpoint[WORDS_SHORT], gateway[WORDS_SHORT];
    g_autofree char *text = NULL;

    (void)words_member(status, "endpoint", endpoint, sizeof(endpoint));
    (void)words_member(status, "gateway", gateway, sizeof(gateway));
    /* A name and its address; an address once. */
    if (endpoint[0] != '\0' && gateway[0] != '\0' && strstr(gateway, endpoint) == NULL)
        text = g_strdup_printf("%s, %s", endpoint, gateway);
    ui_set(p->values[ROW_SERVER], text != NULL ? text : gateway[0] != '\0' ? gateway : endpoint);
}

static void show_time(struct page *p, enum row row, const json_t *status, const char *key)
{
    uint64_t at = number(status, key);
    char text[WORDS_SHORT];

    ui_set(p->values[row], at > 0 ? words_time(at, text, sizeof(text)) : "");
}

static void show_error(struct page *p, const json_t *status)
{
    char error[WORDS_LONG], when[WORDS_SHORT];
    g_autofree char *text = NULL;
    uint64_t at = number(status, "last_error_time");

    (void)words_member(status, "last_error", error, sizeof(error));
    if (error[0] != '\0' && at > 0)
        text = g_strdup_printf("%s: %s", words_time(at, when, sizeof(when)), error);
    ui_set(p->values[ROW_ERROR], text != NULL ? text : error);
}

static void show_rows(struct page *p, const json_t *status)
{
    char text[WORDS_LONG];
    const char *seal = json_string_value(json_object_get(status, "seal"));
    const json_t *dns = json_object_get(status, "dns");

    ui_set(p->values[ROW_PROFILE], words_member(status, "profile", text, sizeof(text)));
    show_server(p, status);
    show_time(p, ROW_SINCE, status, "since");
    (void)ui_join(dns, text, sizeof(text));
    if (p->open && json_array_size(dns) == 0)
        ui_set(p->values[ROW_DNS], _("none: the server named none, so qubes have no names"));
    else
        ui_set(p->values[ROW_DNS], text);
    ui_set(p->values[ROW_TUNNEL],
           ui_join(json_object_get(status, "addresses"), text, sizeof(text)));
    show_time(p, ROW_TRY, status, "next_try");
    ui_set(p->values[ROW_SEAL], seal != NULL ? seal_words(seal) : "");
    show_error(p, status);
}

void page_state_update(GtkWidget *page, const json_t *status)
{
    struct page *p = page_of(page);

    show_traffic(p, status);
    show_rows(p, status);
    gtk_widget_set_visible(p->pushed_box,
                           ui_findings(p->pushed, json_object_get(status, "pushed_findings")) > 0);
}

void page_state_events(GtkWidget *page)
{
    struct page *p = page_of(page);
    char when[WORDS_SHORT];

    ui_clear(p->events);
    for (size_t i = 0; i < p->w->n_events; i++) {
        const struct window_event *e = &p->w->events[i];
        g_autofree char *text =
            g_strdup_printf("%s: %s", words_time(e->at_us, when, sizeof(when)), e->text);

        ui_item(p->events, text);
    }
    gtk_widget_set_visible(p->events_box, p->w->n_events > 0);
}

/* ---- building ---- */

static GtkWidget *make_list(const char *id, const char *title, GtkWidget **ret_list)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL);

    *ret_list = ui_list();
    ui_name(*ret_list, id, title, NULL);
    gtk_box_pack_start(GTK_BOX(box), ui_heading(title), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), *ret_list, FALSE, FALSE, 0);
    gtk_widget_show_all(box);
    gtk_widget_set_no_show_all(box, TRUE);
    return box;
}

static void on_destroy(GtkWidget *page, struct page *p)
{
    (void)page;
    if (p->tick != 0)
        (void)g_source_remove(p->tick);
    p->tick = 0;
    p->open = false; /* nothing begins again while the widgets go */
    if (p->w->top != NULL)
        g_signal_handlers_disconnect_by_data(p->w->top, p);
}

GtkWidget *page_state_new(struct window *w)
{
    struct page *p = g_new0(struct page, 1);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, UI_EDGE), *grid = gtk_grid_new();
    GtkWidget *page;

    p->w = w;
    gtk_grid_set_row_spacing(GTK_GRID(grid), UI_GAP);
    gtk_grid_set_column_spacing(GTK_GRID(grid), UI_EDGE);
    for (int i = ROWS - 1; i >= 0; i--) { /* the last that comes is the first that is read */
        p->values[i] = ui_value(rows[i].id);
        gtk_widget_set_no_show_all(p->values[i], TRUE);
        ui_row(grid, i, _(rows[i].text), p->values[i]);
    }
    p->traffic = ui_box(GTK_ORIENTATION_VERTICAL);
    p->plot = plot_new(&p->rate);
    gtk_box_pack_start(GTK_BOX(p->traffic), ui_heading(_("Traffic")), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(p->traffic), p->plot, FALSE, FALSE, 0);
    gtk_widget_show_all(p->traffic);
    gtk_widget_set_no_show_all(p->traffic, TRUE);
    p->pushed_box = make_list("pushed", _("Not taken of what the server wants"), &p->pushed);
    p->events_box = make_list("events", _("Last events"), &p->events);
    gtk_box_pack_start(GTK_BOX(box), grid, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->traffic, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->pushed_box, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->events_box, FALSE, FALSE, 0);
    page = ui_page(box);
    g_object_set_data_full(G_OBJECT(page), "page", p, g_free);
    g_signal_connect(p->plot, "map", G_CALLBACK(on_map), p);
    g_signal_connect(p->plot, "unmap", G_CALLBACK(on_map), p);
    g_signal_connect(w->top, "window-state-event", G_CALLBACK(on_window), p);
    g_signal_connect(page, "destroy", G_CALLBACK(on_destroy), p);
    page_state_events(page);
    return page;
}
