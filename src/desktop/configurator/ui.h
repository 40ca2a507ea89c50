/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small pieces that the pages of the window are made of. Every widget has a name for screen readers
 * and an id for tests; labels wrap, so that nothing is cut at 200 % text. Text is shown as plain
 * text alone: there is no function here that takes markup. Text from outside comes cleaned
 * (desktop/words). Widgets belong to the container they are put into, as always in GTK.
 * Main thread only; out of memory ends the program, as GLib has it.
 */
#pragma once

#include <gtk/gtk.h>
#include <jansson.h>
#include <stdbool.h>

#include "desktop/words/words.h"

#define UI_GAP  6
#define UI_EDGE 18
#define UI_MANY 20 /* lines of a list that are shown */

/* id: for tests, never translated. name, description: NULL to leave them as the toolkit has them.
 */
void ui_name(GtkWidget *w, const char *id, const char *name, const char *description);

GtkWidget *ui_label(const char *text);
/* A headline: larger, and one for screen readers too. */
GtkWidget *ui_heading(const char *text);
/* A label whose text can be selected and copied; empty. */
GtkWidget *ui_value(const char *id);
/* Lines of type-writer text, to copy. */
GtkWidget *ui_lines(const char *text);
/* text: with a mnemonic. */
GtkWidget *ui_button(const char *id, const char *text, GCallback clicked, gpointer data);
/* A wrapped text with a mnemonic on a button or check button of the toolkit. */
void ui_wrap(GtkWidget *button);
GtkWidget *ui_box(GtkOrientation orientation);
/* Buttons beside each other; few and short ones, NULL at the end. */
GtkWidget *ui_buttons(GtkWidget *first, ...) G_GNUC_NULL_TERMINATED;
/* A row of a grid: what (with or without mnemonic), and what it is the name of. */
void ui_row(GtkWidget *grid, int row, const char *text, GtkWidget *value);
/* content in a page that scrolls up and down. */
GtkWidget *ui_page(GtkWidget *content);

/* Only where it differs: nothing is drawn or spoken again. Hides a label without text. */
void ui_set(GtkWidget *label, const char *text);
void ui_clear(GtkWidget *container);
/* A list for screen readers, of ui_item(). */
GtkWidget *ui_list(void);
/* A dotted line in a list of them. */
void ui_item(GtkWidget *box, const char *text);
/* "and N more", where N is not 0. */
void ui_more(GtkWidget *box, size_t n);
/* All of a NULL-ended list, or UI_MANY of it. Returns how many there are. */
size_t ui_items(GtkWidget *box, const char *const *texts);
/* Whether w shows another value than this one; remembers it. Nothing is built again for nothing. */
bool ui_differs(GtkWidget *w, const json_t *value);
/* Findings of the bus as sentences; the same. */
size_t ui_findings(GtkWidget *box, const json_t *findings);
/* The strings of an array, cleaned, with commas; "" for none. Returns buf. */
char *ui_join(const json_t *array, char *buf, size_t size);
