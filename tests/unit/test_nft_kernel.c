/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nf_tables against the running kernel, with sets as the net qube has them. */
#include "test_netlink_sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "nft/nft.h"

#define NFT "/usr/sbin/nft"

static struct nl_sock *sock;

static const char skeleton[] =
    "table ip qubes {\n"
    "  set allowed { type ifname . ipv4_addr; }\n"
    "  set any { type ifname . ipv4_addr . inet_proto; }\n"
    "  set port { type ifname . ipv4_addr . inet_proto . inet_service; }\n"
    "  set from { type ifname . ipv4_addr . inet_proto . inet_service . ipv4_addr;"
    " flags interval; }\n"
    "  set pair { type ifname . ipv4_addr . ifname; }\n"
    "  map publish { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "  chain custom-forward { }\n"
    "  chain sluice { ct state new iifname . ip saddr @allowed counter accept;"
    " tcp dport { 22, 80-90 } accept; meta l4proto vmap { tcp : accept, udp : drop }; }\n"
    "  chain forward { type filter hook forward priority 0; policy accept;"
    " jump custom-forward; }\n"
    "}\n"
    "table ip6 qubes {\n"
    "  set from { type ifname . ipv6_addr . inet_proto . inet_service . ipv6_addr;"
    " flags interval; }\n"
    "}\n";

static const struct nft_set set_allowed = {NFPROTO_IPV4, "qubes", "allowed"};
static const struct nft_set set_port = {NFPROTO_IPV4, "qubes", "port"};
static const struct nft_set set_any = {NFPROTO_IPV4, "qubes", "any"};
static const struct nft_set set_from = {NFPROTO_IPV4, "qubes", "from"};
static const struct nft_set set_pair = {NFPROTO_IPV4, "qubes", "pair"};
static const struct nft_set set_publish = {NFPROTO_IPV4, "qubes", "publish"};
static const struct nft_set set_from6 = {NFPROTO_IPV6, "qubes", "from"};

static void load(const char *text)
{
    char err[1024];
    int r = nft_load_text(NFT, text, err, sizeof(err));

    if (r != 0)
        fail_msg("nft: %d: %s", r, err);
}

static int setup(void **state)
{
    (void)state;
    load("flush ruleset");
    load(skeleton);
    return 0;
}

static uint32_t generation(void)
{
    uint32_t g;

    assert_int_equal(nft_generation(sock, &g), 0);
    return g;
}

static struct nft_batch *batch(void)
{
    struct nft_batch *b;

    assert_int_equal(nft_batch_new(generation(), &b), 0);
    return b;
}

/* Commits and checks that the generation is the kernel's. */
static void commit(struct nft_batch *b)
{
    uint32_t g = 0;
    int r = nft_batch_commit(b, sock, &g);

    if (r != 0)
        fail_msg("commit: %d (%s)", r, nl_error_text(sock));
    assert_int_equal(g, generation());
    assert_null(nft_batch_free(b));
}

static void key_ifname(struct nft_key *k, const char *name)
{
    char padded[IFNAMSIZ] = {0};

    (void)snprintf(padded, sizeof(padded), "%s", name);
    assert_int_equal(nft_key_add(k, padded, sizeof(padded)), 0);
}

static void key_u32(struct nft_key *k, uint32_t v)
{
    v = htonl(v);
    assert_int_equal(nft_key_add(k, &v, sizeof(v)), 0);
}

static void key_proto(struct nft_key *k, uint8_t proto)
{
    assert_int_equal(nft_key_add(k, &proto, sizeof(proto)), 0);
}

static void key_ports(struct nft_key *k, uint16_t lo, uint16_t hi)
{
    lo = htons(lo);
    hi = htons(hi);
    if (lo == hi)
        assert_int_equal(nft_key_add(k, &lo, sizeof(lo)), 0);
    else
        assert_int_equal(nft_key_add_range(k, &lo, &hi, sizeof(lo)), 0);
}

static struct nft_key key_allowed(const char *name, uint32_t addr)
{
    struct nft_key k = {0};

    key_ifname(&k, name);
    key_u32(&k, addr);
    return k;
}

struct elements {
    struct nft_element *e;
    size_t count, room;
};

