/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When something is written in QubesDB, seen by who watches it.
 *
 *   bench-watch PREFIX QUBESDB...
 *
 * Says "ready" when everything is watched, then prints a line for each event whose path begins with
 * PREFIX, until it is killed: nanoseconds, number of the QUBESDB (0 the first), path. A QUBESDB that
 * ends is watched no more.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "client.h"
#include "qubesdb/codec.h"

#define DATABASES_MAX 256

static int watch(const char *path)
{
    uint8_t header[QDB_HEADER_SIZE];
    int fd = bench_qubesdb_connect(path);

    if (qdb_encode(QDB_CMD_WATCH, "/", 0, header) < 0 ||
        send(fd, header, sizeof(header), MSG_NOSIGNAL) != (ssize_t)sizeof(header))
        bench_die(path);
    bench_qubesdb_answer(fd);
    return fd;
}

/* An event is a header alone. False: no more of them come. */
static bool take(int fd, int number, const char *prefix)
{
    uint8_t header[QDB_HEADER_SIZE];
    char path[QDB_PATH_SIZE];
    int64_t now = bench_now();

    if (recv(fd, header, sizeof(header), MSG_WAITALL) != (ssize_t)sizeof(header))
        return false;
    memcpy(path, header + 1, sizeof(path));
    path[sizeof(path) - 1] = '\0';
    if (header[0] != QDB_RESP_WATCH) {
        errno = EPROTO;
        bench_die("event");
    }
    if (strncmp(path, prefix, strlen(prefix)) == 0)
        (void)printf("%lld %d %s\n", (long long)now, number, path);
    return true;
}

int main(int argc, char **argv)
{
    struct pollfd databases[DATABASES_MAX];
    int n = argc - 2;

    if (n < 1 || n > DATABASES_MAX) {
        (void)fputs("usage: bench-watch PREFIX QUBESDB...\n", stderr);
        return 2;
    }
    for (int i = 0; i < n; i++)
        databases[i] = (struct pollfd){.fd = watch(argv[i + 2]), .events = POLLIN};
    (void)puts("ready");
    for (;;) {
        (void)fflush(stdout);
        if (poll(databases, (nfds_t)n, -1) < 0)
            bench_die("poll");
        for (int i = 0; i < n; i++)
            if (databases[i].revents != 0 && !take(databases[i].fd, i, argv[1]))
                databases[i].fd = -1; /* poll() passes over it */
    }
}
