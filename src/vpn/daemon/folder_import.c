/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking profiles in, giving them other names, letting them go. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "vpn/daemon/folder_private.h"

#define FILES_NEW FOLDER_TEMPORARY "import"
#define FILES_OLD FOLDER_TEMPORARY "old"

int folder_encode(const char *name, char ret[static FOLDER_NAME_MAX + 1])
{
    size_t n = 0;

    if (name[0] == '\0' || name[0] == '/')
        return -EINVAL;
    for (; *name != '\0'; name++) {
        bool special = *name == '/' || *name == '%' || (n == 0 && *name == '.');

        if (n + (special ? 3 : 1) > FOLDER_NAME_MAX)
            return -ENAMETOOLONG;
        if (special)
            n += (size_t)snprintf(ret + n, 4, "%%%02X", (unsigned)*name);
        else
            ret[n++] = *name;
    }
    ret[n] = '\0';
    return 0;
}

/* What the reader of the profile asked for, kept to be written. Holds keys. */
struct capture {
    const struct profile_files *files; /* may be NULL */
    struct {
        char name[FOLDER_NAME_MAX + 1]; /* encoded */
        char *text;
        size_t len;
    } list[FOLDER_REFERENCES_MAX];
    size_t n;
};

static int capture_keep(struct capture *c, const char *name, const char *text, size_t len)
{
    char encoded[FOLDER_NAME_MAX + 1];
    int r = folder_encode(name, encoded);

    if (r < 0)
        return r;
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->list[i].name, encoded) == 0)
            return 0;
    if (c->n == FOLDER_REFERENCES_MAX)
        return -E2BIG;
    c->list[c->n].text = malloc(len + 1);
    if (c->list[c->n].text == NULL)
        return -ENOMEM;
    memcpy(c->list[c->n].text, text, len);
    memcpy(c->list[c->n].name, encoded, sizeof(encoded));
    c->list[c->n++].len = len;
    return 0;
}

static int capture_read(const char *name, char **ret, size_t *ret_len, void *user)
{
    struct capture *c = user;
    char *text = NULL;
    size_t len = 0;
    int r = c->files != NULL ? c->files->read(name, &text, &len, c->files->user) : -ENOENT;

    if (r < 0)
        return r;
    r = len > PROFILE_FILE_MAX ? -EFBIG : capture_keep(c, name, text, len);
    if (r < 0) {
        folder_wipe(text, len);
        return r;
    }
    *ret = text;
    *ret_len = len;
    return 0;
}

static void capture_done(struct capture *c)
{
    for (size_t i = 0; i < c->n; i++)
        folder_wipe(c->list[i].text, c->list[i].len);
}

