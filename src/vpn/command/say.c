/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/say.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"

#define CELL_MAX 512

void say_failed(const char *safety, const char *next, const char *format, ...)
{
    va_list ap;

    (void)fflush(stdout);
    (void)fputs("qubes-vpn: ", stderr);
    va_start(ap, format);
    (void)vfprintf(stderr, format, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    if (safety != NULL)
        (void)fprintf(stderr, "%s\n", safety);
    if (next != NULL)
        (void)fprintf(stderr, "%s\n", next);
}

const char *say_get(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL ? s : "";
}

const char *say_text(const json_t *object, const char *key, char *buf, size_t size)
{
    return str_escape(str_from(say_get(object, key)), buf, size);
}

const char *say_join(const json_t *array, char *buf, size_t size)
{
    char one[256];
    size_t i, used = 0;
    json_t *v;

    buf[0] = '\0';
    json_array_foreach((json_t *)array, i, v) {
        const char *s = json_string_value(v);
        int n = snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "",
                         str_escape(str_from(s != NULL ? s : ""), one, sizeof(one)));

        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
    return buf;
}

const char *say_bytes(uint64_t bytes, char buf[static 16])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(buf, 16, "%u B", (unsigned)bytes);
        return buf;
    }
    while (value >= 1000 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(buf, 16, "%.1f %s", value, units[unit]);
    return buf;
}

const char *say_time(uint64_t usec, char buf[static 32])
{
    time_t seconds = (time_t)(usec / 1000000);
    struct tm tm;

    buf[0] = '\0';
    if (usec != 0 && localtime_r(&seconds, &tm) != NULL &&
        strftime(buf, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        buf[0] = '\0';
    return buf;
}

int say_json(const json_t *root, bool line)
{
    size_t flags = JSON_ENSURE_ASCII | (line ? JSON_COMPACT : (size_t)JSON_INDENT(2));

    if (json_dumpf(root, stdout, flags) < 0 || putchar('\n') == EOF || fflush(stdout) != 0)
        return -EIO;
    return 0;
}

/* ---- tables ---- */

struct say_table {
    struct libscols_table *table;
    size_t n;
};

struct say_table *say_table_new(const char *const *columns)
{
    struct say_table *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->table = scols_new_table();
    for (; t->table != NULL && columns[t->n] != NULL; t->n++) {
        if (scols_table_new_column(t->table, columns[t->n], 0,
                                   columns[t->n + 1] == NULL ? SCOLS_FL_WRAP : 0) == NULL)
            break;
    }
    if (t->table != NULL && columns[t->n] == NULL)
        return t;
    scols_unref_table(t->table);
    free(t);
    return NULL;
}

int say_table_add(struct say_table *t, const char *const *cells)
{
    struct libscols_line *line = t != NULL ? scols_table_new_line(t->table, NULL) : NULL;
    char cell[CELL_MAX];
    int r = line != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < t->n; i++)
        r = scols_line_set_data(line, i, str_escape(str_from(cells[i]), cell, sizeof(cell)));
    return r;
}

int say_table_print(struct say_table *t)
{
    int r;

    if (t == NULL)
        return -ENOMEM;
    r = scols_table_is_empty(t->table) ? 0 : scols_print_table(t->table);
    scols_unref_table(t->table);
    free(t);
    return r < 0 ? r : 0;
}

int say_findings(const json_t *findings)
{
    static const char *const columns[] = {"LINE", "WHAT", "IS", "WHY", NULL};
    struct say_table *t = say_table_new(columns);
    size_t i;
    json_t *one;
    int r = t != NULL ? 0 : -ENOMEM;

    json_array_foreach((json_t *)findings, i, one) {
        const char *kind = json_string_value(json_array_get(one, 0)),
                   *word = json_string_value(json_array_get(one, 2)),
                   *text = json_string_value(json_array_get(one, 3));
        json_int_t line = json_integer_value(json_array_get(one, 1));
        char number[24] = "";

        if (r < 0 || kind == NULL || word == NULL || text == NULL)
            continue;
        if (line > 0)
            (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, line);
        r = say_table_add(t, (const char *const[]){number, word, kind, text});
    }
    return r < 0 ? r : say_table_print(t);
}
