/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket filter against frame_parse(): what is a claim or probe of a watched address wakes the
 * program, the rest does not, but for what the filter's comments leave out or let by.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "router/filter.h"
#include "router/frames.h"
#include "test_bpf.h"
#include "test_random.h"

#define MANY (FILTER_MAX_ADDRESSES + 1)

static const uint8_t mac[MAC_SIZE] = {0, 0x16, 0x3e, 1, 2, 3};

struct filter {
    struct addr addrs[MANY];
    size_t n_addrs;
    struct sock_filter code[FILTER_MAX];
    size_t len;
};

/* Addresses of a small world, so that random frames are often about one of them. */
static struct addr random_addr(struct rnd *rnd, int family)
{
    struct addr a = {.family = (uint8_t)family};
    size_t size = addr_size(family);

    a.bytes[0] = family == AF_INET6 ? 0xfd : 10;
    a.bytes[size - 2] = (uint8_t)random_below(rnd, 2);
    a.bytes[size - 1] = (uint8_t)random_below(rnd, 200);
    return a;
}

static void build(struct filter *f, struct rnd *rnd, size_t n, int family)
{
    f->n_addrs = n;
    for (size_t i = 0; i < n; i++)
        f->addrs[i] = random_addr(rnd, family != 0        ? family
                                       : random_below(rnd, 2) ? AF_INET
                                                              : AF_INET6);
    f->len = filter_build(f->addrs, n, f->code);
    assert_true(f->len > 0 && f->len <= FILTER_MAX);
}

static bool accepts(const struct filter *f, const uint8_t *frame, size_t len)
{
    int64_t r = bpf_run(f->code, f->len, frame, len);

    assert_true(r >= 0);
    assert_true(r == 0 || r >= 65536); /* never a part of a frame */
    return r > 0;
}

/* Compares as the filter does: by the last four bytes, the program looks at the rest. */
static bool watched(const struct filter *f, const struct addr *a)
{
    size_t size = addr_size(a->family);

    for (size_t i = 0; i < f->n_addrs; i++) {
        if (f->addrs[i].family == a->family &&
            memcmp(f->addrs[i].bytes + size - 4, a->bytes + size - 4, 4) == 0)
            return true;
    }
    return false;
}

/* An address claim that beyond FILTER_MAX_ADDRESSES is left to the ones that follow it. */
static bool is_ordinary_request(const uint8_t *frame, size_t len)
{
    return len >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 1 &&
           memcmp(frame + 28, frame + 38, 4) != 0;
}

static bool is_solicited(const uint8_t *frame, size_t len)
{
    return len >= 60 && frame[12] == 0x86 && frame[54] == 136 && (frame[58] & 0x40) != 0;
}

static void check(const struct filter *f, const uint8_t *frame, size_t len)
{
    struct addr a;
    uint8_t who[MAC_SIZE];
    enum frame_kind kind = frame_parse(frame, len, &a, who);
    bool many = f->n_addrs > FILTER_MAX_ADDRESSES, let_by = accepts(f, frame, len);
    struct filter nd = *f;

    /* the filter for neighbour discovery alone: the same, without ARP */
    nd.len = filter_build_nd(f->addrs, f->n_addrs, nd.code);
    assert_int_equal(accepts(&nd, frame, len), let_by && frame[12] == 0x86);

    if (kind == FRAME_OTHER)
        return; /* checksums and shapes are the program's work: anything goes */
    if (is_solicited(frame, len))
        assert_false(let_by);
    else if (many && kind == FRAME_CLAIM && is_ordinary_request(frame, len))
        assert_false(let_by);
    else if (many)
        assert_true(let_by);
    else
        assert_int_equal(let_by, watched(f, &a));
}

