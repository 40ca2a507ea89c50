/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>

#include "base/cleanup.h"
#include "base/str.h"

#define SPAWN_FD_MAX 64 /* highest number a child may be given */
#define SWEEP_MS     500
#define SWEEP_TRIES  4

static const char *const default_envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};

/* From here to exec: the child, alone in its copy of us. Only async-signal-safe functions. */

static int child_reset_signals(void)
{
    static const uint64_t standard[8]; /* the kernel's structure, of all zeros: SIG_DFL */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t none;

    /* not by libc, which leaves its own two as they are; SIGKILL, SIGSTOP refuse */
    for (int n = 1; n < NSIG; n++)
        (void)syscall(SYS_rt_sigaction, n, standard, NULL, sizeof(uint64_t));
    (void)sigaction(SIGXFSZ, &ignore, NULL); /* so that a full log is an error and not the end */
    (void)sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

static int child_drop_rights(const struct spawn_setup *s)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    /* the bounding set needs CAP_SETPCAP; without it no_new_privs has to be enough */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return -errno;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    /* one who may not and changes nothing has nothing to lose: tests without rights */
    if (setgroups(0, NULL) < 0 && (errno != EPERM || s->uid != geteuid() || s->gid != getegid()))
        return -errno;
    if (setresgid(s->gid, s->gid, s->gid) < 0 || setresuid(s->uid, s->uid, s->uid) < 0)
        return -errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

/* All descriptors are first lifted out of the way, so that none is written over. */
static int child_place_fds(const struct spawn_setup *s)
{
    int from[3 + SPAWN_FDS_MAX], to[3 + SPAWN_FDS_MAX], null, high = 2;
    size_t n = 3 + s->n_fds;

    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    from[0] = s->input < 0 ? null : s->input;
    from[1] = from[2] = s->output < 0 ? null : s->output;
    for (int i = 0; i < 3; i++)
        to[i] = i;
    for (size_t i = 0; i < s->n_fds; i++) {
        from[3 + i] = s->fds[i].fd;
        to[3 + i] = s->fds[i].as;
        if (s->fds[i].as > high)
            high = s->fds[i].as;
    }
    for (size_t i = 0; i < n; i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, SPAWN_FD_MAX + 1);
        if (from[i] < 0)
            return -errno;
    }
    for (size_t i = 0; i < n; i++)
        if (dup2(from[i], to[i]) < 0)
            return -errno;
    return 0;
}

