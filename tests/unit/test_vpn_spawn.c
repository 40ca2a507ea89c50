/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client's process: what it is given, what is taken from it, how it is found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vpn/client/runtime.h"
#include "vpn/client/seccomp.h"
#include "vpn/client/spawn.h"

#define CLIENT_UID 4978

static bool is_root(void)
{
    return geteuid() == 0;
}

static uid_t client_uid(void)
{
    return is_root() ? CLIENT_UID : geteuid();
}

/* A shell line's output; its exit status in *ret_status. */
static void run(struct spawn_setup setup, const char *line, char *ret, size_t size, int *ret_status)
{
    const char *const argv[] = {"sh", "-c", line, NULL};
    struct process p = {.pidfd = -1};
    int fds[2];
    size_t len = 0;
    ssize_t n;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    setup.program = "/bin/sh";
    setup.argv = argv;
    setup.uid = client_uid();
    setup.gid = is_root() ? CLIENT_UID : getegid();
    setup.output = fds[1];
    assert_int_equal(spawn_process(&setup, &p), 0);
    (void)close(fds[1]);
    while (len < size - 1 && (n = read(fds[0], ret + len, size - 1 - len)) > 0)
        len += (size_t)n;
    ret[len] = '\0';
    (void)close(fds[0]);
    (void)poll(&(struct pollfd){.fd = p.pidfd, .events = POLLIN}, 1, 5000);
    assert_true(process_ended(&p, ret_status));
    process_forget(&p);
}

static const struct spawn_setup nothing = {.input = -1, .output = -1};

static void assert_line(const char *line, const char *expected)
{
    char text[4096];
    int status;

    run(nothing, line, text, sizeof(text), &status);
    assert_string_equal(text, expected);
}

static void test_no_rights(void **state)
{
    char text[4096];
    int status;

    (void)state;
    assert_line("grep -c '^Cap\\(Inh\\|Prm\\|Eff\\|Amb\\):.0*$' /proc/self/status", "4\n");
    assert_line("grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n");
    if (!is_root())
        skip();
    assert_line("grep '^CapBnd:.0*$' /proc/self/status | wc -l", "1\n");
    run(nothing, "id -u; id -g; id -G", text, sizeof(text), &status);
    assert_string_equal(text, "4978\n4978\n4978\n");
    assert_int_equal(status, 0);
}

static void test_clean_surroundings(void **state)
{
    static const uint64_t ignored[8] = {1}; /* the kernel's structure with SIG_IGN */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t block;

    (void)state;
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigemptyset(&block);
    (void)sigaddset(&block, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &block, NULL);
    assert_int_equal(setenv("SECRET", "1", 1), 0);
    assert_line("grep -c '^SigBlk:.0*$' /proc/self/status", "1\n");
    /* SIGXFSZ alone, also when 32 was ignored, which libc does not let anybody change */
    assert_int_equal(syscall(SYS_rt_sigaction, 32, ignored, NULL, sizeof(uint64_t)), 0);
    assert_line("grep SigIgn /proc/self/status", "SigIgn:\t0000000001000000\n");
    assert_line("env | sed 's/=.*//' | grep -v '^_$\\|^PWD$\\|^SHLVL$\\|^OLDPWD$'", "PATH\n");
    assert_line("pwd; umask", "/\n0077\n");
    assert_line("test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo own session", "own session\n");
    assert_line("ulimit -c", "0\n");
    (void)sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void test_descriptors(void **state)
{
    _cleanup_(closep) int leaked = open("/dev/null", O_RDONLY); /* not marked: has to be closed */
    _cleanup_(closep) int one = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    struct spawn_setup setup = nothing;
    char text[4096], line[128];
    int status, lines = 0;

    (void)state;
    assert_true(leaked >= 3 && one >= 3);
    assert_int_equal(dup2(leaked, 100), 100);
    assert_line("readlink /proc/$$/fd/0; ls /proc/$$/fd", "/dev/null\n0\n1\n2\n");
    setup.n_fds = 2; /* crossed on purpose: each number is another's */
    setup.fds[0] = (struct spawn_fd){.fd = one, .as = leaked};
    setup.fds[1] = (struct spawn_fd){.fd = leaked, .as = one};
    setup.input = one;
    run(setup, "cd /proc/$$/fd; readlink 0", text, sizeof(text), &status);
    assert_string_equal(text, "/dev/zero\n");
    (void)snprintf(line, sizeof(line), "cd /proc/$$/fd; readlink %d %d; ls", leaked, one);
    run(setup, line, text, sizeof(text), &status);
    assert_memory_equal(text, "/dev/zero\n/dev/null\n0\n1\n", 24);
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, 2 + 5);
    (void)close(100);

    setup.program = "/bin/true";
    setup.fds[1].as = leaked;
    assert_int_equal(spawn_process(&setup, &(struct process){0}), -EINVAL);
}