static void elements_begin(void *user)
{
    struct elements *l = user;

    l->count = 0;
}

static int elements_stop(const struct nft_element *e, void *user)
{
    (void)e;
    (void)user;
    return -ECANCELED;
}

static int elements_take(const struct nft_element *e, void *user)
{
    struct elements *l = user;

    assert_true(l->count < l->room);
    l->e[l->count++] = *e;
    return 0;
}

static size_t dump(const struct nft_set *set, struct nft_element *e, size_t room)
{
    struct elements l = {.e = e, .room = room};

    assert_int_equal(nft_dump_elements(sock, set, elements_begin, elements_take, &l), 0);
    return l.count;
}

static bool same_key(const struct nft_key *a, const struct nft_key *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* Whether nft prints this of the ruleset. */
static bool nft_prints(const char *what)
{
    char command[256];

    (void)snprintf(command, sizeof(command), NFT " list ruleset | grep -qF -- '%s'", what);
    return system(command) == 0;
}

static void test_exists(void **state)
{
    const struct nft_set none = {NFPROTO_IPV4, "qubes", "nothing"};
    struct elements l = {0};

    (void)state;
    assert_int_equal(nft_has_table(sock, NFPROTO_IPV4, "qubes"), 1);
    assert_int_equal(nft_has_table(sock, NFPROTO_INET, "qubes"), 0);
    assert_int_equal(nft_has_table(sock, NFPROTO_IPV4, ""), -EINVAL);
    assert_int_equal(nft_has_set(sock, &set_from), 1);
    assert_int_equal(nft_has_set(sock, &none), 0);
    assert_int_equal(nft_has_chain(sock, NFPROTO_IPV4, "qubes", "sluice"), 1);
    assert_int_equal(nft_has_chain(sock, NFPROTO_IPV4, "other", "sluice"), 0);
    assert_int_equal(nft_is_base_chain(sock, NFPROTO_IPV4, "qubes", "forward", NF_INET_FORWARD),
                     1);
    assert_int_equal(
        nft_is_base_chain(sock, NFPROTO_IPV4, "qubes", "forward", NF_INET_LOCAL_IN), 0);
    assert_int_equal(nft_is_base_chain(sock, NFPROTO_IPV4, "qubes", "sluice", NF_INET_FORWARD), 0);
    assert_int_equal(nft_is_base_chain(sock, NFPROTO_IPV4, "qubes", "none", NF_INET_FORWARD), 0);
    assert_int_equal(nft_dump_elements(sock, &none, NULL, elements_take, &l), -ENOENT);
}

static void test_element_round(void **state)
{
    const struct nft_key a = key_allowed("vif3.0", 0x0a89000b), c = key_allowed("vif4.0", 1);
    struct nft_element e[4];
    struct nft_batch *b = batch();

    (void)state;
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &a), 0);
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &c), 0);
    assert_int_equal(nft_batch_count(b), 2);
    commit(b);
    assert_true(nft_prints("\"vif3.0\" . 10.137.0.11"));
    assert_int_equal(dump(&set_allowed, e, 4), 2);
    assert_true(same_key(&e[0].key, &a) || same_key(&e[1].key, &a));

    b = batch();
    assert_int_equal(nft_batch_del_element(b, &set_allowed, &a), 0);
    commit(b);
    assert_int_equal(dump(&set_allowed, e, 4), 1);
    assert_true(same_key(&e[0].key, &c));
}

