/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * import: reads a provider file and what it refers to with the rights of whoever calls, shows what
 * of it has no effect here or is refused, and hands all of it over as it is. Files that the profile
 * names are taken from its own folder only, without following a link out of it or into it.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory_file.h"
#include "base/str.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/profile/profile.h"

#define PARTS_MAX 32

struct part {
    char name[256]; /* as the profile writes it */
    int fd;         /* sealed memory with its text */
};

struct parts {
    int folder;
    size_t n;
    struct part list[PARTS_MAX];
    char missing[256]; /* the first that could not be read */
    int error;
};

static void parts_done(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        (void)close_fd(p->list[i].fd);
    (void)close_fd(p->folder);
}

static void wipe_text(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
}

/* A regular file of at most PROFILE_FILE_MAX bytes, ended by a NUL. */
static int read_file(int fd, char **ret, size_t *ret_len)
{
    _cleanup_(wipe_text) char *text = NULL;
    struct stat st;
    size_t n = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > PROFILE_FILE_MAX)
        return -EFBIG;
    text = calloc(1, PROFILE_FILE_MAX + 2);
    if (text == NULL)
        return -ENOMEM;
    for (;;) {
        ssize_t got = read(fd, text + n, PROFILE_FILE_MAX + 1 - n);

        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > PROFILE_FILE_MAX)
            return -EFBIG;
    }
    *ret = TAKE_PTR(text);
    *ret_len = n;
    return 0;
}

static int open_beneath(int folder, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long fd = syscall(SYS_openat2, folder, name, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

static int add_part(struct parts *p, const char *name, const char *text, size_t len)
{
    struct part *part = &p->list[p->n];
    int fd, r;

    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->list[i].name, name) == 0)
            return 0;
    }
    if (p->n == PARTS_MAX || strlen(name) >= sizeof(part->name))
        return -E2BIG;
    r = memory_file("profile", text, len, &fd);
    if (r < 0)
        return r;
    (void)snprintf(part->name, sizeof(part->name), "%s", name);
    part->fd = fd;
    p->n++;
    return 0;
}

