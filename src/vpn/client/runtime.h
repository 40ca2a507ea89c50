/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder of a running client. RUNTIME/client is the supervisor's alone and holds what it has to
 * find again after its own restart; the client's group may pass through it, not read it.
 * RUNTIME/client/sockets is where the client makes its socket: the group may write there, so
 * nothing in it is believed. Nobody else gets in, whatever modes the sockets have.
 * The group is set by the file system identity (setfsgid(2)), which needs CAP_SETGID and not
 * CAP_CHOWN. Errors: -errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vpn/client/spawn.h"

#define RUNTIME_FILE_MAX (128 * 1024)

/* Makes both folders or puts their modes right; *ret_folder, *ret_sockets are malloc()ed paths. */
int runtime_make(const char *runtime, gid_t gid, char **ret_folder, char **ret_sockets);
/* The same paths without looking. */
int runtime_paths(const char *runtime, char **ret_folder, char **ret_sockets);
/* Removes every file in both, keeps the folders. 0 also when there are none. */
int runtime_clean(const char *runtime);

/* A small file, written whole or not at all, mode 0600. */
int runtime_write(const char *folder, const char *name, const char *text, size_t len);
/* Our own regular file only; *ret ends in NUL. -ENOENT, -EPERM: not ours, -EFBIG. */
int runtime_read(const char *folder, const char *name, char **ret, size_t *ret_len);
int runtime_remove(const char *folder, const char *name); /* 0 also when there is none */
/* An empty file for 1 and 2 of the client, for appending. The fd is the caller's. */
int runtime_open_log(const char *folder);
void runtime_trim_log(const char *folder, uint64_t most); /* empties it when it is longer */
/* The last line of the log that tells something, escaped, without a time; "" when there is none. */
const char *runtime_last_line(const char *folder, char *buf, size_t size);

/* Which process the client is, and of what text it was started (a number tells two apart). */
int runtime_remember(const char *folder, const struct process *p, uint64_t digest);
/* -ENOENT: nothing remembered; -ESRCH: it has ended. */
int runtime_recall(const char *folder, uid_t uid, struct process *ret, uint64_t *ret_digest);
