/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every reader of netlink messages on every message of the input, taken as one datagram. What a
 * reader gives out must be within its own promises; each message is a copy of exactly its length,
 * so that reading beyond it is seen.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "netlink/ct.h"
#include "netlink/nflog.h"
#include "netlink/policy.h"
#include "netlink/rt.h"
#include "netlink/socket.h"
#include "nft/counter.h"
#include "nft/digest.h"
#include "nft/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_addr(const struct addr *a)
{
    static const uint8_t zero[16];
    size_t size = addr_size(a->family);

    require(size != 0 && memcmp(a->bytes + size, zero, sizeof(zero) - size) == 0);
}

static int take_route(const struct rt_route *route, void *user)
{
    (void)user;
    check_addr(&route->dst.addr);
    require(route->dst.len <= addr_bits(route->dst.addr.family) && route->oif != 0);
    if (route->gateway.family != 0)
        check_addr(&route->gateway);
    return 0;
}

static void read_route_messages(const struct nlmsghdr *nlh)
{
    struct rt_link link;
    struct rt_addr addr;
    struct rt_proxy proxy;
    struct rt_neighbour neighbour;
    struct ct_flow flow;

    if (rt_link_parse(nlh, &link) == 0)
        require(link.index != 0 && link.name[0] != '\0' &&
                memchr(link.name, '\0', sizeof(link.name)) != NULL);
    if (rt_addr_parse(nlh, &addr) == 0) {
        check_addr(&addr.prefix.addr);
        require(addr.index != 0 && addr.prefix.len <= addr_bits(addr.prefix.addr.family));
    }
    if (rt_proxy_parse(nlh, &proxy) == 0)
        check_addr(&proxy.addr);
    if (rt_neighbour_parse(nlh, &neighbour) == 0)
        check_addr(&neighbour.addr);
    (void)rt_route_parse(nlh, take_route, NULL);
    if (ct_flow_parse(nlh, &flow) == 0) {
        check_addr(&flow.orig.src);
        check_addr(&flow.reply.dst);
        require(flow.orig.src.family == flow.reply.dst.family);
    }
}

static void read_logged_packet(const struct nlmsghdr *nlh)
{
    struct nflog_packet packet;

    if (nflog_parse(nlh, &packet) != 1)
        return;
    check_addr(&packet.src);
    check_addr(&packet.dst);
    require(packet.src.family == packet.dst.family);
}

static void read_policy_messages(const struct nlmsghdr *nlh)
{
    struct rule rule;
    struct path path;

    if (rule_parse(nlh, &rule) == 0) {
        require(rule.said_len <= sizeof(rule.said) && (rule.other || rule.said_len == 0));
        require(rule_equal(&rule, &rule) == !rule.other);
    }
    if (path_parse(nlh, &path) == 0) {
        check_addr(&path.dst.addr);
        require(path.dst.len <= addr_bits(path.family) && path.family == path.dst.addr.family);
        if (path.gateway.family != 0)
            check_addr(&path.gateway);
        require(path_equal(&path, &path) == !path.other);
    }
}

static int take_element(const struct nft_element *e, void *user)
{
    (void)user;
    require(e->key.len > 0 && e->key.len <= NFT_KEY_MAX && e->data_len <= NFT_KEY_MAX);
    return 0;
}

static int take_count(const struct nft_count *count, void *user)
{
    (void)user;
    require(count->key.len > 0 && count->key.len <= NFT_KEY_MAX && !count->key.has_end);
    return 0;
}

static int take_expression(const struct nft_expression *e, void *user)
{
    (void)user;
    (void)nft_expression_is_jump(e, "sluice");
    return 0;
}

static int take_name(struct attr set, void *user)
{
    char name[256];

    (void)user;
    return attr_name(set, name, sizeof(name));
}

static void read_nft_messages(const struct nlmsghdr *nlh)
{
    struct nft_chain_facts facts;
    uint64_t h = HASH_START;
    uint32_t generation;

    (void)nft_generation_parse(nlh, &generation);
    (void)nft_elements_parse(nlh, take_element, NULL);
    (void)nft_counts_parse(nlh, take_count, NULL);
    (void)nft_rule_parse(nlh, take_expression, NULL);
    if (nft_chain_parse(nlh, &facts) == 0)
        h = digest_add(h, facts.hook.p, facts.hook.len);
    (void)digest_add_rule(nlh, &h, take_name, NULL);
    (void)digest_add_set(nlh, &h);
    (void)digest_sum_elements(nlh, &h);
}

static void read_error(const struct nlmsghdr *nlh)
{
    char text[32];
    int error;

    if (nl_error_parse(nlh, &error, text, sizeof(text)) == 0)
        require(error <= 0 && error >= -4095 && memchr(text, '\0', sizeof(text)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) uint8_t *datagram = malloc(size + 1);
    struct nl_messages messages = {.p = datagram, .left = size};
    const struct nlmsghdr *nlh;

    if (datagram == NULL || size > 65536)
        return 0;
    memcpy(datagram, data, size);
    while ((nlh = nl_messages_next(&messages)) != NULL) {
        _cleanup_(freep) struct nlmsghdr *one = malloc(nlh->nlmsg_len);

        if (one == NULL)
            return 0;
        memcpy(one, nlh, nlh->nlmsg_len);
        read_route_messages(one);
        read_policy_messages(one);
        read_nft_messages(one);
        read_logged_packet(one);
        read_error(one);
    }
    return 0;
}
