/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An sd_event inside GLib's main loop, so that GTK programs use the same follower as the others.
 * The source polls the loop's descriptor and adds no timer of its own. Main thread only.
 */
#pragma once

#include <glib.h>
#include <systemd/sd-event.h>

/* Attached to the default context; holds a reference on event until it is destroyed. */
GSource *glib_event_attach(sd_event *event);
