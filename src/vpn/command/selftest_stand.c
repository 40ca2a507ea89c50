/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/selftest_stand.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "netlink/attr.h"
#include "netlink/link.h"
#include "netlink/nl.h"
#include "netlink/policy.h"
#include "nft/nft.h"

#define NFT        "/usr/sbin/nft"
#define COMMENT    "qubes-vpn test"
#define GROUP      2
#define FIRST_ID   32700 /* domain ids end at 32752 and grow from 1 */
#define LAST_ID    32749
#define METRIC     52 /* as vif-route-qubes: 32752 less the domain id */
#define FIRST_HOST 20

static const char *const families[] = {"ip", "ip6"};

/* ---- the platform's tables ---- */

static int nft(const char *text)
{
    char said[512];

    return nft_load_text(NFT, text, said, sizeof(said));
}

static void element_text(const struct stand *s, size_t family, const char *verb, char *buf,
                         size_t size)
{
    char addr[ADDR_STR_MAX];
    const struct addr *a = family == 0 ? &s->qube4 : &s->qube6;

    (void)addr_format(a, addr);
    (void)snprintf(buf, size,
                   "%s element %s qubes allowed { \"%s\" . %s }\n"
                   "%s element %s qubes downstream { %s }\n",
                   verb, families[family], s->name, addr, verb, families[family], addr);
}

static bool add_elements(const struct stand *s)
{
    char text[512];
    bool all = true;

    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        element_text(s, i, "add", text, sizeof(text));
        all = nft(text) == 0 && all;
    }
    return all;
}

static void remove_elements(const struct stand *s)
{
    char text[512];

    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        element_text(s, i, "delete", text, sizeof(text));
        (void)nft(text);
    }
}

/* In the chain where a qube without rules of its own is dropped. */
static void add_rules(const struct stand *s)
{
    char text[256];

    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        (void)snprintf(
            text, sizeof(text),
            "insert rule %s qubes-firewall forward iifname \"%s\" accept comment \"" COMMENT "\"\n",
            families[i], s->name);
        (void)nft(text); /* no such table where the service is off */
    }
}

struct handles {
    uint64_t list[8];
    size_t n;
};

static const struct attr_rule rule_policy[] = {
    [NFTA_RULE_HANDLE] = {8, 8},
    [NFTA_RULE_USERDATA] = {0, ATTR_LEN_ANY},
};

static int take_rule(const struct nlmsghdr *nlh, void *user)
{
    struct handles *h = user;
    struct attr tb[ARRAY_SIZE(rule_policy)] = {0};
    struct nfgenmsg header;
    struct cursor c;
    int r =
        attr_parse_message(nlh, &header, sizeof(header), rule_policy, ARRAY_SIZE(rule_policy), tb);

    if (r < 0 || tb[NFTA_RULE_USERDATA].p == NULL || tb[NFTA_RULE_HANDLE].p == NULL ||
        h->n == ARRAY_SIZE(h->list))
        return 0;
    if (memmem(tb[NFTA_RULE_USERDATA].p, tb[NFTA_RULE_USERDATA].len, COMMENT,
               sizeof(COMMENT) - 1) == NULL)
        return 0;
    c = cursor_from(tb[NFTA_RULE_HANDLE].p, tb[NFTA_RULE_HANDLE].len);
    h->list[h->n++] = (uint64_t)cursor_u32be(&c) << 32 | cursor_u32be(&c);
    return 0;
}

static void find_rules(struct nl_sock *s, uint8_t family, struct handles *h)
{
    static const struct nl_dump_ops ops = {NULL, take_rule};
    uint8_t buf[256] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct nfgenmsg *header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));

    nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
    header->nfgen_family = family;
    mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, "qubes-firewall");
    mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, "forward");
    (void)nl_dump(s, nlh, &ops, h);
}

static void remove_rules(void)
{
    static const uint8_t numbers[] = {NFPROTO_IPV4, NFPROTO_IPV6};
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    char text[256];

    if (nl_open(NETLINK_NETFILTER, &s) < 0)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        struct handles h = {.n = 0};

        find_rules(s, numbers[i], &h);
        for (size_t k = 0; k < h.n; k++) {
            (void)snprintf(text, sizeof(text),
                           "delete rule %s qubes-firewall forward handle %llu\n", families[i],
                           (unsigned long long)h.list[k]);
            (void)nft(text);
        }
    }
}

/* ---- the pair ---- */

