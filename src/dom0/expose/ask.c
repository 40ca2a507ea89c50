/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "dom0/expose/say.h"

/* Where qubes-core-qrexec has it in dom0 (daemon/Makefile). */
#define QREXEC_CLIENT "/usr/bin/qrexec-client"
#define SERVICE       "DEFAULT:QUBESRPC network-server.Status dom0"
#define ANSWER_MAX    (1024 * 1024)
#define LIMIT_US      5000000
#define AT_ONCE       16

struct child {
    struct ask *ask;
    sd_event_source *output, *exit;
    int fd;
    pid_t pid;
    char *bytes;
    size_t len;
    int status;
    bool running, reading;
};

void ask_done(struct ask *a)
{
    json_decref(a->answer);
    *a = (struct ask){0};
}

/* ---- what it says ---- */

int ask_parse(const char *bytes, size_t len, struct ask *a)
{
    const char *program;
    json_error_t error;
    json_t *root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &error);

    program = json_string_value(json_object_get(root, "program"));
    if (root == NULL)
        (void)snprintf(a->why, sizeof(a->why), "its answer is no JSON (line %d)", error.line);
    else if (program == NULL || strcmp(program, "qubes-routing-manager") != 0 ||
             !json_is_array(json_object_get(root, "addresses")))
        (void)snprintf(a->why, sizeof(a->why), "its answer is not one of qubes-routing-manager");
    else {
        a->answer = root;
        return 0;
    }
    json_decref(root);
    return -EBADMSG;
}

json_int_t ask_left_out(const struct ask *a, const char *key)
{
    const json_t *cut = a != NULL ? json_object_get(a->answer, "cut") : NULL;

    return json_integer_value(json_object_get(cut, key));
}

const json_t *ask_address(const struct ask *a, const struct addr *addr)
{
    const json_t *list = a != NULL ? json_object_get(a->answer, "addresses") : NULL;
    json_t *one;
    size_t i;

    json_array_foreach((json_t *)list, i, one) {
        const char *text = json_string_value(json_object_get(one, "address"));
        struct addr got;

        if (text != NULL && addr_parse(str_from(text), &got) == 0 && addr_equal(&got, addr))
            return one;
    }
    return NULL;
}

const char *ask_text(const json_t *object, const char *key, char *buf, size_t size)
{
    const char *s = json_string_value(json_object_get(object, key));

    return str_escape(str_from(s != NULL ? s : ""), buf, size);
}

const char *ask_counters(const json_t *address, char *buf, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    const json_t *counters = json_object_get(address, "counters"),
                 *connections = json_object_get(counters, "connections"),
                 *bytes = json_object_get(counters, "bytes");
    double value = (double)json_integer_value(bytes);
    size_t unit = 0;

    buf[0] = '\0';
    if (!json_is_integer(connections))
        return buf;
    for (; value >= 1000 && unit + 1 < ARRAY_SIZE(units); unit++)
        value /= 1000;
    if (json_is_integer(bytes))
        (void)snprintf(buf, size, "%" JSON_INTEGER_FORMAT " new, %.*f %s",
                       json_integer_value(connections), unit > 0 ? 1 : 0, value, units[unit]);
    else
        (void)snprintf(buf, size, "%" JSON_INTEGER_FORMAT " new, not counted (offloaded)",
                       json_integer_value(connections));
    return buf;
}

/* ---- asking ---- */

static void child_stop(struct child *c)
{
    c->output = sd_event_source_disable_unref(c->output);
    c->fd = close_fd(c->fd);
    c->reading = false;
}

