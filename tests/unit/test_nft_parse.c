/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys, and nf_tables messages that are not what they should be. Needs no kernel. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "nft/digest.h"
#include "nft/message.h"

struct message {
    _Alignas(struct nlmsghdr) uint8_t bytes[1024];
};

static struct nlmsghdr *begin(struct message *m, unsigned message)
{
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, message, NFPROTO_IPV4);

    memcpy(m->bytes, q.bytes, nlh->nlmsg_len);
    return (struct nlmsghdr *)(void *)m->bytes;
}

static void test_key(void **state)
{
    const uint8_t proto = 6, port[2] = {1, 187}, low[4] = {10}, high[4] = {10, 255, 255, 255};
    const uint8_t big[NFT_KEY_MAX] = {1};
    struct nft_key k = {0}, before;

    (void)state;
    assert_int_equal(nft_key_add(&k, &proto, 1), 0);
    assert_int_equal(nft_key_add(&k, port, 2), 0);
    assert_int_equal(k.len, 8);
    assert_memory_equal(k.data, "\6\0\0\0\1\273\0\0", 8);
    assert_false(k.has_end);
    assert_int_equal(k.end[0], 0);
    /* the first range makes what was before it a range of one */
    assert_int_equal(nft_key_add_range(&k, low, high, 4), 0);
    assert_true(k.has_end);
    assert_memory_equal(k.end, "\6\0\0\0\1\273\0\0\12\377\377\377", 12);
    assert_int_equal(nft_key_add(&k, &proto, 1), 0);
    assert_memory_equal(k.end + 12, "\6\0\0\0", 4);
    before = k;
    assert_int_equal(nft_key_add(&k, big, NFT_KEY_MAX - 15), -ENOSPC);
    assert_int_equal(nft_key_add(&k, big, 0), -ENOSPC);
    assert_int_equal(nft_key_add(&k, big, SIZE_MAX), -ENOSPC);
    assert_int_equal(nft_key_add_range(&k, big, big, 49), -ENOSPC);
    assert_memory_equal(&k, &before, sizeof(k));
    assert_int_equal(nft_key_add(&k, big, 48), 0);
    assert_int_equal(k.len, NFT_KEY_MAX);
    assert_int_equal(nft_key_add(&k, big, 1), -ENOSPC);
}

struct taken {
    struct nft_element last;
    int count;
};

static int take(const struct nft_element *e, void *user)
{
    struct taken *t = user;

    t->last = *e;
    t->count++;
    return 0;
}

static int parse_elements(const struct nlmsghdr *nlh, struct taken *ret)
{
    _cleanup_(freep) struct nlmsghdr *copy = malloc(nlh->nlmsg_len);

    assert_non_null(copy);
    memcpy(copy, nlh, nlh->nlmsg_len);
    *ret = (struct taken){0};
    return nft_elements_parse(copy, take, ret);
}

static void put_data(struct nlmsghdr *nlh, uint16_t type, size_t len)
{
    const uint8_t bytes[NFT_KEY_MAX + 4] = {7};
    struct nlattr *data = mnl_attr_nest_start(nlh, type);

    mnl_attr_put(nlh, NFTA_DATA_VALUE, len, bytes);
    mnl_attr_nest_end(nlh, data);
}

/* A message with one element; a length of 0 leaves the part out. */
static struct nlmsghdr *element(struct message *m, size_t key, size_t end, size_t data,
                                uint32_t flags)
{
    struct nlmsghdr *nlh = begin(m, NFT_MSG_NEWSETELEM);
    struct nlattr *list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *e = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);

    if (key > 0)
        put_data(nlh, NFTA_SET_ELEM_KEY, key);
    if (end > 0)
        put_data(nlh, NFTA_SET_ELEM_KEY_END, end);
    if (data > 0)
        put_data(nlh, NFTA_SET_ELEM_DATA, data);
    if (flags != 0)
        mnl_attr_put_u32(nlh, NFTA_SET_ELEM_FLAGS, htonl(flags));
    mnl_attr_nest_end(nlh, e);
    mnl_attr_nest_end(nlh, list);
    return nlh;
}