static void test_full_file_is_no_end(void **state)
{
    _cleanup_(closep) int file = memfd_create("log", MFD_CLOEXEC);
    static const char *const argv[] = {
        "sh", "-c", "for i in 1 2 3 4 5; do printf 1234567890; done; exit 7", NULL};
    struct spawn_setup setup = {.program = "/bin/sh",
                                .argv = argv,
                                .input = -1,
                                .output = file,
                                .file_size = 25,
                                .uid = client_uid(),
                                .gid = is_root() ? CLIENT_UID : getegid()};
    struct process p;
    struct stat st;
    int status;

    (void)state;
    assert_int_equal(spawn_process(&setup, &p), 0);
    (void)poll(&(struct pollfd){.fd = p.pidfd, .events = POLLIN}, 1, 5000);
    assert_true(process_ended(&p, &status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(fstat(file, &st), 0);
    assert_int_equal(st.st_size, 25);
    process_forget(&p);
}

static int prepare_refuses(void *user)
{
    (void)user;
    return -EXDEV;
}

static void test_failed_starts(void **state)
{
    static const char *const argv[] = {"x", NULL};
    struct spawn_setup setup = {.program = "/nonexistent/openvpn",
                                .argv = argv,
                                .input = -1,
                                .output = -1,
                                .uid = client_uid(),
                                .gid = is_root() ? CLIENT_UID : getegid()};
    struct process p = {.pidfd = -1};

    (void)state;
    assert_int_equal(spawn_process(&setup, &p), -ENOENT);
    setup.program = "/";
    assert_int_equal(spawn_process(&setup, &p), -EACCES);
    setup.program = "openvpn";
    assert_int_equal(spawn_process(&setup, &p), -EINVAL);
    setup.program = "/bin/true";
    setup.prepare = prepare_refuses;
    assert_int_equal(spawn_process(&setup, &p), -EXDEV);
    assert_int_equal(p.pid, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left behind */
}

static struct process sleeper(void)
{
    static const char *const argv[] = {"sleep", "60", NULL};
    struct spawn_setup setup = {.program = "/bin/sleep",
                                .argv = argv,
                                .input = -1,
                                .output = -1,
                                .uid = client_uid(),
                                .gid = is_root() ? CLIENT_UID : getegid()};
    struct process p = {.pidfd = -1};

    assert_int_equal(spawn_process(&setup, &p), 0);
    return p;
}

static void test_found_again(void **state)
{
    struct process p = sleeper(), q = {.pidfd = -1};
    char folder[] = "/tmp/sluice-spawn-XXXXXX";
    uint64_t digest = 0;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(process_find(p.pid, p.start, client_uid(), &q), 0);
    process_forget(&q);
    assert_int_equal(process_find(p.pid, p.start + 1, client_uid(), &q), -ESRCH);
    assert_int_equal(process_find(p.pid, p.start, client_uid() + 1, &q), -ESRCH);
    assert_int_equal(process_find(1, p.start, 0, &q), -ESRCH);
    assert_int_equal(runtime_recall(folder, client_uid(), &q, &digest), -ENOENT);
    assert_int_equal(runtime_remember(folder, &p, 0x1234567890abcdef), 0);
    assert_int_equal(runtime_recall(folder, client_uid(), &q, &digest), 0);
    assert_true(digest == 0x1234567890abcdef && q.pid == p.pid);

    assert_false(process_ended(&p, NULL));
    assert_false(process_wait(&p, 1));
    assert_int_equal(process_signal(&p, SIGKILL), 0);
    assert_true(process_wait(&q, 5000));
    assert_int_equal(process_signal(&p, SIGKILL), 0);
    assert_true(process_wait(&p, 5000));
    process_forget(&q);
    assert_int_equal(runtime_recall(folder, client_uid(), &q, &digest), -ESRCH);
    process_forget(&p);
    process_forget(&p);
    assert_true(process_ended(&p, NULL));
    assert_int_equal(runtime_remove(folder, "process"), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_status_words(void **state)
{
    struct process p = sleeper();
    char text[32];
    int status;

    (void)state;
    assert_int_equal(process_signal(&p, SIGKILL), 0);
    (void)poll(&(struct pollfd){.fd = p.pidfd, .events = POLLIN}, 1, 5000);
    assert_true(process_ended(&p, &status));
    assert_string_equal(process_status_text(status, text, sizeof(text)), "killed by signal 9");
    assert_string_equal(process_status_text(3 << 8, text, sizeof(text)), "exit status 3");
    assert_string_equal(process_status_text(-1, text, sizeof(text)), "ended");
    process_forget(&p);
}

static void *set_flag(void *flag)
{
    *(bool *)flag = true;
    return NULL;
}

/* 0, or what was possible or impossible and should not have been. */
static int try_processes(int (*prepare)(void *))
{
    pthread_t thread;
    bool ran = false;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prepare(NULL) < 0)
        return 1;
    if (fork() >= 0 || errno != EPERM)
        return 2;
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0) >= 0 || errno != EPERM)
        return 3;
    if (syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, 0) >= 0)
        return 4;
    if (syscall(SYS_clone3, NULL, 0) >= 0 || errno != ENOSYS)
        return 5;
#ifdef SYS_fork
    if (syscall(SYS_fork) >= 0 || errno != EPERM)
        return 6;
#endif
    if (pthread_create(&thread, NULL, set_flag, &ran) != 0 || pthread_join(thread, NULL) != 0)
        return 7;
    return ran ? 0 : 8;
}

/* What status the function ends with in a process of its own. */
static int status_of(int (*fn)(int (*prepare)(void *)), int (*prepare)(void *))
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(fn(prepare));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#ifdef __x86_64__
static int try_x32(int (*prepare)(void *))
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prepare(NULL) < 0)
        return 1;
    (void)syscall(SYS_fork | 0x40000000);
    return 2;
}
#endif