static void child_kill(struct child *c, const char *why)
{
    if (c->ask->why[0] == '\0')
        (void)snprintf(c->ask->why, sizeof(c->ask->why), "%s", why);
    child_stop(c);
    if (c->running)
        (void)kill(-c->pid, SIGKILL);
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *user)
{
    struct child *c = user;
    ssize_t n;

    (void)source;
    (void)events;
    if (c->len == ANSWER_MAX) {
        child_kill(c, "its answer is longer than 1 MiB");
        return 0;
    }
    n = read(fd, c->bytes + c->len, ANSWER_MAX - c->len);
    if (n > 0)
        c->len += (size_t)n;
    else if (n == 0)
        child_stop(c);
    else if (errno != EAGAIN && errno != EINTR)
        child_kill(c, strerror(errno));
    return 0;
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *user)
{
    struct child *c = user;

    (void)source;
    c->running = false;
    c->status = info->si_code == CLD_EXITED ? info->si_status : -1;
    return 0;
}

/* The child is a group of its own, so that all of it can be ended. Its stderr is a qube's: lost. */
static int spawn(struct child *c, char *const *argv, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, fatal;
    int r;

    (void)sigemptyset(&none);
    (void)sigemptyset(&fatal);
    (void)sigaddset(&fatal, SIGPIPE);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    (void)posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &fatal);
    r = -posix_spawnp(&c->pid, argv[0], &files, &attr, argv, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attr);
    return r;
}

static int begin(sd_event *event, const char *command, struct ask *a, struct child *c)
{
    char *named[] = {(char *)command, a->hop, NULL};
    char *usual[] = {(char *)QREXEC_CLIENT, (char *)"-d", a->hop, (char *)SERVICE, NULL};
    _cleanup_(closep) int out = -1;
    int pipe[2], r;

    *c = (struct child){.ask = a, .fd = -1};
    c->bytes = malloc(ANSWER_MAX);
    if (c->bytes == NULL || pipe2(pipe, O_CLOEXEC) < 0)
        return -ENOMEM;
    c->fd = pipe[0];
    out = pipe[1];
    r = fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (r == 0)
        r = sd_event_add_io(event, &c->output, c->fd, EPOLLIN, on_output, c);
    if (r >= 0)
        r = spawn(c, command != NULL ? named : usual, out);
    if (r < 0)
        return r;
    c->running = c->reading = true;
    r = sd_event_add_child(event, &c->exit, c->pid, WEXITED, on_exit_of, c);
    return r < 0 ? r : 0;
}

static void finish(struct child *c)
{
    struct ask *a = c->ask;

    if (a->why[0] == '\0' && c->status != 0 && c->len == 0)
        (void)snprintf(a->why, sizeof(a->why),
                       "it does not answer (is the package installed there, and does qrexec work?)");
    else if (a->why[0] == '\0')
        (void)ask_parse(c->bytes, c->len, a);
    child_stop(c);
    c->exit = sd_event_source_disable_unref(c->exit);
    free(c->bytes);
    c->bytes = NULL;
}

static bool any(const struct child *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (c[i].running || c[i].reading)
            return true;
    }
    return false;
}

static int ask_some(sd_event *event, const char *command, struct ask *asks, size_t n,
                    uint64_t begin_us)
{
    struct child children[AT_ONCE] = {0};
    uint64_t limit = clock_now_us() + LIMIT_US;
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        int e = begin(event, command, &asks[i], &children[i]);

        if (e < 0)
            child_kill(&children[i], strerror(-e));
    }
    while (r >= 0 && any(children, n)) {
        r = sd_event_run(event, 200000);
        say_progress(begin_us, n == 1 ? "waiting for a net qube" : "waiting for net qubes", 0, 0);
        for (size_t i = 0; clock_now_us() > limit && i < n; i++) {
            if (children[i].running || children[i].reading)
                child_kill(&children[i], "it did not answer within 5 s");
        }
    }
    say_progress_end();
    for (size_t i = 0; i < n; i++)
        finish(&children[i]);
    return r < 0 ? r : 0;
}

int ask_all(sd_event *event, const char *command, struct ask *asks, size_t n, uint64_t begin_us)
{
    sigset_t chld;
    int r = 0;

    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &chld, NULL);
    for (size_t i = 0; i < n && r == 0; i += AT_ONCE)
        r = ask_some(event, command, asks + i, n - i < AT_ONCE ? n - i : AT_ONCE, begin_us);
    return r;
}
