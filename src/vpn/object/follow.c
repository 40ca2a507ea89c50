/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/object/follow.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "vpn/object/value.h"

#define DBUS       "org.freedesktop.DBus"
#define PROPERTIES DBUS ".Properties"

#define RETRY_MIN_US UINT64_C(1000000)
#define RETRY_MAX_US UINT64_C(60000000)
/* The supervisor reads descriptors for 5 s, polkit may ask a person. */
#define CALL_US UINT64_C(130000000)
#define LOOK_US UINT64_C(25000000)
/* Of a handler of answers that may have closed the bus: sd-bus goes on with it after a 0, and where
 * the answer is that none came in time it ends the program by an assertion. */
#define DONE 1

struct call {
    LIST_ENTRY(call) entry;
    struct vpn_follow *follow;
    sd_bus_slot *slot;
    vpn_done_fn done; /* may be NULL */
    void *data;
};

enum told { TOLD_NOTHING, TOLD_NOBODY, TOLD_STATUS };

struct vpn_follow {
    sd_event *event;
    char *socket; /* NULL: the system bus */
    const struct vpn_follow_ops *ops;
    void *data;
    sd_bus *bus;            /* NULL: none, `retry` is armed */
    sd_event_source *retry; /* the bus again, or an owner that did not answer */
    unsigned failures;      /* tries since the last answer */
    char *owner;            /* of the name: its unique name; NULL: nobody. Not with a socket */
    sd_bus_slot *owner_asked;
    sd_bus_slot *asked; /* GetAll is on its way */
    json_t *status;     /* NULL: nobody answers, or not yet */
    enum told told;
    LIST_HEAD(, call) calls;
};

/* ---- telling ---- */

static void tell(struct vpn_follow *f)
{
    f->told = f->status != NULL ? TOLD_STATUS : TOLD_NOBODY;
    if (f->ops->changed != NULL)
        f->ops->changed(f->data, f->status);
}

static void forget_status(struct vpn_follow *f)
{
    f->asked = sd_bus_slot_unref(f->asked);
    json_decref(f->status);
    f->status = NULL;
    if (f->told != TOLD_NOBODY)
        tell(f);
}

/* ---- calls ---- */

static void call_free(struct call *c)
{
    LIST_REMOVE(c, entry);
    sd_bus_slot_unref(c->slot);
    free(c);
}

/* Their connection has ended: nobody will answer. */
static void end_calls(struct vpn_follow *f)
{
    struct call *c;

    /* f->bus is NULL: nothing is added meanwhile */
    while ((c = LIST_FIRST(&f->calls)) != NULL) {
        vpn_done_fn done = c->done;
        void *data = c->data;

        call_free(c);
        if (done != NULL)
            done(data, NULL, "", "the connection to the supervisor has ended");
    }
}

static void forget_bus(struct vpn_follow *f)
{
    if (f->bus == NULL)
        return;
    f->asked = sd_bus_slot_unref(f->asked);
    f->owner_asked = sd_bus_slot_unref(f->owner_asked);
    free(f->owner);
    f->owner = NULL;
    (void)sd_bus_detach_event(f->bus);
    f->bus = sd_bus_close_unref(f->bus);
}

static void try_later(struct vpn_follow *f)
{
    uint64_t usec = RETRY_MIN_US << (f->failures < 6 ? f->failures : 6);

    f->failures++;
    if (usec > RETRY_MAX_US)
        usec = RETRY_MAX_US;
    (void)sd_event_source_set_time_relative(f->retry, usec);
    (void)sd_event_source_set_enabled(f->retry, SD_EVENT_ONESHOT);
}

static void lose_bus(struct vpn_follow *f)
{
    forget_bus(f);
    try_later(f);
    forget_status(f);
    end_calls(f);
}

/* ---- the status ---- */

static int on_all(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    json_t *results = NULL, *status;
    bool good;

    (void)e;
    f->asked = sd_bus_slot_unref(f->asked);
    good = sd_bus_message_get_error(m) == NULL && vpn_value_read(m, &results) == 0;
    status = json_array_get(results, 0);
    if (good && json_is_object(status)) {
        json_decref(f->status);
        f->status = json_incref(status);
        f->failures = 0;
        tell(f);
    } else if (f->socket != NULL) {
        lose_bus(f); /* whoever this is, it is not the supervisor */
    } else {
        forget_status(f);
        try_later(f); /* it may have been slow, and may have nothing to tell for hours */
    }
    json_decref(results);
    return DONE;
}

static int ask_all(struct vpn_follow *f)
{
    sd_bus_message *m = NULL;
    int r;

    if (f->asked != NULL)
        return 0;
    r = sd_bus_message_new_method_call(f->bus, &m, f->owner != NULL ? f->owner : VPN_OBJECT_NAME,
                                       VPN_OBJECT_PATH, PROPERTIES, "GetAll");
    if (r >= 0)
        r = sd_bus_message_set_auto_start(m, 0);
    if (r >= 0)
        r = sd_bus_message_append(m, "s", VPN_OBJECT_NAME);
    if (r >= 0)
        r = sd_bus_call_async(f->bus, &f->asked, m, on_all, f, LOOK_US);
    sd_bus_message_unref(m);
    return r < 0 ? r : 0;
}

