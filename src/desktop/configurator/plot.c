/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/plot.h"

#include "desktop/configurator/ui.h"

#define SPAN_US UINT64_C(120000000)
#define HEIGHT  110
#define PAD     4.0

struct plot {
    const struct rate *rate;
    GtkWidget *area, *in, *out, *top;
    uint64_t now_us;
};

/* Blue and orange: told apart by people who do not see red and green, and in light and dark. */
static const GdkRGBA color_in = {0.21, 0.52, 0.89, 1}, color_out = {0.90, 0.38, 0.0, 1};

struct frame {
    double width, height;
    uint64_t since_us, top;
};

static double x_of(const struct frame *f, uint64_t at_us)
{
    double part = (double)(at_us - f->since_us) / (double)SPAN_US;

    return PAD + part * (f->width - 2 * PAD);
}

static double y_of(const struct frame *f, uint64_t rate)
{
    return f->height - PAD - (double)rate / (double)f->top * (f->height - 2 * PAD);
}

static void draw_line(cairo_t *cr, const struct plot *p, const struct frame *f, bool in)
{
    bool pen = false;

    gdk_cairo_set_source_rgba(cr, in ? &color_in : &color_out);
    cairo_set_line_width(cr, 2);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
    if (!in) { /* not by colour alone */
        static const double dashes[] = {5, 4};

        cairo_set_dash(cr, dashes, 2, 0);
    } else {
        cairo_set_dash(cr, NULL, 0, 0);
    }
    for (size_t i = 0;; i++) {
        const struct rate_point *point = rate_at(p->rate, i);

        if (point == NULL)
            break;
        if (point->at_us < f->since_us || point->at_us > f->since_us + SPAN_US) {
            pen = false;
            continue;
        }
        if (point->begins || !pen)
            cairo_move_to(cr, x_of(f, point->at_us), y_of(f, in ? point->in : point->out));
        else
            cairo_line_to(cr, x_of(f, point->at_us), y_of(f, in ? point->in : point->out));
        pen = true;
    }
    cairo_stroke(cr);
}

static void draw_grid(GtkWidget *area, cairo_t *cr, const struct frame *f)
{
    GdkRGBA color;

    gtk_style_context_get_color(gtk_widget_get_style_context(area),
                                gtk_widget_get_state_flags(area), &color);
    color.alpha *= 0.18;
    gdk_cairo_set_source_rgba(cr, &color);
    cairo_set_line_width(cr, 1);
    for (int i = 0; i <= 2; i++) {
        double y = PAD + i * (f->height - 2 * PAD) / 2;

        cairo_move_to(cr, PAD, (int)y + 0.5);
        cairo_line_to(cr, f->width - PAD, (int)y + 0.5);
    }
    cairo_stroke(cr);
}

static gboolean on_draw(GtkWidget *area, cairo_t *cr, struct plot *p)
{
    struct frame f = {.width = gtk_widget_get_allocated_width(area),
                      .height = gtk_widget_get_allocated_height(area),
                      .since_us = p->now_us > SPAN_US ? p->now_us - SPAN_US : 0};

    f.top = rate_top(p->rate, f.since_us);
    draw_grid(area, cr, &f);
    draw_line(cr, p, &f, true);
    draw_line(cr, p, &f, false);
    return GDK_EVENT_STOP;
}

static GtkWidget *legend(const GdkRGBA *color, const char *id, GtkWidget **ret_label)
{
    GtkWidget *box = ui_box(GTK_ORIENTATION_HORIZONTAL), *mark = gtk_label_new(NULL);
    PangoAttrList *attrs = pango_attr_list_new();

    gtk_label_set_text(GTK_LABEL(mark), color == &color_in ? "━━" : "╍╍");
    pango_attr_list_insert(attrs, pango_attr_foreground_new((guint16)(color->red * 65535),
                                                            (guint16)(color->green * 65535),
                                                            (guint16)(color->blue * 65535)));
    gtk_label_set_attributes(GTK_LABEL(mark), attrs);
    pango_attr_list_unref(attrs);
    atk_object_set_name(gtk_widget_get_accessible(mark), "");
    *ret_label = ui_label("");
    ui_name(*ret_label, id, NULL, NULL);
    gtk_box_pack_start(GTK_BOX(box), mark, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), *ret_label, TRUE, TRUE, 0);
    return box;
}

GtkWidget *plot_new(const struct rate *rate)
{
    struct plot *p = g_new0(struct plot, 1);
    GtkWidget *box = ui_box(GTK_ORIENTATION_VERTICAL);

    p->rate = rate;
    p->area = gtk_drawing_area_new();
    gtk_widget_set_size_request(p->area, -1, HEIGHT);
    ui_name(p->area, "plot", _("Traffic of the last two minutes"), NULL);
    g_signal_connect(p->area, "draw", G_CALLBACK(on_draw), p);
    p->top = ui_label("");
    gtk_style_context_add_class(gtk_widget_get_style_context(p->top), "dim-label");
    gtk_box_pack_start(GTK_BOX(box), p->top, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), p->area, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), legend(&color_in, "traffic-in", &p->in), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), legend(&color_out, "traffic-out", &p->out), FALSE, FALSE, 0);
    g_object_set_data_full(G_OBJECT(box), "plot", p, g_free);
    return box;
}

void plot_update(GtkWidget *plot, uint64_t now_us, uint64_t total_in, uint64_t total_out)
{
    struct plot *p = g_object_get_data(G_OBJECT(plot), "plot");
    const struct rate_point *last = p->rate->n > 0 ? rate_at(p->rate, p->rate->n - 1) : NULL;
    char now_in[64], now_out[64], all_in[64], all_out[64], top[64];
    g_autofree char *in = NULL, *out = NULL, *both = NULL, *highest = NULL;

    p->now_us = now_us;
    (void)words_bytes(last != NULL ? last->in : 0, now_in, sizeof(now_in));
    (void)words_bytes(last != NULL ? last->out : 0, now_out, sizeof(now_out));
    (void)words_bytes(total_in, all_in, sizeof(all_in));
    (void)words_bytes(total_out, all_out, sizeof(all_out));
    (void)words_bytes(rate_top(p->rate, now_us > SPAN_US ? now_us - SPAN_US : 0), top, sizeof(top));
    in = g_strdup_printf(_("received: %s/s now, %s in all"), now_in, all_in);
    out = g_strdup_printf(_("sent: %s/s now, %s in all"), now_out, all_out);
    highest = g_strdup_printf(_("Two minutes; the line at the top is %s/s"), top);
    both = g_strdup_printf("%s; %s", in, out);
    ui_set(p->in, in);
    ui_set(p->out, out);
    ui_set(p->top, highest);
    atk_object_set_description(gtk_widget_get_accessible(p->area), both);
    gtk_widget_queue_draw(p->area);
}
