/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files beneath a directory, and the signature of what counts. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "vpn/daemon/folder_private.h"

static void closedirp(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

/* One step down; -ELOOP where that would be a link. */
static int open_step(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = errno;
    struct stat st;

    if (fd >= 0)
        return fd;
    if (error == ENOTDIR && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode))
        return -ELOOP;
    return -error;
}

/* Without "." and "..", which is the same where nothing is a link: ret, of size bytes. */
static int plain_path(const char *name, char *ret, size_t size)
{
    size_t used = 0;

    if (name[0] == '/')
        return -EXDEV;
    for (const char *p = name; *p != '\0';) {
        size_t n = strcspn(p, "/");

        if (n == 2 && strncmp(p, "..", n) == 0) {
            if (used == 0)
                return -EXDEV;
            while (used > 0 && ret[--used] != '/') {}
        } else if (n > 0 && !(n == 1 && *p == '.')) {
            if (used + n + 2 > size)
                return -ENAMETOOLONG;
            if (used > 0)
                ret[used++] = '/';
            memcpy(ret + used, p, n);
            used += n;
        }
        p += n;
        p += strspn(p, "/");
    }
    ret[used] = '\0';
    return used == 0 ? -ENOENT : 0;
}

/*
 * No way out of dir, no link: the name may come from a provider's file. Not by openat2(): a service
 * with RestrictSUIDSGID= cannot call it, as its flags are where seccomp cannot look.
 */
static int open_beneath(int dir, const char *name, int flags)
{
    _cleanup_(closep) int at = -1;
    char path[PATH_MAX];
    int r = plain_path(name, path, sizeof(path));

    if (r < 0)
        return r;
    for (char *p = path;;) {
        char *slash = strchr(p, '/');
        int fd;

        if (slash != NULL)
            *slash = '\0';
        fd = open_step(at < 0 ? dir : at, p, slash == NULL ? flags : O_PATH | O_DIRECTORY);
        if (fd < 0 || slash == NULL)
            return fd;
        closep(&at);
        at = fd;
        p = slash + 1;
    }
}

