/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/glib/event.h"

#include <glib-unix.h>

struct event_source { /* GLib allocates it by its size; `source` has to be first */
    GSource source;
    sd_event *event;
};

/* A source of higher priority may have come first last time: then the loop is as it was left. */
static gboolean event_prepare(GSource *source, gint *timeout)
{
    sd_event *event = ((struct event_source *)source)->event;

    *timeout = -1;
    switch (sd_event_get_state(event)) {
    case SD_EVENT_INITIAL:
        return sd_event_prepare(event) > 0;
    case SD_EVENT_PENDING:
        return TRUE;
    default:
        return FALSE;
    }
}

static gboolean event_check(GSource *source)
{
    sd_event *event = ((struct event_source *)source)->event;

    switch (sd_event_get_state(event)) {
    case SD_EVENT_ARMED:
        return sd_event_wait(event, 0) > 0;
    case SD_EVENT_PENDING:
        return TRUE;
    default:
        return FALSE;
    }
}

static gboolean event_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback;
    (void)data;
    return sd_event_dispatch(((struct event_source *)source)->event) > 0 ? G_SOURCE_CONTINUE
                                                                         : G_SOURCE_REMOVE;
}

static void event_finalize(GSource *source)
{
    struct event_source *s = (struct event_source *)source;

    s->event = sd_event_unref(s->event);
}

static GSourceFuncs event_functions = {
    .prepare = event_prepare,
    .check = event_check,
    .dispatch = event_dispatch,
    .finalize = event_finalize,
};

GSource *glib_event_attach(sd_event *event)
{
    GSource *source = g_source_new(&event_functions, sizeof(struct event_source));

    ((struct event_source *)source)->event = sd_event_ref(event);
    g_source_set_static_name(source, "sd-event");
    (void)g_source_add_unix_fd(source, sd_event_get_fd(event), G_IO_IN | G_IO_HUP | G_IO_ERR);
    (void)g_source_attach(source, NULL);
    return source;
}