static int read_part(const char *name, char **ret, size_t *ret_len, void *user)
{
    struct parts *p = user;
    _cleanup_(wipe_text) char *text = NULL;
    _cleanup_(closep) int fd = open_beneath(p->folder, name);
    size_t len = 0;
    int r = fd < 0 ? fd : read_file(fd, &text, &len);

    if (r == 0)
        r = add_part(p, name, text, len);
    if (r < 0) {
        if (p->missing[0] == '\0')
            (void)str_escape(str_from(name), p->missing, sizeof(p->missing));
        p->error = r;
        return r;
    }
    *ret = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

/* ---- what was found ---- */

static json_t *findings_to_json(const struct findings *f)
{
    static const char *const kinds[] = {
        [FINDING_REFUSED] = "refused", [FINDING_LEFT_OUT] = "left-out", [FINDING_NOTE] = "note"};
    json_t *all = json_array();

    for (size_t i = 0; i < f->n; i++)
        (void)json_array_append_new(all, json_pack("[s,i,s,s]", kinds[f->list[i].kind],
                                                   (int)f->list[i].line, f->list[i].word,
                                                   f->list[i].text));
    return all;
}

static void show_findings(const struct findings *f)
{
    json_t *all = findings_to_json(f);

    (void)say_findings(all);
    if (f->more > 0)
        printf("... and %zu more\n", f->more);
    json_decref(all);
}

static int say_json_result(const char *name, const struct findings *f, bool imported)
{
    json_t *root = json_pack("{s:b, s:s, s:o}", "imported", (int)imported, "profile", name,
                             "findings", findings_to_json(f));
    int r = root != NULL ? say_json(root, false) : -ENOMEM;

    json_decref(root);
    return r;
}

/* ---- the way of a file ---- */

struct import {
    const char *path;
    char name[PROFILE_NAME_MAX];
    char *text;
    size_t len;
    struct findings findings;
    struct parts parts;
};

static void import_done(struct import *i)
{
    wipe_text(&i->text);
    parts_done(&i->parts);
}

static int open_all(struct import *i)
{
    char copy[PATH_MAX];
    _cleanup_(closep) int fd = open(i->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int r;

    if (fd < 0)
        return -errno;
    r = snprintf(copy, sizeof(copy), "%s", i->path);
    if (r < 0 || (size_t)r >= sizeof(copy))
        return -ENAMETOOLONG;
    i->parts.folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (i->parts.folder < 0)
        return -errno;
    r = read_file(fd, &i->text, &i->len);
    return r;
}

static int choose_name(struct import *i, const char *wanted)
{
    char copy[PATH_MAX];
    const char *base;
    int n;

    if (wanted == NULL) {
        (void)snprintf(copy, sizeof(copy), "%s", i->path);
        base = basename(copy);
    } else {
        base = wanted;
    }
    n = snprintf(i->name, sizeof(i->name), "%s", base);
    return n < 0 || (size_t)n >= sizeof(i->name) ? -ENAMETOOLONG : 0;
}

static int check(struct import *i)
{
    _cleanup_(profile_freep) struct profile *p = NULL;
    struct profile_files files = {read_part, &i->parts};

    return profile_read(i->name, i->text, i->len, &files, &i->findings, &p);
}

static int send_all(struct line *l, const struct import *i, int main_fd)
{
    sd_bus_message *m = NULL;
    int r = line_begin(l, "ImportWithFiles", &m);

    if (r >= 0)
        r = sd_bus_message_append(m, "hs", main_fd, i->name);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'a', "{sh}");
    for (size_t k = 0; k < i->parts.n && r >= 0; k++)
        r = sd_bus_message_append(m, "{sh}", i->parts.list[k].name, i->parts.list[k].fd);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    return line_send(l, m, NULL);
}

static int refuse(const struct import *i, int r, bool json)
{
    char path[512], name[160];

    (void)str_escape(str_from(i->path), path, sizeof(path));
    if (json)
        (void)say_json_result(str_escape(str_from(i->name), name, sizeof(name)), &i->findings,
                              false);
    else
        show_findings(&i->findings);
    if (i->parts.missing[0] != '\0')
        say_failed(SAY_UNCHANGED, "Next: put that file beside it, as the provider packed them",
                   "cannot import %s: it refers to %s: %s", path, i->parts.missing,
                   i->parts.error == -ELOOP || i->parts.error == -EXDEV
                       ? "only files of its own folder are taken, and no links"
                       : strerror(-i->parts.error));
    else if (i->findings.refused > 0)
        say_failed(SAY_UNCHANGED,
                   "Next: remove those lines, or ask the provider for a plain client profile",
                   "cannot import %s: what is refused above would run something or open a way "
                   "around the tunnel, or is not understood",
                   path);
    else
        say_failed(SAY_UNCHANGED, NULL, "cannot import %s: %s", path,
                   r == -EFBIG   ? "it is bigger than 512 KiB"
                   : r == -EINVAL ? "it is no provider file"
                                  : strerror(-r));
    return COMMAND_FAILED;
}

static int hand_over(const struct command_options *o, const struct import *i)
{
    char path[512], name[160], failed[700];
    struct line l;
    _cleanup_(closep) int fd = -1;
    int kept = memory_file("profile", i->text, i->len, &fd);
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    (void)snprintf(failed, sizeof(failed), "cannot import %s",
                   str_escape(str_from(i->path), path, sizeof(path)));
    (void)str_escape(str_from(i->name), name, sizeof(name));
    r = kept < 0 ? kept : send_all(&l, i, fd);
    if (r < 0) {
        r = command_refused(&l, r, failed);
    } else if (o->json) {
        r = say_json_result(name, &i->findings, true) < 0 ? COMMAND_FAILED : COMMAND_OK;
    } else {
        show_findings(&i->findings);
        printf("Imported as %s%s. It is kept as it is; what is left out above has no effect here.\n"
               "Next: qubes-vpn use %s; qubes-vpn up\n",
               name, i->parts.n > 0 ? ", with the files it refers to" : "", name);
    }
    line_close(&l);
    return r;
}

int command_import(const struct command_options *o)
{
    _cleanup_(import_done) struct import i = {.path = o->words[0], .parts = {.folder = -1}};
    int r = choose_name(&i, o->name);

    if (r == 0)
        r = open_all(&i);
    if (r == 0)
        r = check(&i);
    if (r < 0 || i.findings.refused > 0)
        return refuse(&i, r, o->json);
    return hand_over(o, &i);
}
