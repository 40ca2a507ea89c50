/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for polkit on a test's bus: vpn-polkit-probe yes|no|ask|mute answers every
 * CheckAuthorization so (mute: never), and prints "ACTION FLAGS" for each.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/cleanup.h"

static const char *answer;

static int check(sd_bus_message *m, void *user, sd_bus_error *e)
{
    const char *kind, *action;
    uint32_t flags = 0;
    int yes = strcmp(answer, "yes") == 0, ask = strcmp(answer, "ask") == 0;
    int r = sd_bus_message_enter_container(m, 'r', "sa{sv}");

    (void)user;
    (void)e;
    if (r >= 0)
        r = sd_bus_message_read(m, "s", &kind);
    if (r >= 0)
        r = sd_bus_message_skip(m, "a{sv}");
    if (r >= 0)
        r = sd_bus_message_exit_container(m);
    if (r >= 0)
        r = sd_bus_message_read(m, "s", &action);
    if (r >= 0)
        r = sd_bus_message_skip(m, "a{ss}");
    if (r >= 0)
        r = sd_bus_message_read(m, "u", &flags);
    if (r < 0)
        return r;
    printf("%s %s %u\n", kind, action, (unsigned)flags);
    (void)fflush(stdout);
    if (strcmp(answer, "mute") == 0)
        return 1;
    return sd_bus_reply_method_return(m, "(bba{ss})", yes, ask, 0);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", check,
                  SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
    sd_bus *bus = NULL;
    int r = argc == 2 ? sd_bus_open_system(&bus) : -1;

    answer = argc == 2 ? argv[1] : "no";
    if (r >= 0)
        r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/PolicyKit1/Authority",
                                     "org.freedesktop.PolicyKit1.Authority", vtable, NULL);
    if (r >= 0)
        r = sd_bus_request_name(bus, "org.freedesktop.PolicyKit1", 0);
    if (r >= 0)
        printf("ready\n");
    (void)fflush(stdout);
    while (r >= 0) {
        r = sd_bus_process(bus, NULL);
        if (r == 0)
            r = sd_bus_wait(bus, UINT64_MAX);
    }
    sd_bus_unref(bus);
    return r < 0 ? 1 : 0;
}
