/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is in the folder, and reading a profile. */
#include "vpn/daemon/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vpn/daemon/folder_private.h"

#define CLASSIC "qubes-vpn.conf"

static void closedirp(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

/* What a power cut left half-written. */
static void sweep(const struct folder *f, const char *sub)
{
    _cleanup_(closedirp) DIR *list = NULL;
    int dir = folder_subdir(f, sub, false);
    struct dirent *e;

    if (dir < 0)
        return;
    list = fdopendir(dir);
    if (list == NULL) {
        (void)close_fd(dir);
        return;
    }
    while ((e = readdir(list)) != NULL)
        if (strncmp(e->d_name, FOLDER_TEMPORARY, strlen(FOLDER_TEMPORARY)) == 0 &&
            unlinkat(dirfd(list), e->d_name, 0) < 0 && errno == EISDIR)
            (void)folder_remove_dir(dirfd(list), e->d_name);
}

int folder_open(const char *path, struct folder **ret)
{
    _cleanup_(folder_closep) struct folder *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return -ENOMEM;
    f->path = strdup(path);
    if (f->path == NULL)
        return -ENOMEM;
    for (size_t len = strlen(f->path); len > 1 && f->path[len - 1] == '/'; len--)
        f->path[len - 1] = '\0';
    (void)mkdir(f->path, 0700); /* where we may; a missing folder is an empty one */
    sweep(f, NULL);
    sweep(f, "secrets");
    sweep(f, "files");
    f->signature = folder_signature(f);
    *ret = TAKE_PTR(f);
    return 0;
}

struct folder *folder_close(struct folder *f)
{
    if (f == NULL)
        return NULL;
    f->watcher = folder_watcher_free(f->watcher);
    free(f->path);
    free(f);
    return NULL;
}

void folder_closep(struct folder **f)
{
    *f = folder_close(*f);
}

void folder_check(struct folder *f, struct findings *findings)
{
    const struct str word = STR_LITERAL("folder");
    struct stat st;
    char path[128];

    str_escape(str_from(f->path), path, sizeof(path));
    if (stat(f->path, &st) < 0) {
        findings_add(findings, FINDING_NOTE, 0, word,
                     errno == ENOENT ? "%s is missing: make it, and put profiles there"
                                     : "%s cannot be looked into: is it this program's user's?",
                     path);
        return;
    }
    if (st.st_uid != geteuid())
        findings_add(findings, FINDING_NOTE, 0, word,
                     "%s belongs to user %u and not to %u: chown it, or nothing can be kept there",
                     path, st.st_uid, geteuid());
    if ((st.st_mode & 077) != 0)
        findings_add(findings, FINDING_NOTE, 0, word,
                     "%s has mode %03o: others may read or change keys: chmod 700 it", path,
                     st.st_mode & 0777u);
}

static bool has_suffix(struct str name, const char *suffix)
{
    size_t len = strlen(suffix);

    return name.len > len && strncasecmp(name.p + name.len - len, suffix, len) == 0;
}

bool folder_name_ok(struct str name)
{
    if (name.len >= PROFILE_NAME_MAX || name.len == 0 || name.p[0] == '.' || name.p[0] == ' ')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            (c == '\0' || strchr(" _.@+-", c) == NULL))
            return false;
    }
    return has_suffix(name, ".conf") || has_suffix(name, ".ovpn");
}

/* Sorted as it comes; the last ones fall out. */
static void list_add(struct folder_list *l, const char *name)
{
    size_t at = l->n;

    if (l->n == FOLDER_PROFILES_MAX) {
        l->more++;
        if (strcmp(name, l->names[l->n - 1]) >= 0)
            return;
        at--;
    } else {
        l->n++;
    }
    while (at > 0 && strcmp(name, l->names[at - 1]) < 0) {
        memcpy(l->names[at], l->names[at - 1], PROFILE_NAME_MAX);
        at--;
    }
    memset(l->names[at], 0, PROFILE_NAME_MAX);
    memcpy(l->names[at], name, strlen(name));
}

static void leave_out(struct findings *findings, const char *name, const char *text)
{
    findings_add(findings, FINDING_LEFT_OUT, 0, str_from(name), "%s", text);
}

static void list_entry(int dir, const char *name, struct folder_list *l, struct findings *findings)
{
    struct stat st;

    if (name[0] == '.' ||
        (!has_suffix(str_from(name), ".conf") && !has_suffix(str_from(name), ".ovpn")))
        return;
    if (!folder_name_ok(str_from(name)))
        leave_out(findings, name,
                  "has a name of other characters than letters, digits, blank and _.@+-, or is "
                  "longer than 63: rename it");
    else if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        leave_out(findings, name, "is no regular file; links are not followed: copy the file here");
    else if (faccessat(dir, name, R_OK, AT_EACCESS) < 0)
        leave_out(findings, name, "may not be read by this program's user: chown or chmod it");
    else
        list_add(l, name);
}

