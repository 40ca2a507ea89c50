/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"

#define FOLDER_MODE  0710
#define SOCKETS_MODE 0770
#define LOG_NAME     "log"
#define PROCESS_NAME "process"

static void closedirp(DIR **d)
{
    if (*d != NULL)
        (void)closedir(*d);
}

int runtime_paths(const char *runtime, char **ret_folder, char **ret_sockets)
{
    _cleanup_(freep) char *folder = NULL;
    _cleanup_(freep) char *sockets = NULL;

    if (asprintf(&folder, "%s/client", runtime) < 0) {
        folder = NULL;
        return -ENOMEM;
    }
    if (asprintf(&sockets, "%s/sockets", folder) < 0) {
        sockets = NULL;
        return -ENOMEM;
    }
    *ret_folder = TAKE_PTR(folder);
    *ret_sockets = TAKE_PTR(sockets);
    return 0;
}

/* A folder of ours with that group and mode. Another's is refused, a stale one is put right. */
static int folder_make(const char *path, gid_t gid, mode_t mode)
{
    _cleanup_(closep) int fd = -1;
    struct stat st;
    int r = 0;

    (void)setfsgid(gid); /* says nothing: the result is looked at below */
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        r = -errno;
    (void)setfsgid(getegid());
    if (r < 0)
        return r;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid())
        return -EPERM;
    if (st.st_gid != gid && fchown(fd, (uid_t)-1, gid) < 0)
        return -errno;
    return fchmod(fd, mode) < 0 ? -errno : 0;
}

int runtime_make(const char *runtime, gid_t gid, char **ret_folder, char **ret_sockets)
{
    _cleanup_(freep) char *folder = NULL;
    _cleanup_(freep) char *sockets = NULL;
    int r = runtime_paths(runtime, &folder, &sockets);

    if (r == 0)
        r = folder_make(folder, gid, FOLDER_MODE);
    if (r == 0)
        r = folder_make(sockets, gid, SOCKETS_MODE);
    if (r < 0)
        return r;
    *ret_folder = TAKE_PTR(folder);
    *ret_sockets = TAKE_PTR(sockets);
    return 0;
}

static int folder_clean(const char *path)
{
    _cleanup_(closedirp) DIR *dir = NULL;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *e;
    int r = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    dir = fdopendir(fd);
    if (dir == NULL) {
        r = -errno;
        (void)close(fd);
        return r;
    }
    while ((e = readdir(dir)) != NULL) {
        struct stat st;

        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
            continue;
        if (unlinkat(dirfd(dir), e->d_name, 0) < 0 && errno != ENOENT)
            r = -errno;
    }
    return r;
}

int runtime_clean(const char *runtime)
{
    _cleanup_(freep) char *folder = NULL;
    _cleanup_(freep) char *sockets = NULL;
    int r = runtime_paths(runtime, &folder, &sockets), s;

    if (r < 0)
        return r;
    s = folder_clean(sockets);
    r = folder_clean(folder);
    return r < 0 ? r : s;
}

static int folder_open(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int runtime_write(const char *folder, const char *name, const char *text, size_t len)
{
    _cleanup_(closep) int dir = folder_open(folder);
    _cleanup_(closep) int fd = -1;
    char fresh[64];
    int r;

    if (dir < 0)
        return dir;
    (void)snprintf(fresh, sizeof(fresh), "%s.new", name);
    (void)unlinkat(dir, fresh, 0); /* of a life that ended in between */
    fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = write(fd, text, len) == (ssize_t)len ? 0 : -EIO; /* small, on a tmpfs */
    if (r == 0 && renameat(dir, fresh, dir, name) < 0)
        r = -errno;
    if (r < 0)
        (void)unlinkat(dir, fresh, 0);
    return r;
}

int runtime_read(const char *folder, const char *name, char **ret, size_t *ret_len)
{
    _cleanup_(closep) int dir = folder_open(folder);
    _cleanup_(closep) int fd = -1;
    _cleanup_(freep) char *text = NULL;
    struct stat st;
    ssize_t n;

    if (dir < 0)
        return dir;
    fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
        return -EPERM;
    if (st.st_size > RUNTIME_FILE_MAX)
        return -EFBIG;
    text = malloc((size_t)st.st_size + 1);
    if (text == NULL)
        return -ENOMEM;
    n = read(fd, text, (size_t)st.st_size);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    *ret = TAKE_PTR(text);
    *ret_len = (size_t)n;
    return 0;
}

int runtime_remove(const char *folder, const char *name)
{
    _cleanup_(closep) int dir = folder_open(folder);

    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int runtime_open_log(const char *folder)
{
    _cleanup_(closep) int dir = folder_open(folder);
    int fd;

    if (dir < 0)
        return dir;
    (void)unlinkat(dir, LOG_NAME, 0);
    fd = openat(dir, LOG_NAME,
                O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

void runtime_trim_log(const char *folder, uint64_t most)
{
    _cleanup_(closep) int dir = folder_open(folder);
    _cleanup_(closep) int fd = -1;
    struct stat st;

    fd = dir < 0 ? -1 : openat(dir, LOG_NAME, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size > most)
        (void)!ftruncate(fd, 0); /* the client appends: it goes on at the beginning */
}

/* "2026-11-22 03:24:31 TEXT", as OpenVPN begins its lines. */
static struct str line_without_time(struct str line)
{
    const char *const form = "dddd-dd-dd dd:dd:dd ";

    for (size_t i = 0; form[i] != '\0'; i++)
        if (i >= line.len || (form[i] == 'd' ? line.p[i] < '0' || line.p[i] > '9'
                                             : line.p[i] != form[i]))
            return line;
    return str_trim((struct str){line.p + strlen(form), line.len - strlen(form)});
}

const char *runtime_last_line(const char *folder, char *buf, size_t size)
{
    _cleanup_(closep) int dir = folder_open(folder);
    _cleanup_(closep) int fd = -1;
    struct str rest, line, last = {0};
    char text[2048];
    struct stat st;
    ssize_t n;

    buf[0] = '\0';
    fd = dir < 0 ? -1 : openat(dir, LOG_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return buf;
    n = pread(fd, text, sizeof(text),
              st.st_size > (off_t)sizeof(text) ? st.st_size - (off_t)sizeof(text) : 0);
    if (n <= 0)
        return buf;
    rest = (struct str){text, (size_t)n};
    while (str_next(&rest, '\n', &line)) {
        line = line_without_time(str_trim(line));
        if (line.len > 0 && !str_is(line, "Use --help for more information.") &&
            !str_is(line, "Exiting due to fatal error"))
            last = line;
    }
    return last.len > 0 ? str_escape(last, buf, size) : buf;
}

int runtime_remember(const char *folder, const struct process *p, uint64_t digest)
{
    char text[96];
    int n = snprintf(text, sizeof(text), "%d %" PRIu64 " %016" PRIx64 "\n", (int)p->pid, p->start,
                     digest);

    return runtime_write(folder, PROCESS_NAME, text, (size_t)n);
}

int runtime_recall(const char *folder, uid_t uid, struct process *ret, uint64_t *ret_digest)
{
    _cleanup_(freep) char *text = NULL;
    uint64_t start, digest;
    size_t len;
    int pid, r = runtime_read(folder, PROCESS_NAME, &text, &len);

    if (r < 0)
        return r;
    if (sscanf(text, "%d %" SCNu64 " %" SCNx64, &pid, &start, &digest) != 3)
        return -ENOENT;
    r = process_find(pid, start, uid, ret);
    if (r == 0)
        *ret_digest = digest;
    return r;
}
