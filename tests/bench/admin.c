/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long qubesd takes to answer, when nothing is done with the answers.
 *
 *   bench-admin SOCKET OPEN < CALLS
 *
 * Each line of CALLS is "METHOD+ARG DEST"; they are made in this order, OPEN connections at once at
 * most. Prints nanoseconds from the first connect to the end of the last answer.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define AT_ONCE_MAX 64
#define CALLS_MAX   20000
#define CALL_SIZE   256

static char calls[CALLS_MAX][CALL_SIZE];

static size_t read_calls(void)
{
    size_t n = 0;

    while (n < CALLS_MAX && fgets(calls[n], CALL_SIZE, stdin))
        n++;
    return n;
}

static int begin(const struct sockaddr_un *to, char *call)
{
    char request[2 * CALL_SIZE];
    char *method = strtok(call, " \n"), *dest = strtok(NULL, " \n");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), n;

    if (!method || !dest) {
        errno = EINVAL;
        bench_die("call");
    }
    n = snprintf(request, sizeof(request), "%s dom0 name %s", method, dest) + 1; /* with its NUL */
    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ||
        send(fd, request, (size_t)n, MSG_NOSIGNAL) != n || shutdown(fd, SHUT_WR) < 0)
        bench_die("request");
    return fd;
}

/* False: the answer has ended. */
static bool take(int fd)
{
    static char buffer[256 * 1024];
    ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN)
        bench_die("answer");
    return n != 0;
}

static int64_t all_calls(const struct sockaddr_un *to, size_t n_calls, nfds_t open_max)
{
    struct pollfd open[AT_ONCE_MAX];
    nfds_t n_open = 0;
    size_t begun = 0;
    int64_t started = bench_now();

    while (begun < n_calls || n_open > 0) {
        while (begun < n_calls && n_open < open_max)
            open[n_open++] = (struct pollfd){.fd = begin(to, calls[begun++]), .events = POLLIN};
        if (poll(open, n_open, -1) < 0)
            bench_die("poll");
        for (nfds_t i = n_open; i > 0; i--) {
            if (open[i - 1].revents == 0 || take(open[i - 1].fd))
                continue;
            (void)close(open[i - 1].fd);
            open[i - 1] = open[--n_open];
        }
    }
    return bench_now() - started;
}

int main(int argc, char **argv)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    if (argc != 3 || strlen(argv[1]) >= sizeof(to.sun_path)) {
        (void)fputs("usage: bench-admin SOCKET OPEN < CALLS\n", stderr);
        return 2;
    }
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", argv[1]);
    (void)printf("%lld\n", (long long)all_calls(&to, read_calls(),
                                               (nfds_t)bench_number(argv[2], 1, AT_ONCE_MAX)));
    return 0;
}