static void ask_or_lose(struct vpn_follow *f)
{
    if (ask_all(f) < 0)
        lose_bus(f);
}

/* On a bus anybody may send us a signal of this name directly. */
static bool is_supervisor(const struct vpn_follow *f, sd_bus_message *m)
{
    const char *sender = sd_bus_message_get_sender(m);

    if (f->socket != NULL)
        return true;
    return f->owner != NULL && sender != NULL && strcmp(sender, f->owner) == 0;
}

static int on_properties(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    json_t *parts = NULL, *changed;
    const char *interface;

    (void)e;
    if (!is_supervisor(f, m) || vpn_value_read(m, &parts) < 0)
        return 0;
    interface = json_string_value(json_array_get(parts, 0));
    changed = json_array_get(parts, 1);
    if (interface != NULL && strcmp(interface, VPN_OBJECT_NAME) == 0) {
        bool part = json_array_size(json_array_get(parts, 2)) > 0;

        if (f->status == NULL || part || json_object_update(f->status, changed) < 0)
            ask_or_lose(f);
        else
            tell(f);
    }
    json_decref(parts);
    return 0;
}

static int on_event(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    const char *kind, *text;

    (void)e;
    if (is_supervisor(f, m) && f->ops->event != NULL &&
        sd_bus_message_read(m, "ss", &kind, &text) > 0)
        f->ops->event(f->data, kind, text);
    return 0;
}

static int on_tested(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    const char *report;
    int sealed;

    (void)e;
    if (is_supervisor(f, m) && f->ops->tested != NULL &&
        sd_bus_message_read(m, "bs", &sealed, &report) > 0)
        f->ops->tested(f->data, sealed != 0, report);
    return 0;
}

/* ---- who has the name ---- */

static void set_owner(struct vpn_follow *f, const char *owner)
{
    free(f->owner);
    f->owner = owner[0] != '\0' ? strdup(owner) : NULL;
    f->asked = sd_bus_slot_unref(f->asked);
    if (f->owner != NULL)
        ask_or_lose(f); /* the old status stands until the new one is known */
    else
        forget_status(f);
}

static int on_owner(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    const sd_bus_error *error = sd_bus_message_get_error(m);
    const char *owner = "";

    (void)e;
    f->owner_asked = sd_bus_slot_unref(f->owner_asked);
    if (error != NULL && !sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
        lose_bus(f);
        return DONE;
    }
    f->failures = 0;
    if (error == NULL && sd_bus_message_read(m, "s", &owner) <= 0)
        owner = "";
    set_owner(f, owner);
    return DONE;
}

static int on_owner_changed(sd_bus_message *m, void *user, sd_bus_error *e)
{
    struct vpn_follow *f = user;
    const char *sender = sd_bus_message_get_sender(m), *name, *before, *now;

    (void)e;
    if (sender == NULL || strcmp(sender, DBUS) != 0 || f->owner_asked != NULL ||
        sd_bus_message_read(m, "sss", &name, &before, &now) <= 0 ||
        strcmp(name, VPN_OBJECT_NAME) != 0)
        return 0;
    set_owner(f, now);
    return 0;
}

/* ---- the connection ---- */

static int on_disconnected(sd_bus_message *m, void *user, sd_bus_error *e)
{
    (void)m;
    (void)e;
    lose_bus(user);
    return 0;
}

static int match(struct vpn_follow *f, const char *interface, const char *member,
                 sd_bus_message_handler_t handler)
{
    return sd_bus_match_signal_async(f->bus, NULL, f->socket == NULL ? VPN_OBJECT_NAME : NULL,
                                     VPN_OBJECT_PATH, interface, member, handler, NULL, f);
}

static int follow_owner(struct vpn_follow *f)
{
    int r = sd_bus_add_match_async(f->bus, NULL,
                                   "type='signal',sender='" DBUS "',interface='" DBUS
                                   "',member='NameOwnerChanged',arg0='" VPN_OBJECT_NAME "'",
                                   on_owner_changed, NULL, f);

    return r < 0
               ? r
               : sd_bus_call_method_async(f->bus, &f->owner_asked, DBUS, "/org/freedesktop/DBus",
                                          DBUS, "GetNameOwner", on_owner, f, "s", VPN_OBJECT_NAME);
}

