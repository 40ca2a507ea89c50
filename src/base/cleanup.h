/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ownership of locals. A local that owns something is declared with _cleanup_(f); handing it over
 * is written TAKE_PTR() or TAKE_FD(), so every early return frees exactly what is still owned.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) *take_p_ = &(p);                                                             \
        __typeof__(p) take_v_ = *take_p_;                                                          \
        *take_p_ = NULL;                                                                           \
        take_v_;                                                                                   \
    })

#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int *take_f_ = &(fd);                                                                      \
        int take_v_ = *take_f_;                                                                    \
        *take_f_ = -1;                                                                             \
        take_v_;                                                                                   \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* free() through a pointer to the owning variable; NULL is fine. */
static inline void freep(void *p)
{
    free(*(void **)p);
}

/* close() through a pointer to the owning variable; -1 is fine. Keeps errno. */
void closep(int *fd);

/* Closes fd when it is valid and returns -1, for `fd = close_fd(fd)`. Keeps errno. */
int close_fd(int fd);
