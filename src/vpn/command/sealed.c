/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/wish/wish.h"

#define ANSWER_MAX     (256u << 10)
#define ANSWER_SECONDS 3
#define PROGRAM        "qubes-vpn-forwarding"

static int connect_to(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static enum sealed judge(const json_t *report, char *why, size_t size)
{
    const json_t *sealed = json_object_get(report, "sealed");
    const json_t *missing = json_object_get(report, "missing");
    const char *first = json_string_value(json_array_get(missing, 0));

    if (json_is_true(sealed))
        return SEALED_YES;
    if (!json_is_false(sealed))
        (void)snprintf(why, size, "the seal's answer was not understood");
    else if (first != NULL)
        (void)str_escape(str_from(first), why, size);
    else
        (void)snprintf(why, size, "the seal is not whole");
    return json_is_false(sealed) ? SEALED_NO : SEALED_UNKNOWN;
}

static int ask_owner(const char *socket_path, json_t **ret)
{
    _cleanup_(closep) int fd = connect_to(socket_path);
    _cleanup_(freep) char *buf = malloc(ANSWER_MAX);
    char question[64];
    int len = request_format(REQUEST_CHECK, NULL, question, sizeof(question));
    ssize_t n;

    if (fd < 0)
        return fd;
    if (buf == NULL || len < 0)
        return buf == NULL ? -ENOMEM : len;
    if (send(fd, question, (size_t)len, MSG_NOSIGNAL) < 0)
        return -errno;
    n = recv(fd, buf, ANSWER_MAX, 0);
    if (n < 0)
        return -errno;
    if (n < 3 || memcmp(buf, "ok\n", 3) != 0)
        return -EACCES;
    *ret = json_loadb(buf + 3, (size_t)n - 3, 0, NULL);
    return *ret != NULL ? 0 : -EBADMSG;
}

/* ---- the program ---- */

/* Beside us, where an installation and a build have it; else where the system has its programs. */
static void find_program(char path[static PATH_MAX])
{
    static const char *const places[] = {"", "../seal/"};
    char own[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
    char *slash;

    own[n > 0 ? n : 0] = '\0';
    slash = strrchr(own, '/');
    if (slash != NULL)
        slash[1] = '\0';
    for (size_t i = 0; slash != NULL && i < ARRAY_SIZE(places); i++) {
        int len = snprintf(path, PATH_MAX, "%s%s%s", own, places[i], PROGRAM);

        if (len > 0 && len < PATH_MAX && access(path, X_OK) == 0)
            return;
    }
    (void)snprintf(path, PATH_MAX, "/usr/sbin/%s", PROGRAM);
}

static int start_check(const char *path, int out, pid_t *ret)
{
    char *const argv[] = {(char[]){PROGRAM}, (char[]){"check"}, (char[]){"--json"}, NULL};
    char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};
    posix_spawn_file_actions_t actions;
    int r = posix_spawn_file_actions_init(&actions);

    if (r != 0)
        return -r;
    r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0)
        r = posix_spawn(ret, path, &actions, NULL, argv, env);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* Until its end, or until it is silent for too long; len bytes at most. */
static size_t read_output(int fd, char *buf, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t used = 0;

    while (used < len && poll(&p, 1, ANSWER_SECONDS * 1000) > 0) {
        ssize_t n = read(fd, buf + used, len - used);

        if (n <= 0)
            break;
        used += (size_t)n;
    }
    return used;
}

static int run_check(json_t **ret)
{
    _cleanup_(freep) char *buf = malloc(ANSWER_MAX);
    char path[PATH_MAX];
    int fds[2], status, r;
    size_t len;
    pid_t pid;

    if (buf == NULL)
        return -ENOMEM;
    find_program(path);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    r = start_check(path, fds[1], &pid);
    (void)close(fds[1]);
    if (r < 0) {
        (void)close(fds[0]);
        return r;
    }
    len = read_output(fds[0], buf, ANSWER_MAX);
    (void)close(fds[0]);
    (void)kill(pid, SIGTERM); /* has said everything, or hangs */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    *ret = json_loadb(buf, len, 0, NULL);
    return *ret != NULL ? 0 : -EBADMSG;
}

enum sealed sealed_ask(const char *socket, json_t **ret_report, char *why, size_t size)
{
    json_t *report = NULL;
    enum sealed sealed;
    int r = ask_owner(socket, &report);

    if (r < 0 && geteuid() == 0)
        r = run_check(&report);
    if (r < 0) {
        (void)snprintf(why, size, "the seal could not be asked: %s%s",
                       r == -EBADMSG ? "qubes-vpn-forwarding check gave no answer" : strerror(-r),
                       geteuid() == 0 ? "" : "; root can read it from the kernel");
        *ret_report = NULL;
        return SEALED_UNKNOWN;
    }
    sealed = judge(report, why, size);
    *ret_report = report;
    return sealed;
}
