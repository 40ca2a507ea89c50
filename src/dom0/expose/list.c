/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --list: every qube that somebody asked to expose. --map: the tree with them. */
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dom0/expose/expose.h"
#include "dom0/expose/map.h"
#include "dom0/expose/say.h"
#include "dom0/expose/session.h"
#include "dom0/expose/show.h"
#include "dom0/expose/words.h"

static const char *first_problem(const struct session *s, const struct qube *q)
{
    for (size_t i = 0; i < s->wishes.n_problems; i++) {
        if (s->wishes.problems[i].whose == q)
            return s->wishes.problems[i].why;
    }
    return "";
}

static int add_row(struct say_table *t, const struct session *s, const struct qube *q)
{
    _cleanup_(exposure_done) struct exposure e = {0};
    char why[WISH_WHY_MAX], allow[WORDS_MAX] = "", publish[WORDS_MAX] = "", rest[WORDS_MAX] = "",
        addresses[2 * ADDR_STR_MAX + 4];

    if (exposure_of(s->tree, q, &e, why) == 0) {
        if (e.forward)
            (void)words_allow(s->tree, q, &e, allow);
        (void)words_publish(s->tree, q, publish);
        (void)words_rest(&e, s->now, rest);
    }
    return say_table_add(t, (const char *const[]){q->name, words_addresses(q, addresses),
                                                  words_edge(s->tree, q), allow, publish, rest,
                                                  first_problem(s, q)});
}

static int list_table(const struct session *s)
{
    static const char *const columns[] = {"QUBE", "ADDRESS", "FACES THE LAN", "OPEN", "PUBLISHED",
                                          "MORE", "NOT OPEN BECAUSE", NULL};
    struct say_table *t = say_table_new(columns);
    size_t n = 0;
    int r = t != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < tree_count(s->tree) && r == 0; i++) {
        const struct qube *q = tree_at(s->tree, i);

        if (wish_is_asked(s->tree, q)) {
            r = add_row(t, s, q);
            n++;
        }
    }
    if (r == 0 && n == 0)
        printf("No qube is asked to be exposed. For example: qvm-expose web --allow tcp/443\n");
    return r < 0 ? r : say_table_print(t);
}

static int list_json(const struct session *s)
{
    json_t *root = json_array();
    int r;

    for (size_t i = 0; i < tree_count(s->tree); i++) {
        const struct qube *q = tree_at(s->tree, i);

        if (wish_is_asked(s->tree, q))
            (void)json_array_append_new(root, show_qube_json(s, q));
    }
    r = root != NULL ? say_json(root) : -ENOMEM;
    json_decref(root);
    return r;
}

int expose_list(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};

    if (session_open(&s, o) < 0)
        return EXPOSE_FAILED;
    return (o->json ? list_json(&s) : list_table(&s)) < 0 ? EXPOSE_FAILED : EXPOSE_OK;
}

/* ---- the drawing ---- */

static unsigned terminal_width(void)
{
    struct winsize size;

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0
               ? size.ws_col
               : 100;
}

static int close_svg(FILE *f)
{
    int r = ferror(f) ? -EIO : 0;

    return fclose(f) != 0 && r == 0 ? -errno : r;
}

/* A device, a pipe, or where a symbolic link leads. */
static int write_svg_through(const struct map *m, const char *path)
{
    FILE *f = fopen(path, "we");

    if (f == NULL)
        return -errno;
    map_write_svg(m, f);
    return close_svg(f);
}

/* A file of a name that nobody has or can foresee, with the rights that any new file gets. */
static int open_beside(char *path, FILE **ret)
{
    _cleanup_(closep) int fd = mkostemp(path, O_CLOEXEC);
    mode_t mask = umask(0);

    (void)umask(mask);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0666 & ~mask) == 0)
        *ret = fdopen(fd, "w");
    if (*ret != NULL) {
        (void)TAKE_FD(fd);
        return 0;
    }
    (void)unlink(path);
    return -EIO;
}

/* Beside the file first, so that there is always a whole one. */
static int write_svg(const struct map *m, const char *path)
{
    _cleanup_(freep) char *new = NULL;
    struct stat st;
    FILE *f = NULL;
    int r;

    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return write_svg_through(m, path);
    if (asprintf(&new, "%s.XXXXXX", path) < 0) {
        new = NULL;
        return -ENOMEM;
    }
    r = open_beside(new, &f);
    if (r < 0)
        return r;
    map_write_svg(m, f);
    r = close_svg(f);
    if (r == 0 && rename(new, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(new);
    return r;
}

int expose_map(const struct options *o)
{
    _cleanup_(session_close) struct session s = {0};
    _cleanup_(map_done) struct map m = {0};
    int r;

    if (session_open(&s, o) < 0)
        return EXPOSE_FAILED;
    r = map_build(s.tree, &s.wishes, s.now, &m);
    if (r == 0 && o->svg != NULL)
        r = write_svg(&m, o->svg);
    else if (r == 0)
        map_write_text(&m, strcmp(nl_langinfo(CODESET), "UTF-8") == 0, terminal_width(), stdout);
    if (r < 0)
        say_failed(NULL, "%s: %s", o->svg != NULL ? o->svg : "the drawing", strerror(-r));
    return r < 0 ? EXPOSE_FAILED : EXPOSE_OK;
}
