/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings, remembered addresses, secrets: key=value lines. */
#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "vpn/daemon/folder_private.h"

#define SMALL_FILE_MAX (64 * 1024)

static int read_small(struct folder *f, const char *sub, const char *name, char **ret,
                      size_t *ret_len, mode_t *ret_mode)
{
    _cleanup_(closep) int dir = folder_subdir(f, sub, false);

    if (dir < 0)
        return dir;
    return folder_read_beneath(dir, name, SMALL_FILE_MAX, ret, ret_len, ret_mode);
}

static void set_string(char *out, size_t size, struct str value)
{
    memset(out, 0, size);
    memcpy(out, value.p, value.len < size ? value.len : size - 1);
}

/* false: the value is not one for this key */
static bool read_setting(struct folder_settings *s, struct str key, struct str value,
                         bool *ret_known)
{
    *ret_known = true;
    if (str_is(key, "profile") && folder_name_ok(value))
        set_string(s->profile, sizeof(s->profile), value);
    else if (str_is(key, "order") && folder_name_ok(value) && s->n_order < FOLDER_PROFILES_MAX)
        set_string(s->order[s->n_order++], PROFILE_NAME_MAX, value);
    else if (str_is(key, "random") && (str_is(value, "0") || str_is(value, "1")))
        s->random = value.p[0] == '1';
    else if (str_is(key, "wanted") && (str_is(value, "up") || str_is(value, "down")))
        s->down = str_is(value, "down");
    else {
        *ret_known = str_is(key, "profile") || str_is(key, "order") || str_is(key, "random") ||
                     str_is(key, "wanted");
        return false;
    }
    return true;
}

int folder_read_settings(struct folder *f, struct folder_settings *ret, struct findings *findings)
{
    _cleanup_(freep) char *text = NULL;
    struct str rest, line, key;
    unsigned number = 0;
    bool known;
    size_t len;
    int r;

    *ret = (struct folder_settings){0};
    r = read_small(f, NULL, "settings", &text, &len, NULL);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    rest = (struct str){text, len};
    while (str_next(&rest, '\n', &line)) {
        number++;
        line = str_trim(line);
        if (line.len == 0 || line.p[0] == '#')
            continue;
        (void)str_next(&line, '=', &key);
        key = str_trim(key);
        if (!read_setting(ret, key, line.p != NULL ? str_trim(line) : STR_LITERAL(""), &known))
            findings_add(findings, FINDING_LEFT_OUT, number, key,
                         known ? "has a value in \"settings\" that it cannot have"
                               : "is not known in \"settings\"");
    }
    return 0;
}

/* A text that grows to a bound; beyond it full is set and nothing more is written. */
struct text {
    char buf[SMALL_FILE_MAX];
    size_t len;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(t->buf) - t->len)
        t->full = true;
    else
        t->len += (size_t)n;
}

static int put_file(struct folder *f, const char *sub, const char *name, const struct text *t)
{
    return t->full ? -E2BIG : folder_put(f, sub, name, t->buf, t->len);
}

int folder_write_settings(struct folder *f, const struct folder_settings *s)
{
    _cleanup_(freep) struct text *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return -ENOMEM;
    put(t, "# Kept by qubes-vpnd. What is changed here by hand is noticed at once.\n");
    if (s->profile[0] != '\0')
        put(t, "profile=%s\n", s->profile);
    for (size_t i = 0; i < s->n_order && i < FOLDER_PROFILES_MAX; i++)
        put(t, "order=%s\n", s->order[i]);
    put(t, "random=%d\nwanted=%s\n", s->random, s->down ? "down" : "up");
    return put_file(f, NULL, "settings", t);
}

/* "HOST ADDRESS" lines, the last one is the newest. */
static bool next_remembered(struct str *rest, struct str *ret_host, struct addr *ret)
{
    struct str line;

    while (rest->p != NULL && str_next(rest, '\n', &line)) {
        (void)str_next(&line, ' ', ret_host);
        if (line.p != NULL && ret_host->len > 0 && addr_parse(line, ret) == 0)
            return true;
    }
    return false;
}

static bool same_host(struct str s, const char *host)
{
    return s.len == strlen(host) && strncasecmp(s.p, host, s.len) == 0;
}

int folder_recall(struct folder *f, const char *host, struct addr *ret)
{
    _cleanup_(freep) char *text = NULL;
    struct str rest, name;
    struct addr a;
    size_t len;
    int r = read_small(f, NULL, "remembered", &text, &len, NULL);

    if (r < 0)
        return r;
    r = -ENOENT;
    rest = (struct str){text, len};
    while (next_remembered(&rest, &name, &a)) {
        if (!same_host(name, host) || addr_why_unusable(&a) != NULL)
            continue;
        *ret = a;
        r = 0;
    }
    return r;
}