static void test_elements(void **state)
{
    struct message m;
    struct nlmsghdr *nlh;
    struct taken t;

    (void)state;
    assert_int_equal(parse_elements(element(&m, 8, 0, 0, 0), &t), 0);
    assert_int_equal(t.count, 1);
    assert_int_equal(t.last.key.len, 8);
    assert_false(t.last.key.has_end);
    assert_int_equal(t.last.data_len, 0);
    assert_int_equal(parse_elements(element(&m, NFT_KEY_MAX, NFT_KEY_MAX, 8, 0), &t), 0);
    assert_true(t.last.key.has_end);
    assert_int_equal(t.last.key.end[0], 7);
    assert_int_equal(t.last.data_len, 8);
    assert_int_equal(parse_elements(element(&m, NFT_KEY_MAX + 4, 0, 0, 0), &t), -EBADMSG);
    assert_int_equal(parse_elements(element(&m, 8, 4, 0, 0), &t), -EBADMSG);
    assert_int_equal(parse_elements(element(&m, 8, 0, NFT_KEY_MAX + 1, 0), &t), -EBADMSG);
    assert_int_equal(parse_elements(element(&m, 0, 0, 0, 0), &t), -EBADMSG);
    assert_int_equal(t.count, 0);
    /* these have no key of their own */
    assert_int_equal(parse_elements(element(&m, 0, 0, 0, NFT_SET_ELEM_CATCHALL), &t), 0);
    assert_int_equal(parse_elements(element(&m, 8, 0, 0, NFT_SET_ELEM_INTERVAL_END), &t), 0);
    assert_int_equal(t.count, 0);
    /* lists that lie about their length, at each depth */
    for (size_t at = 20; at <= 32; at += 4)
        for (unsigned len = 0; len < 70; len += 3) {
            nlh = element(&m, 8, 0, 0, 0);
            if (len != m.bytes[at]) {
                m.bytes[at] = (uint8_t)len;
                (void)parse_elements(nlh, &t); /* whatever it says, nothing is read beyond */
            }
        }
    nlh = element(&m, 8, 0, 0, 0);
    nlh->nlmsg_type++;
    assert_int_equal(parse_elements(nlh, &t), -EBADMSG);
}

static void test_generation(void **state)
{
    struct message m;
    struct nlmsghdr *nlh = begin(&m, NFT_MSG_NEWGEN);
    uint32_t g = 5;

    (void)state;
    assert_int_equal(nft_generation_parse(nlh, &g), -EBADMSG);
    mnl_attr_put_u32(nlh, NFTA_GEN_ID, htonl(77));
    assert_int_equal(nft_generation_parse(nlh, &g), 0);
    assert_int_equal(g, 77);
    mnl_attr_put_u16(nlh, NFTA_GEN_ID, 1);
    assert_int_equal(nft_generation_parse(nlh, &g), -EBADMSG);
    assert_int_equal(g, 77);
}

/* A rule of one immediate verdict; value: a plain number instead of a verdict. */
static struct nlmsghdr *verdict(struct message *m, const char *kind, uint32_t reg, int code,
                                const char *chain)
{
    struct nlmsghdr *nlh = begin(m, NFT_MSG_NEWRULE);
    struct nlattr *list = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
    struct nlattr *e = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM), *data, *inner, *v;

    mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, kind);
    data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
    mnl_attr_put_u32(nlh, NFTA_IMMEDIATE_DREG, htonl(reg));
    inner = mnl_attr_nest_start(nlh, NFTA_IMMEDIATE_DATA);
    v = mnl_attr_nest_start(nlh, NFTA_DATA_VERDICT);
    mnl_attr_put_u32(nlh, NFTA_VERDICT_CODE, htonl((uint32_t)code));
    if (chain != NULL)
        mnl_attr_put_strz(nlh, NFTA_VERDICT_CHAIN, chain);
    mnl_attr_nest_end(nlh, v);
    mnl_attr_nest_end(nlh, inner);
    mnl_attr_nest_end(nlh, data);
    mnl_attr_nest_end(nlh, e);
    mnl_attr_nest_end(nlh, list);
    return nlh;
}

