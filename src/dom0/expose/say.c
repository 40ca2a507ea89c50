/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/say.h"

#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define CELL_MAX       3200 /* a value of QubesDB and a little */
#define COLUMNS        78
#define PROGRESS_AFTER 1000000

void say_failed(const char *next, const char *format, ...)
{
    va_list ap;

    say_progress_end();
    (void)fflush(stdout);
    (void)fputs("qvm-expose: ", stderr);
    va_start(ap, format);
    (void)vfprintf(stderr, format, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    if (next != NULL)
        (void)fprintf(stderr, "%s\n", next);
}

void say_wrapped(const char *text, unsigned indent)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (column == 0)
            column = (size_t)printf("%*s", (int)indent, "");
        else if (column + 1 + word > COLUMNS)
            column = (size_t)printf("\n%*s", (int)indent + 2, "") - 1;
        else
            column += (size_t)printf(" ");
        column += (size_t)printf("%.*s", (int)word, text);
        text += word;
        text += strspn(text, " ");
    }
    (void)putchar('\n');
}

int say_json(const json_t *root)
{
    if (json_dumpf(root, stdout, JSON_ENSURE_ASCII | (size_t)JSON_INDENT(2)) < 0 ||
        putchar('\n') == EOF || fflush(stdout) != 0)
        return -EIO;
    return 0;
}

json_t *say_json_text(const char *s)
{
    char safe[CELL_MAX];

    return json_string(str_escape(str_from(s), safe, sizeof(safe)));
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

/* ---- questions and progress ---- */

bool say_can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool say_ask(const char *question)
{
    char answer[16];

    if (!say_can_ask())
        return false;
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s [y/N] ", question);
    if (fgets(answer, sizeof(answer), stdin) == NULL) {
        (void)fputc('\n', stderr);
        return false;
    }
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 ||
           strcmp(answer, "yes\n") == 0;
}

static bool progress_shown;

void say_progress(uint64_t begin_us, const char *what, size_t done, size_t all)
{
    if (clock_now_us() - begin_us < PROGRESS_AFTER || !isatty(STDERR_FILENO))
        return;
    (void)fprintf(stderr, "\r\033[K%s", what);
    if (all > 0)
        (void)fprintf(stderr, " %zu/%zu", done, all);
    (void)fflush(stderr);
    progress_shown = true;
}

void say_progress_end(void)
{
    if (progress_shown)
        (void)fputs("\r\033[K", stderr);
    progress_shown = false;
}