/* Closes what the child was not given; report stays, to be closed by exec. */
static int child_close_others(const struct spawn_setup *s, int report)
{
    for (int fd = 3; fd <= SPAWN_FD_MAX; fd++) {
        bool given = fd == report;

        for (size_t i = 0; i < s->n_fds; i++)
            given = given || s->fds[i].as == fd;
        if (!given)
            (void)close(fd);
    }
    return close_range(SPAWN_FD_MAX + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int child_limit_files(const struct spawn_setup *s)
{
    struct rlimit core = {0, 0}, size = {s->file_size, s->file_size};

    if (setrlimit(RLIMIT_CORE, &core) < 0) /* its memory holds keys */
        return -errno;
    return s->file_size > 0 && setrlimit(RLIMIT_FSIZE, &size) < 0 ? -errno : 0;
}

static int child_run(const struct spawn_setup *s, int report)
{
    int r = child_reset_signals();

    if (r == 0 && setsid() < 0)
        r = -errno;
    if (r == 0)
        r = chdir("/") < 0 ? -errno : 0;
    (void)umask(077);
    if (r == 0)
        r = child_place_fds(s);
    if (r == 0)
        r = child_close_others(s, report);
    if (r == 0)
        r = child_limit_files(s);
    if (r == 0)
        r = child_drop_rights(s);
    if (r == 0 && s->prepare != NULL)
        r = s->prepare(s->user);
    if (r < 0)
        return r;
    (void)execve(s->program, (char *const *)s->argv,
                 (char *const *)(s->envp != NULL ? s->envp : default_envp));
    return -errno;
}

static int process_read(pid_t pid, const char *name, char *buf, size_t size)
{
    char path[48];
    _cleanup_(closep) int fd = -1;
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, buf, size - 1);
    if (n < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    buf[n] = '\0';
    return 0;
}

/* Field 22 of /proc/PID/stat; field 2, the name, may hold anything but ends with the last ')'. */
static int process_read_start(pid_t pid, uint64_t *ret)
{
    char text[1024];
    const char *p;
    int r = process_read(pid, "stat", text, sizeof(text));

    if (r < 0)
        return r;
    p = strrchr(text, ')');
    for (int field = 2; p != NULL && field < 22; field++) {
        p = strchr(p, ' ');
        if (p != NULL)
            p++;
    }
    return p != NULL && sscanf(p, "%" SCNu64, ret) == 1 ? 0 : -ESRCH;
}

/* The real user. The folder's owner would be root for a process that made itself undumpable. */
static int process_read_user(pid_t pid, uid_t *ret)
{
    char text[4096];
    const char *p;
    int r = process_read(pid, "status", text, sizeof(text));

    if (r < 0)
        return r;
    p = strstr(text, "\nUid:"); /* a name cannot forge it: newlines in it are escaped */
    return p != NULL && sscanf(p + 5, "%u", ret) == 1 ? 0 : -ESRCH;
}

/* What the child says before exec; nothing when exec closed the pipe. */
static int report_read(int fd)
{
    int error = 0;
    ssize_t n;

    do
        n = read(fd, &error, sizeof(error));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == 0 ? 0 : n == (ssize_t)sizeof(error) && error < 0 ? error : -EIO;
}

static bool setup_is_valid(const struct spawn_setup *s)
{
    if (s->program[0] != '/' || s->n_fds > SPAWN_FDS_MAX)
        return false;
    for (size_t i = 0; i < s->n_fds; i++) {
        if (s->fds[i].as < 3 || s->fds[i].as > SPAWN_FD_MAX)
            return false;
        for (size_t k = 0; k < i; k++)
            if (s->fds[k].as == s->fds[i].as)
                return false;
    }
    return true;
}

int spawn_process(const struct spawn_setup *setup, struct process *ret)
{
    _cleanup_(closep) int read_end = -1, write_end = -1;
    struct process p = {.pidfd = -1};
    int pipe_fds[2], r;
    sigset_t all, old;

    if (!setup_is_valid(setup))
        return -EINVAL;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    read_end = pipe_fds[0];
    write_end = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, SPAWN_FD_MAX + 1); /* out of the child's way */
    r = write_end < 0 ? -errno : 0;
    (void)close(pipe_fds[1]);
    if (r < 0)
        return r;

    (void)sigfillset(&all); /* none of our handlers runs in the child */
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    p.pid = fork();
    if (p.pid == 0) {
        r = child_run(setup, write_end);
        (void)!write(write_end, &r, sizeof(r));
        _exit(127);
    }
    r = p.pid < 0 ? -errno : 0;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (r < 0)
        return r;

    write_end = close_fd(write_end);
    p.pidfd = pidfd_open(p.pid, 0); /* not reaped yet: the number is still its own */
    r = p.pidfd < 0 ? -errno : report_read(read_end);
    if (r == 0)
        r = process_read_start(p.pid, &p.start);
    if (r < 0) {
        (void)kill(p.pid, SIGKILL);
        (void)waitpid(p.pid, NULL, 0);
        process_forget(&p);
        return r;
    }
    *ret = p;
    return 0;
}

int process_find(pid_t pid, uint64_t start, uid_t uid, struct process *ret)
{
    struct process p = {.pid = pid, .start = start};
    uint64_t found;
    uid_t owner;
    int r;

    if (pid <= 1)
        return -ESRCH;
    p.pidfd = pidfd_open(pid, 0);
    if (p.pidfd < 0)
        return errno == EINVAL ? -ESRCH : -errno;
    /* looked at after the descriptor was taken: what is true of the number is true of it */
    r = process_read_start(pid, &found);
    if (r == 0)
        r = process_read_user(pid, &owner);
    if (r == 0 && (found != start || owner != uid || process_ended(&p, NULL)))
        r = -ESRCH;
    if (r < 0) {
        process_forget(&p);
        return r;
    }
    *ret = p;
    return 0;
}

int process_signal(const struct process *p, int signal)
{
    if (p->pid == 0)
        return 0;
    if (pidfd_send_signal(p->pidfd, signal, NULL, 0) < 0)
        return errno == ESRCH ? 0 : -errno;
    return 0;
}

bool process_ended(struct process *p, int *ret_status)
{
    struct pollfd poll_fd = {.fd = p->pidfd, .events = POLLIN};
    siginfo_t info = {0};

    if (ret_status != NULL)
        *ret_status = -1;
    if (p->pid == 0)
        return true;
    if (poll(&poll_fd, 1, 0) <= 0)
        return false;
    if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return true; /* somebody else's child */
    if (ret_status != NULL)
        *ret_status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status;
    return true;
}

bool process_wait(struct process *p, unsigned milliseconds)
{
    struct pollfd poll_fd = {.fd = p->pidfd, .events = POLLIN};

    if (p->pid != 0)
        (void)poll(&poll_fd, 1, (int)milliseconds); /* cut short by a signal: asked again below */
    return process_ended(p, NULL);
}

void process_forget(struct process *p)
{
    if (p->pid != 0)
        (void)close_fd(p->pidfd);
    *p = (struct process){.pidfd = -1};
}

/*
 * The child. Only what has that user is met: of our capabilities the one to become another is left,
 * not the one to signal anybody. Between the last two calls a process of that user could stop or
 * kill us: the parent tries again.
 */
static int child_kill_all_of(uid_t uid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    data[0].effective = data[0].permitted = 1u << CAP_SETUID;
    if (syscall(SYS_capset, &head, data) < 0 || setresuid(uid, uid, uid) < 0)
        return errno;
    return kill(-1, SIGKILL) < 0 && errno != ESRCH ? errno : 0;
}

static int process_kill_all_of(uid_t uid)
{
    struct process p = {.pidfd = -1};
    int status = -1, r = 0;
    sigset_t all, old;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    p.pid = fork();
    if (p.pid == 0)
        _exit(child_kill_all_of(uid));
    r = p.pid < 0 ? -errno : 0;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (r < 0)
        return r;
    p.pidfd = pidfd_open(p.pid, 0);
    (void)poll(&(struct pollfd){.fd = p.pidfd, .events = POLLIN}, p.pidfd < 0 ? 0 : 1, SWEEP_MS);
    (void)kill(p.pid, SIGKILL); /* not reaped yet: the number is still its own */
    do
        r = waitpid(p.pid, &status, 0) < 0 ? -errno : 0;
    while (r == -EINTR);
    process_forget(&p);
    if (r == 0 && WIFSIGNALED(status))
        r = -ETIMEDOUT;
    return r < 0 ? r : -WEXITSTATUS(status);
}

int process_end_all_of(uid_t uid)
{
    uid_t real, effective, saved;
    int r = -ETIMEDOUT;

    if (getresuid(&real, &effective, &saved) < 0)
        return -errno;
    if (uid == 0 || uid == (uid_t)-1 || uid == real || uid == effective || uid == saved)
        return 0;
    for (int i = 0; r == -ETIMEDOUT && i < SWEEP_TRIES; i++)
        r = process_kill_all_of(uid);
    return r;
}

const char *process_status_text(int status, char *buf, size_t size)
{
    if (status == -1)
        (void)snprintf(buf, size, "ended");
    else if (WIFSIGNALED(status))
        (void)snprintf(buf, size, "killed by signal %d", WTERMSIG(status));
    else
        (void)snprintf(buf, size, "exit status %d", WEXITSTATUS(status));
    return buf;
}
