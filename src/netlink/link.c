/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/link.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/attr.h"

#define GEN_MODE_NONE 1 /* IN6_ADDR_GEN_MODE_NONE, UAPI if_link.h */

static const struct attr_rule link_policy[] = {
    [IFLA_IFNAME] = {2, IFNAMSIZ},
    [IFLA_MTU] = {4, 4},
    [IFLA_LINKINFO] = {0, ATTR_LEN_ANY},
    [IFLA_GROUP] = {4, 4},
};

static const struct attr_rule info_policy[] = {
    [IFLA_INFO_KIND] = {1, LINK_KIND_MAX},
};

/* The largest request: two names and nested attributes. */
struct request {
    _Alignas(struct nlmsghdr) uint8_t bytes[256];
};

static void *request_init(struct request *q, uint16_t type, uint16_t flags, size_t header,
                          struct nlmsghdr **ret)
{
    struct nlmsghdr *nlh;

    memset(q, 0, sizeof(*q));
    nlh = mnl_nlmsg_put_header(q->bytes);
    nlh->nlmsg_type = type;
    nlh->nlmsg_flags = flags;
    *ret = nlh;
    return mnl_nlmsg_put_extra_header(nlh, header);
}

static int link_parse_kind(struct attr info, char *ret, size_t size)
{
    struct attr tb[ARRAY_SIZE(info_policy)] = {0};
    int r;

    if (info.p == NULL)
        return 0;
    r = attr_parse(info, info_policy, ARRAY_SIZE(info_policy), tb);
    if (r < 0 || tb[IFLA_INFO_KIND].p == NULL)
        return r;
    return attr_name(tb[IFLA_INFO_KIND], ret, size);
}

int link_parse(const struct nlmsghdr *nlh, struct link_facts *ret)
{
    struct attr tb[ARRAY_SIZE(link_policy)];
    struct link_facts link = {0};
    struct ifinfomsg ifi;
    int r;

    if (nlh->nlmsg_type != RTM_NEWLINK)
        return 1;
    r = attr_parse_message(nlh, &ifi, sizeof(ifi), link_policy, ARRAY_SIZE(link_policy), tb);
    if (r < 0)
        return r;
    if (ifi.ifi_family != AF_UNSPEC)
        return 1;
    if (ifi.ifi_index <= 0)
        return -EBADMSG;
    r = attr_name(tb[IFLA_IFNAME], link.name, sizeof(link.name));
    if (r < 0)
        return r;
    r = link_parse_kind(tb[IFLA_LINKINFO], link.kind, sizeof(link.kind));
    if (r < 0)
        return r;

    link.index = (uint32_t)ifi.ifi_index;
    link.arptype = ifi.ifi_type;
    link.flags = ifi.ifi_flags;
    link.mtu = attr_u32(tb[IFLA_MTU]);
    link.group = attr_u32(tb[IFLA_GROUP]);
    *ret = link;
    return 0;
}

struct search {
    const char *name;
    struct link_facts *ret;
    bool found;
};

static int search_take(const struct nlmsghdr *nlh, void *user)
{
    struct search *search = user;
    struct link_facts link;
    int r = link_parse(nlh, &link);

    if (r != 0)
        return r < 0 ? r : 0;
    if (strcmp(link.name, search->name) != 0) /* an alternative name is not the name */
        return 0;
    *search->ret = link;
    search->found = true;
    return 0;
}

static bool name_is_valid(const char *name)
{
    size_t len = strnlen(name, IFNAMSIZ);

    return len > 0 && len < IFNAMSIZ;
}

int link_find(struct nl_sock *s, const char *name, struct link_facts *ret)
{
    struct search search = {.name = name, .ret = ret};
    struct nlmsghdr *nlh;
    struct request q;
    int r;

    if (!name_is_valid(name))
        return -EINVAL;
    (void)request_init(&q, RTM_GETLINK, 0, sizeof(struct ifinfomsg), &nlh);
    mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
    r = nl_query(s, nlh, search_take, &search);
    if (r < 0)
        return r;
    return search.found ? 0 : -ENODEV;
}

static void put_no_link_local(struct nlmsghdr *nlh)
{
    struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
    struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

    mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, GEN_MODE_NONE);
    mnl_attr_nest_end(nlh, inet6);
    mnl_attr_nest_end(nlh, spec);
}

int link_set(struct nl_sock *s, uint32_t index, const struct link_change *change)
{
    struct ifinfomsg *ifi;
    struct nlmsghdr *nlh;
    struct request q;

    if (index == 0 || index > INT32_MAX)
        return -EINVAL;
    ifi = request_init(&q, RTM_NEWLINK, 0, sizeof(*ifi), &nlh);
    ifi->ifi_index = (int32_t)index;
    ifi->ifi_flags = change->flags;
    ifi->ifi_change = change->flags_mask;
    if (change->mtu != 0)
        mnl_attr_put_u32(nlh, IFLA_MTU, change->mtu);
    if (change->set_group)
        mnl_attr_put_u32(nlh, IFLA_GROUP, change->group);
    if (change->no_link_local)
        put_no_link_local(nlh);
    return nl_request(s, nlh);
}

int link_add(struct nl_sock *s, const char *name, const char *kind)
{
    struct nlattr *info;
    struct nlmsghdr *nlh;
    struct request q;

    if (!name_is_valid(name) || strlen(kind) >= LINK_KIND_MAX)
        return -EINVAL;
    (void)request_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg), &nlh);
    mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
    info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
    mnl_attr_put_str(nlh, IFLA_INFO_KIND, kind);
    mnl_attr_nest_end(nlh, info);
    return nl_request(s, nlh);
}

int link_delete(struct nl_sock *s, uint32_t index)
{
    struct ifinfomsg *ifi;
    struct nlmsghdr *nlh;
    struct request q;
    int r;

    if (index == 0 || index > INT32_MAX)
        return -EINVAL;
    ifi = request_init(&q, RTM_DELLINK, 0, sizeof(*ifi), &nlh);
    ifi->ifi_index = (int32_t)index;
    r = nl_request(s, nlh);
    return r == -ENODEV ? 0 : r;
}

static int address_request(struct nl_sock *s, uint16_t type, uint16_t flags, uint32_t index,
                           const struct prefix *own)
{
    const uint8_t family = own->addr.family;
    struct ifaddrmsg *ifa;
    struct nlmsghdr *nlh;
    struct request q;

    if (index == 0 || index > INT32_MAX || addr_size(family) == 0 || own->len > addr_bits(family))
        return -EINVAL;
    ifa = request_init(&q, type, flags, sizeof(*ifa), &nlh);
    ifa->ifa_family = family;
    ifa->ifa_prefixlen = own->len;
    ifa->ifa_index = index;
    mnl_attr_put(nlh, IFA_LOCAL, addr_size(family), own->addr.bytes);
    if (type == RTM_NEWADDR) {
        mnl_attr_put(nlh, IFA_ADDRESS, addr_size(family), own->addr.bytes);
        mnl_attr_put_u32(nlh, IFA_FLAGS,
                         IFA_F_NOPREFIXROUTE | (family == AF_INET6 ? IFA_F_NODAD : 0));
    }
    return nl_request(s, nlh);
}

int link_add_address(struct nl_sock *s, uint32_t index, const struct prefix *own)
{
    int r = address_request(s, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, own);

    return r == -EEXIST ? 0 : r;
}

int link_delete_address(struct nl_sock *s, uint32_t index, const struct prefix *own)
{
    int r = address_request(s, RTM_DELADDR, 0, index, own);

    return r == -EADDRNOTAVAIL ? 0 : r;
}
