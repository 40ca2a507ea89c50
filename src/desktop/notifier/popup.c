/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/notifier/popup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/log.h"

#define DBUS        "org.freedesktop.DBus"
#define DBUS_PATH   "/org/freedesktop/DBus"
#define DAEMON      "org.freedesktop.Notifications"
#define DAEMON_PATH "/org/freedesktop/Notifications"
/* Two notifiers in a session would tell everything twice. */
#define OUR_NAME "org.qubes_os.VpnNotifier"

/* Answer of RequestName (D-Bus specification): another connection has it. */
#define NAME_TAKEN UINT32_C(3)

#define RETRY_MIN_US UINT64_C(1000000)
#define RETRY_MAX_US UINT64_C(60000000)
/* A daemon may wait for dom0, and that for a person. */
#define NOTIFY_US UINT64_C(600000000)
#define ASK_US    UINT64_C(60000000)
#define TRIES_MAX 5 /* for one notice that a daemon answers with errors */

struct popup {
    sd_event *event;
    sd_bus *bus;            /* NULL: none, `retry` is armed */
    sd_event_source *retry; /* the bus again, or a notice that was not taken */
    sd_event_source *work;  /* whatever is to be done now */
    unsigned failures;
    sd_bus_slot *asked, *sent; /* GetCapabilities, Notify: at most one of both is on its way */
    bool known, markup;        /* whether this daemon reads markup */
    bool absent;               /* nobody takes it now: wait for the name's next owner */
    unsigned tries;            /* of this notice, answered with errors */
    uint32_t id;               /* to be replaced; 0: none */
    bool waiting;              /* `notice` was not given away yet */
    struct notice notice;      /* the newest one */
};

static void kick(struct popup *p)
{
    (void)sd_event_source_set_enabled(p->work, SD_EVENT_ONESHOT);
}

static void arm(struct popup *p, unsigned failures)
{
    uint64_t usec = RETRY_MIN_US << (failures < 6 ? failures : 6);

    if (usec > RETRY_MAX_US)
        usec = RETRY_MAX_US;
    (void)sd_event_source_set_time_relative(p->retry, usec);
    (void)sd_event_source_set_enabled(p->retry, SD_EVENT_ONESHOT);
}

/* Another daemon knows nothing of our notification. */
static void forget_daemon(struct popup *p)
{
    if (p->sent != NULL)
        p->waiting = true;
    p->asked = sd_bus_slot_unref(p->asked);
    p->sent = sd_bus_slot_unref(p->sent);
    p->known = p->markup = false;
    p->id = 0;
}

static void lose_bus(struct popup *p)
{
    forget_daemon(p);
    p->absent = false;
    if (p->bus != NULL) {
        (void)sd_bus_detach_event(p->bus);
        p->bus = sd_bus_close_unref(p->bus);
    }
    arm(p, p->failures++);
}

/* ---- the daemon ---- */

/* It stays to be given away: later, or to the next daemon. */
static void not_taken(struct popup *p, const sd_bus_error *e)
{
    p->waiting = true;
    if (sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
        sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
        p->absent = true;
    } else if (++p->tries < TRIES_MAX) {
        arm(p, p->tries);
        p->absent = true; /* until then, or until there is another one */
    } else {
        p->waiting = false;
        log_warning("The notification daemon does not take \"%s\"", p->notice.title);
    }
}

static int on_capabilities(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct popup *p = user;
    const sd_bus_error *error = sd_bus_message_get_error(m);
    const char *word;

    (void)e;
    p->asked = sd_bus_slot_unref(p->asked);
    if (error != NULL) {
        not_taken(p, error);
        return 0;
    }
    p->known = true;
    p->markup = false;
    if (sd_bus_message_enter_container(m, 'a', "s") > 0) {
        while (sd_bus_message_read(m, "s", &word) > 0)
            p->markup = p->markup || strcmp(word, "body-markup") == 0;
    }
    kick(p);
    return 0;
}

static int on_notified(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct popup *p = user;
    const sd_bus_error *error = sd_bus_message_get_error(m);

    (void)e;
    p->sent = sd_bus_slot_unref(p->sent);
    if (error != NULL)
        not_taken(p, error);
    else if (sd_bus_message_read(m, "u", &p->id) <= 0)
        p->id = 0;
    kick(p);
    return 0;
}

static int append_notice(sd_bus_message *m, const struct popup *p)
{
    static char body[PLAN_BODY * 2];
    const struct notice *n = &p->notice;
    /* Name, id, icon, title, body, no actions, hints, how long. */
    int r = sd_bus_message_append(m, "susss", "Qubes VPN", p->id, n->icon, n->title,
                                  popup_text(n->body, p->markup, body, sizeof(body)));

    if (r >= 0)
        r = sd_bus_message_append(m, "as", 0);
    if (r >= 0)
        r = sd_bus_message_append(m, "a{sv}", 3, "urgency", "y", (int)n->urgency, "category", "s",
                                  n->category, "desktop-entry", "s", "qubes-vpn-configurator");
    return r < 0 ? r : sd_bus_message_append(m, "i", n->stays ? 0 : -1);
}