int folder_remember(struct folder *f, const char *host, const struct addr *a)
{
    _cleanup_(freep) struct text *t = calloc(1, sizeof(*t));
    _cleanup_(freep) char *text = NULL;
    struct addr old = {0};
    struct str rest, name;
    char shown[ADDR_STR_MAX];
    size_t len = 0, others = 0, skip;

    if (t == NULL)
        return -ENOMEM;
    if (host[0] == '\0' || strlen(host) >= PROFILE_HOST_MAX || strpbrk(host, " \n") != NULL ||
        addr_why_unusable(a) != NULL)
        return -EINVAL;
    if (folder_recall(f, host, &old) == 0 && addr_equal(&old, a))
        return 0;
    if (read_small(f, NULL, "remembered", &text, &len, NULL) < 0)
        len = 0; /* none yet, or one that is no good: begin anew */
    for (rest = (struct str){text, len}; next_remembered(&rest, &name, &old);)
        others += !same_host(name, host);
    skip = others >= FOLDER_REMEMBERED_MAX ? others - FOLDER_REMEMBERED_MAX + 1 : 0;
    for (rest = (struct str){text, len}; next_remembered(&rest, &name, &old);) {
        if (same_host(name, host) || (skip > 0 && skip-- > 0))
            continue;
        put(t, "%.*s %s\n", (int)name.len, name.p, addr_format(&old, shown));
    }
    put(t, "%s %s\n", host, addr_format(a, shown));
    return put_file(f, NULL, "remembered", t);
}

#define STAMP_MAX 64

static const struct {
    const char *key;
    size_t offset;
} secret_keys[] = {
    {"user", offsetof(struct folder_secrets, user)},
    {"password", offsetof(struct folder_secrets, password)},
    {"key-password", offsetof(struct folder_secrets, key_password)},
};

/*
 * Which file the secrets were given for: another one under its name, or other words in it, is
 * perhaps another provider's. The time of change cannot be set by anybody, unlike that of
 * modification.
 */
static int profile_stamp(struct folder *f, const char *profile, char ret[static STAMP_MAX])
{
    _cleanup_(closep) int dir = folder_dir(f);
    struct stat st;

    if (dir < 0)
        return dir;
    if (fstatat(dir, profile, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    (void)snprintf(ret, STAMP_MAX, "%ju %jd.%09ld", (uintmax_t)st.st_ino,
                   (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    return 0;
}

void folder_secrets_wipe(struct folder_secrets *s)
{
    explicit_bzero(s, sizeof(*s));
}

int folder_read_secrets(struct folder *f, const char *profile, struct folder_secrets *ret)
{
    struct str rest, line, key;
    char stamp[STAMP_MAX];
    bool for_this = false;
    mode_t mode = 0;
    char *text = NULL;
    size_t len = 0;
    int r;

    if (!folder_name_ok(str_from(profile)))
        return -EINVAL;
    *ret = (struct folder_secrets){0};
    r = read_small(f, "secrets", profile, &text, &len, &mode);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = profile_stamp(f, profile, stamp);
    if (r < 0) {
        folder_wipe(text, len);
        return r;
    }
    rest = (struct str){text, len};
    while ((mode & 077) == 0 && str_next(&rest, '\n', &line)) {
        (void)str_next(&line, '=', &key);
        for_this = for_this || (line.p != NULL && str_is(key, "for") && str_is(line, stamp));
        for (size_t i = 0; i < ARRAY_SIZE(secret_keys); i++)
            if (line.p != NULL && line.len < FOLDER_SECRET_MAX && str_is(key, secret_keys[i].key))
                set_string((char *)ret + secret_keys[i].offset, FOLDER_SECRET_MAX, line);
    }
    folder_wipe(text, len);
    if ((mode & 077) == 0 && for_this)
        return 0;
    folder_secrets_wipe(ret);
    return (mode & 077) != 0 ? -EPERM : -ESTALE;
}

int folder_write_secrets(struct folder *f, const char *profile, const struct folder_secrets *s)
{
    char stamp[STAMP_MAX];
    struct text *t;
    int r;

    if (!folder_name_ok(str_from(profile)))
        return -EINVAL;
    r = profile_stamp(f, profile, stamp);
    if (r < 0)
        return r;
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(secret_keys) && r == 0; i++) {
        const char *value = (const char *)s + secret_keys[i].offset;

        if (memchr(value, '\0', FOLDER_SECRET_MAX) == NULL || strchr(value, '\n') != NULL)
            r = -EINVAL;
        else if (value[0] != '\0')
            put(t, "%s=%s\n", secret_keys[i].key, value);
    }
    if (r == 0 && t->len == 0) {
        r = folder_unlink(f, "secrets", profile);
        r = r == -ENOENT ? 0 : r;
    } else if (r == 0) {
        put(t, "for=%s\n", stamp);
        r = put_file(f, "secrets", profile, t);
    }
    explicit_bzero(t, sizeof(*t));
    free(t);
    return r;
}
