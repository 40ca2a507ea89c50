/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/tray/notice.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>

#include "desktop/words/words.h"

#define SERVICE "org.freedesktop.Notifications"
#define PATH    "/org/freedesktop/Notifications"
#define CALL_US UINT64_C(60000000)

struct notice {
    sd_event *event;
    sd_bus *bus; /* NULL: not needed yet, or gone */
    sd_bus_slot *asked;
    uint32_t id; /* of the last one; 0: none */
};

static void forget(struct notice *n)
{
    n->asked = sd_bus_slot_unref(n->asked);
    n->id = 0;
    if (n->bus == NULL)
        return;
    (void)sd_bus_detach_event(n->bus);
    n->bus = sd_bus_close_unref(n->bus);
}

static int on_shown(sd_bus_message *m, void *data, sd_bus_error *e)
{
    struct notice *n = data;

    (void)e;
    n->asked = sd_bus_slot_unref(n->asked);
    if (sd_bus_message_get_error(m) != NULL || sd_bus_message_read(m, "u", &n->id) <= 0)
        n->id = 0;
    return 0;
}

static int on_disconnected(sd_bus_message *m, void *data, sd_bus_error *e)
{
    (void)m;
    (void)e;
    forget(data);
    return 0;
}

static int open_bus(struct notice *n)
{
    int r = sd_bus_open_user(&n->bus);

    if (r >= 0)
        r = sd_bus_attach_event(n->bus, n->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal_async(n->bus, NULL, "org.freedesktop.DBus.Local", NULL,
                                      "org.freedesktop.DBus.Local", "Disconnected",
                                      on_disconnected, NULL, n);
    return r;
}

static int call(struct notice *n, const char *icon, const char *text)
{
    /* No answer to the last one yet: its number is not known, this one comes beside it. */
    uint32_t replaces = n->asked == NULL ? n->id : 0;

    n->asked = sd_bus_slot_unref(n->asked);
    return sd_bus_call_method_async(n->bus, &n->asked, SERVICE, PATH, SERVICE, "Notify", on_shown, n,
                                    "susssasa{sv}i", _("Qubes VPN"), replaces, icon, text, "", 0, 0,
                                    -1);
}

int notice_new(struct notice **ret, sd_event *event)
{
    struct notice *n = calloc(1, sizeof(*n));

    if (n == NULL)
        return -ENOMEM;
    n->event = sd_event_ref(event);
    *ret = n;
    return 0;
}

struct notice *notice_free(struct notice *n)
{
    if (n == NULL)
        return NULL;
    forget(n);
    sd_event_unref(n->event);
    free(n);
    return NULL;
}

void notice_show(struct notice *n, const char *icon, const char *text)
{
    if ((n->bus == NULL && open_bus(n) < 0) || call(n, icon, text) < 0)
        forget(n);
}