int folder_dir(const struct folder *f)
{
    /* the folder itself may be a link: its parent is root's */
    int fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int folder_subdir(const struct folder *f, const char *name, bool make)
{
    _cleanup_(closep) int dir = folder_dir(f);

    if (dir < 0 || name == NULL)
        return TAKE_FD(dir);
    if (make && mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    return open_beneath(dir, name, O_RDONLY | O_DIRECTORY);
}

void folder_wipe(char *text, size_t len)
{
    if (text != NULL)
        explicit_bzero(text, len);
    free(text);
}

/* Reads until the end or until size bytes are there; how many. */
static ssize_t read_fully(int fd, char *buf, size_t size)
{
    size_t n = 0;

    while (n < size) {
        ssize_t got = read(fd, buf + n, size - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

int folder_read_beneath(int dir, const char *name, size_t max, char **ret, size_t *ret_len,
                        mode_t *ret_mode)
{
    _cleanup_(closep) int fd = open_beneath(dir, name, O_RDONLY);
    struct stat st;
    ssize_t n;
    char *text;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return -EFBIG;
    text = malloc((size_t)st.st_size + 2);
    if (text == NULL)
        return -ENOMEM;
    n = read_fully(fd, text, (size_t)st.st_size + 1);
    if (n < 0 || n > st.st_size) {
        folder_wipe(text, (size_t)st.st_size + 2);
        return n < 0 ? (int)n : -EBUSY;
    }
    text[n] = '\0';
    *ret = text;
    *ret_len = (size_t)n;
    if (ret_mode != NULL)
        *ret_mode = st.st_mode;
    return 0;
}

static int write_fully(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int temporary_name(char buf[static 32])
{
    uint64_t number;

    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        return -errno;
    (void)snprintf(buf, 32, FOLDER_TEMPORARY "%016llx", (unsigned long long)number);
    return 0;
}

int folder_write_beneath(int dir, const char *name, const char *text, size_t len)
{
    _cleanup_(closep) int fd = -1;
    char temporary[32];
    int r = temporary_name(temporary);

    if (r < 0)
        return r;
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = write_fully(fd, text, len);
    if (r == 0 && renameat(dir, temporary, dir, name) < 0)
        r = -errno;
    if (r < 0)
        (void)unlinkat(dir, temporary, 0);
    else if (fsync(dir) < 0)
        r = -errno;
    return r;
}

int folder_remove_dir(int dir, const char *name)
{
    _cleanup_(closep) int fd = open_beneath(dir, name, O_RDONLY | O_DIRECTORY);
    _cleanup_(closedirp) DIR *list = NULL;
    struct dirent *e;

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    list = fdopendir(fd);
    if (list == NULL)
        return -errno;
    (void)TAKE_FD(fd);
    while ((e = readdir(list)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlinkat(dirfd(list), e->d_name, 0);
    return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* 0 for what does not count: no regular file, hidden, or only remembered. */
static uint64_t entry_hash(int dir, const char *sub, const char *name)
{
    uint64_t h = HASH_START;
    struct stat st;

    if (name[0] == '.' || (sub == NULL && strcmp(name, "remembered") == 0))
        return 0;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    if (sub != NULL)
        h = hash_bytes(h, sub, strlen(sub) + 1);
    h = hash_bytes(h, name, strlen(name));
    h = hash_bytes(h, &st.st_dev, sizeof(st.st_dev));
    h = hash_bytes(h, &st.st_ino, sizeof(st.st_ino));
    h = hash_bytes(h, &st.st_size, sizeof(st.st_size));
    h = hash_bytes(h, &st.st_mode, sizeof(st.st_mode));
    h = hash_bytes(h, &st.st_uid, sizeof(st.st_uid));
    h = hash_bytes(h, &st.st_mtim, sizeof(st.st_mtim));
    return hash_bytes(h, &st.st_ctim, sizeof(st.st_ctim));
}

static uint64_t dir_signature(int dir, const char *sub)
{
    _cleanup_(closedirp) DIR *list = fdopendir(dir); /* owns dir from here */
    struct dirent *e;
    uint64_t sum = 0;

    if (list == NULL) {
        (void)close_fd(dir);
        return 0;
    }
    while ((e = readdir(list)) != NULL)
        sum += entry_hash(dirfd(list), sub, e->d_name);
    return sum;
}

uint64_t folder_signature(const struct folder *f)
{
    int dir = folder_dir(f);
    int secrets = folder_subdir(f, "secrets", false);
    struct stat st;
    uint64_t sum = 0;

    if (dir >= 0 && fstat(dir, &st) == 0) {
        sum = hash_bytes(HASH_START, &st.st_ino, sizeof(st.st_ino));
        sum = hash_bytes(sum, &st.st_mode, sizeof(st.st_mode));
        sum = hash_bytes(sum, &st.st_uid, sizeof(st.st_uid));
    }
    if (dir >= 0)
        sum += dir_signature(dir, NULL);
    if (secrets >= 0)
        sum += dir_signature(secrets, "secrets");
    return sum;
}

/*
 * A change of our own moves the sum by what it changed and by nothing else: what somebody else
 * changed at the same time still differs.
 */
int folder_put(struct folder *f, const char *sub, const char *name, const char *text, size_t len)
{
    _cleanup_(closep) int dir = folder_subdir(f, sub, true);
    uint64_t before;
    int r;

    if (dir < 0)
        return dir;
    before = entry_hash(dir, sub, name);
    r = folder_write_beneath(dir, name, text, len);
    if (r == 0)
        f->signature += entry_hash(dir, sub, name) - before;
    return r;
}

int folder_unlink(struct folder *f, const char *sub, const char *name)
{
    _cleanup_(closep) int dir = folder_subdir(f, sub, false);
    uint64_t before;

    if (dir < 0)
        return dir;
    before = entry_hash(dir, sub, name);
    if (unlinkat(dir, name, 0) < 0)
        return -errno;
    f->signature -= before;
    return 0;
}

int folder_move(struct folder *f, const char *sub, const char *name, const char *new_name)
{
    _cleanup_(closep) int dir = folder_subdir(f, sub, false);
    uint64_t before;

    if (dir < 0)
        return dir;
    before = entry_hash(dir, sub, name);
    if (renameat2(dir, name, dir, new_name, RENAME_NOREPLACE) < 0)
        return -errno;
    f->signature += entry_hash(dir, sub, new_name) - before;
    return 0;
}
