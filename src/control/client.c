/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"

#define ANSWER_MAX  (64u << 20)
#define ANSWER_TIME 10 /* seconds */

static int read_answer(int fd, json_t **ret)
{
    _cleanup_(freep) char *buf = NULL;
    size_t len = 0, capacity = 0;
    json_t *root;

    for (;;) {
        ssize_t n;

        if (len == capacity) {
            size_t more = capacity + (64u << 10) + capacity / 2;
            char *grown = capacity < ANSWER_MAX ? realloc(buf, more) : NULL;

            if (grown == NULL)
                return -E2BIG;
            buf = grown;
            capacity = more;
        }
        n = recv(fd, buf + len, capacity - len, 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    root = json_loadb(buf, len, 0, NULL);
    if (root == NULL)
        return -EBADMSG;
    *ret = root;
    return 0;
}

int control_connect(const char *path, int *ret)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ANSWER_TIME};
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    *ret = TAKE_FD(fd);
    return 0;
}

int control_ask(const char *path, const char *question, json_t **ret)
{
    _cleanup_(closep) int fd = -1;
    int r = control_connect(path, &fd);

    if (r == 0 && send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
        r = -errno;
    return r < 0 ? r : read_answer(fd, ret);
}
