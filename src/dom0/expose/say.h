/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person reads: errors and notes on stderr, answers on stdout, tables, JSON, progress, and
 * questions. Text from elsewhere is escaped here. Nothing has colours.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "qvm-expose: ..." and, when next is not NULL, a line about what to do. */
__attribute__((format(printf, 2, 3))) void say_failed(const char *next, const char *format, ...);

/* A paragraph, wrapped at 78 columns, each line indented; continuation lines a little more. */
void say_wrapped(const char *text, unsigned indent);

/* ASCII, indented. -EIO when stdout cannot be written. */
int say_json(const json_t *root);

/* Text as a JSON string, escaped as for a terminal. */
json_t *say_json_text(const char *s);

/* A table of strings: columns end with NULL, the last is wrapped. Cells are escaped here. */
struct say_table;
struct say_table *say_table_new(const char *const *columns);
int say_table_add(struct say_table *t, const char *const *cells);
int say_table_print(struct say_table *t); /* and frees it; NULL: -ENOMEM */

/* Asks on the terminal. False without one, at its end, and for anything but yes. */
bool say_ask(const char *question);
bool say_can_ask(void);

/*
 * Progress for what takes longer than a second, on a terminal only. Called often; begin_us is the
 * monotonic time at which it began. say_progress_end() takes the line away again.
 */
void say_progress(uint64_t begin_us, const char *what, size_t done, size_t all);
void say_progress_end(void);
