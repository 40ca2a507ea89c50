/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A window with one label: what the toolkit itself costs until the first frame. */
#include <gtk/gtk.h>

int main(void)
{
    GtkWidget *window;

    (void)g_setenv("GDK_GL", "disable", FALSE);
    if (!gtk_init_check(NULL, NULL))
        return 1;
    window = gtk_window_new(GTK_WINDOW_TOPLEVEL);
    gtk_window_set_default_size(GTK_WINDOW(window), 860, 640);
    gtk_container_add(GTK_CONTAINER(window), gtk_label_new("nothing"));
    gtk_widget_show_all(window);
    gtk_main();
    return 0;
}