static void test_no_further_processes(void **state)
{
    struct spawn_setup setup = nothing;
    char text[4096];
    int status;

    (void)state;
    assert_int_equal(status_of(try_processes, seccomp_prepare_openvpn), 0);
    assert_int_equal(status_of(try_processes, seccomp_prepare_wireguard), 0);
#ifdef __x86_64__
    status = status_of(try_x32, seccomp_prepare_openvpn);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
#endif
    setup.prepare = seccomp_prepare_openvpn;
    run(setup, "exec 2>/dev/null; echo one; (echo two); exit 0", text, sizeof(text), &status);
    assert_string_equal(text, "one\n");
    assert_int_not_equal(status, 0);
    run(setup, "exec echo three", text, sizeof(text), &status); /* the filter stays over it */
    assert_string_equal(text, "three\n");
    run(setup, "exec sh -c '(echo four)' 2>/dev/null", text, sizeof(text), &status);
    assert_string_equal(text, "");
}

/* It is that user's when this returns. */
static pid_t sleeper_of(uid_t uid)
{
    int fds[2];
    char byte;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        if (setresuid(uid, uid, uid) == 0)
            (void)!write(fds[1], "x", 1);
        for (;;)
            (void)pause();
    }
    (void)close(fds[1]);
    if (pid > 0 && read(fds[0], &byte, 1) != 1)
        pid = -1;
    (void)close(fds[0]);
    return pid;
}

static bool was_killed(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* As the unit has it: another user, with the rights as ambient capabilities. */
static int become_supervisor(uid_t uid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    const uint32_t rights = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;

    data[0].effective = data[0].permitted = data[0].inheritable = rights;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresuid(uid, uid, uid) < 0 ||
        syscall(SYS_capset, &head, data) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0) < 0)
        return -errno;
    return 0;
}

#define SUPERVISOR_UID 4979
#define OTHER_UID      4980

/* 0, or what went wrong. */
static int end_all(bool as_root)
{
    pid_t clients[] = {sleeper_of(CLIENT_UID), sleeper_of(CLIENT_UID)};
    pid_t other = sleeper_of(OTHER_UID), own = sleeper_of(SUPERVISOR_UID);

    (void)alarm(10);
    if (clients[0] < 0 || clients[1] < 0 || other < 0 || own < 0)
        return 1;
    if (kill(clients[1], SIGSTOP) < 0 || (!as_root && become_supervisor(SUPERVISOR_UID) < 0))
        return 2;
    if (process_end_all_of(CLIENT_UID) != 0 || process_end_all_of(0) != 0)
        return 3;
    if (!was_killed(clients[0]) || !was_killed(clients[1]))
        return 4;
    if (waitpid(other, NULL, WNOHANG) != 0 || waitpid(own, NULL, WNOHANG) != 0)
        return 5;
    if (process_end_all_of(CLIENT_UID) != 0) /* there is nothing left */
        return 6;
    if (!as_root && (process_end_all_of(SUPERVISOR_UID) != 0 || waitpid(own, NULL, WNOHANG) != 0))
        return 7;
    return 0;
}

