/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One box for each row, from the LAN inwards, with an elbow from the parent's box. A monospace font
 * makes widths countable. What is open is told by shape and words, not by colour alone.
 */
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/map.h"

#define CHAR_W   8 /* of 13 px monospace, rounded up */
#define LINE_H   18
#define PAD      10
#define INDENT   36
#define GAP      12
#define CUT      96 /* characters of a line; the rest is in the text form */
#define MARK_W   20

static void put_escaped(const char *s, size_t most, FILE *f)
{
    size_t n = strlen(s), end = n > most ? most - 3 : n;

    for (size_t i = 0; i < end; i++) {
        switch (s[i]) {
        case '<':
            (void)fputs("&lt;", f);
            break;
        case '>':
            (void)fputs("&gt;", f);
            break;
        case '&':
            (void)fputs("&amp;", f);
            break;
        case '"':
            (void)fputs("&quot;", f);
            break;
        case '\'':
            (void)fputs("&#39;", f);
            break;
        default:
            /* XML has no form for other control characters */
            (void)fputc((unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7e ? '?' : s[i], f);
        }
    }
    if (n > most)
        (void)fputs("...", f);
}

static unsigned box_height(const struct map_row *row)
{
    return (unsigned)(row->n_lines + 1) * LINE_H + 2 * PAD - 4;
}

static unsigned box_width(const struct map_row *row)
{
    size_t most = strlen(row->name);

    for (size_t i = 0; i < row->n_lines; i++) {
        if (strlen(row->lines[i]) > most)
            most = strlen(row->lines[i]);
    }
    if (most > CUT)
        most = CUT;
    return (unsigned)most * CHAR_W + 2 * PAD + (row->mark != MAP_PLAIN ? MARK_W : 0);
}

static unsigned box_x(const struct map_row *row)
{
    return PAD + row->depth * INDENT;
}

static const char *mark_words(enum map_mark mark)
{
    switch (mark) {
    case MAP_PLAIN:
        return "";
    case MAP_OPEN:
        return "open";
    case MAP_WAITING:
        return "open when it runs";
    case MAP_BLOCKED:
        return "asked for, not open";
    }
    return "";
}

static void put_mark(const struct map_row *row, unsigned y, FILE *f)
{
    unsigned x = box_x(row) + PAD + 6, middle = y + PAD + LINE_H / 2 - 3;

    switch (row->mark) {
    case MAP_PLAIN:
        break;
    case MAP_OPEN:
        (void)fprintf(f, "<circle class=\"open\" cx=\"%u\" cy=\"%u\" r=\"6\"/>\n", x, middle);
        break;
    case MAP_WAITING:
        (void)fprintf(f, "<circle class=\"waiting\" cx=\"%u\" cy=\"%u\" r=\"5.5\"/>\n", x, middle);
        break;
    case MAP_BLOCKED:
        (void)fprintf(f, "<path class=\"blocked\" d=\"M%u %ul10 10m0 -10l-10 10\"/>\n", x - 5,
                      middle - 5);
        break;
    }
}

static void put_box(const struct map_row *row, unsigned y, FILE *f)
{
    static const char *const classes[] = {
        [MAP_ROOT] = "root", [MAP_NET] = "net", [MAP_QUBE] = "qube", [MAP_OTHERS] = "others",
    };
    unsigned text_x = box_x(row) + PAD + (row->mark != MAP_PLAIN ? MARK_W : 0);

    (void)fputs("<g>\n<title>", f);
    put_escaped(row->name, MAP_NAME_MAX, f);
    if (row->mark != MAP_PLAIN)
        (void)fprintf(f, ": %s", mark_words(row->mark));
    (void)fprintf(f,
                  "</title>\n<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" "
                  "rx=\"5\"/>\n",
                  classes[row->kind], box_x(row), y, box_width(row), box_height(row));
    put_mark(row, y, f);
    (void)fprintf(f, "<text class=\"name\" x=\"%u\" y=\"%u\">", text_x, y + PAD + 10);
    put_escaped(row->name, CUT, f);
    (void)fputs("</text>\n", f);
    for (size_t i = 0; i < row->n_lines; i++) {
        (void)fprintf(f, "<text x=\"%u\" y=\"%u\">", text_x,
                      y + PAD + 10 + (unsigned)(i + 1) * LINE_H);
        put_escaped(row->lines[i], CUT, f);
        (void)fputs("</text>\n", f);
    }
    (void)fputs("</g>\n", f);
}

static void put_elbow(const struct map_row *row, unsigned parent_bottom, unsigned y, FILE *f)
{
    unsigned x = box_x(row) - INDENT + PAD + 6, middle = y + PAD + LINE_H / 2;

    (void)fprintf(f, "<path class=\"%s\" d=\"M%u %uV%uH%u\"/>\n", row->on_way ? "way" : "wire", x,
                  parent_bottom, middle, box_x(row));
}

static void put_head(const struct map *m, unsigned width, unsigned height, FILE *f)
{
    size_t open = 0, asked = 0;

    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
                  "height=\"%u\" role=\"img\" aria-labelledby=\"map-title map-desc\">\n"
                  "<title id=\"map-title\">Qubes that are exposed to the LAN</title>\n"
                  "<desc id=\"map-desc\">",
                  width, height, width, height);
    for (size_t i = 0; i < m->n; i++) {
        const struct map_row *row = &m->rows[i];

        if (row->mark == MAP_PLAIN)
            continue;
        open += row->mark == MAP_OPEN;
        asked++;
        put_escaped(row->name, MAP_NAME_MAX, f);
        (void)fprintf(f, ": %s. ", mark_words(row->mark));
    }
    (void)fprintf(f, "%zu asked for, %zu open.</desc>\n", asked, open);
    (void)fputs("<style>\n"
                "svg{background:#fff;color:#1a1a1a;font:13px monospace}\n"
                "text{fill:#1a1a1a}.name{font-weight:bold}\n"
                "rect{fill:#f3f4f6;stroke:#6b7280}rect.root{fill:#e5e7eb}\n"
                "rect.net{fill:#e8f0fe;stroke:#1d4ed8}rect.others{fill:none;stroke-dasharray:4 3}\n"
                "path{fill:none}.wire{stroke:#9ca3af}.way{stroke:#15803d;stroke-width:3}\n"
                ".open{fill:#15803d}.waiting{fill:none;stroke:#a16207;stroke-width:2}\n"
                ".blocked{stroke:#b91c1c;stroke-width:2.5}\n"
                "@media(prefers-color-scheme:dark){\n"
                "svg{background:#16181d;color:#e5e7eb}text{fill:#e5e7eb}\n"
                "rect{fill:#23262d;stroke:#9ca3af}rect.root{fill:#2f333b}\n"
                "rect.net{fill:#1e2a44;stroke:#93b4ff}rect.others{fill:none}\n"
                ".way{stroke:#4ade80}.open{fill:#4ade80}.waiting{stroke:#facc15}\n"
                ".blocked{stroke:#f87171}}\n"
                "</style>\n",
                f);
}

