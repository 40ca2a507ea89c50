/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests that need a kernel: a network namespace of the test's own, which goes with the process.
 * Needs root, or user namespaces for everybody; without either such tests are skipped, aloud.
 */
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static inline bool sandbox_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok;

    if (fd < 0)
        return false;
    ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(fd);
    return ok;
}

static inline bool sandbox_enter(void)
{
    unsigned uid = (unsigned)geteuid(), gid = (unsigned)getegid();
    char map[64];

    if (unshare(CLONE_NEWNET) == 0)
        return true;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        (void)fprintf(stderr, "skipped: no right to make a network namespace\n");
        return false;
    }
    (void)snprintf(map, sizeof(map), "0 %u 1", uid);
    if (!sandbox_write("/proc/self/setgroups", "deny") ||
        !sandbox_write("/proc/self/uid_map", map))
        return false;
    (void)snprintf(map, sizeof(map), "0 %u 1", gid);
    return sandbox_write("/proc/self/gid_map", map);
}

/* A command line of the test's own making. */
static inline void sandbox_run(const char *command)
{
    int status = system(command);

    if (status != 0)
        fail_msg("'%s' gave %d", command, status);
}

static inline int64_t sandbox_now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
