/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames against bytes written by hand from the RFCs, and malformed ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "router/frames.h"
#include "test_random.h"

static const uint8_t mac[MAC_SIZE] = {0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01};
static const uint8_t asker[MAC_SIZE] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const struct addr ip4 = {AF_INET, {192, 168, 1, 77}};
static const struct addr ip6 = {
    AF_INET6, {0xfd, 0x09, 0x24, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x89, 0xab, 0xcd}};

/* RFC 5227 2.1.1: sender IP zero, target hardware address zero, broadcast */
static const uint8_t arp_probe[] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0x08, 0x06, /**/
    0, 1, 8, 0, 6, 4, 0, 1, /**/
    0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0, 0, 0, 0, /**/
    0, 0, 0, 0, 0, 0, 192, 168, 1, 77,
};
/* RFC 5227 2.3: a request with both addresses the same */
static const uint8_t arp_announce[] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0x08, 0x06, /**/
    0, 1, 8, 0, 6, 4, 0, 1, /**/
    0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 192, 168, 1, 77, /**/
    0, 0, 0, 0, 0, 0, 192, 168, 1, 77,
};
/* RFC 826: the probe with sender and target exchanged, to the asker alone */
static const uint8_t arp_defend[] = {
    0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0x08, 0x06, /**/
    0, 1, 8, 0, 6, 4, 0, 2, /**/
    0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 192, 168, 1, 77, /**/
    0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0, 0, 0, 0,
};
/* RFC 4862 5.4.2: from ::, to the solicited-node group, no option. */
static const uint8_t nd_probe[] = {
    0x33, 0x33, 0xff, 0x89, 0xab, 0xcd, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0x86, 0xdd, /**/
    0x60, 0, 0, 0, 0, 24, 58, 255, /**/
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /**/
    0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x89, 0xab, 0xcd, /**/
    135, 0, 0xee, 0xee, 0, 0, 0, 0, /**/
    0xfd, 0x09, 0x24, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x89, 0xab, 0xcd,
};
/* RFC 4861 7.2.6: router, not solicited, override; target link-layer address */
static const uint8_t nd_announce[] = {
    0x33, 0x33, 0, 0, 0, 1, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01, 0x86, 0xdd, /**/
    0x60, 0, 0, 0, 0, 32, 58, 255, /**/
    0xfd, 0x09, 0x24, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x89, 0xab, 0xcd, /**/
    0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, /**/
    136, 0, 0xee, 0xee, 0xa0, 0, 0, 0, /**/
    0xfd, 0x09, 0x24, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x89, 0xab, 0xcd, /**/
    2, 1, 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01,
};

#define AT_SUM 56 /* of what ee ee stands for above */

/* RFC 4443 2.3 and RFC 1071, word by word over a pseudo-header that is really built. */
static uint16_t sum_of(const uint8_t *frame, size_t len)
{
    uint8_t pseudo[40 + 96] = {0};
    size_t icmp = len - 54;
    uint32_t sum = 0;

    memcpy(pseudo, frame + 22, 32);
    pseudo[34] = (uint8_t)(icmp >> 8);
    pseudo[35] = (uint8_t)icmp;
    pseudo[39] = 58;
    memcpy(pseudo + 40, frame + 54, icmp);
    pseudo[42] = pseudo[43] = 0;
    for (size_t i = 0; i < 40 + icmp; i += 2)
        sum += (uint32_t)(pseudo[i] << 8 | pseudo[i + 1]);
    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    return (uint16_t)~sum;
}

static void check(const struct frame *f, const uint8_t *expected, size_t len, bool summed)
{
    uint8_t want[FRAME_MAX];

    assert_int_equal(f->len, len);
    memcpy(want, expected, len);
    if (summed) {
        uint16_t sum = sum_of(want, len);

        want[AT_SUM] = (uint8_t)(sum >> 8);
        want[AT_SUM + 1] = (uint8_t)sum;
    }
    assert_memory_equal(f->bytes, want, len);
}

