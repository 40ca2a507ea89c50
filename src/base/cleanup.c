/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"

#include <errno.h>

int close_fd(int fd)
{
    int saved = errno;

    if (fd >= 0)
        (void)close(fd); /* Linux frees the number whatever close() says */
    errno = saved;
    return -1;
}

void closep(int *fd)
{
    *fd = close_fd(*fd);
}
