/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small interpreter of classic BPF for tests of socket filters, as the kernel runs them: a load
 * beyond the packet drops it. -1: the program is not one the kernel would take.
 * Source: Linux Documentation/networking/filter.rst, bpf_check_classic().
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

static inline int64_t bpf_load(const struct sock_filter *i, const uint8_t *packet, size_t len)
{
    size_t size = BPF_SIZE(i->code) == BPF_W ? 4 : BPF_SIZE(i->code) == BPF_H ? 2 : 1;
    uint32_t v = 0;

    if (i->k > len || size > len - i->k)
        return -1;
    for (size_t k = 0; k < size; k++)
        v = v << 8 | packet[i->k + k];
    return v;
}

static inline int64_t bpf_run(const struct sock_filter *code, size_t n, const uint8_t *packet,
                              size_t len)
{
    uint32_t a = 0, x = 0;
    int64_t loaded;

    for (size_t at = 0; at < n; at++) {
        const struct sock_filter *i = &code[at];
        size_t jump = 0;

        switch (i->code) {
        case BPF_LD | BPF_ABS | BPF_W:
        case BPF_LD | BPF_ABS | BPF_H:
        case BPF_LD | BPF_ABS | BPF_B:
            loaded = bpf_load(i, packet, len);
            if (loaded < 0)
                return 0;
            a = (uint32_t)loaded;
            break;
        case BPF_MISC | BPF_TAX:
            x = a;
            break;
        case BPF_JMP | BPF_JA:
            jump = i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            jump = a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JEQ | BPF_X:
            jump = a == x ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            jump = (a & i->k) != 0 ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            return -1;
        }
        if (jump >= n - at)
            return -1;
        at += jump;
    }
    return -1; /* ran off the end */
}