static void test_every_kind(void **state)
{
    struct nft_key any = key_allowed("vif3.0", 0x0a89000b), port = any, from = any, pair = any;
    struct nft_key from6 = {0}, publish = {0}, value = {0};
    const uint32_t net[2] = {htonl(0xc0a81000), htonl(0xc0a810ff)};
    uint8_t host6[16] = {0x20, 1, 0x0d, 0xb8}, low6[16] = {0xfd}, high6[16] = {0xfd, 1};
    struct nft_element e[4];
    struct nft_batch *b;

    (void)state;
    key_proto(&any, IPPROTO_UDP);
    key_proto(&port, IPPROTO_TCP);
    key_ports(&port, 443, 443);
    key_proto(&from, IPPROTO_TCP);
    key_ports(&from, 8000, 8080);
    assert_int_equal(nft_key_add_range(&from, &net[0], &net[1], 4), 0);
    key_ifname(&pair, "eth0");
    key_ifname(&from6, "vif3.0");
    assert_int_equal(nft_key_add(&from6, host6, sizeof(host6)), 0);
    key_proto(&from6, IPPROTO_TCP);
    key_ports(&from6, 22, 22);
    assert_int_equal(nft_key_add_range(&from6, low6, high6, sizeof(low6)), 0);
    assert_int_equal(from6.len, 56);
    key_proto(&publish, IPPROTO_TCP);
    key_ports(&publish, 8443, 8443);
    key_u32(&value, 0x0a89000b);
    key_ports(&value, 443, 443);

    for (unsigned turn = 0; turn < 2; turn++) {
        b = batch();
        assert_int_equal(nft_batch_add_element(b, &set_any, &any), 0);
        assert_int_equal(nft_batch_add_element(b, &set_port, &port), 0);
        assert_int_equal(nft_batch_add_element(b, &set_from, &from), 0);
        assert_int_equal(nft_batch_add_element(b, &set_from6, &from6), 0);
        assert_int_equal(nft_batch_add_element(b, &set_pair, &pair), 0);
        assert_int_equal(
            nft_batch_add_mapping(b, &set_publish, &publish, value.data, value.len), 0);
        commit(b); /* the second time there is nothing to do */
    }
    assert_true(nft_prints("\"vif3.0\" . 10.137.0.11 . udp"));
    assert_true(nft_prints("\"vif3.0\" . 10.137.0.11 . tcp . 443"));
    assert_true(nft_prints("\"vif3.0\" . 10.137.0.11 . tcp . 8000-8080 . 192.168.16.0/24"));
    assert_true(nft_prints("\"vif3.0\" . 2001:db8:: . tcp . 22 . fd00::-fd01::"));
    assert_true(nft_prints("\"vif3.0\" . 10.137.0.11 . \"eth0\""));
    assert_true(nft_prints("tcp . 8443 : 10.137.0.11 . 443"));

    assert_int_equal(dump(&set_from, e, 4), 1);
    assert_true(same_key(&e[0].key, &from));
    assert_int_equal(dump(&set_from6, e, 4), 1);
    assert_true(same_key(&e[0].key, &from6));
    assert_int_equal(dump(&set_port, e, 4), 1);
    assert_true(same_key(&e[0].key, &port));
    assert_int_equal(dump(&set_publish, e, 4), 1);
    assert_true(same_key(&e[0].key, &publish));
    assert_int_equal(e[0].data_len, value.len);
    assert_memory_equal(e[0].data, value.data, value.len);

    b = batch();
    assert_int_equal(nft_batch_del_element(b, &set_any, &any), 0);
    assert_int_equal(nft_batch_del_element(b, &set_port, &port), 0);
    assert_int_equal(nft_batch_del_element(b, &set_from, &from), 0);
    assert_int_equal(nft_batch_del_element(b, &set_from6, &from6), 0);
    assert_int_equal(nft_batch_del_element(b, &set_pair, &pair), 0);
    assert_int_equal(nft_batch_del_element(b, &set_publish, &publish), 0);
    commit(b);
    assert_int_equal(dump(&set_from, e, 4), 0);
    assert_int_equal(dump(&set_from6, e, 4), 0);
    assert_int_equal(dump(&set_publish, e, 4), 0);
}

/* An element that nft made is found in the form in which we would make and delete it. */
static void test_foreign_interval(void **state)
{
    struct nft_element e[4];
    struct nft_batch *b;
    size_t n;

    (void)state;
    load("add element ip qubes from { \"vif3.0\" . 10.1.1.1 . tcp . 80 . 10.0.0.0/8,"
         " \"vif3.0\" . 10.1.1.2 . tcp . 80 . 10.0.0.1 }");
    n = dump(&set_from, e, 4);
    assert_int_equal(n, 2);
    b = batch();
    for (size_t i = 0; i < n; i++)
        assert_int_equal(nft_batch_del_element(b, &set_from, &e[i].key), 0);
    commit(b);
    assert_int_equal(dump(&set_from, e, 4), 0);
}

