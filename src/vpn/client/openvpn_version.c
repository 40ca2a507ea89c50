/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/client/openvpn_private.h"

#define VERSION_LIMIT_MS 3000

/* "OpenVPN 2.6.14 x86_64-pc-linux-gnu ..." */
static int version_parse(const char *text, bool *ret_v27)
{
    unsigned major, minor;

    if (sscanf(text, "OpenVPN %3u.%3u", &major, &minor) != 2)
        return -EBADMSG;
    *ret_v27 = major > 2 || (major == 2 && minor >= 7);
    return 0;
}

int openvpn_version(const char *program, uid_t uid, gid_t gid, bool *ret_v27)
{
    static const char *const argv[] = {"openvpn", "--version", NULL};
    _cleanup_(closep) int read_end = -1, write_end = -1;
    struct spawn_setup setup = {
        .program = program, .argv = argv, .uid = uid, .gid = gid, .input = -1};
    struct process p = {.pidfd = -1};
    struct pollfd poll_fd;
    char text[64] = "";
    int fds[2], r;
    ssize_t n = 0;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    read_end = fds[0];
    write_end = setup.output = fds[1];
    r = spawn_process(&setup, &p);
    if (r < 0)
        return r;
    write_end = close_fd(write_end);
    poll_fd = (struct pollfd){.fd = read_end, .events = POLLIN};
    if (poll(&poll_fd, 1, VERSION_LIMIT_MS) > 0)
        n = read(read_end, text, sizeof(text) - 1); /* one write of the program */
    (void)process_signal(&p, SIGKILL); /* the first line was enough */
    (void)process_wait(&p, VERSION_LIMIT_MS);
    process_forget(&p);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    return n == 0 ? -ETIMEDOUT : version_parse(text, ret_v27);
}
