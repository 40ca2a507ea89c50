/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdint.h>

#include "vpn/daemon/bus_private.h"

#define DRIVER       "org.freedesktop.DBus"
#define DRIVER_PATH  "/org/freedesktop/DBus"
#define POLKIT       "org.freedesktop.PolicyKit1"
#define POLKIT_PATH  "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_IFACE "org.freedesktop.PolicyKit1.Authority"

#define ASK_US      UINT64_C(10000000)
#define PASSWORD_US UINT64_C(120000000) /* a person may be typing */

#define DENIED      BUS_ERROR "Denied"
#define INTERACTION UINT32_C(1) /* polkit: AllowUserInteraction */

static int on_polkit(sd_bus_message *answer, void *user, sd_bus_error *e)
{
    struct bus_call *c = user;
    int authorized = 0, challenge = 0, r;

    (void)e;
    c->slot = sd_bus_slot_unref(c->slot);
    c->with_polkit = false;
    if (sd_bus_message_is_method_error(answer, NULL)) {
        bus_call_refuse(c, DENIED, "Only root may do this: polkit does not answer");
        return 0;
    }
    r = sd_bus_message_enter_container(answer, 'r', "bba{ss}");
    if (r > 0)
        r = sd_bus_message_read(answer, "bb", &authorized, &challenge);
    if (r > 0 && authorized)
        bus_call_permitted(c);
    else if (r > 0 && challenge)
        bus_call_refuse(c, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        "This needs a password, and nobody could be asked for it");
    else
        bus_call_refuse(c, DENIED, "This is not permitted to you");
    return 0;
}

static int ask_polkit(struct bus_call *c, const char *action)
{
    sd_bus *connection = sd_bus_message_get_bus(c->message);
    uint32_t flags =
        sd_bus_message_get_allow_interactive_authorization(c->message) > 0 ? INTERACTION : 0;
    sd_bus_message *m = NULL;
    int r = sd_bus_message_new_method_call(connection, &m, POLKIT, POLKIT_PATH, POLKIT_IFACE,
                                           "CheckAuthorization");

    if (r >= 0)
        r = sd_bus_message_append(m, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(c->message), action, 0, flags, "");
    if (r >= 0)
        r = sd_bus_call_async(connection, &c->slot, m, on_polkit, c, PASSWORD_US);
    c->with_polkit = r >= 0;
    sd_bus_message_unref(m);
    return r;
}

static int on_user(sd_bus_message *answer, void *user, sd_bus_error *e)
{
    struct bus_call *c = user;
    uint32_t uid;

    (void)e;
    c->slot = sd_bus_slot_unref(c->slot);
    if (sd_bus_message_is_method_error(answer, NULL) || sd_bus_message_read(answer, "u", &uid) <= 0)
        bus_call_refuse(c, DENIED, "Who asks could not be found out");
    else if (uid == 0)
        bus_call_permitted(c);
    else if (ask_polkit(c, c->action) < 0)
        bus_call_refuse(c, DENIED, "Only root may do this: polkit cannot be asked");
    return 0;
}

int bus_access_ask(struct bus_call *c, const char *action)
{
    sd_bus *connection = sd_bus_message_get_bus(c->message);
    sd_bus_message *m = NULL;
    int r;

    if (connection != c->bus->system)
        return 1; /* our own socket: looked at when it was accepted */
    c->action = action;
    r = sd_bus_message_new_method_call(connection, &m, DRIVER, DRIVER_PATH, DRIVER,
                                       "GetConnectionUnixUser");
    if (r >= 0)
        r = sd_bus_message_append(m, "s", sd_bus_message_get_sender(c->message));
    if (r >= 0)
        r = sd_bus_call_async(connection, &c->slot, m, on_user, c, ASK_US);
    sd_bus_message_unref(m);
    return r < 0 ? r : 0;
}
