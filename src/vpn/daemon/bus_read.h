/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads descriptors that came from somebody else, within bounds: pipes without ever waiting in a
 * call, and files only where a read cannot be held up by whoever gave the descriptor (memfd and
 * local file systems, not FUSE, network or special ones). Texts may be secrets and are wiped.
 */
#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

#define BUS_FILES_MAX      33 /* a provider file and 32 others */
#define BUS_FILE_MAX       (512 * 1024)
#define BUS_READ_TOTAL_MAX (2 * 1024 * 1024)

struct bus_text {
    char *p; /* ends in a NUL that len does not count */
    size_t len;
};

struct bus_reader;

/* error: 0, or -EFBIG, -ETIMEDOUT (5 s), -EBADF (nothing to read here), ... texts are the reader's.
 */
typedef void (*bus_read_fn)(int error, const struct bus_text *texts, size_t n, void *user);

/* fds are borrowed until fn was called, which is from the loop, once. fn may free the reader. */
int bus_reader_new(sd_event *loop, const int *fds, size_t n, bus_read_fn fn, void *user,
                   struct bus_reader **ret);
struct bus_reader *bus_reader_free(struct bus_reader *r);