static void test_all_or_nothing(void **state)
{
    const struct nft_key good = key_allowed("vif3.0", 1), missing = key_allowed("vif9.0", 9);
    struct nft_batch *b = batch();
    struct nft_element e[4];
    uint32_t g = 77, before = generation();

    (void)state;
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &good), 0);
    assert_int_equal(nft_batch_del_element(b, &set_allowed, &missing), 0);
    assert_int_equal(nft_batch_commit(b, sock, &g), -ENOENT);
    assert_int_equal(g, 77);
    assert_int_equal(generation(), before);
    assert_int_equal(dump(&set_allowed, e, 4), 0);
    assert_null(nft_batch_free(b));

    /* one of another length than the set's: refused by the kernel */
    b = batch();
    assert_int_equal(nft_batch_add_element(b, &set_port, &good), 0);
    assert_int_equal(nft_batch_commit(b, sock, &g), -EINVAL);
    assert_null(nft_batch_free(b));
}

static void test_guard(void **state)
{
    const struct nft_key k = key_allowed("vif3.0", 1);
    struct nft_batch *b = batch(), *empty = batch();
    struct nft_element e[4];
    uint32_t g = 77;

    (void)state;
    assert_int_equal(nft_batch_commit(empty, sock, &g), 0);
    assert_int_equal(g, generation());
    load("add table ip foreign");
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    assert_int_equal(nft_batch_commit(b, sock, &g), -ERESTART);
    assert_int_equal(nft_batch_commit(empty, sock, &g), -ERESTART);
    assert_int_equal(dump(&set_allowed, e, 4), 0);
    assert_null(nft_batch_free(b));
    assert_null(nft_batch_free(empty));
    assert_int_equal(nft_batch_new(0, &b), -EINVAL);
}

/* A batch that changes nothing must not claim a generation: the next one is somebody else's. */
static void test_no_change_no_generation(void **state)
{
    const struct nft_key k = key_allowed("vif3.0", 1);
    struct nft_batch *b = batch();
    uint32_t before, g = 0;

    (void)state;
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    commit(b);
    before = generation();
    b = batch();
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    assert_int_equal(nft_batch_commit(b, sock, &g), 0);
    assert_int_equal(g, before);
    assert_int_equal(generation(), before);
    assert_null(nft_batch_free(b));
}

#define MANY 10000

static void test_many(void **state)
{
    struct nft_element *e = calloc(MANY, sizeof(*e));
    uint8_t low6[16] = {0xfd}, high6[16];
    int64_t t0, t1, t2, t3;
    struct nft_batch *b = batch();
    const uint32_t before = generation();
    uint32_t g = 0;

    (void)state;
    assert_non_null(e);
    memset(high6, 0xff, sizeof(high6)); /* fd00::/16: a prefix is one rule inside, others many */
    high6[0] = 0xfd;
    high6[1] = 0;
    t0 = sandbox_now_us();
    for (uint32_t i = 0; i < MANY; i++) {
        struct nft_key k = {0};
        uint8_t host6[16] = {0x20, 1, 0x0d, 0xb8};

        host6[14] = (uint8_t)(i >> 8);
        host6[15] = (uint8_t)i;
        key_ifname(&k, "vif3.0");
        assert_int_equal(nft_key_add(&k, host6, sizeof(host6)), 0);
        key_proto(&k, IPPROTO_TCP);
        key_ports(&k, 22, 22);
        assert_int_equal(nft_key_add_range(&k, low6, high6, sizeof(low6)), 0);
        assert_int_equal(nft_batch_add_element(b, &set_from6, &k), 0);
    }
    commit(b);
    t1 = sandbox_now_us();
    assert_int_equal(generation(), before + 1);
    assert_int_equal(dump(&set_from6, e, MANY), MANY);
    t2 = sandbox_now_us();
    b = batch();
    /* not all of them: to remove one the kernel looks through all that came before it (pipapo) */
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(nft_batch_del_element(b, &set_from6, &e[i * 1000].key), 0);
    commit(b);
    t3 = sandbox_now_us();
    assert_int_equal(dump(&set_from6, e, MANY), MANY - 10);
    print_message("10,000 ranges of 56 bytes: add %d us, dump %d us, delete 10 %d us\n",
                  (int)(t1 - t0), (int)(t2 - t1), (int)(t3 - t2));

    t0 = sandbox_now_us();
    b = batch();
    for (uint32_t i = 0; i < MANY; i++) {
        const struct nft_key k = key_allowed("vif3.0", i);

        assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    }
    assert_int_equal(nft_batch_commit(b, sock, &g), 0);
    assert_null(nft_batch_free(b));
    t1 = sandbox_now_us();
    /* a dump that is given up leaves nothing behind for the next */
    assert_int_equal(nft_dump_elements(sock, &set_allowed, NULL, elements_stop, NULL),
                     -ECANCELED);
    assert_int_equal(dump(&set_allowed, e, MANY), MANY);
    t2 = sandbox_now_us();
    print_message("10,000 of a hash set: add %d us, dump %d us\n", (int)(t1 - t0),
                  (int)(t2 - t1));
    free(e);
}

