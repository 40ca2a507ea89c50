/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor as a D-Bus object: /org/qubes_os/Vpn1, interface org.qubes_os.Vpn1, as written
 * down in data/dbus/org.qubes_os.Vpn1.xml. Either on the system bus under the name
 * org.qubes_os.Vpn1, where polkit is asked for everybody but root; or, where there is no bus, on a
 * socket of its own, which lets in root and the user of the program only.
 *
 * Nothing here waits: name, credentials, polkit and descriptors are asked for or read in the loop.
 * Without a system bus it tries again, from 1 s up to every 30 s. It does not log.
 * Protocol: D-Bus specification 0.43; polkit's CheckAuthorization (org.freedesktop.PolicyKit1).
 */
#pragma once

#include <systemd/sd-event.h>

#include "vpn/daemon/manager.h"

#define BUS_NAME      "org.qubes_os.Vpn1"
#define BUS_PATH      "/org/qubes_os/Vpn1"
#define BUS_INTERFACE "org.qubes_os.Vpn1"

struct bus;

/* path: socket to serve on (its folder must exist), NULL: the system bus. m outlives the bus. */
int bus_new(sd_event *loop, struct manager *m, const char *path, struct bus **ret);
/* Ends what is in work, removes the socket. Returns NULL; NULL is fine. */
struct bus *bus_free(struct bus *b);
void bus_freep(struct bus **b);

/* What the manager's listener hands on: to be called from it. */
void bus_changed(struct bus *b);
void bus_event(struct bus *b, enum vpn_event event, const char *text);
void bus_test_result(struct bus *b, bool sealed, const char *json);
