/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory_file.h"
#include "nft/nft.h"

#define LOAD_LIMIT_MS 5000

/* What the child says, cut; the rest is read and dropped so that it never waits for us. */
struct load_output {
    char *text;
    size_t size, len;
};

static int child_start(const char *program, bool check, int in, int out, pid_t *ret)
{
    char name[] = "nft", option[] = "-f", checked[] = "-cf", from[] = "-";
    char *argv[] = {name, check ? checked : option, from, NULL}, *envp[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t all, none;
    int r;

    (void)sigfillset(&all); /* these three cannot fail */
    (void)sigemptyset(&none);
    r = posix_spawnattr_init(&attr);
    if (r != 0)
        return -r;
    r = posix_spawn_file_actions_init(&actions);
    if (r != 0) {
        (void)posix_spawnattr_destroy(&attr);
        return -r;
    }
    r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (r == 0)
        r = posix_spawnattr_setsigmask(&attr, &none);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(&attr, &all);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
    if (r == 0)
        r = posix_spawn(ret, program, &actions, &attr, argv, envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    return -r;
}

/* Takes what is there. false: no more will come. */
static bool output_take(struct load_output *o, int fd)
{
    for (;;) {
        char piece[1024];
        ssize_t n = read(fd, piece, sizeof(piece));
        size_t room = o->size > 0 ? o->size - 1 - o->len : 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        if (room > (size_t)n)
            room = (size_t)n;
        if (room > 0)
            memcpy(o->text + o->len, piece, room);
        o->len += room;
    }
}

/*
 * Until the child has ended: 0, or -ETIMEDOUT. Not by SIGCHLD, which belongs to the program. Without
 * a pidfd (valgrind knows none) the end of its output has to do.
 */
static int child_watch(int pidfd, int out, struct load_output *o)
{
    const int64_t deadline = (int64_t)(clock_now_us() / 1000) + LOAD_LIMIT_MS;
    bool open = true;

    for (;;) {
        struct pollfd p[] = {{.fd = pidfd, .events = POLLIN},
                             {.fd = open ? out : -1, .events = POLLIN}};
        int64_t left = deadline - (int64_t)(clock_now_us() / 1000);
        int n = left > 0 ? poll(p, ARRAY_SIZE(p), (int)left) : 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ETIMEDOUT;
        if (p[1].revents != 0)
            open = output_take(o, out);
        if (!open && pidfd < 0)
            return 0;
        if (p[0].revents != 0) {
            if (open)
                (void)output_take(o, out);
            return 0;
        }
    }
}

static int child_finish(pid_t pid, int out, struct load_output *o)
{
    _cleanup_(closep) int pidfd = pidfd_open(pid, 0);
    siginfo_t info = {0};
    int r, w;

    r = pidfd < 0 && errno != ENOSYS ? -errno : child_watch(pidfd, out, o);
    if (r < 0)
        (void)kill(pid, SIGKILL); /* not waited for yet, so the number is still its own */
    do
        w = waitid(P_PID, (id_t)pid, &info, WEXITED);
    while (w < 0 && errno == EINTR);
    if (r < 0)
        return r;
    if (w < 0)
        return -errno;
    return info.si_code == CLD_EXITED && info.si_status == 0 ? 0 : -EBADMSG;
}

static int run(const char *nft_program, bool check, const char *text, char *err, size_t err_size)
{
    struct load_output o = {.text = err, .size = err_size};
    _cleanup_(closep) int in = -1, out = -1, ours = -1;
    int ends[2], r;
    pid_t pid;

    if (err_size > 0)
        err[0] = '\0';
    if (nft_program[0] != '/')
        return -EINVAL;
    r = memory_file("nft", text, strlen(text), &in);
    if (r < 0)
        return r;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    ours = ends[0];
    out = ends[1];
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return -errno;

    r = child_start(nft_program, check, in, out, &pid);
    if (r < 0)
        return r;
    out = close_fd(out);
    r = child_finish(pid, ours, &o);
    if (err_size > 0)
        err[o.len] = '\0';
    return r;
}

int nft_load_text(const char *nft_program, const char *text, char *err, size_t err_size)
{
    return run(nft_program, false, text, err, err_size);
}

int nft_check_text(const char *nft_program, const char *text, char *err, size_t err_size)
{
    return run(nft_program, true, text, err, err_size);
}