static int make_pair(struct nl_sock *rt, const struct stand *s, int namespace)
{
    uint8_t buf[512] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct nlattr *info, *data, *peer;

    (void)mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
    nlh->nlmsg_type = RTM_NEWLINK;
    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    mnl_attr_put_strz(nlh, IFLA_IFNAME, s->name);
    mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(s->vif_mac), s->vif_mac);
    mnl_attr_put_u32(nlh, IFLA_GROUP, GROUP); /* from its first moment: else it is an uplink */
    info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
    mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
    data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
    peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
    (void)mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(nlh, IFLA_IFNAME, "eth0");
    mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(s->qube_mac), s->qube_mac);
    mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)namespace);
    mnl_attr_nest_end(nlh, peer);
    mnl_attr_nest_end(nlh, data);
    mnl_attr_nest_end(nlh, info);
    return nl_request(rt, nlh);
}

static int add_neighbour(struct nl_sock *rt, const struct stand *s, const struct addr *a)
{
    uint8_t buf[128] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct ndmsg *nd = mnl_nlmsg_put_extra_header(nlh, sizeof(*nd));

    nlh->nlmsg_type = RTM_NEWNEIGH;
    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
    nd->ndm_family = a->family;
    nd->ndm_ifindex = (int)s->index;
    nd->ndm_state = NUD_PERMANENT;
    mnl_attr_put(nlh, NDA_DST, addr_size(a->family), a->bytes);
    mnl_attr_put(nlh, NDA_LLADDR, sizeof(s->qube_mac), s->qube_mac);
    return nl_request(rt, nlh);
}

static int add_route(struct nl_sock *rt, const struct stand *s, const struct addr *a)
{
    struct path path = {.family = a->family,
                        .type = RTN_UNICAST,
                        .protocol = RTPROT_BOOT,
                        .scope = a->family == AF_INET ? RT_SCOPE_LINK : 0,
                        .table = RT_TABLE_MAIN,
                        .metric = METRIC,
                        .dst = {*a, addr_bits(a->family)},
                        .oif = s->index};

    return path_add(rt, &path);
}

static int attach(struct nl_sock *rt, struct stand *s, const struct addr *here4,
                  const struct addr *here6)
{
    const struct addr *qube[] = {&s->qube4, &s->qube6}, *here[] = {here4, here6};
    struct link_change up = {.flags = IFF_UP, .flags_mask = IFF_UP};
    int r = link_set(rt, s->index, &up);

    for (size_t i = 0; i < ARRAY_SIZE(qube) && r == 0; i++) {
        struct prefix own = {*here[i], addr_bits(here[i]->family)};

        if (here[i]->family == 0)
            continue; /* no such family for the qubes here */
        r = add_neighbour(rt, s, qube[i]);
        if (r == 0)
            r = add_route(rt, s, qube[i]);
        if (r == 0)
            r = link_add_address(rt, s->index, &own);
    }
    return r;
}

/* A namespace that lives as long as somebody holds ret_fd or a socket of it; with its socket. */
static int make_namespace(int *ret_fd, struct nl_sock **ret_rt)
{
    _cleanup_(closep) int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), made = -1;
    int r;

    if (before < 0 || unshare(CLONE_NEWNET) < 0)
        return -errno;
    made = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    r = made < 0 ? -errno : nl_open(NETLINK_ROUTE, ret_rt);
    if (setns(before, CLONE_NEWNET) < 0)
        abort(); /* to go on elsewhere would test nothing */
    if (r == 0)
        *ret_fd = TAKE_FD(made);
    return r;
}

