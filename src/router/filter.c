/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/filter.h"

#include "base/cursor.h"

#define ACCEPT 0x40000 /* the whole frame */

/* Offsets from the start of the Ethernet header. */
#define AT_TYPE       12
#define AT_ARP_OP     20
#define AT_ARP_SENDER 28
#define AT_ARP_TARGET 38
#define AT_IP6_NEXT   20
#define AT_IP6_SOURCE 22
#define AT_ND_TYPE    54
#define AT_ND_FLAGS   58
#define AT_ND_TARGET_END 74 /* last four bytes of the target: the program looks at the rest */

struct builder {
    struct sock_filter *code;
    size_t n;
};

static void emit(struct builder *b, unsigned code, uint32_t k, unsigned jt, unsigned jf)
{
    b->code[b->n++] = (struct sock_filter){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
}

static void load(struct builder *b, unsigned size, uint32_t at)
{
    emit(b, BPF_LD | BPF_ABS | size, at, 0, 0);
}

/* Goes on when the accumulator is k, else returns verdict. */
static void unless_return(struct builder *b, uint32_t k, uint32_t verdict)
{
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, k, 1, 0);
    emit(b, BPF_RET | BPF_K, verdict, 0, 0);
}

static void if_return(struct builder *b, uint32_t k, uint32_t verdict)
{
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
    emit(b, BPF_RET | BPF_K, verdict, 0, 0);
}

static uint32_t tail(const struct addr *a)
{
    struct cursor c = cursor_from(a->bytes + addr_size(a->family) - 4, 4);

    return cursor_u32be(&c);
}

static void accept_any_of(struct builder *b, int family, const struct addr *addrs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (addrs[i].family == family)
            if_return(b, tail(&addrs[i]), ACCEPT);
    }
}

/* Claims by their sender; probes, whose sender is zero, by their target. */
static void build_arp(struct builder *b, const struct addr *addrs, size_t n)
{
    if (n > FILTER_MAX_ADDRESSES) {
        load(b, BPF_H, AT_ARP_OP);
        if_return(b, 2, ACCEPT); /* replies */
        load(b, BPF_W, AT_ARP_SENDER);
        if_return(b, 0, ACCEPT); /* probes */
        emit(b, BPF_MISC | BPF_TAX, 0, 0, 0);
        load(b, BPF_W, AT_ARP_TARGET);
        emit(b, BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1); /* announcements */
        emit(b, BPF_RET | BPF_K, ACCEPT, 0, 0);
    } else {
        load(b, BPF_W, AT_ARP_SENDER);
        accept_any_of(b, AF_INET, addrs, n);
        unless_return(b, 0, 0);
        load(b, BPF_W, AT_ARP_TARGET);
        accept_any_of(b, AF_INET, addrs, n);
    }
    emit(b, BPF_RET | BPF_K, 0, 0, 0);
}

/*
 * Answers to address resolution are solicited advertisements, all day long: not of interest. A
 * claim of an address that is probed, or a change, is never solicited (RFC 4861 7.2.4, 7.2.6).
 */
static void build_nd(struct builder *b, const struct addr *addrs, size_t n)
{
    load(b, BPF_B, AT_IP6_NEXT);
    unless_return(b, 58, 0);
    load(b, BPF_B, AT_ND_TYPE);
    emit(b, BPF_JMP | BPF_JEQ | BPF_K, 136, 0, 4); /* not an advertisement: to SOLICIT */
    load(b, BPF_B, AT_ND_FLAGS);
    emit(b, BPF_JMP | BPF_JSET | BPF_K, 0x40, 0, 1);
    emit(b, BPF_RET | BPF_K, 0, 0, 0);
    emit(b, BPF_JMP | BPF_JA, 11, 0, 0); /* to TARGET */
    /* SOLICIT: only from nobody, that is, a probe */
    unless_return(b, 135, 0);
    for (unsigned i = 0; i < 4; i++) {
        load(b, BPF_W, AT_IP6_SOURCE + 4 * i);
        if (i < 3) {
            emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (3 - i) * 2);
        } else {
            emit(b, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
        }
    }
    emit(b, BPF_RET | BPF_K, 0, 0, 0);
    /* TARGET */
    if (n <= FILTER_MAX_ADDRESSES) {
        load(b, BPF_W, AT_ND_TARGET_END);
        accept_any_of(b, AF_INET6, addrs, n);
        emit(b, BPF_RET | BPF_K, 0, 0, 0);
    } else {
        emit(b, BPF_RET | BPF_K, ACCEPT, 0, 0);
    }
}

size_t filter_build(const struct addr *addrs, size_t n, struct sock_filter program[static FILTER_MAX])
{
    struct builder b = {.code = program};
    size_t skip;

    load(&b, BPF_H, AT_TYPE);
    emit(&b, BPF_JMP | BPF_JEQ | BPF_K, 0x0806, 1, 0);
    skip = b.n;
    emit(&b, BPF_JMP | BPF_JA, 0, 0, 0); /* over the ARP part: its length is not known yet */
    build_arp(&b, addrs, n);
    program[skip].k = (uint32_t)(b.n - skip - 1);
    unless_return(&b, 0x86dd, 0);
    build_nd(&b, addrs, n);
    return b.n;
}

size_t filter_build_nd(const struct addr *addrs, size_t n,
                       struct sock_filter program[static FILTER_MAX])
{
    struct builder b = {.code = program};

    load(&b, BPF_H, AT_TYPE);
    unless_return(&b, 0x86dd, 0);
    build_nd(&b, addrs, n);
    return b.n;
}