static int connect_now(struct vpn_follow *f)
{
    int r = vpn_value_open(f->socket, &f->bus);

    if (r >= 0)
        r = sd_bus_attach_event(f->bus, f->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_match_signal_async(f->bus, NULL, DBUS ".Local", NULL, DBUS ".Local",
                                      "Disconnected", on_disconnected, NULL, f);
    if (r >= 0)
        r = match(f, PROPERTIES, "PropertiesChanged", on_properties);
    if (r >= 0)
        r = match(f, VPN_OBJECT_NAME, "Event", on_event);
    if (r >= 0)
        r = match(f, VPN_OBJECT_NAME, "TestResult", on_tested);
    if (r >= 0)
        r = f->socket == NULL ? follow_owner(f) : ask_all(f);
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *user)
{
    struct vpn_follow *f = user;

    (void)s;
    (void)usec;
    if (f->bus == NULL) {
        if (connect_now(f) < 0)
            lose_bus(f);
    } else if (f->owner != NULL && f->status == NULL) {
        ask_or_lose(f);
    }
    return 0;
}

int vpn_follow_new(struct vpn_follow **ret, sd_event *event, const char *socket,
                   const struct vpn_follow_ops *ops, void *data)
{
    struct vpn_follow *f = calloc(1, sizeof(*f));
    char address[VPN_ADDRESS_MAX];
    int r = f != NULL ? 0 : -ENOMEM;

    if (r < 0)
        return r;
    LIST_INIT(&f->calls);
    if (socket != NULL)
        r = vpn_value_address(socket, address, sizeof(address));
    f->event = sd_event_ref(event);
    f->ops = ops;
    f->data = data;
    if (r >= 0 && socket != NULL && (f->socket = strdup(socket)) == NULL)
        r = -ENOMEM;
    /* The first try, too, comes from the loop. */
    if (r >= 0)
        r = sd_event_add_time_relative(event, &f->retry, CLOCK_MONOTONIC, 0, 1, on_retry, f);
    if (r < 0) {
        (void)vpn_follow_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

struct vpn_follow *vpn_follow_free(struct vpn_follow *f)
{
    struct call *c;

    if (f == NULL)
        return NULL;
    while ((c = LIST_FIRST(&f->calls)) != NULL)
        call_free(c);
    forget_bus(f);
    sd_event_source_disable_unref(f->retry);
    sd_event_unref(f->event);
    json_decref(f->status);
    free(f->socket);
    free(f);
    return NULL;
}

const json_t *vpn_follow_status(const struct vpn_follow *f)
{
    return f->status;
}

int vpn_follow_refresh(struct vpn_follow *f)
{
    return f->bus == NULL || f->status == NULL ? -ENOTCONN : ask_all(f);
}

/* ---- calls ---- */

static int on_answer(sd_bus_message *m, void *user, sd_bus_error *e)
{
    static const char prefix[] = VPN_OBJECT_ERROR;
    struct call *c = user;
    vpn_done_fn done = c->done;
    void *data = c->data;
    const sd_bus_error *error = sd_bus_message_get_error(m);
    const char *name = "", *text = NULL;
    json_t *results = NULL;

    (void)e;
    call_free(c);
    if (done == NULL)
        return 0;
    if (error != NULL) {
        if (strncmp(error->name, prefix, sizeof(prefix) - 1) == 0)
            name = error->name + sizeof(prefix) - 1;
        text = error->message != NULL ? error->message : error->name;
    } else if (vpn_value_read(m, &results) < 0) {
        text = "the answer cannot be read";
    }
    done(data, results, text != NULL ? name : NULL, text);
    json_decref(results);
    return 0;
}

int vpn_follow_begin(struct vpn_follow *f, const char *method, sd_bus_message **ret)
{
    sd_bus_message *m = NULL;
    int r;

    if (f->bus == NULL || f->status == NULL)
        return -ENOTCONN;
    r = sd_bus_message_new_method_call(f->bus, &m, VPN_OBJECT_NAME, VPN_OBJECT_PATH,
                                       VPN_OBJECT_NAME, method);
    if (r >= 0)
        r = sd_bus_message_set_auto_start(m, 0);
    if (r >= 0)
        r = sd_bus_message_set_allow_interactive_authorization(m, 1);
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    *ret = m;
    return 0;
}

int vpn_follow_send(struct vpn_follow *f, sd_bus_message *m, vpn_done_fn done, void *data)
{
    struct call *c = f->bus != NULL ? calloc(1, sizeof(*c)) : NULL;
    int r = c != NULL ? 0 : f->bus != NULL ? -ENOMEM : -ENOTCONN;

    if (r >= 0) {
        *c = (struct call){.follow = f, .done = done, .data = data};
        r = sd_bus_call_async(f->bus, &c->slot, m, on_answer, c, CALL_US);
        if (r >= 0)
            LIST_INSERT_HEAD(&f->calls, c, entry);
        else
            free(c);
    }
    sd_bus_message_unref(m);
    return r < 0 ? r : 0;
}

int vpn_follow_call(struct vpn_follow *f, vpn_done_fn done, void *data, const char *method,
                    const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list ap;
    int r = vpn_follow_begin(f, method, &m);

    if (r < 0)
        return r;
    if (types != NULL && types[0] != '\0') {
        va_start(ap, types);
        r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
    }
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    return vpn_follow_send(f, m, done, data);
}

void vpn_follow_forget(struct vpn_follow *f, const void *data)
{
    struct call *c, *next;

    for (c = LIST_FIRST(&f->calls); c != NULL; c = next) {
        next = LIST_NEXT(c, entry);
        if (c->data == data)
            call_free(c);
    }
}
