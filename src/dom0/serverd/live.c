/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/live.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

#define FIRST_LINE "v=1"
#define FIELDS     5
#define FILE_MAX   ((size_t)TREE_QUBES_MAX * 160)

void live_done(struct live *l)
{
    free(l->entries);
    *l = (struct live){0};
}

static bool parse_name(struct str text, char ret[static QUBE_NAME_MAX])
{
    memset(ret, 0, QUBE_NAME_MAX);
    if (!tree_valid_name(text))
        return false;
    memcpy(ret, text.p, text.len);
    return true;
}

static bool parse_addr(struct str text, int family, struct addr *ret)
{
    *ret = (struct addr){0};
    return str_is(text, "-") || (addr_parse(text, ret) == 0 && ret->family == family);
}

static bool parse_line(struct str line, struct live_entry *ret)
{
    struct str field[FIELDS];
    uint32_t xid;

    for (size_t i = 0; i < FIELDS; i++)
        if (!str_next(&line, ' ', &field[i]))
            return false;
    if (line.p || !parse_name(field[0], ret->name) || str_to_u32(field[1], XID_MAX, &xid) < 0 ||
        xid == 0)
        return false;
    ret->xid = (uint16_t)xid;
    ret->at = (struct attachment){.known = true};
    return (str_is(field[2], "-") || parse_name(field[2], ret->at.netvm)) &&
           parse_addr(field[3], AF_INET, &ret->at.ip[0]) &&
           parse_addr(field[4], AF_INET6, &ret->at.ip[1]);
}

static int push(struct live *l, size_t *capacity, const struct live_entry *e)
{
    if (l->n > 0 && strcmp(l->entries[l->n - 1].name, e->name) >= 0)
        return -EBADMSG;
    if (l->n == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 16;
        struct live_entry *p = reallocarray(l->entries, grown, sizeof(*p));

        if (!p)
            return -ENOMEM;
        l->entries = p;
        *capacity = grown;
    }
    l->entries[l->n++] = *e;
    return 0;
}

int live_parse(struct str text, struct live *ret)
{
    _cleanup_(live_done) struct live out = {0};
    struct str rest = text, line;
    size_t capacity = 0;
    bool first = true, last = false;

    while (str_next(&rest, '\n', &line)) {
        struct live_entry e;
        int r;

        if (last)
            return -EBADMSG;
        last = line.len == 0; /* after the last newline */
        if (last)
            continue;
        if (first && !str_is(line, FIRST_LINE))
            return -EBADMSG;
        r = first ? 0 : parse_line(line, &e) ? push(&out, &capacity, &e) : -EBADMSG;
        if (r < 0)
            return r;
        first = false;
    }
    if (first || !last)
        return -EBADMSG;
    *ret = out;
    out = (struct live){0};
    return 0;
}

static void close_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

int live_load(const char *path, struct live *ret)
{
    _cleanup_(close_file) FILE *f = fopen(path, "re");
    _cleanup_(freep) char *text = NULL;
    struct stat st;
    size_t len;

    if (!f)
        return -errno;
    if (fstat(fileno(f), &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (size_t)st.st_size > FILE_MAX)
        return -EBADMSG;
    len = (size_t)st.st_size;
    text = malloc(len + 1);
    if (!text)
        return -ENOMEM;
    if (fread(text, 1, len, f) != len)
        return -EIO;
    return live_parse((struct str){text, len}, ret);
}

const struct live_entry *live_find(const struct live *l, const char *name)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = strcmp(name, l->entries[middle].name);

        if (c == 0)
            return &l->entries[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* What runs; of what is about to start the number is not known. */
static bool belongs(const struct qube *q)
{
    return q->live.known && q->xid[0] != 0;
}

static const char *format_addr(const struct addr *a, char buf[static ADDR_STR_MAX])
{
    return a->family ? addr_format(a, buf) : "-";
}

int live_format(const struct tree *t, char **ret, size_t *ret_len)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    bool failed;

    if (!f)
        return -ENOMEM;
    (void)fputs(FIRST_LINE "\n", f);
    for (size_t i = 0; i < tree_count(t); i++) {
        const struct qube *q = tree_at(t, i);
        char ip[ADDR_STR_MAX], ip6[ADDR_STR_MAX];

        if (belongs(q))
            (void)fprintf(f, "%s %u %s %s %s\n", q->name, q->xid[0],
                          q->live.netvm[0] ? q->live.netvm : "-",
                          format_addr(&q->live.ip[0], ip), format_addr(&q->live.ip[1], ip6));
    }
    failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        return -ENOMEM;
    }
    *ret = text;
    *ret_len = len;
    return 0;
}

int live_save(const char *path, const char *text, size_t len)
{
    _cleanup_(freep) char *temporary = NULL;
    _cleanup_(closep) int fd = -1;
    int r = 0;

    if (asprintf(&temporary, "%s.new", path) < 0) {
        temporary = NULL;
        return -ENOMEM;
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (len > 0 && r == 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0) {
            r = errno == EINTR ? 0 : -errno;
            continue;
        }
        text += n;
        len -= (size_t)n;
    }
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(temporary);
    return r;
}