static unsigned widest(const struct map *m)
{
    unsigned width = 0;

    for (size_t i = 0; i < m->n; i++) {
        unsigned right = box_x(&m->rows[i]) + box_width(&m->rows[i]) + PAD;

        if (right > width)
            width = right;
    }
    return width;
}

void map_write_svg(const struct map *m, FILE *f)
{
    unsigned bottom[TREE_HOPS_MAX + 3] = {0}; /* of the last box at each depth */
    unsigned height = PAD, y = PAD;

    for (size_t i = 0; i < m->n; i++)
        height += box_height(&m->rows[i]) + GAP;
    put_head(m, widest(m), height, f);
    /* elbows lie below the boxes, and those of what is open above the others */
    for (unsigned pass = 0; pass < 3; pass++) {
        y = PAD;
        for (size_t i = 0; i < m->n; i++) {
            const struct map_row *row = &m->rows[i];
            unsigned depth = row->depth < ARRAY_SIZE(bottom) ? row->depth : ARRAY_SIZE(bottom) - 1;

            if (depth > 0 && pass == (row->on_way ? 1u : 0u))
                put_elbow(row, bottom[depth - 1], y, f);
            if (pass == 2)
                put_box(row, y, f);
            bottom[depth] = y + box_height(row);
            y += box_height(row) + GAP;
        }
    }
    (void)fputs("</svg>\n", f);
}