static int notify(struct popup *p)
{
    sd_bus_message *m = NULL;
    int r = sd_bus_message_new_method_call(p->bus, &m, DAEMON, DAEMON_PATH, DAEMON, "Notify");

    if (r >= 0)
        r = append_notice(m, p);
    if (r >= 0)
        r = sd_bus_call_async(p->bus, &p->sent, m, on_notified, p, NOTIFY_US);
    sd_bus_message_unref(m);
    if (r >= 0)
        p->waiting = false;
    return r;
}

static int ask_capabilities(struct popup *p)
{
    sd_bus_message *m = NULL;
    int r =
        sd_bus_message_new_method_call(p->bus, &m, DAEMON, DAEMON_PATH, DAEMON, "GetCapabilities");

    if (r >= 0)
        r = sd_bus_call_async(p->bus, &p->asked, m, on_capabilities, p, ASK_US);
    sd_bus_message_unref(m);
    return r;
}

/* The next step, if there is one. */
static int on_work(sd_event_source *s, void *user)
{
    struct popup *p = user;

    (void)s;
    if (p->bus == NULL || !p->waiting || p->absent || p->asked != NULL || p->sent != NULL)
        return 0;
    if ((p->known ? notify : ask_capabilities)(p) < 0)
        lose_bus(p);
    return 0;
}

static int on_owner_changed(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct popup *p = user;
    const char *name, *before, *now;

    (void)e;
    if (sd_bus_message_read(m, "sss", &name, &before, &now) <= 0 || strcmp(name, DAEMON) != 0)
        return 0;
    forget_daemon(p);
    if (now[0] != '\0') {
        p->absent = false;
        kick(p);
    }
    return 0;
}

static int on_closed(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct popup *p = user;
    uint32_t id, why;

    (void)e;
    if (sd_bus_message_read(m, "uu", &id, &why) > 0 && id == p->id)
        p->id = 0;
    return 0;
}

/* ---- the bus ---- */

static int on_name(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct popup *p = user;
    uint32_t answer = 0;

    (void)e;
    if (sd_bus_message_get_error(m) != NULL || sd_bus_message_read(m, "u", &answer) <= 0)
        return 0;
    p->failures = 0;
    if (answer == NAME_TAKEN)
        return sd_event_exit(p->event, 0);
    return 0;
}

static int on_disconnected(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)m;
    (void)e;
    lose_bus(user);
    return 0;
}

static int connect_now(struct popup *p)
{
    int r = sd_bus_open_user(&p->bus);

    if (r >= 0)
        r = sd_bus_attach_event(p->bus, p->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal_async(p->bus, NULL, DBUS ".Local", NULL, DBUS ".Local",
                                      "Disconnected", on_disconnected, NULL, p);
    if (r >= 0)
        r = sd_bus_request_name_async(p->bus, NULL, OUR_NAME, 0, on_name, p);
    if (r >= 0)
        r = sd_bus_add_match_async(p->bus, NULL,
                                   "type='signal',sender='" DBUS "',interface='" DBUS
                                   "',member='NameOwnerChanged',arg0='" DAEMON "'",
                                   on_owner_changed, NULL, p);
    if (r >= 0)
        r = sd_bus_match_signal_async(p->bus, NULL, DAEMON, DAEMON_PATH, DAEMON,
                                      "NotificationClosed", on_closed, NULL, p);
    kick(p);
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    struct popup *p = user;

    (void)s;
    (void)usec;
    if (p->bus == NULL && connect_now(p) < 0) {
        lose_bus(p);
        return 0;
    }
    p->absent = false;
    kick(p);
    return 0;
}

int popup_new(struct popup **ret, sd_event *event)
{
    struct popup *p = calloc(1, sizeof(*p));
    int r = p != NULL ? 0 : -ENOMEM;

    if (r < 0)
        return r;
    p->event = sd_event_ref(event);
    r = sd_event_add_defer(event, &p->work, on_work, p);
    if (r >= 0)
        r = sd_event_source_set_enabled(p->work, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &p->retry, CLOCK_MONOTONIC, 0, 1, on_retry, p);
    if (r < 0) {
        (void)popup_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct popup *popup_free(struct popup *p)
{
    if (p == NULL)
        return NULL;
    forget_daemon(p);
    if (p->bus != NULL)
        (void)sd_bus_detach_event(p->bus);
    p->bus = sd_bus_close_unref(p->bus);
    sd_event_source_disable_unref(p->work);
    sd_event_source_disable_unref(p->retry);
    sd_event_unref(p->event);
    free(p);
    return NULL;
}

void popup_show(struct popup *p, const struct notice *n)
{
    p->notice = *n;
    p->waiting = true;
    p->absent = false; /* somebody may have come who can be started */
    p->tries = 0;
    kick(p);
}
