/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The icon in the tray and its menu. It docks where a tray is (XEmbed, which is what Qubes shows in
 * dom0), waits while there is none, and docks again when the tray was started anew. It follows the
 * supervisor and asks it; it never waits for it, nor for anybody else. GTK's thread.
 */
#pragma once

#include <systemd/sd-event.h>

struct tray;

/* socket: NULL for the system bus. configurator: the program behind "Configure" and "Details". The
 * event has to be in GLib's loop (desktop/glib). -errno. */
int tray_new(struct tray **ret, sd_event *event, const char *socket, const char *configurator);
struct tray *tray_free(struct tray *t);