/* In a process of its own: the one mark for the other, again and again, each time at once. */
static int swap_marks(const struct nft_key *marks, unsigned turns)
{
    _cleanup_(nl_freep) struct nl_sock *own = NULL;

    if (nl_open(NETLINK_NETFILTER, &own) < 0)
        return 1;
    for (unsigned i = 0; i < turns; i++) {
        _cleanup_(nft_batch_freep) struct nft_batch *b = NULL;
        uint32_t g;

        if (nft_generation(own, &g) < 0 || nft_batch_new(g, &b) < 0 ||
            nft_batch_del_element(b, &set_allowed, &marks[i % 2]) < 0 ||
            nft_batch_add_element(b, &set_allowed, &marks[1 - i % 2]) < 0 ||
            nft_batch_commit(b, own, &g) < 0)
            return 1;
        (void)usleep(8000); /* pace of the changes, nobody waits for it */
    }
    return 0;
}

struct marks {
    const struct nft_key *keys;
    unsigned count, marks, begins;
};

static void marks_begin(void *user)
{
    struct marks *m = user;

    m->count = m->marks = 0;
    m->begins++;
}

static int marks_take(const struct nft_element *e, void *user)
{
    struct marks *m = user;

    m->count++;
    if (same_key(&e->key, &m->keys[0]) || same_key(&e->key, &m->keys[1]))
        m->marks++;
    return 0;
}

/* A dump shows one state of the set, however it changes meanwhile, or says that it could not. */
static void test_dump_is_one_state(void **state)
{
    const struct nft_key keys[2] = {key_allowed("mark0", 1), key_allowed("mark1", 1)};
    unsigned whole = 0, begins = 0;
    struct nft_batch *b = batch();
    int status = -1;
    pid_t pid;

    (void)state;
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &keys[0]), 0);
    for (uint32_t i = 0; i < 1500; i++) {
        const struct nft_key k = key_allowed("vif3.0", i);

        assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    }
    commit(b);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(swap_marks(keys, 150));
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct marks m = {.keys = keys};
        int r = nft_dump_elements(sock, &set_allowed, marks_begin, marks_take, &m);

        begins += m.begins;
        if (r == -EINTR)
            continue;
        assert_int_equal(r, 0);
        assert_int_equal(m.count, 1501);
        assert_int_equal(m.marks, 1);
        whole++;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    print_message("%u whole dumps of %u begun\n", whole, begins);
    assert_true(whole > 0 && begins > whole); /* else nothing was tested */
}

static int monitor_wait(struct nft_monitor *m, uint32_t *g)
{
    struct pollfd p = {.fd = nft_monitor_fd(m), .events = POLLIN};

    if (poll(&p, 1, 5000) == 0)
        return 0;
    return nft_monitor_read(m, g);
}

