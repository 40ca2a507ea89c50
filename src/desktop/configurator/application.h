/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configurator as an application of the session: one window, which a second start only shows.
 * Where the program is built without a toolkit, it says so. Includes no toolkit.
 */
#pragma once

#include <stdbool.h>

/* Whether a page of the window is called so: state, profiles, add, test, guide. */
bool application_has_page(const char *name);
/* Runs until the window is closed. socket: NULL for the system bus; page: NULL for what fits;
 * files: of a provider, to begin with, NULL at the end. Returns the exit status: 0, or 1 (said
 * why). */
int application_run(const char *socket, const char *page, char **files);
