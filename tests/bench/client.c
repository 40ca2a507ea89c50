/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "qubesdb/codec.h"

#define SECOND INT64_C(1000000000)

_Noreturn void bench_die(const char *what)
{
    (void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

int64_t bench_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec;
}

void bench_sleep(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / SECOND, .tv_nsec = (long)(ns % SECOND)};

    (void)nanosleep(&ts, NULL);
}

int bench_qubesdb_connect(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(to.sun_path))
        bench_die(path);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        bench_die(path);
    return fd;
}

void bench_qubesdb_send(int fd, const char *key, const char *value)
{
    uint8_t header[QDB_HEADER_SIZE];
    size_t len = value != NULL ? strlen(value) : 0;
    char *copy = value != NULL ? strdup(value) : NULL;
    struct iovec parts[] = {{header, sizeof(header)}, {copy, len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (qdb_encode(value != NULL ? QDB_CMD_WRITE : QDB_CMD_RM, key, len, header) < 0)
        bench_die(key);
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)(sizeof(header) + len))
        bench_die("write to QubesDB");
    free(copy);
}

void bench_qubesdb_answer(int fd)
{
    uint8_t header[QDB_HEADER_SIZE];

    if (recv(fd, header, sizeof(header), MSG_WAITALL) != (ssize_t)sizeof(header))
        bench_die("answer of QubesDB");
    if (header[0] != QDB_RESP_OK && header[0] != QDB_RESP_ERROR_NOENT) {
        errno = EPROTO;
        bench_die("answer of QubesDB");
    }
}

long bench_number(const char *text, long min, long max)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < min || n > max) {
        errno = EINVAL;
        bench_die(text);
    }
    return n;
}