static void test_monitor(void **state)
{
    const struct nft_key k = key_allowed("vif3.0", 1);
    struct nft_monitor *m = NULL;
    struct nft_batch *b;
    uint32_t own = 0, heard = 0;
    int tiny = 1;

    (void)state;
    assert_int_equal(nft_monitor_open(&m), 0);
    assert_int_equal(nft_monitor_read(m, &heard), 0);
    b = batch();
    assert_int_equal(nft_batch_add_element(b, &set_allowed, &k), 0);
    assert_int_equal(nft_batch_commit(b, sock, &own), 0);
    assert_null(nft_batch_free(b));
    assert_int_equal(monitor_wait(m, &heard), 1);
    assert_int_equal(heard, own);
    assert_int_equal(nft_monitor_read(m, &heard), 0);

    load("add element ip qubes allowed { \"vif8.0\" . 10.1.1.1 }");
    assert_int_equal(monitor_wait(m, &heard), 1);
    assert_int_not_equal(heard, own);
    assert_int_equal(heard, generation());

    /* what the filter lets through is all that takes room: 2000 elements are one notice */
    assert_int_equal(setsockopt(nft_monitor_fd(m), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)), 0);
    b = batch();
    for (uint32_t i = 0; i < 2000; i++) {
        const struct nft_key other = key_allowed("vif5.0", i);

        assert_int_equal(nft_batch_add_element(b, &set_allowed, &other), 0);
    }
    assert_int_equal(nft_batch_commit(b, sock, &own), 0);
    assert_null(nft_batch_free(b));
    assert_int_equal(monitor_wait(m, &heard), 1);
    assert_int_equal(heard, own);

    for (unsigned i = 0; i < 20; i++)
        load("add table ip foreign; delete table ip foreign");
    assert_int_equal(monitor_wait(m, &heard), -ENOBUFS);
    assert_null(nft_monitor_free(m));
}

static void test_jumps(void **state)
{
    struct nft_batch *b = batch();

    (void)state;
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "custom-forward", "sluice"), 0);
    assert_int_equal(
        nft_batch_add_jump(b, NFPROTO_IPV4, "qubes", "custom-forward", "sluice"), 0);
    commit(b);
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "custom-forward", "sluice"), 1);
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "custom-forward", "other"), 0);
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "forward", "sluice"), 0);
    assert_true(nft_prints("jump sluice"));
    load("add rule ip qubes custom-forward iifname \"x\" jump sluice;"
         "add rule ip qubes custom-forward goto sluice;"
         "add rule ip qubes custom-forward counter jump sluice");
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "custom-forward", "sluice"), 2);
    load("flush chain ip qubes custom-forward");
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "custom-forward", "sluice"), 0);
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "none", "custom-forward", "sluice"), 0);
    assert_int_equal(nft_count_jumps(sock, NFPROTO_IPV4, "qubes", "none", "sluice"), 0);
    /* the whole batch fails when there is nothing to jump to */
    b = batch();
    assert_int_equal(nft_batch_add_jump(b, NFPROTO_IPV4, "qubes", "custom-forward", "none"), 0);
    assert_int_equal(nft_batch_commit(b, sock, &(uint32_t){0}), -ENOENT);
    assert_null(nft_batch_free(b));
}

static uint64_t digest(const char *chain)
{
    uint64_t d = 0;

    assert_int_equal(nft_digest_chain(sock, NFPROTO_IPV4, "qubes", chain, &d), 0);
    return d;
}

static uint64_t set_digest(const struct nft_set *set)
{
    uint64_t d = 0;

    assert_int_equal(nft_digest_set(sock, set, &d), 0);
    return d;
}

static void test_digest_stays(void **state)
{
    const uint64_t sluice = digest("sluice"), forward = digest("forward");
    const uint64_t from = set_digest(&set_from);

    (void)state;
    assert_int_not_equal(sluice, forward);
    assert_true(sluice == digest("sluice"));
    /* elements, other chains' rules and nameless sets, and loading again are no change */
    load("add element ip qubes from { \"vif3.0\" . 10.1.1.1 . tcp . 80 . 10.0.0.0/8 };"
         "add rule ip qubes custom-forward tcp dport { 1, 2 } drop");
    assert_true(sluice == digest("sluice"));
    assert_true(from == set_digest(&set_from));
    load("flush ruleset");
    load("table ip qubes { chain other { udp dport { 7, 8 } drop; tcp dport { 9, 10 } drop; }; }");
    load(skeleton);
    assert_true(sluice == digest("sluice"));
    assert_true(forward == digest("forward"));
    assert_true(from == set_digest(&set_from));
}

