/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "dom0/expose/map.h"

#define WIDTH_MIN 40

struct strokes { /* all of one width, but for the marks */
    const char *branch, *last, *down, *none;
    const char *marks[4];
};

static const struct strokes utf8_strokes = {
    "├── ", "└── ", "│   ", "    ",
    {[MAP_PLAIN] = "", [MAP_OPEN] = "● ", [MAP_WAITING] = "◌ ", [MAP_BLOCKED] = "✗ "},
};
static const struct strokes ascii_strokes = {
    "|-- ", "`-- ", "|   ", "    ",
    {[MAP_PLAIN] = "", [MAP_OPEN] = "* ", [MAP_WAITING] = "o ", [MAP_BLOCKED] = "! "},
};

/* Is a stroke drawn at this depth beside row i: is there another sibling of its ancestor below? */
static bool goes_on(const struct map *m, size_t i, unsigned depth)
{
    for (size_t k = i + 1; k < m->n && m->rows[k].depth >= depth; k++) {
        if (m->rows[k].depth == depth)
            return true;
    }
    return false;
}

static bool has_children(const struct map *m, size_t i)
{
    return i + 1 < m->n && m->rows[i + 1].depth > m->rows[i].depth;
}

static void put_trunk(const struct map *m, size_t i, const struct strokes *s, unsigned to, FILE *f)
{
    for (unsigned depth = 1; depth < to; depth++)
        (void)fputs(goes_on(m, i, depth) ? s->down : s->none, f);
}

/* What stands left of a line that is not the first of its row. */
static void put_margin(const struct map *m, size_t i, const struct strokes *s, FILE *f)
{
    put_trunk(m, i, s, m->rows[i].depth + 1, f);
    (void)fputs(has_children(m, i) ? s->down : s->none, f);
}

static void put_line(const struct map *m, size_t i, const char *line, const struct strokes *s,
                     unsigned width, FILE *f)
{
    size_t room = width > m->rows[i].depth * 4 + WIDTH_MIN / 2 ? width - m->rows[i].depth * 4 - 8
                                                               : WIDTH_MIN / 2;
    bool first = true;

    while (*line != '\0') {
        size_t n = strlen(line), most = first ? room : room - 2;

        if (n > most) {
            n = most;
            while (n > 0 && line[n] != ' ')
                n--;
            if (n == 0)
                n = most; /* a word longer than the line */
        }
        put_margin(m, i, s, f);
        (void)fprintf(f, "%s%.*s\n", first ? "" : "  ", (int)n, line);
        line += n;
        line += strspn(line, " ");
        first = false;
    }
}

void map_write_text(const struct map *m, bool utf8, unsigned width, FILE *f)
{
    const struct strokes *s = utf8 ? &utf8_strokes : &ascii_strokes;

    if (width < WIDTH_MIN)
        width = WIDTH_MIN;
    for (size_t i = 0; i < m->n; i++) {
        const struct map_row *row = &m->rows[i];

        if (row->depth > 0) {
            put_trunk(m, i, s, row->depth, f);
            (void)fputs(row->last ? s->last : s->branch, f);
        }
        (void)fprintf(f, "%s%s\n", s->marks[row->mark], row->name);
        for (size_t k = 0; k < row->n_lines; k++)
            put_line(m, i, row->lines[k], s, width, f);
    }
    (void)fprintf(f, "\n%sopen   %sopen when it runs   %sasked for, not open\n",
                  s->marks[MAP_OPEN], s->marks[MAP_WAITING], s->marks[MAP_BLOCKED]);
}