static void test_bytes(void **state)
{
    struct frame f;

    (void)state;
    frame_probe(&ip4, mac, &f);
    check(&f, arp_probe, sizeof(arp_probe), false);
    frame_announce(&ip4, mac, &f);
    check(&f, arp_announce, sizeof(arp_announce), false);
    frame_defend(&ip4, mac, asker, &f);
    check(&f, arp_defend, sizeof(arp_defend), false);
    frame_probe(&ip6, mac, &f);
    check(&f, nd_probe, sizeof(nd_probe), true);
    frame_announce(&ip6, mac, &f);
    check(&f, nd_announce, sizeof(nd_announce), true);
}

/* One sum added up on paper: it does not hang on any code. */
static void test_sum(void **state)
{
    struct frame f;

    (void)state;
    frame_probe(&(struct addr){AF_INET6, {0xfd, [15] = 1}}, mac, &f);
    /* ff02 + 1 + ff00 + 1 (group) + 18 + 3a + 8700 + fd00 + 1 = 3 8257 -> 825a -> 7da5 */
    assert_int_equal(f.bytes[AT_SUM] << 8 | f.bytes[AT_SUM + 1], 0x7da5);
}

/* Its own allocation of exactly the frame, so that reading beyond it is seen. */
static enum frame_kind parse(const uint8_t *bytes, size_t len, struct addr *ret, uint8_t *ret_mac)
{
    _cleanup_(freep) uint8_t *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return frame_parse(copy, len, ret, ret_mac);
}

static void expect(const struct frame *f, enum frame_kind kind, const struct addr *addr)
{
    struct addr a = {0};
    uint8_t who[MAC_SIZE] = {0};
    uint8_t padded[FRAME_MAX + 20] = {0};

    assert_int_equal(parse(f->bytes, f->len, &a, who), kind);
    assert_true(addr_equal(&a, addr));
    assert_memory_equal(who, mac, MAC_SIZE);
    /* Ethernet pads to 60 bytes, and some cards deliver more */
    memcpy(padded, f->bytes, f->len);
    memset(padded + f->len, 0xee, 20);
    assert_int_equal(parse(padded, f->len + 20, &a, who), kind);
    for (size_t len = 0; len < f->len; len++)
        assert_int_equal(parse(f->bytes, len, &a, who), FRAME_OTHER);
}

static void test_round_trip(void **state)
{
    struct rnd rnd = random_begin("frames");
    struct frame f;

    (void)state;
    for (int i = 0; i < 500; i++) {
        struct addr a = {.family = i % 2 ? AF_INET : AF_INET6};

        random_fill(&rnd, a.bytes, addr_size(a.family));
        a.bytes[0] = (uint8_t)(1 + a.bytes[0] % 200); /* neither nobody nor a group */
        frame_probe(&a, mac, &f);
        expect(&f, FRAME_PROBE, &a);
        frame_announce(&a, mac, &f);
        expect(&f, FRAME_CLAIM, &a);
        if (a.family == AF_INET6)
            continue;
        frame_defend(&a, mac, asker, &f);
        expect(&f, FRAME_CLAIM, &a);
    }
}

static void seal(uint8_t *frame, size_t len)
{
    uint16_t sum = sum_of(frame, len);

    frame[AT_SUM] = (uint8_t)(sum >> 8);
    frame[AT_SUM + 1] = (uint8_t)sum;
}

struct change {
    size_t at;
    uint8_t value;
    enum frame_kind kind;
};

/* One byte at a time. sealed: with a right checksum again, so that the rest is looked at. */
static void check_changes(const uint8_t *frame, size_t len, bool sealed,
                          const struct change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[FRAME_MAX], who[MAC_SIZE];
        struct addr a;

        memcpy(bytes, frame, len);
        bytes[changes[i].at] = changes[i].value;
        if (sealed)
            seal(bytes, len);
        if (parse(bytes, len, &a, who) != changes[i].kind)
            fail_msg("byte %zu = %u", changes[i].at, changes[i].value);
    }
}

