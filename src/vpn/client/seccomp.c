/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/seccomp.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
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

#if defined(SYS_fork) && defined(SYS_vfork)
#define FORK  SYS_fork
#define VFORK SYS_vfork
#else /* clone() is the only one there; its own line comes first */
#define FORK  SYS_clone
#define VFORK SYS_clone
#endif

#define X32_BIT 0x40000000 /* calls of the third form of x86-64; elsewhere no number is as high */

/* Places in the programs, so that jumps can be written by name. */
enum process_place {
    P_ARCH,
    P_ARCH_IS_NATIVE,
    P_NUMBER,
    P_IS_X32,
    P_IS_CLONE,
    P_IS_CLONE3,
    P_IS_FORK,
    P_IS_VFORK,
    P_FLAGS,
    P_IS_THREAD,
    P_ALLOW,
    P_REFUSE,
    P_UNKNOWN,
    P_KILL,
    P_LENGTH
};

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
#define TEST(at, how, value, yes, no)                                                              \
    [at] = BPF_JUMP(BPF_JMP | (how) | BPF_K, (value), FAR(at, yes), FAR(at, no))
#define IS(at, value, yes, no) TEST(at, BPF_JEQ, value, yes, no)

static int filter_add(struct sock_filter *code, unsigned short len)
{
    const struct sock_fprog program = {.len = len, .filter = code};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static int refuse_processes(void)
{
    static struct sock_filter code[P_LENGTH] = {
        [P_ARCH] = LOAD(offsetof(struct seccomp_data, arch)),
        IS(P_ARCH_IS_NATIVE, NATIVE, P_NUMBER, P_KILL),
        [P_NUMBER] = LOAD(offsetof(struct seccomp_data, nr)),
        TEST(P_IS_X32, BPF_JGE, X32_BIT, P_KILL, P_IS_CLONE),
        IS(P_IS_CLONE, SYS_clone, P_FLAGS, P_IS_CLONE3),
        IS(P_IS_CLONE3, SYS_clone3, P_UNKNOWN, P_IS_FORK),
        IS(P_IS_FORK, FORK, P_REFUSE, P_IS_VFORK),
        IS(P_IS_VFORK, VFORK, P_REFUSE, P_ALLOW),
        [P_FLAGS] = LOAD(ARGUMENT(0)),
        TEST(P_IS_THREAD, BPF_JSET, CLONE_THREAD, P_ALLOW, P_REFUSE),
        [P_ALLOW] = RETURN(SECCOMP_RET_ALLOW),
        [P_REFUSE] = RETURN(SECCOMP_RET_ERRNO | EPERM),
        [P_UNKNOWN] = RETURN(SECCOMP_RET_ERRNO | ENOSYS),
        [P_KILL] = RETURN(SECCOMP_RET_KILL_PROCESS),
    };

    return NATIVE == 0 ? -EOPNOTSUPP : filter_add(code, P_LENGTH);
}

int seccomp_prepare_openvpn(void *unused)
{
    (void)unused;
    return refuse_processes();
}

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
    int r = refuse_processes();

    (void)unused;
    return r < 0 ? r : filter_add(code, LENGTH);
}
