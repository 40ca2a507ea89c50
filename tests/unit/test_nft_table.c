/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables with an owner, and chains on devices, against the running kernel. */
#include "test_netlink_sandbox.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h> /* after netinet/in.h, which does not like to come second */

#include "base/cleanup.h"
#include "nft/nft.h"

#define TABLE "sluice-test"
#define BOTH  ((unsigned)NFT_TABLE_OWNED | (unsigned)NFT_TABLE_PERSISTENT)

static struct nl_sock *sock;

static struct nft_table table(struct nl_sock *s)
{
    struct nft_table t = {0};

    assert_int_equal(nft_table_read(s, NFPROTO_NETDEV, TABLE, &t), 1);
    return t;
}

static int change(struct nl_sock *s, unsigned flags)
{
    return nft_table_write(s, NFPROTO_NETDEV, TABLE, flags);
}

static struct nl_sock *open_another(void)
{
    struct nl_sock *s = NULL;

    assert_int_equal(nl_open(NETLINK_NETFILTER, &s), 0);
    return s;
}

/* A kernel before 6.9 cannot; then there is nothing to be tested. */
static bool can_own(void)
{
    bool can = change(sock, NFT_TABLE_PERSISTENT) == 0;

    (void)nft_table_remove(sock, NFPROTO_NETDEV, TABLE);
    return can;
}

static int clean(void **state)
{
    (void)state;
    return nft_table_remove(sock, NFPROTO_NETDEV, TABLE);
}

static void test_plain(void **state)
{
    struct nft_table t = {.flags = 99};

    (void)state;
    assert_int_equal(nft_table_read(sock, NFPROTO_NETDEV, TABLE, &t), 0);
    assert_int_equal(t.flags, 99); /* not touched */
    assert_int_equal(change(sock, NFT_TABLE_PLAIN), 0);
    assert_int_equal(table(sock).flags, 0);
    assert_int_equal(table(sock).owner, 0);
    assert_int_equal(nft_table_remove(sock, NFPROTO_NETDEV, TABLE), 0);
    assert_int_equal(nft_table_remove(sock, NFPROTO_NETDEV, TABLE), 0);
    assert_int_equal(nft_table_write(sock, NFPROTO_NETDEV, "", 0), -EINVAL);
}

/* What the seal rests on: made persistent, filled by others, adopted, held, left, adopted again. */
static void test_life_of_an_owned_table(void **state)
{
    struct nl_sock *owner = open_another(), *heir;

    (void)state;
    assert_int_equal(change(sock, NFT_TABLE_PERSISTENT), 0);
    assert_int_equal(table(sock).owner, 0);
    sandbox_run("nft add chain netdev " TABLE " filled");

    assert_int_equal(change(owner, BOTH), 0);
    assert_int_equal(table(sock).owner, nl_port(owner));
    assert_int_equal(table(sock).flags, BOTH);
    assert_int_equal(change(sock, BOTH), -EPERM);
    assert_int_equal(change(sock, NFT_TABLE_PLAIN), -EPERM);
    assert_int_equal(nft_table_remove(sock, NFPROTO_NETDEV, TABLE), -EPERM);
    sandbox_run("! nft delete table netdev " TABLE " 2> /dev/null");
    sandbox_run("! nft add rule netdev " TABLE " filled accept 2> /dev/null");
    sandbox_run("nft flush ruleset");
    assert_int_equal(nft_has_chain(sock, NFPROTO_NETDEV, TABLE, "filled"), 1);

    owner = nl_free(owner);
    assert_int_equal(table(sock).owner, 0);
    assert_int_equal(nft_has_chain(sock, NFPROTO_NETDEV, TABLE, "filled"), 1);
    heir = open_another();
    assert_int_equal(change(heir, BOTH), 0);
    assert_int_equal(table(sock).owner, nl_port(heir));
    assert_int_equal(nft_table_remove(heir, NFPROTO_NETDEV, TABLE), 0);
    heir = nl_free(heir);
}

/* Ownership is the socket's, not the process': a second descriptor keeps it. */
static void test_a_kept_descriptor_keeps_it(void **state)
{
    struct nl_sock *owner = open_another(), *again = NULL;
    uint32_t port = nl_port(owner);
    int kept = fcntl(nl_fd(owner), F_DUPFD_CLOEXEC, 0);

    (void)state;
    assert_true(kept >= 0);
    assert_int_equal(change(owner, NFT_TABLE_PERSISTENT), 0);
    assert_int_equal(change(owner, BOTH), 0);
    owner = nl_free(owner);
    assert_int_equal(table(sock).owner, port);
    assert_int_equal(nft_table_remove(sock, NFPROTO_NETDEV, TABLE), -EPERM);
    assert_int_equal(nl_open_fd(kept, &again), 0);
    assert_int_equal(nl_port(again), port);
    assert_int_equal(nft_table_remove(again, NFPROTO_NETDEV, TABLE), 0);
    again = nl_free(again);
}

/* A plain table of somebody else is not taken over. */
static void test_a_plain_table_is_not_adopted(void **state)
{
    (void)state;
    sandbox_run("nft add table netdev " TABLE);
    assert_true(change(sock, BOTH) < 0);
    assert_int_equal(table(sock).owner, 0);
}

struct chains {
    struct nft_device_chain list[8];
    size_t n;
};

static void chains_begin(void *user)
{
    ((struct chains *)user)->n = 0;
}

static int chains_take(const struct nft_device_chain *chain, void *user)
{
    struct chains *c = user;

    assert_true(c->n < ARRAY_SIZE(c->list));
    c->list[c->n++] = *chain;
    return 0;
}

static struct chains chains(void)
{
    struct chains c = {0};