/* Fills files/.new-import with what was captured. */
static int write_references(const struct capture *c, int files)
{
    _cleanup_(closep) int dir = -1;
    int r = folder_remove_dir(files, FILES_NEW);

    if (r < 0)
        return r;
    if (mkdirat(files, FILES_NEW, 0700) < 0)
        return -errno;
    dir = openat(files, FILES_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    for (size_t i = 0; i < c->n && r == 0; i++)
        r = folder_write_beneath(dir, c->list[i].name, c->list[i].text, c->list[i].len);
    return r;
}

/* The directory of the profile's files becomes the new one, or none; the old one goes. */
static int replace_references(const struct capture *c, struct folder *f, const char *name)
{
    _cleanup_(closep) int files = folder_subdir(f, "files", c->n > 0);
    int r;

    if (files < 0)
        return c->n == 0 && files == -ENOENT ? 0 : files;
    if (c->n > 0) {
        r = write_references(c, files);
        if (r < 0) {
            (void)folder_remove_dir(files, FILES_NEW);
            return r;
        }
    }
    (void)folder_remove_dir(files, FILES_OLD);
    if (renameat(files, name, files, FILES_OLD) < 0 && errno != ENOENT)
        return -errno;
    if (c->n > 0 && renameat(files, FILES_NEW, files, name) < 0)
        return -errno;
    (void)folder_remove_dir(files, FILES_OLD);
    return fsync(files) < 0 ? -errno : 0;
}

/* name with the suffix of its kind where it has none. */
static int full_name(struct str name, enum profile_kind kind, char ret[static PROFILE_NAME_MAX])
{
    const char *suffix = kind == PROFILE_WIREGUARD ? ".conf" : ".ovpn";
    char buf[PROFILE_NAME_MAX + 8];

    if (name.len == 0 || name.len >= PROFILE_NAME_MAX ||
        memchr(name.p, '\0', name.len) != NULL)
        return -EINVAL;
    (void)snprintf(buf, sizeof(buf), "%.*s%s", (int)name.len, name.p,
                   folder_name_ok(name) ? "" : suffix);
    if (!folder_name_ok(str_from(buf)))
        return -EINVAL;
    memcpy(ret, buf, strlen(buf) + 1);
    return 0;
}

static int is_there(struct folder *f, const char *name)
{
    _cleanup_(closep) int dir = folder_dir(f);
    struct stat st;

    if (dir < 0)
        return dir;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT ? 0 : -errno;
}

static int import(struct folder *f, struct str name, const char *text, size_t len, bool replace,
                  struct findings *findings, struct capture *c, char ret_name[PROFILE_NAME_MAX])
{
    struct profile_files files = {capture_read, c};
    struct profile *p = NULL;
    char full[PROFILE_NAME_MAX];
    int r = profile_read("import", text, len, &files, findings, &p);

    if (r < 0)
        return r;
    r = full_name(name, p->kind, full);
    (void)profile_free(p);
    if (r < 0) {
        findings_add(findings, FINDING_REFUSED, 0, STR_LITERAL("name"),
                     "must be of letters, digits, blank and _.@+-, and not longer than 58");
        return r;
    }
    r = is_there(f, full);
    if (r < 0)
        return r;
    if (r > 0 && !replace)
        return -EEXIST;
    r = replace_references(c, f, full);
    if (r == 0)
        r = folder_put(f, NULL, full, text, len);
    if (r == 0)
        memcpy(ret_name, full, sizeof(full));
    return r;
}

int folder_import(struct folder *f, struct str name, const char *text, size_t len,
                  const struct profile_files *files, bool replace, struct findings *findings,
                  char ret_name[static PROFILE_NAME_MAX])
{
    struct capture c = {.files = files};
    int r;

    if (len > PROFILE_FILE_MAX)
        return -EFBIG;
    r = import(f, name, text, len, replace, findings, &c, ret_name);
    capture_done(&c);
    return r;
}

/* new_name NULL: it is gone. */
static int follow_settings(struct folder *f, const char *name, const char *new_name)
{
    _cleanup_(freep) struct folder_settings *s = calloc(1, sizeof(*s));
    _cleanup_(freep) struct findings *ignored = calloc(1, sizeof(*ignored));
    bool changed = false;
    size_t n = 0;
    int r;

    if (s == NULL || ignored == NULL)
        return -ENOMEM;
    r = folder_read_settings(f, s, ignored);
    if (r < 0)
        return r;
    if (strcmp(s->profile, name) == 0) {
        (void)snprintf(s->profile, sizeof(s->profile), "%s", new_name != NULL ? new_name : "");
        changed = true;
    }
    for (size_t i = 0; i < s->n_order; i++) {
        bool same = strcmp(s->order[i], name) == 0;

        changed = changed || same;
        if (same && new_name == NULL)
            continue;
        memmove(s->order[n], s->order[i], PROFILE_NAME_MAX);
        if (same)
            (void)snprintf(s->order[n], PROFILE_NAME_MAX, "%s", new_name);
        n++;
    }
    s->n_order = n;
    return changed ? folder_write_settings(f, s) : 0;
}

int folder_rename(struct folder *f, const char *name, const char *new_name)
{
    _cleanup_(folder_secrets_wipe) struct folder_secrets secrets = {0};
    _cleanup_(closep) int files = -1;
    char full[PROFILE_NAME_MAX];
    struct str suffix;
    int r;

    if (!folder_name_ok(str_from(name)))
        return -EINVAL;
    (void)folder_read_secrets(f, name, &secrets); /* what is not for this file stays behind */
    suffix = str_from(name + strlen(name) - 5);
    r = full_name(str_from(new_name),
                  strcasecmp(suffix.p, ".conf") == 0 ? PROFILE_WIREGUARD : PROFILE_OPENVPN, full);
    if (r < 0)
        return r;
    r = folder_move(f, NULL, name, full); /* -EEXIST comes from here, before anything is done */
    if (r < 0)
        return r;
    files = folder_subdir(f, "files", false);
    if (files >= 0) {
        (void)folder_remove_dir(files, full);
        if (renameat(files, name, files, full) < 0 && errno != ENOENT)
            return -errno;
    }
    (void)folder_unlink(f, "secrets", full);
    (void)folder_unlink(f, "secrets", name);
    r = folder_write_secrets(f, full, &secrets); /* anew: to rename changes the file's time */
    if (r < 0)
        return r;
    return follow_settings(f, name, full);
}

int folder_delete(struct folder *f, const char *name)
{
    _cleanup_(closep) int files = -1;
    int r;

    if (!folder_name_ok(str_from(name)))
        return -EINVAL;
    r = folder_unlink(f, NULL, name);
    if (r < 0)
        return r;
    r = folder_unlink(f, "secrets", name);
    if (r < 0 && r != -ENOENT)
        return r;
    files = folder_subdir(f, "files", false);
    if (files >= 0)
        r = folder_remove_dir(files, name);
    else
        r = files == -ENOENT ? 0 : files;
    return r < 0 ? r : follow_settings(f, name, NULL);
}
