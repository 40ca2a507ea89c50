/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client as a process of its own: user and groups dropped, no capability in any set,
 * no_new_privs, own session, default signals, descriptors 0 to 2 and those named, an environment
 * that is given in full. It outlives us. A process is held by its pidfd, so a signal never meets
 * another one; after our own restart it is found again by number and start time, which our own
 * file remembers (proc(5): /proc/PID/stat, field 22).
 * Errors: -errno. Needs CAP_SETUID, CAP_SETGID (unless uid is our own) and CAP_KILL.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SPAWN_FDS_MAX 4

struct process {
    pid_t pid;      /* 0: none */
    int pidfd;      /* valid while pid is not 0; readable when the process has ended */
    uint64_t start; /* in clock ticks since boot */
};

struct spawn_fd {
    int fd; /* borrowed; the child gets it as number "as", not closed at exec */
    int as; /* 3 and up, all different */
};

struct spawn_setup {
    const char *program;      /* absolute path */
    const char *const *argv;  /* ends in NULL; argv[0] is the program's name */
    const char *const *envp;  /* whole environment, ends in NULL; NULL: PATH alone */
    uid_t uid;
    gid_t gid;
    int input;  /* becomes descriptor 0; -1: /dev/null */
    int output; /* becomes 1 and 2; -1: /dev/null */
    uint64_t file_size; /* bytes it may write to a file; 0: no limit. Beyond: EFBIG, no signal */
    struct spawn_fd fds[SPAWN_FDS_MAX];
    size_t n_fds;
    int (*prepare)(void *user); /* last before exec, in the child, without rights; NULL: nothing.
                                 * Async-signal-safe code only; -errno fails the start. */
    void *user;
};

/* 0 when the program runs (its exec succeeded). */
int spawn_process(const struct spawn_setup *setup, struct process *ret);
/* The process of that number, if it was started at that time and is that user's. -ESRCH. */
int process_find(pid_t pid, uint64_t start, uid_t uid, struct process *ret);
int process_signal(const struct process *p, int signal); /* 0 also when it has ended */
/* Has it ended? Reaps it when it is our child; *ret_status as wait(2), -1: not known. */
bool process_ended(struct process *p, int *ret_status);
/* Waits until it has ended, at most that long. false: still there. */
bool process_wait(struct process *p, unsigned milliseconds);
void process_forget(struct process *p); /* closes the pidfd; idempotent */
/*
 * Kills whatever runs as that user, at once and without a way out (kill(-1) as that user). The user
 * is for clients alone. Does nothing when uid is root's or one of our own. -EPERM, -ETIMEDOUT: not
 * done. Waits for the call, a moment; not for the end of what was killed.
 */
int process_end_all_of(uid_t uid);
/* The words for a person: "exit status 1", "killed by signal 9". */
const char *process_status_text(int status, char *buf, size_t size);
