/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a person reads: errors in three parts (what failed, what it means for safety, what to do
 * next), and values that came from elsewhere, which are printable ASCII or escaped. Errors go to
 * stderr, answers to stdout; nothing has colours.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* safety, next: sentences, NULL to leave out. */
__attribute__((format(printf, 3, 4))) void say_failed(const char *safety, const char *next,
                                                      const char *format, ...);
/* The rule where no call can open anything. */
#define SAY_UNCHANGED "Nothing was changed, the qubes behind stay as sealed as they were."

/* A member as text: "" when it is missing or no string. The second copies it escaped. */
const char *say_get(const json_t *object, const char *key);
const char *say_text(const json_t *object, const char *key, char *buf, size_t size);
/* Strings of an array, escaped, with ", " between. */
const char *say_join(const json_t *array, char *buf, size_t size);
/* 1234567890 as "1.1 GiB". */
const char *say_bytes(uint64_t bytes, char buf[static 16]);
/* Microseconds of CLOCK_REALTIME as local time; "" for 0. */
const char *say_time(uint64_t usec, char buf[static 32]);
/* ASCII, indented or on one line. -EIO when stdout cannot be written. */
int say_json(const json_t *root, bool line);

/* A table of strings: columns end with NULL, the last is wrapped. Cells are escaped here. */
struct say_table;
struct say_table *say_table_new(const char *const *columns);
int say_table_add(struct say_table *t, const char *const *cells);
int say_table_print(struct say_table *t); /* and frees it; NULL: -ENOMEM */
/* Findings as the bus gives them: [kind, line, word, text]. */
int say_findings(const json_t *findings);