/* In a pid namespace of its own: whoever has that number outside is not meant. */
static int end_all_alone(bool as_root)
{
    int status = -1;
    pid_t init;

    if (unshare(CLONE_NEWPID) < 0)
        return 20;
    init = fork();
    if (init == 0) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(end_all(as_root));
        _exit(waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 21);
    }
    return waitpid(init, &status, 0) == init && WIFEXITED(status) ? WEXITSTATUS(status) : 22;
}

static int end_all_as_root(int (*unused)(void *))
{
    (void)unused;
    return end_all_alone(true);
}

static int end_all_as_supervisor(int (*unused)(void *))
{
    (void)unused;
    return end_all_alone(false);
}

static void test_end_all_of_a_user(void **state)
{
    (void)state;
    assert_int_equal(process_end_all_of(geteuid()), 0); /* or this would be the end */
    if (!is_root())
        skip();
    assert_int_equal(status_of(end_all_as_root, NULL), 0);
    assert_int_equal(status_of(end_all_as_supervisor, NULL), 0);
}

static void test_folder(void **state)
{
    char runtime[] = "/tmp/sluice-runtime-XXXXXX";
    _cleanup_(freep) char *folder = NULL;
    _cleanup_(freep) char *sockets = NULL;
    _cleanup_(freep) char *text = NULL;
    gid_t gid = is_root() ? CLIENT_UID : getegid();
    char line[64], command[128];
    struct stat st;
    size_t len;
    int log;

    (void)state;
    assert_non_null(mkdtemp(runtime));
    assert_int_equal(runtime_clean(runtime), 0);
    for (int i = 0; i < 2; i++) {
        free(TAKE_PTR(folder));
        free(TAKE_PTR(sockets));
        assert_int_equal(runtime_make(runtime, gid, &folder, &sockets), 0);
    }
    assert_int_equal(stat(folder, &st), 0);
    assert_true(st.st_gid == gid && (st.st_mode & 07777) == 0710);
    assert_int_equal(stat(sockets, &st), 0);
    assert_true(st.st_gid == gid && (st.st_mode & 07777) == 0770);

    assert_int_equal(runtime_write(folder, "x", "hello", 5), 0);
    assert_int_equal(runtime_read(folder, "x", &text, &len), 0);
    assert_string_equal(text, "hello");
    assert_int_equal(runtime_read(folder, "y", &text, &len), -ENOENT);
    (void)snprintf(command, sizeof(command), "ln -s x %s/link", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(runtime_read(folder, "link", &text, &len), -ELOOP);

    assert_string_equal(runtime_last_line(folder, line, sizeof(line)), "");
    log = runtime_open_log(folder);
    assert_true(log >= 0);
    assert_int_equal(write(log, "one\n2026-11-22 03:24:31 two\x1b\n \n", 31), 31);
    runtime_trim_log(folder, 31);
    assert_string_equal(runtime_last_line(folder, line, sizeof(line)), "two\\x1b");
    assert_int_equal(write(log, "Use --help for more information.\n", 33), 33);
    assert_string_equal(runtime_last_line(folder, line, sizeof(line)), "two\\x1b");
    runtime_trim_log(folder, 31);
    assert_string_equal(runtime_last_line(folder, line, sizeof(line)), "");
    assert_int_equal(write(log, "2026-11-22", 10), 10);
    assert_string_equal(runtime_last_line(folder, line, sizeof(line)), "2026-11-22");
    (void)close(log);

    assert_int_equal(runtime_clean(runtime), 0);
    assert_int_equal(runtime_read(folder, "x", &text, &len), -ENOENT);
    assert_int_equal(rmdir(sockets), 0);
    assert_int_equal(rmdir(folder), 0);
    /* something else in its place is not used */
    (void)snprintf(command, sizeof(command), "ln -s /tmp %s/client", runtime);
    assert_int_equal(system(command), 0);
    free(TAKE_PTR(folder));
    free(TAKE_PTR(sockets));
    assert_true(runtime_make(runtime, gid, &folder, &sockets) < 0);
    (void)snprintf(command, sizeof(command), "rm -r %s", runtime);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rights),      cmocka_unit_test(test_clean_surroundings),
        cmocka_unit_test(test_descriptors),    cmocka_unit_test(test_full_file_is_no_end),
        cmocka_unit_test(test_failed_starts),  cmocka_unit_test(test_found_again),
        cmocka_unit_test(test_status_words),   cmocka_unit_test(test_folder),
        cmocka_unit_test(test_no_further_processes),
        cmocka_unit_test(test_end_all_of_a_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