static size_t random_frame(struct rnd *rnd, uint8_t *out)
{
    struct addr a = random_addr(rnd, random_below(rnd, 2) ? AF_INET : AF_INET6);
    struct frame f;

    switch (random_below(rnd, 3)) {
    case 0:
        frame_probe(&a, mac, &f);
        break;
    case 1:
        frame_announce(&a, mac, &f);
        break;
    default:
        a = random_addr(rnd, AF_INET);
        frame_defend(&a, mac, mac, &f);
        break;
    }
    if (a.family == AF_INET && random_below(rnd, 3) == 0) { /* a request for somebody else */
        struct addr other = random_addr(rnd, AF_INET);

        memcpy(f.bytes + 38, other.bytes, 4);
    }
    if (a.family == AF_INET6 && f.bytes[54] == 136 && random_below(rnd, 3) == 0) {
        /* solicited, and the checksum right again: it goes down by what the flags go up */
        unsigned sum = (unsigned)f.bytes[56] << 8 | f.bytes[57];

        sum = sum >= 0x4000 ? sum - 0x4000 : sum - 0x4000 + 0xffff;
        f.bytes[58] |= 0x40;
        f.bytes[56] = (uint8_t)(sum >> 8);
        f.bytes[57] = (uint8_t)sum;
    }
    if (random_below(rnd, 8) == 0)
        f.bytes[random_below(rnd, (uint32_t)f.len)] = (uint8_t)random_next(rnd);
    if (random_below(rnd, 8) == 0)
        f.len = random_below(rnd, (uint32_t)f.len);
    memcpy(out, f.bytes, f.len);
    return f.len;
}

static void test_random_frames(void **state)
{
    static const size_t counts[] = {0, 1, 2, 5, 40, FILTER_MAX_ADDRESSES, MANY};
    struct rnd rnd = random_begin("filter");

    (void)state;
    for (int round = 0; round < 20; round++) {
        for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
            struct filter f;

            build(&f, &rnd, counts[c], 0);
            for (int i = 0; i < 1000; i++) {
                uint8_t frame[FRAME_MAX];
                size_t len = random_frame(&rnd, frame);

                check(&f, frame, len);
            }
        }
    }
}

/* All that the program itself sends is heard when another host sends it. */
static void test_own_frames(void **state)
{
    struct rnd rnd = random_begin("own frames");
    struct filter f;
    struct frame frame;

    (void)state;
    build(&f, &rnd, FILTER_MAX_ADDRESSES, 0);
    for (size_t i = 0; i < f.n_addrs; i++) {
        frame_probe(&f.addrs[i], mac, &frame);
        assert_true(accepts(&f, frame.bytes, frame.len));
        frame_announce(&f.addrs[i], mac, &frame);
        assert_true(accepts(&f, frame.bytes, frame.len));
    }
}

/* A busy LAN: nothing of all this is about an address. */
static void test_quiet(void **state)
{
    struct rnd rnd = random_begin("other frames");
    struct filter f;
    uint8_t frame[128];

    (void)state;
    for (size_t n = 0; n <= MANY; n += MANY) {
        build(&f, &rnd, n, 0);
        for (int i = 0; i < 20000; i++) {
            size_t len = random_below(&rnd, sizeof(frame));

            random_fill(&rnd, frame, len);
            if (len >= 14) {
                frame[12] = i % 2 ? 0x08 : 0x86;
                frame[13] = i % 2 ? 0x00 : 0xdd;
            }
            if (len > 20 && frame[20] == 58)
                frame[20] = 17;
            assert_false(accepts(&f, frame, len));
        }
    }
}

static void test_size(void **state)
{
    static const int families[] = {AF_INET, AF_INET6, 0};
    struct rnd rnd = random_begin("filter size");
    struct filter f;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        for (size_t n = 0; n <= MANY; n++) {
            build(&f, &rnd, n, families[i]);
            assert_true(f.code[f.len - 1].code == (BPF_RET | BPF_K));
        }
    }
}

/* The kernel's own check of a program; any socket will do. */
static void test_kernel_takes_it(void **state)
{
    static const size_t counts[] = {0, 1, FILTER_MAX_ADDRESSES, MANY};
    struct rnd rnd = random_begin("filter in the kernel");
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
        struct filter f;
        struct sock_fprog program = {.filter = f.code};

        build(&f, &rnd, counts[c], 0);
        program.len = (unsigned short)f.len;
        assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program,
                                    sizeof(program)), 0);
        for (int i = 0; i < 2000; i++) { /* and it judges as the interpreter here does */
            uint8_t frame[FRAME_MAX], got[FRAME_MAX];
            size_t len = random_frame(&rnd, frame);
            ssize_t sent = send(pair[0], frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
            ssize_t r = recv(pair[1], got, sizeof(got), MSG_DONTWAIT);

            assert_true(sent == (ssize_t)len || errno == EPERM);
            assert_int_equal(r >= 0, accepts(&f, frame, len));
            if (r >= 0)
                assert_int_equal(r, len);
        }
    }
    assert_int_equal(close(pair[0]) + close(pair[1]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_frames), cmocka_unit_test(test_own_frames),
        cmocka_unit_test(test_quiet),         cmocka_unit_test(test_size),
        cmocka_unit_test(test_kernel_takes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
