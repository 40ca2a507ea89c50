/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/client/device.h"
#include "vpn/client/runtime.h"
#include "vpn/client/seccomp.h"
#include "vpn/client/wireguard_private.h"
#include "vpn/wish/wish.h"

#define SOCKET_NAME  "wireguard.sock"
#define LOG_SIZE     (64 * 1024)
#define VERSION_SIZE 512
#define VERSION_MS   2000
#define ENDING_MS    100
#define TUN_AS       3 /* descriptors of wireguard-go */
#define UAPI_AS      4

/* The first version that reads packets without the four bytes that tun puts before them. */
#define VERSION_PLAIN 20230223

/* Tags of requests: what is asked, and in the low bit whether it is the state. */
#define TAG(epoch, is_get) ((epoch) << 1 | ((is_get) ? 1u : 0u))

/*
 * For what wireguard-go prints: memory of fixed size, so that it can neither grow nor hit a limit
 * that is told by a signal (Go dies of SIGXFSZ, and of SIGPIPE on its standard output).
 */
static int open_log(size_t size, int *ret)
{
    _cleanup_(closep) int fd = memfd_create("wireguard-go", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

/* "wireguard-go v0.0.20220316": the date; 0 when it says none. */
static uint32_t parse_version(struct str text)
{
    static const char mark[] = "0.0.";
    const char *p = text.len > 0 ? memmem(text.p, text.len, mark, sizeof(mark) - 1) : NULL;
    uint32_t date = 0;

    if (p == NULL || (size_t)(text.p + text.len - p) < sizeof(mark) - 1 + 8)
        return 0;
    return str_to_u32((struct str){p + sizeof(mark) - 1, 8}, UINT32_MAX, &date) < 0 ? 0 : date;
}

/*
 * Asks the program itself; it answers within milliseconds. Debian 13's 0.0.20231211 calls itself
 * 0.0.20230223, which is why that one counts as new.
 */
static int ask_version(const struct client *c, uint32_t *ret)
{
    const char *const argv[] = {"wireguard-go", "--version", NULL};
    char text[VERSION_SIZE];
    _cleanup_(closep) int out = -1;
    struct process p = {.pidfd = -1};
    struct spawn_setup setup = {
        .program = c->program, .argv = argv, .uid = c->uid, .gid = c->gid, .input = -1};
    ssize_t n;
    int r = open_log(VERSION_SIZE, &out);

    if (r < 0)
        return r;
    setup.output = out;
    r = spawn_process(&setup, &p);
    if (r < 0)
        return r;
    if (!process_wait(&p, VERSION_MS)) {
        (void)process_signal(&p, SIGKILL);
        (void)process_wait(&p, VERSION_MS);
        r = -ETIMEDOUT;
    }
    process_forget(&p);
    if (r < 0)
        return r;
    n = pread(out, text, sizeof(text), 0);
    *ret = n > 0 ? parse_version((struct str){text, (size_t)n}) : 0;
    return 0;
}

/* One end of the device; the form of its packets is what this program's version reads. */
static int open_tun(uint32_t version, int *ret)
{
    struct ifreq ifr = {.ifr_flags = IFF_TUN};
    _cleanup_(closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (version >= VERSION_PLAIN)
        ifr.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
    memcpy(ifr.ifr_name, SEAL_TUNNEL, sizeof(SEAL_TUNNEL));
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

static int socket_path(const struct client *c, char **ret)
{
    if (asprintf(ret, "%s/" SOCKET_NAME, c->folder) < 0) {
        *ret = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* The last line that was printed, escaped; "" when there is none. */
static const char *last_line(int log, char *buf, size_t size)
{
    _cleanup_(freep) char *text = calloc(1, LOG_SIZE);
    struct str rest, line, last = STR_LITERAL("");
    ssize_t n = log >= 0 && text != NULL ? pread(log, text, LOG_SIZE, 0) : 0;

    rest = (struct str){text, n > 0 ? strnlen(text, (size_t)n) : 0};
    while (n > 0 && str_next(&rest, '\n', &line)) {
        if (str_trim(line).len > 0)
            last = str_trim(line);
    }
    return str_escape(last, buf, size);
}

static int on_exit_of_process(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct wireguard *w = user;
    char how[64], line[160];
    int status = -1;

    (void)fd;
    (void)revents;
    if (!process_ended(&w->c->process, &status))
        return 0;
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    (void)last_line(w->log, line, sizeof(line));
    (void)wireguard_end(w, "wireguard-go ended (%s)%s%s",
                        process_status_text(status, how, sizeof(how)), line[0] != '\0' ? ": " : "",
                        line);
    return 0;
}

/* Its socket closes a moment before it has ended; with that comes the reason. */
static bool is_ending(const struct process *p)
{
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

    return poll(&fd, 1, ENDING_MS) > 0;
}

static void on_answer(uint32_t tag, int error, const struct wg_device *d, void *user)
{
    struct wireguard *w = user;

    if (error == -ECONNRESET && tag == 0 && is_ending(&w->c->process))
        return; /* on_exit_of_process() comes next */
    if (error < 0)
        (void)wireguard_end(w, tag == 0 ? "wireguard-go does not answer: %s"
                                        : "wireguard-go refuses its settings: %s",
                            strerror(-error));
    else if (tag == TAG(w->epoch, true))
        (void)wireguard_take(w, d);
    else if (tag == TAG(w->epoch, false))
        (void)wireguard_set_done(w);
}

/* Watches the process and speaks to it; both exist. */
static int connect_go(struct wireguard *w, const char *path)
{
    int r = sd_event_add_io(w->c->loop, &w->exit, w->c->process.pidfd, EPOLLIN, on_exit_of_process,
                            w);

    return r < 0 ? r : uapi_link_open(w->c->loop, path, on_answer, w, &w->link);
}

static int spawn_go(struct wireguard *w, int tun, int listening)
{
    const char *const argv[] = {"wireguard-go", "-f", SEAL_TUNNEL, NULL};
    const char *const envp[] = {"WG_TUN_FD=3", "WG_UAPI_FD=4", "WG_PROCESS_FOREGROUND=1",
                                "LOG_LEVEL=error", NULL};
    const struct spawn_setup setup = {
        .program = w->c->program,
        .argv = argv,
        .envp = envp,
        .uid = w->c->uid,
        .gid = w->c->gid,
        .input = -1,
        .output = w->log,
        .fds = {{.fd = tun, .as = TUN_AS}, {.fd = listening, .as = UAPI_AS}},
        .n_fds = 2,
        .prepare = seccomp_prepare_wireguard,
    };

    return spawn_process(&setup, &w->c->process);
}

static int go_start(struct wireguard *w)
{
    _cleanup_(freep) char *path = NULL;
    _cleanup_(closep) int tun = -1, listening = -1;
    uint32_t version = 0;
    int r;

    if (w->c->program == NULL)
        return -EOPNOTSUPP;
    r = ask_version(w->c, &version);
    if (r == 0)
        r = device_make_tun(w->c->nl, w->c->uid);
    if (r == 0)
        r = open_tun(version, &tun);
    if (r == 0)
        r = socket_path(w->c, &path);
    if (r == 0)
        r = uapi_listen(path, &listening);
    if (r == 0)
        r = open_log(LOG_SIZE, &w->log);
    if (r == 0)
        r = spawn_go(w, tun, listening);
    /* the identity is remembered before anything can go wrong: a sweep must find the process */
    if (r == 0)
        r = runtime_remember(w->c->folder, &w->c->process, 0);
    return r < 0 ? r : connect_go(w, path);
}

static int go_adopt(struct wireguard *w, struct wg_device *ret)
{
    _cleanup_(freep) char *path = NULL;
    bool wireguard = false;
    uint64_t digest;
    int r;

    if (device_find(w->c->nl, &wireguard) <= 0 || wireguard ||
        runtime_recall(w->c->folder, w->c->uid, &w->c->process, &digest) < 0)
        return -ENOENT;
    r = socket_path(w->c, &path);
    if (r == 0)
        r = uapi_ask_now(path, ret);
    if (r < 0)
        return r == -ENOMEM ? r : -ENOENT;
    return connect_go(w, path);
}

static int go_set(struct wireguard *w, const struct wg_device *d, enum wg_set what)
{
    /* counters read before peers were set anew are those of the old ones */
    if (what != WG_SET_KEEPALIVE)
        w->epoch++;
    return uapi_link_set(w->link, TAG(w->epoch, false), d, what);
}

static int go_get(struct wireguard *w)
{
    return uapi_link_get(w->link, TAG(w->epoch, true));
}

/* client.c ends the process; its socket, which it may not remove itself, is nobody's then. */
static void go_release(struct wireguard *w, bool stop)
{
    if (stop && w->c->folder != NULL)
        (void)runtime_remove(w->c->folder, SOCKET_NAME);
    w->link = uapi_link_free(w->link);
    w->exit = sd_event_source_disable_unref(w->exit);
    w->log = close_fd(w->log);
}

const struct wireguard_way wireguard_go_way = {
    .later = true,
    .start = go_start,
    .adopt = go_adopt,
    .set = go_set,
    .get = go_get,
    .release = go_release,
};
