/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries for secrets, by the kinds of the bus ("user-password" has two). What is typed is not
 * shown, leaves as sealed memory, and is wiped here as soon as it left. The form is freed with its
 * widget. Main thread only.
 */
#pragma once

#include "desktop/configurator/window.h"

#define FORM_TEXT 512 /* bytes of a secret with its NUL */

struct form;

struct form *form_new(const char *kind);
/* One part for each kind of the array (of strings from the bus). */
struct form *form_new_json(const json_t *kinds);
GtkWidget *form_widget(const struct form *f);
/* Enter in the last entry. */
void form_on_enter(struct form *f, GCallback enter, gpointer data);
void form_focus(const struct form *f);
/* What was typed for the first kind; the entries are emptied. The caller wipes both. user is ""
 * where the kind has none. -E2BIG: more than FORM_TEXT, nothing is written. */
int form_take(struct form *f, char user[FORM_TEXT], char password[FORM_TEXT]);
/* Hands all that was typed to the supervisor for this profile; errors are told by the window. */
void form_send(struct form *f, struct window *w, const char *profile);