static int count_jump(const struct nft_expression *e, void *user)
{
    int *count = user;

    *count += nft_expression_is_jump(e, "sluice") ? 1 : 0;
    return 0;
}

static int jumps(const struct nlmsghdr *nlh)
{
    int count = 0;

    assert_int_equal(nft_rule_parse(nlh, count_jump, &count), 0);
    return count;
}

static void test_jump(void **state)
{
    struct message m;

    (void)state;
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluice")), 1);
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_GOTO, "sluice")), 0);
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluice2")), 0);
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluic")), 0);
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, NULL)), 0);
    assert_int_equal(jumps(verdict(&m, "immediate", NFT_REG_1, NFT_JUMP, "sluice")), 0);
    assert_int_equal(jumps(verdict(&m, "unheard-of", NFT_REG_VERDICT, NFT_JUMP, "sluice")), 0);
    assert_int_equal(jumps(begin(&m, NFT_MSG_NEWRULE)), 0);
}

static int no_names(struct attr set, void *user)
{
    (void)set;
    (void)user;
    return -ECANCELED;
}

static uint64_t digest(const struct nlmsghdr *nlh)
{
    uint64_t h = HASH_START;

    assert_int_equal(digest_add_rule(nlh, &h, no_names, NULL), 0);
    return h;
}

static void test_digest(void **state)
{
    struct message m;
    uint64_t a = digest(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluice"));

    (void)state;
    assert_true(a == digest(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluice")));
    assert_true(a != digest(verdict(&m, "immediate", NFT_REG_VERDICT, NFT_JUMP, "sluicf")));
    /* of a counter only that it is there */
    a = digest(verdict(&m, "counter", 1, 2, NULL));
    assert_true(a == digest(verdict(&m, "counter", 3, 4, NULL)));
    assert_true(a != digest(begin(&m, NFT_MSG_NEWRULE)));
    /* pieces do not run into each other */
    assert_true(digest_add(digest_add(1, "ab", 2), "c", 1) !=
                digest_add(digest_add(1, "a", 1), "bc", 2));
}

static void test_names(void **state)
{
    char name[300];
    struct nft_request q;
    struct nlmsghdr *nlh = nft_request_init(&q, NFT_MSG_GETSET, NFPROTO_IPV4);

    (void)state;
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(nft_request_put_names(nlh, NFTA_SET_TABLE, name, NFTA_SET_NAME, "a"),
                     -EINVAL);
    assert_int_equal(nft_request_put_names(nlh, NFTA_SET_TABLE, "a", NFTA_SET_NAME, ""), -EINVAL);
    name[255] = '\0';
    assert_int_equal(nft_request_put_names(nlh, NFTA_SET_TABLE, name, NFTA_SET_NAME, name), 0);
    assert_true(nlh->nlmsg_len <= sizeof(q.bytes));
}

/* Batches are built without a kernel; what is in them can be read back. */
static void test_batch_limits(void **state)
{
    const struct nft_set set = {NFPROTO_IPV4, "qubes", "allowed"}, bad = {NFPROTO_IPV4, "", "x"};
    struct nft_key k = {0};
    struct nft_batch *b = NULL;
    int r = 0;

    (void)state;
    assert_int_equal(nft_batch_new(1, &b), 0);
    assert_int_equal(nft_batch_add_element(b, &set, &k), -EINVAL); /* empty key */
    k.len = NFT_KEY_MAX;
    k.has_end = true;
    assert_int_equal(nft_batch_add_element(b, &bad, &k), -EINVAL);
    assert_int_equal(nft_batch_add_mapping(b, &set, &k, "", 0), -EINVAL);
    assert_int_equal(nft_batch_count(b), 0);
    for (size_t i = 0; i < 100000 && r == 0; i++)
        r = nft_batch_add_mapping(b, &set, &k, k.data, sizeof(k.data));
    assert_int_equal(r, -E2BIG); /* and not a message cut short */
    assert_true(nft_batch_count(b) > 20000);
    nft_batch_freep(&b);
    assert_null(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_generation), cmocka_unit_test(test_jump),
        cmocka_unit_test(test_digest),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_batch_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