static void test_digest_changes(void **state)
{
    static const char *const edits[] = {
        "add rule ip qubes sluice drop",
        "insert rule ip qubes sluice accept",
        "flush chain ip qubes sluice",
        /* another element in a set without a name, another name of a set */
        "flush chain ip qubes sluice; add rule ip qubes sluice ct state new iifname . ip saddr"
        " @allowed counter accept; add rule ip qubes sluice tcp dport { 22, 80-91 } accept;"
        "add rule ip qubes sluice meta l4proto vmap { tcp : accept, udp : drop }",
        "flush chain ip qubes sluice; add rule ip qubes sluice ct state new iifname . ip saddr"
        " @allowed counter accept; add rule ip qubes sluice tcp dport { 22, 80-90 } accept;"
        "add rule ip qubes sluice meta l4proto vmap { tcp : accept, udp : accept }",
        "flush chain ip qubes sluice; add rule ip qubes sluice tcp dport { 22, 80-90 } accept;"
        "add rule ip qubes sluice ct state new iifname . ip saddr @allowed counter accept;"
        "add rule ip qubes sluice meta l4proto vmap { tcp : accept, udp : drop }",
    };
    const uint64_t forward = digest("forward"), from = set_digest(&set_from);
    const struct nft_set none = {NFPROTO_IPV4, "qubes", "none"};
    uint64_t sluice = digest("sluice"), d;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
        load(edits[i]);
        if (digest("sluice") == sluice)
            fail_msg("no change seen: %s", edits[i]);
        load("flush ruleset");
        load(skeleton);
        assert_true(digest("sluice") == sluice);
    }
    load("chain ip qubes forward { policy drop; }");
    assert_true(forward != digest("forward"));
    load("delete set ip qubes from; add set ip qubes from { type ipv4_addr; }");
    assert_true(from != set_digest(&set_from));
    assert_int_equal(nft_digest_chain(sock, NFPROTO_IPV4, "qubes", "none", &d), -ENOENT);
    assert_int_equal(nft_digest_set(sock, &none, &d), -ENOENT);
}

/* By one request what else takes one for each: in any order, of this table and family alone. */
static void test_digest_of_many(void **state)
{
    static const char *const names[] = {"from", "b", "a"};
    static const char *const missing[] = {"from", "none"};
    const struct nft_set a = {NFPROTO_IPV4, "qubes", "a"}, b = {NFPROTO_IPV4, "qubes", "b"};
    uint64_t d[ARRAY_SIZE(names)] = {0}, before[ARRAY_SIZE(names)];

    (void)state;
    load("add set ip qubes a { type ipv4_addr; }; add map ip qubes b { type ipv4_addr : ipv4_addr; };"
         "add table ip other; add set ip other a { type mark; }; add set ip other none { type mark; };"
         "add table ip6 qubes; add set ip6 qubes a { type mark; }; add set ip6 qubes none { type mark; }");
    assert_int_equal(nft_digest_sets(sock, NFPROTO_IPV4, "qubes", names, ARRAY_SIZE(names), d), 0);
    assert_true(d[0] == set_digest(&set_from));
    assert_true(d[1] == set_digest(&b));
    assert_true(d[2] == set_digest(&a));
    memcpy(before, d, sizeof(d));
    assert_int_equal(nft_digest_sets(sock, NFPROTO_IPV4, "qubes", missing, 2, d), -ENOENT);
    assert_int_equal(nft_digest_sets(sock, NFPROTO_IPV4, "nothing", names, 3, d), -ENOENT);
    assert_memory_equal(before, d, sizeof(d));
    load("delete set ip qubes a; add set ip qubes a { type ipv4_addr; flags timeout; }");
    assert_int_equal(nft_digest_sets(sock, NFPROTO_IPV4, "qubes", names, ARRAY_SIZE(names), d), 0);
    assert_true(d[0] == before[0] && d[1] == before[1] && d[2] != before[2]);
    assert_int_equal(nft_digest_sets(sock, NFPROTO_IPV4, "qubes", names, 0, d), 0);
}