    assert_int_equal(nft_dump_device_chains(sock, TABLE, chains_begin, chains_take, &c), 0);
    return c;
}

static struct nft_batch *batch(uint32_t *ret_generation)
{
    struct nft_batch *b = NULL;

    assert_int_equal(nft_generation(sock, ret_generation), 0);
    assert_int_equal(nft_batch_new(*ret_generation, &b), 0);
    return b;
}

static void test_chains_on_devices(void **state)
{
    struct nft_device_chain chain = {.table = TABLE, .name = "gate", .device = "up0",
                                     .hook = NF_NETDEV_EGRESS, .priority = -7, .drops = true};
    struct nft_batch *b;
    struct chains seen;
    uint32_t generation;

    (void)state;
    sandbox_run("ip link add up0 type veth peer name far0");
    assert_int_equal(change(sock, NFT_TABLE_PLAIN), 0);
    sandbox_run("nft add chain netdev " TABLE " common; nft add rule netdev " TABLE " common drop");
    b = batch(&generation);
    assert_int_equal(nft_batch_add_device_chain(b, &chain), 0);
    assert_int_equal(nft_batch_add_jump(b, NFPROTO_NETDEV, TABLE, "gate", "common"), 0);
    assert_int_equal(nft_batch_commit(b, sock, &generation), 0);
    nft_batch_free(b);
    seen = chains();
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.list[0].name, "gate");
    assert_string_equal(seen.list[0].device, "up0");
    assert_int_equal(seen.list[0].hook, NF_NETDEV_EGRESS);
    assert_int_equal(seen.list[0].priority, -7);
    assert_true(seen.list[0].drops);
    assert_int_equal(nft_is_just_jump(sock, NFPROTO_NETDEV, TABLE, "gate", "common"), 1);
    assert_int_equal(nft_is_just_jump(sock, NFPROTO_NETDEV, TABLE, "gate", "other"), 0);
    assert_int_equal(nft_is_just_jump(sock, NFPROTO_NETDEV, TABLE, "nowhere", "common"), 0);

    /* an accept beside the jump leaves one jump, but not just a jump */
    sandbox_run("nft insert rule netdev " TABLE " gate accept");
    assert_int_equal(nft_count_jumps(sock, NFPROTO_NETDEV, TABLE, "gate", "common"), 1);
    assert_int_equal(nft_is_just_jump(sock, NFPROTO_NETDEV, TABLE, "gate", "common"), 0);

    /* a chain that accepts, and one on several devices, which is none of ours */
    sandbox_run(
        "ip link add up1 type veth peer name far1; "
        "nft add chain netdev " TABLE " open '{ type filter hook egress device up1 priority 0;"
        " policy accept; }';"
        "nft add chain netdev " TABLE " wide '{ type filter hook egress devices = { up0, up1 }"
        " priority 0; policy drop; }'");
    seen = chains();
    assert_int_equal(seen.n, 2);
    for (size_t i = 0; i < seen.n; i++)
        assert_int_equal(seen.list[i].drops, strcmp(seen.list[i].name, "gate") == 0);

    b = batch(&generation);
    assert_int_equal(nft_batch_del_chain(b, NFPROTO_NETDEV, TABLE, "gate"), 0);
    assert_int_equal(nft_batch_commit(b, sock, &generation), 0);
    nft_batch_free(b);
    assert_int_equal(chains().n, 1);
    sandbox_run("ip link del up0; ip link del up1");
}

/* The hook goes with its device; what is left names none, or the name only. */
static void test_a_device_that_goes(void **state)
{
    struct nft_device_chain chain = {.table = TABLE, .name = "gate", .device = "up0",
                                     .hook = NF_NETDEV_EGRESS, .drops = true};
    struct nft_batch *b;
    uint32_t generation;

    (void)state;
    assert_int_equal(change(sock, NFT_TABLE_PLAIN), 0);
    b = batch(&generation);
    assert_int_equal(nft_batch_add_device_chain(b, &chain), 0);
    (void)nft_batch_commit(b, sock, &generation); /* no such device: refused, or waits by name */
    nft_batch_free(b);
    sandbox_run("nft delete chain netdev " TABLE " gate 2> /dev/null || true;"
                "ip link add up0 type veth peer name far0");
    b = batch(&generation);
    assert_int_equal(nft_batch_add_device_chain(b, &chain), 0);
    assert_int_equal(nft_batch_commit(b, sock, &generation), 0);
    nft_batch_free(b);
    sandbox_run("ip link set up0 name up9");
    for (size_t i = 0; i < chains().n; i++)
        assert_string_not_equal(chains().list[i].device, "up9");
    sandbox_run("ip link del up9");
    assert_true(chains().n <= 1);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test_teardown(test_plain, clean),
        cmocka_unit_test_teardown(test_chains_on_devices, clean),
        cmocka_unit_test_teardown(test_a_device_that_goes, clean),
    };
    const struct CMUnitTest owned[] = {
        cmocka_unit_test_teardown(test_life_of_an_owned_table, clean),
        cmocka_unit_test_teardown(test_a_kept_descriptor_keeps_it, clean),
        cmocka_unit_test_teardown(test_a_plain_table_is_not_adopted, clean),
    };
    int r;

    if (!sandbox_enter())
        return 77;
    sandbox_run("ip link set lo up");
    if (nl_open(NETLINK_NETFILTER, &sock) < 0)
        return 1;
    r = cmocka_run_group_tests(plain, NULL, NULL);
    if (can_own())
        r += cmocka_run_group_tests(owned, NULL, NULL);
    else
        (void)fprintf(stderr, "skipped: this kernel has no persistent tables with an owner\n");
    sock = nl_free(sock);
    return r;
}
