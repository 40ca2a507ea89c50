/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The traffic of the last two minutes as a drawing, with its numbers in words beside it and for
 * screen readers. Draws what rate.h holds; asks nobody and has no timer. Main thread only.
 */
#pragma once

#include <gtk/gtk.h>
#include <stdint.h>

#include "desktop/configurator/rate.h"

/* rate: the caller's, as long as the widget lives. */
GtkWidget *plot_new(const struct rate *rate);
/* After a change of rate. now_us: CLOCK_MONOTONIC; totals: since the tunnel began. */
void plot_update(GtkWidget *plot, uint64_t now_us, uint64_t total_in, uint64_t total_out);