int folder_list(struct folder *f, struct folder_list *ret, struct findings *findings)
{
    _cleanup_(closedirp) DIR *list = NULL;
    int dir = folder_dir(f);
    struct dirent *e;

    ret->n = ret->more = 0;
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    list = fdopendir(dir);
    if (list == NULL) {
        (void)close_fd(dir);
        return -ENOMEM;
    }
    while ((e = readdir(list)) != NULL)
        list_entry(dirfd(list), e->d_name, ret, findings);
    return 0;
}

const char *folder_find(const struct folder_list *l, const char *name)
{
    const char *found = NULL;
    size_t len = strlen(name);

    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->names[i], name) == 0)
            return l->names[i];
    for (size_t i = 0; i < l->n; i++) {
        if (strlen(l->names[i]) != len + 5 || memcmp(l->names[i], name, len) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = l->names[i];
    }
    return found;
}

static const char *exact(const struct folder_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->names[i], name) == 0)
            return l->names[i];
    return NULL;
}

int folder_choose(const struct folder_list *l, const struct folder_settings *s, const char **ret)
{
    const char *name = NULL;

    if (s->profile[0] != '\0') {
        name = exact(l, s->profile);
        if (name == NULL)
            return -ESTALE;
    }
    if (name == NULL && l->n == 1)
        name = l->names[0];
    for (size_t i = 0; i < s->n_order && name == NULL; i++)
        name = exact(l, s->order[i]);
    if (name == NULL)
        name = exact(l, CLASSIC);
    if (name == NULL)
        return l->n == 0 ? -ENOENT : -ENOTUNIQ;
    *ret = name;
    return 0;
}

int folder_read_text(struct folder *f, const char *name, char **ret, size_t *ret_len)
{
    _cleanup_(closep) int dir = folder_dir(f);

    if (!folder_name_ok(str_from(name)))
        return -EINVAL;
    if (dir < 0)
        return dir;
    return folder_read_beneath(dir, name, PROFILE_FILE_MAX, ret, ret_len, NULL);
}

struct references {
    struct folder *folder;
    const char *profile;
};

/* First where an import put it, then beside the profile. */
/* What is the folder's own, or another profile's: no profile may name it. */
static bool is_reserved(const char *name)
{
    static const char *const own[] = {"secrets", "files", "settings", "remembered"};
    struct str rest = str_from(name), first;

    if (has_suffix(rest, ".conf") || has_suffix(rest, ".ovpn"))
        return true;
    (void)str_next(&rest, '/', &first);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        if (str_is(first, own[i]))
            return true;
    return first.len == 0 || first.p[0] == '.';
}

static int read_reference(const char *name, char **ret, size_t *ret_len, void *user)
{
    const struct references *refs = user;
    _cleanup_(closep) int dir = folder_dir(refs->folder);
    char path[sizeof("files/") + PROFILE_NAME_MAX + 1 + FOLDER_NAME_MAX];
    char encoded[FOLDER_NAME_MAX + 1];
    int r;

    if (dir < 0)
        return dir;
    r = folder_encode(name, encoded);
    if (r < 0)
        return r;
    (void)snprintf(path, sizeof(path), "files/%s/%s", refs->profile, encoded);
    r = folder_read_beneath(dir, path, PROFILE_FILE_MAX, ret, ret_len, NULL);
    if (r == -ENOENT && !is_reserved(name))
        r = folder_read_beneath(dir, name, PROFILE_FILE_MAX, ret, ret_len, NULL);
    return r;
}

static const char *why_unread(int r)
{
    switch (r) {
    case -ENOENT:
        return "is not there any more";
    case -ELOOP:
    case -EXDEV:
        return "is a link: copy the file here";
    case -EISDIR:
    case -ENOTSUP:
        return "is no regular file";
    case -EFBIG:
        return "is larger than any profile";
    case -EBUSY:
        return "is being written";
    case -EACCES:
        return "may not be read by this program's user: chown or chmod it";
    default:
        return "cannot be read";
    }
}

int folder_read_profile(struct folder *f, const char *name, struct findings *findings,
                        struct profile **ret)
{
    struct references refs = {f, name};
    struct profile_files files = {read_reference, &refs};
    char *text = NULL;
    size_t len = 0;
    int r = folder_read_text(f, name, &text, &len);

    if (r < 0) {
        findings_add(findings, FINDING_REFUSED, 0, STR_LITERAL("file"), "%s", why_unread(r));
        return r;
    }
    r = profile_read(name, text, len, &files, findings, ret);
    folder_wipe(text, len);
    return r;
}
