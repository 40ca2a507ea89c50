/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/application.h"

#include "desktop/configurator/window.h"
#include "desktop/glib/event.h"

#define APPLICATION "org.qubes_os.Vpn1.Configurator"

struct program {
    const char *socket, *page;
    sd_event *event;
    struct window *window;
    int error;
};

static void on_activate(GtkApplication *app, struct program *p)
{
    if (p->window != NULL) {
        window_front(p->window);
        return;
    }
    p->error = window_new(&p->window, app, p->event, p->socket,
                          p->page != NULL ? window_page_of(p->page) : WINDOW_PAGES);
    if (p->error < 0)
        g_application_quit(G_APPLICATION(app));
}

/* Files by the command line, a file manager, or a second start. */
static void on_open(GtkApplication *app, GFile **files, int n, const char *hint,
                    struct program *p)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

    (void)hint;
    on_activate(app, p);
    for (int i = 0; i < n; i++) {
        char *path = g_file_get_path(files[i]);

        if (path != NULL)
            g_ptr_array_add(paths, path);
    }
    if (p->window != NULL && paths->len > 0)
        window_files(p->window, (const char *const *)paths->pdata, paths->len);
}

/* Asked by a second start. */
static void on_page(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    struct program *p = data;
    enum window_page page = window_page_of(g_variant_get_string(parameter, NULL));

    (void)action;
    if (p->window != NULL && page != WINDOW_PAGES)
        window_page(p->window, page);
}

/* A window that is there already is shown instead: GApplication does that, the page is asked for
 * here. */
static bool is_second(GtkApplication *app, const struct program *p)
{
    if (!g_application_register(G_APPLICATION(app), NULL, NULL) ||
        !g_application_get_is_remote(G_APPLICATION(app)))
        return false;
    if (p->page != NULL)
        g_action_group_activate_action(G_ACTION_GROUP(app), "page", g_variant_new_string(p->page));
    return true;
}

static int run(GtkApplication *app, struct program *p, int argc, char **argv)
{
    GSource *source;
    int r = sd_event_default(&p->event);

    if (r < 0)
        return r;
    source = glib_event_attach(p->event);
    (void)g_application_run(G_APPLICATION(app), argc, argv);
    p->window = window_free(p->window);
    g_source_destroy(source);
    g_source_unref(source);
    p->event = sd_event_unref(p->event);
    return p->error;
}

bool application_has_page(const char *name)
{
    return window_page_of(name) != WINDOW_PAGES;
}

int application_run(const char *socket, const char *page, char **files)
{
    struct program p = {.socket = socket, .page = page};
    /* Who names a socket wants that one, not the window that shows another. */
    GApplicationFlags flags = G_APPLICATION_HANDLES_OPEN |
                              (socket != NULL ? G_APPLICATION_NON_UNIQUE : (GApplicationFlags)0);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_autoptr(GtkApplication) app = NULL;
    g_autoptr(GSimpleAction) action = g_simple_action_new("page", G_VARIANT_TYPE_STRING);
    int r;

    g_set_prgname("qubes-vpn-configurator");
    if (!gtk_init_check(NULL, NULL)) {
        (void)fputs(_("qubes-vpn-configurator: there is no display here.\n"
                      "Next: qubes-vpn-configurator --terminal\n"),
                    stderr);
        return 1;
    }
    app = gtk_application_new(APPLICATION, flags);
    g_signal_connect(action, "activate", G_CALLBACK(on_page), &p);
    g_action_map_add_action(G_ACTION_MAP(app), G_ACTION(action));
    g_signal_connect(app, "activate", G_CALLBACK(on_activate), &p);
    g_signal_connect(app, "open", G_CALLBACK(on_open), &p);
    g_ptr_array_add(words, (gpointer)(uintptr_t)g_get_prgname());
    g_ptr_array_add(words, (gpointer)(uintptr_t) "--"); /* what follows is no option */
    for (; *files != NULL; files++)
        g_ptr_array_add(words, *files);
    g_ptr_array_add(words, NULL);
    if (is_second(app, &p))
        return g_application_run(G_APPLICATION(app), (int)words->len - 1, (char **)words->pdata);
    r = run(app, &p, (int)words->len - 1, (char **)words->pdata);
    if (r < 0)
        (void)fprintf(stderr, "qubes-vpn-configurator: %s\n", g_strerror(-r));
    return r < 0 ? 1 : 0;
}