static void test_load(void **state)
{
    char err[256], small[8];

    (void)state;
    assert_int_equal(nft_load_text(NFT, "nonsense", err, sizeof(err)), -EBADMSG);
    assert_non_null(strstr(err, "syntax error"));
    assert_int_equal(nft_load_text(NFT, "nonsense", small, sizeof(small)), -EBADMSG);
    assert_int_equal(strlen(small), sizeof(small) - 1);
    assert_int_equal(nft_load_text(NFT, "nonsense", NULL, 0), -EBADMSG);
    assert_int_equal(nft_load_text("nft", "", err, sizeof(err)), -EINVAL);
    assert_int_equal(nft_load_text("/nowhere/nft", "", err, sizeof(err)), -ENOENT);
}

static void script(const char *dir, const char *name, const char *body, char path[static 64])
{
    _cleanup_(closep) int fd = -1;

    (void)snprintf(path, 64, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "#!/bin/sh\n%s\n", body) > 0);
}

/*
 * A program that never ends is killed after five seconds, one that floods does not block us, and
 * none inherits anything but its standard descriptors.
 */
static void test_load_limits(void **state)
{
    char dir[] = "/tmp/test-nft-XXXXXX", path[64], err[64];
    struct sigaction old, ignore = {.sa_handler = SIG_IGN};
    sigset_t block, before;
    int64_t t0;
    int r;

    (void)state;
    assert_non_null(mkdtemp(dir));
    script(dir, "loud", "head -c 300000 /dev/zero; exit 1", path);
    assert_int_equal(nft_load_text(path, "", err, sizeof(err)), -EBADMSG);
    (void)unlink(path);

    script(dir, "bare", "[ -z \"$HOME\" ] && [ $# = 2 ] && [ \"$(cat)\" = text ]", path);
    assert_int_equal(nft_load_text(path, "text", err, sizeof(err)), 0);
    (void)unlink(path);

    /* As in a daemon: everything blocked, SIGPIPE ignored. A shell would not show the mask, and gawk
     * ignores SIGPIPE itself. */
    assert_int_equal(sigfillset(&block), 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, &block, &before), 0);
    assert_int_equal(sigaction(SIGPIPE, &ignore, &old), 0);
    r = nft_load_text("/usr/bin/mawk",
                      "BEGIN { while ((getline line < \"/proc/self/status\") > 0) {"
                      " if (line ~ /^SigBlk:.0000000000000000$/) n++;"
                      /* signals 32 and 33 are the C library's */
                      " if (line ~ /^SigIgn:.*0000000$/) n++; } exit n != 2 }",
                      err, sizeof(err));
    assert_int_equal(sigaction(SIGPIPE, &old, NULL), 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(r, 0);

    script(dir, "slow", "exec sleep 60", path);
    t0 = sandbox_now_us();
    assert_int_equal(nft_load_text(path, "", err, sizeof(err)), -ETIMEDOUT);
    assert_in_range(sandbox_now_us() - t0, 4900000, 8000000);
    (void)unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_exists, setup),
        cmocka_unit_test_setup(test_element_round, setup),
        cmocka_unit_test_setup(test_every_kind, setup),
        cmocka_unit_test_setup(test_foreign_interval, setup),
        cmocka_unit_test_setup(test_all_or_nothing, setup),
        cmocka_unit_test_setup(test_guard, setup),
        cmocka_unit_test_setup(test_no_change_no_generation, setup),
        cmocka_unit_test_setup(test_many, setup),
        cmocka_unit_test_setup(test_dump_is_one_state, setup),
        cmocka_unit_test_setup(test_monitor, setup),
        cmocka_unit_test_setup(test_jumps, setup),
        cmocka_unit_test_setup(test_digest_stays, setup),
        cmocka_unit_test_setup(test_digest_changes, setup),
        cmocka_unit_test_setup(test_digest_of_many, setup),
        cmocka_unit_test_setup(test_load, setup),
        cmocka_unit_test(test_load_limits),
    };
    int r;

    if (!sandbox_enter())
        return 77;
    if (access(NFT, X_OK) < 0) {
        (void)fprintf(stderr, "skipped: no " NFT "\n");
        return 77;
    }
    if (nl_open(NETLINK_NETFILTER, &sock) < 0)
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    sock = nl_free(sock);
    return r;
}