static int open_far_end(int namespace, uint32_t index)
{
    _cleanup_(closep) int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd = -1;
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)index};
    int r = 0;

    if (before < 0 || setns(namespace, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: it receives nothing */
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        r = -errno;
    if (setns(before, CLONE_NEWNET) < 0)
        abort();
    return r < 0 ? r : TAKE_FD(fd);
}

static int raise_far_end(struct nl_sock *far_rt, int namespace)
{
    struct link_change up = {.flags = IFF_UP, .flags_mask = IFF_UP, .no_link_local = true};
    struct link_facts far;
    int r = link_find(far_rt, "eth0", &far);

    if (r == 0)
        r = link_set(far_rt, far.index, &up);
    return r < 0 ? r : open_far_end(namespace, far.index);
}

/* ---- names and addresses that nobody has ---- */

static bool is_taken(const struct path *p, const struct stand *s)
{
    return p->dst.len == addr_bits(p->dst.addr.family) &&
           (addr_equal(&p->dst.addr, &s->qube4) || addr_equal(&p->dst.addr, &s->qube6));
}

struct search {
    const struct stand *stand;
    bool taken;
};

static int look_at_path(const struct path *p, void *user)
{
    struct search *search = user;

    search->taken = search->taken || is_taken(p, search->stand);
    return 0;
}

static int choose_addresses(struct nl_sock *rt, struct stand *s)
{
    static const uint8_t prefix6[] = {0xfd, 0x09, 0x24, 0xef, 0x41, 0x79};

    for (unsigned host = FIRST_HOST; host < 255; host++) {
        struct search search = {.stand = s};
        int r;

        s->qube4 = (struct addr){AF_INET, {10, 137, 255, (uint8_t)host}};
        s->qube6 = (struct addr){.family = AF_INET6};
        memcpy(s->qube6.bytes, prefix6, sizeof(prefix6)); /* as qubesd makes it: ...::a89:ff14 */
        s->qube6.bytes[12] = 0x0a;
        s->qube6.bytes[13] = 0x89;
        s->qube6.bytes[14] = 0xff;
        s->qube6.bytes[15] = (uint8_t)host;
        r = path_dump(rt, AF_INET, NULL, look_at_path, &search);
        if (r < 0)
            return r;
        if (!search.taken)
            return 0;
    }
    return -EADDRINUSE;
}

static int choose_name(struct stand *s)
{
    for (unsigned id = FIRST_ID; id <= LAST_ID; id++) {
        (void)snprintf(s->name, sizeof(s->name), "vif%u.0", id);
        if (if_nametoindex(s->name) == 0)
            return 0;
    }
    return -EEXIST;
}

/* ---- the guardian ---- */

static void remove_link(const struct stand *s)
{
    _cleanup_(nl_freep) struct nl_sock *rt = NULL;
    struct link_facts link;

    if (nl_open(NETLINK_ROUTE, &rt) == 0 && link_find(rt, s->name, &link) == 0 &&
        strcmp(link.kind, "veth") == 0)
        (void)link_delete(rt, link.index);
}

__attribute__((noreturn)) static void guard(const struct stand *s, int fd)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP};
    char byte;

    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    (void)setsid(); /* what ends the terminal's group does not end it */
    if (fd > 3)
        (void)close_range(3, (unsigned)fd - 1, 0);
    (void)close_range((unsigned)fd + 1, ~0U, 0);
    while (read(fd, &byte, 1) < 0 && errno == EINTR)
        ;
    remove_link(s);
    remove_elements(s);
    remove_rules();
    _exit(0);
}

static int start_guardian(struct stand *s)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)close(ends[1]);
        guard(s, ends[0]);
    }
    (void)close(ends[0]);
    if (pid < 0) {
        (void)close(ends[1]);
        return -EAGAIN;
    }
    s->guard = ends[1];
    s->guardian = pid;
    return 0;
}

/* ---- life ---- */

static int build(struct stand *s, const struct addr *here4, const struct addr *here6,
                 struct nl_sock *rt, const char **ret_why)
{
    _cleanup_(nl_freep) struct nl_sock *far_rt = NULL;
    _cleanup_(closep) int namespace = -1;
    int r = make_namespace(&namespace, &far_rt);

    *ret_why = "a namespace cannot be made";
    if (r < 0)
        return r;
    *ret_why = "a pair of devices cannot be made";
    r = make_pair(rt, s, namespace);
    if (r < 0)
        return r;
    s->index = if_nametoindex(s->name);
    r = raise_far_end(far_rt, namespace);
    if (r < 0)
        return r;
    s->far = r;
    *ret_why = "it cannot be attached like a qube";
    return attach(rt, s, here4, here6);
}

int stand_make(struct stand *s, const struct addr *here4, const struct addr *here6,
               const char **ret_why)
{
    static const uint8_t vif_mac[] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff},
                         qube_mac[] = {0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x00};
    _cleanup_(nl_freep) struct nl_sock *rt = NULL;
    int r;

    *s = (struct stand){.far = -1, .guard = -1, .guardian = -1};
    memcpy(s->vif_mac, vif_mac, sizeof(vif_mac)); /* what Qubes gives; network managers know it */
    memcpy(s->qube_mac, qube_mac, sizeof(qube_mac));
    *ret_why = "there is no free name or address for it";
    r = nl_open(NETLINK_ROUTE, &rt);
    if (r == 0)
        r = choose_name(s);
    if (r == 0)
        r = choose_addresses(rt, s);
    if (r == 0)
        r = start_guardian(s);
    if (r == 0)
        r = build(s, here4, here6, rt, ret_why);
    if (r < 0) {
        stand_remove(s);
        return r;
    }
    s->firewall = add_elements(s);
    add_rules(s);
    return 0;
}

void stand_remove(struct stand *s)
{
    int status;

    s->far = close_fd(s->far);
    s->guard = close_fd(s->guard);
    if (s->guardian > 0) {
        while (waitpid(s->guardian, &status, 0) < 0 && errno == EINTR)
            ;
    }
    s->guardian = -1;
}

int stand_send(const struct stand *s, const void *frame, size_t len)
{
    return send(s->far, frame, len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}