static void test_malformed_arp(void **state)
{
    static const struct change changes[] = {
        {13, 0x00, FRAME_OTHER}, {12, 0x86, FRAME_OTHER}, {15, 6, FRAME_OTHER},
        {14, 1, FRAME_OTHER},    {16, 0x86, FRAME_OTHER}, {17, 1, FRAME_OTHER},
        {18, 8, FRAME_OTHER},    {19, 16, FRAME_OTHER},   {21, 0, FRAME_OTHER},
        {21, 3, FRAME_OTHER},    {20, 1, FRAME_OTHER},    {21, 2, FRAME_CLAIM},
        {22, 0x01, FRAME_OTHER}, /* a group has no address */
        {6, 0xff, FRAME_CLAIM},  /* who sent it does not matter: bridges */
        {41, 9, FRAME_CLAIM},    /* an ordinary request of the one who has the address */
    };
    static const struct change of_probe[] = {{21, 2, FRAME_OTHER}, {31, 1, FRAME_CLAIM}};
    uint8_t zero_mac[sizeof(arp_announce)], who[MAC_SIZE];
    struct addr a;

    (void)state;
    check_changes(arp_announce, sizeof(arp_announce), false, changes, ARRAY_SIZE(changes));
    check_changes(arp_probe, sizeof(arp_probe), false, of_probe, ARRAY_SIZE(of_probe));
    memcpy(zero_mac, arp_announce, sizeof(zero_mac));
    memset(zero_mac + 22, 0, MAC_SIZE);
    assert_int_equal(parse(zero_mac, sizeof(zero_mac), &a, who), FRAME_OTHER);
}

static void test_malformed_nd(void **state)
{
    static const struct change common[] = {
        {14, 0x40, FRAME_OTHER}, {20, 59, FRAME_OTHER}, {21, 254, FRAME_OTHER},
        {55, 1, FRAME_OTHER},    {62, 0xff, FRAME_OTHER}, {6, 0x01, FRAME_OTHER},
        {19, 23, FRAME_OTHER},   {19, 200, FRAME_OTHER},  {18, 1, FRAME_OTHER},
        {54, 134, FRAME_OTHER},  {54, 137, FRAME_OTHER},
    };
    static const struct change of_claim[] = {
        {54, 135, FRAME_OTHER},  /* a solicitation from somebody is no probe */
        {79, 0, FRAME_OTHER},    /* RFC 4861 4.6: an option without length */
        {79, 2, FRAME_OTHER},    /* an option longer than the message */
        {78, 1, FRAME_CLAIM},    {78, 200, FRAME_CLAIM}, /* other options are passed over */
        {80, 1, FRAME_CLAIM},    /* not a host's: then it is the sender's */
        {58, 0x00, FRAME_CLAIM}, {58, 0x60, FRAME_CLAIM},
    };
    uint8_t bytes[sizeof(nd_announce)], who[MAC_SIZE];
    struct addr a;

    (void)state;
    check_changes(nd_announce, sizeof(nd_announce), true, common, ARRAY_SIZE(common));
    check_changes(nd_probe, sizeof(nd_probe), true, common, ARRAY_SIZE(common));
    check_changes(nd_announce, sizeof(nd_announce), true, of_claim, ARRAY_SIZE(of_claim));
    memcpy(bytes, nd_announce, sizeof(bytes));
    seal(bytes, sizeof(bytes));
    bytes[80] ^= 2; /* the option's address, and so the checksum */
    assert_int_equal(parse(bytes, sizeof(bytes), &a, who), FRAME_OTHER);
    seal(bytes, sizeof(bytes));
    assert_int_equal(parse(bytes, sizeof(bytes), &a, who), FRAME_CLAIM);
    assert_int_equal(who[0], 2); /* by the message, not by the Ethernet header */
}

/* What is not about an address leaves what the caller has as it is. */
static void test_writes_on_success_only(void **state)
{
    struct addr a = {.family = 77};
    uint8_t who[MAC_SIZE] = {7}, bytes[FRAME_MAX];

    (void)state;
    memcpy(bytes, arp_probe, sizeof(arp_probe));
    bytes[21] = 2;
    assert_int_equal(parse(bytes, sizeof(arp_probe), &a, who), FRAME_OTHER);
    assert_int_equal(a.family, 77);
    assert_int_equal(who[0], 7);
    memcpy(bytes, nd_announce, sizeof(nd_announce));
    bytes[79] = 0;
    seal(bytes, sizeof(nd_announce));
    assert_int_equal(parse(bytes, sizeof(nd_announce), &a, who), FRAME_OTHER);
    assert_int_equal(a.family, 77);
    assert_int_equal(who[0], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),         cmocka_unit_test(test_sum),
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_malformed_arp),
        cmocka_unit_test(test_malformed_nd),  cmocka_unit_test(test_writes_on_success_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
