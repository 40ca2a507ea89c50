/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/seccomp.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#else
#define NATIVE 0
#endif

#ifdef SYS_lstat
#define LSTAT SYS_lstat
#else
#define LSTAT SYS_newfstatat /* the only one there; its own line comes first */
#endif

/* Places in the program, so that jumps can be written by name. */
enum place {
    ARCH,
    ARCH_IS_NATIVE,
    NUMBER,
    IS_WATCH,
    IS_STAT,
    IS_LSTAT,
    IS_IOCTL,
    REQUEST,
    REQUEST_IS_MTU,
    STAT_FLAGS,
    STAT_IS_LSTAT,
    ALLOW,
    DONE,
    REFUSE,
    LENGTH
};

/* The low 32 bits of argument n; what is looked at here never has more. */
#define ARGUMENT(n)                                                                                \
    (offsetof(struct seccomp_data, args) + (n) * 8 + (__BYTE_ORDER == __BIG_ENDIAN ? 4 : 0))
#define LOAD(offset)   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define RETURN(value)  BPF_STMT(BPF_RET | BPF_K, (value))
#define FAR(from, to)  ((to) - (from) - 1)
#define IS(at, value, yes, no)                                                                     \
    [at] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), FAR(at, yes), FAR(at, no))

int seccomp_prepare_wireguard(void *unused)
{
    static struct sock_filter code[LENGTH] = {
        [ARCH] = LOAD(offsetof(struct seccomp_data, arch)),
        IS(ARCH_IS_NATIVE, NATIVE, NUMBER, ALLOW),
        [NUMBER] = LOAD(offsetof(struct seccomp_data, nr)),
        IS(IS_WATCH, SYS_inotify_add_watch, DONE, IS_STAT),
        IS(IS_STAT, SYS_newfstatat, STAT_FLAGS, IS_LSTAT),
        IS(IS_LSTAT, LSTAT, REFUSE, IS_IOCTL),
        IS(IS_IOCTL, SYS_ioctl, REQUEST, ALLOW),
        [REQUEST] = LOAD(ARGUMENT(1)),
        IS(REQUEST_IS_MTU, SIOCSIFMTU, DONE, ALLOW),
        [STAT_FLAGS] = LOAD(ARGUMENT(3)),
        /* the loader of libc uses the same call in another way */
        IS(STAT_IS_LSTAT, AT_SYMLINK_NOFOLLOW, REFUSE, ALLOW),
        [ALLOW] = RETURN(SECCOMP_RET_ALLOW),
        [DONE] = RETURN(SECCOMP_RET_ERRNO),
        [REFUSE] = RETURN(SECCOMP_RET_ERRNO | EACCES),
    };
    const struct sock_fprog program = {.len = LENGTH, .filter = code};

    (void)unused;
    if (NATIVE == 0)
        return 0;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}
