/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/object/offer.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory_file.h"

#define STEM_MAX (PROFILE_NAME_MAX - 6) /* of a name, without suffix and NUL */

struct reading {
    struct offer *offer;
    const struct offer_source *source;
    const char *profile; /* path; NULL: pasted */
    int folder;          /* of the profile; -1 */
};

static void wipe_text(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
}

/* A regular file of at most PROFILE_FILE_MAX bytes, ended by a NUL. */
static int read_file(int fd, char **ret, size_t *ret_len)
{
    char *text;
    struct stat st;
    size_t n = 0;
    int r = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > PROFILE_FILE_MAX)
        return -EFBIG;
    text = calloc(1, PROFILE_FILE_MAX + 2);
    if (text == NULL)
        return -ENOMEM;
    while (r == 0) {
        ssize_t got = read(fd, text + n, PROFILE_FILE_MAX + 1 - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            r = got < 0 ? -errno : 0;
            break;
        }
        n += (size_t)got;
        if (n > PROFILE_FILE_MAX)
            r = -EFBIG;
    }
    if (r < 0) {
        explicit_bzero(text, n);
        free(text);
        return r;
    }
    *ret = text;
    *ret_len = n;
    return 0;
}

static int open_plain(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

static int open_beneath(int folder, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long fd = folder < 0 ? -1 : syscall(SYS_openat2, folder, name, &how, sizeof(how));

    if (folder < 0)
        return -ENOENT;
    return fd < 0 ? -errno : (int)fd;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* What the person gave comes first: it was chosen for this. */
static int open_named(const struct reading *g, const char *name)
{
    const char *wanted = last_part(name);

    for (size_t i = 0; i < g->source->n; i++) {
        const char *path = g->source->paths[i];

        if (path != g->profile && strcmp(last_part(path), wanted) == 0)
            return open_plain(path);
    }
    return open_beneath(g->folder, name);
}

static void note_missing(struct offer *o, const char *name, int error)
{
    struct offer_file *one = &o->missing[o->n_missing];

    if (o->n_missing == OFFER_FILES_MAX)
        return;
    (void)snprintf(one->name, sizeof(one->name), "%s", name);
    one->fd = -1;
    one->error = error;
    o->n_missing++;
}

static int add_file(struct offer *o, const char *name, const char *text, size_t len)
{
    struct offer_file *one = &o->files[o->n_files];
    int fd, r;

    for (size_t i = 0; i < o->n_files; i++) {
        if (strcmp(o->files[i].name, name) == 0)
            return 0;
    }
    if (o->n_files == OFFER_FILES_MAX || strlen(name) >= sizeof(one->name))
        return -E2BIG;
    r = memory_file("profile", text, len, &fd);
    if (r < 0)
        return r;
    (void)snprintf(one->name, sizeof(one->name), "%s", name);
    one->fd = fd;
    o->n_files++;
    return 0;
}

static int read_named(const char *name, char **ret, size_t *ret_len, void *user)
{
    struct reading *g = user;
    _cleanup_(wipe_text) char *text = NULL;
    _cleanup_(closep) int fd = open_named(g, name);
    size_t len = 0;
    int r = fd < 0 ? fd : read_file(fd, &text, &len);

    if (r == 0)
        r = add_file(g->offer, name, text, len);
    if (r < 0) {
        note_missing(g->offer, name, r);
        return r;
    }
    *ret = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

/* ---- the profile's name ---- */

bool offer_is_profile(const char *path)
{
    const char *dot = strrchr(last_part(path), '.');

    return dot != NULL && (strcasecmp(dot, ".ovpn") == 0 || strcasecmp(dot, ".conf") == 0);
}

/* Of what a name may have; the folder's own rule is folder_name_ok(). */
static void propose_name(struct offer *o, const char *from, const char *suffix)
{
    char stem[STEM_MAX + 1];
    size_t n = 0;

    while (*from == '.' || *from == ' ')
        from++;
    for (; *from != '\0' && n < STEM_MAX; from++) {
        unsigned char c = (unsigned char)*from;

        if (c < 0x80 && (isalnum(c) || strchr("_.@+- ", c) != NULL))
            stem[n++] = (char)c;
        else if ((c & 0xC0) != 0x80) /* one for each character */
            stem[n++] = '-';
    }
    stem[n] = '\0';
    (void)snprintf(o->name, sizeof(o->name), "%s%s", n > 0 ? stem : "vpn", suffix);
}

static void name_it(struct offer *o, const char *path)
{
    char stem[PATH_MAX] = "";
    const char *suffix = ".ovpn";

    if (path != NULL) {
        (void)snprintf(stem, sizeof(stem), "%s", last_part(path));
        if (offer_is_profile(stem)) {
            char *dot = strrchr(stem, '.');

            suffix = strcasecmp(dot, ".conf") == 0 ? ".conf" : ".ovpn";
            *dot = '\0';
        }
    } else if (o->profile != NULL && o->profile->n_endpoints > 0) {
        (void)snprintf(stem, sizeof(stem), "%s", o->profile->endpoints[0].host);
    }
    if (o->profile != NULL && o->profile->kind == PROFILE_WIREGUARD)
        suffix = ".conf";
    propose_name(o, stem, suffix);
}

/* ---- the whole ---- */

/* Which of the paths is the profile. */
static int find_profile(const struct offer_source *s, const char **ret)
{
    bool known = s->n == 1 || (s->n > 1 && s->first);
    const char *found = known ? s->paths[0] : NULL;

    for (size_t i = 0; i < s->n && !known; i++) {
        if (!offer_is_profile(s->paths[i]))
            continue;
        if (found != NULL)
            return -ENOTUNIQ;
        found = s->paths[i];
    }
    *ret = found;
    return found != NULL ? 0 : -ENOMSG;
}

static int open_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(folder, sizeof(folder), ".")
                          : snprintf(folder, sizeof(folder), "%.*s/", (int)(slash - path), path);
    int fd;

    if (n < 0 || (size_t)n >= sizeof(folder))
        return -ENAMETOOLONG;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int read_profile(struct reading *g)
{
    struct offer *o = g->offer;
    _cleanup_(closep) int fd = -1;
    int r;

    if (g->source->text != NULL) {
        if (g->source->size > PROFILE_FILE_MAX)
            return -EFBIG;
        o->text = malloc(g->source->size + 1);
        if (o->text == NULL)
            return -ENOMEM;
        memcpy(o->text, g->source->text, g->source->size);
        o->text[g->source->size] = '\0';
        o->len = g->source->size;
        return 0;
    }
    r = find_profile(g->source, &g->profile);
    if (r < 0)
        return r;
    fd = open_plain(g->profile);
    if (fd < 0)
        return fd;
    g->folder = open_folder(g->profile);
    return g->folder < 0 ? g->folder : read_file(fd, &o->text, &o->len);
}

int offer_read(const struct offer_source *s, struct offer **ret)
{
    _cleanup_(offer_freep) struct offer *o = calloc(1, sizeof(*o));
    struct reading g = {.offer = o, .source = s, .folder = -1};
    struct profile_files files = {read_named, &g};
    int r = o != NULL ? read_profile(&g) : -ENOMEM;

    if (r == 0) {
        o->judged = profile_read("offered", o->text, o->len, &files, &o->findings, &o->profile);
        name_it(o, g.profile);
    }
    (void)close_fd(g.folder);
    if (r == 0 && (o->judged == -ENOMEM))
        r = -ENOMEM;
    if (r < 0)
        return r;
    *ret = TAKE_PTR(o);
    return 0;
}

struct offer *offer_free(struct offer *o)
{
    if (o == NULL)
        return NULL;
    if (o->text != NULL)
        explicit_bzero(o->text, o->len);
    free(o->text);
    for (size_t i = 0; i < o->n_files; i++)
        (void)close_fd(o->files[i].fd);
    (void)profile_free(o->profile);
    free(o);
    return NULL;
}

void offer_freep(struct offer **o)
{
    *o = offer_free(*o);
}

int offer_append(const struct offer *o, sd_bus_message *m, const char *name)
{
    _cleanup_(closep) int fd = -1;
    int r = memory_file("profile", o->text, o->len, &fd);

    if (r >= 0) /* the message keeps a copy of the descriptor */
        r = sd_bus_message_append(m, "h", fd);
    if (r >= 0 && name != NULL)
        r = sd_bus_message_append(m, "s", name);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'a', "{sh}");
    for (size_t i = 0; i < o->n_files && r >= 0; i++)
        r = sd_bus_message_append(m, "{sh}", o->files[i].name, o->files[i].fd);
    return r < 0 ? r : sd_bus_message_close_container(m);
}
