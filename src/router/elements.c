/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/elements.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/cursor.h"

static const char *const set_names[] = {
    [OBJECT_ANY] = "network-server-any",     [OBJECT_SOME] = "network-server-some",
    [OBJECT_PROTO] = "network-server-proto", [OBJECT_PORT] = "network-server-port",
    [OBJECT_FROM] = "network-server-from",   [OBJECT_RULE] = "network-server-rule",
    [OBJECT_PUBLISHED] = "network-server-published",
    [OBJECT_PUBLISHED_FROM] = "network-server-published-from",
    [OBJECT_DNAT] = "published",             [OBJECT_DNAT_FROM] = "published-from",
    [OBJECT_OWN] = "own-address",
    [OBJECT_RATE] = "rates",                 [OBJECT_LOGGED] = "logged",
    [OBJECT_CONNECTIONS] = "connections",    [OBJECT_TRAFFIC] = "traffic",
    [OBJECT_HAIRPIN] = "hairpin",            [OBJECT_LENT] = "lent",
    [OBJECT_ALLOWED] = "allowed",            [OBJECT_DOWNSTREAM] = "downstream",
};

uint8_t elements_family(enum family_index family)
{
    return family == FAMILY_IP6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
}

const char *elements_family_name(enum family_index family)
{
    return family == FAMILY_IP6 ? "ip6" : "ip";
}

struct nft_set elements_set(enum object_kind kind, enum family_index family)
{
    bool platform = OBJECT_IS_ACCESS(kind) || OBJECT_IS_PLATFORMS(kind);

    return (struct nft_set){elements_family(family), platform ? TABLE_PLATFORM : TABLE_OWN,
                            set_names[kind]};
}

static bool is_interval(enum object_kind kind)
{
    return kind == OBJECT_FROM || kind == OBJECT_RULE || kind == OBJECT_PUBLISHED_FROM ||
           kind == OBJECT_DNAT_FROM;
}

static bool has_port(enum object_kind kind)
{
    return kind == OBJECT_PORT || kind == OBJECT_RULE || kind == OBJECT_PUBLISHED ||
           kind == OBJECT_PUBLISHED_FROM;
}

static bool has_proto(enum object_kind kind)
{
    return kind == OBJECT_PROTO || has_port(kind);
}

/* In an interval set every part has two ends, also where they are the same. */
static int add(struct nft_key *key, bool interval, const void *lo, const void *hi, size_t len)
{
    return interval ? nft_key_add_range(key, lo, hi, len) : nft_key_add(key, lo, len);
}

/* The port outside (and who may) is the key, address and port inside are the value. */
static int dnat_key(const struct object *o, size_t size, struct nft_key *ret)
{
    bool interval = is_interval(o->kind);
    uint16_t outside = htons(o->port_lo);
    struct nft_key key = {0};
    int r = add(&key, interval, &o->proto, &o->proto, sizeof(o->proto));

    if (r == 0)
        r = add(&key, interval, &outside, &outside, sizeof(outside));
    if (r == 0 && interval)
        r = add(&key, interval, o->src_lo.bytes, o->src_hi.bytes, size);
    if (r == 0)
        *ret = key;
    return r;
}

size_t elements_data(const struct addr *addr, const struct object *o, uint8_t *ret)
{
    size_t size = addr_size(addr->family);
    uint16_t inside = htons(o->port_hi);

    if (o->kind == OBJECT_RATE) { /* what becomes a packet's priority: as the machine has it */
        memcpy(ret, &o->rate, sizeof(o->rate));
        return sizeof(o->rate);
    }
    if (!OBJECT_IS_DNAT(o->kind))
        return 0;
    (void)memset(ret, 0, size + 4);
    memcpy(ret, addr->bytes, size);
    memcpy(ret + size, &inside, sizeof(inside));
    return size + 4;
}

int elements_key(const struct addr *addr, const struct object *o, struct nft_key *ret)
{
    bool interval = is_interval(o->kind);
    size_t size = addr_size(addr->family);
    uint16_t lo = htons(o->port_lo), hi = htons(o->port_hi);
    struct nft_key key = {0};
    int r;

    if (OBJECT_IS_DNAT(o->kind))
        return dnat_key(o, size, ret);
    r = object_has_vif(o->kind) ? add(&key, interval, o->vif, o->vif, IFNAMSIZ) : 0;
    if (r == 0)
        r = add(&key, interval, addr->bytes, addr->bytes, size);
    if (r == 0 && has_proto(o->kind))
        r = add(&key, interval, &o->proto, &o->proto, sizeof(o->proto));
    if (r == 0 && has_port(o->kind))
        r = add(&key, interval, &lo, &hi, sizeof(lo));
    if (r == 0 && interval)
        r = add(&key, interval, o->src_lo.bytes, o->src_hi.bytes, size);
    if (r == 0 && o->kind == OBJECT_OWN)
        r = add(&key, interval, o->uplink, o->uplink, IFNAMSIZ);
    if (r == 0)
        *ret = key;
    return r;
}

/* Nothing stands after the end of a name that we write, and no name is empty. */
static void read_name(struct cursor *c, char name[static IFNAMSIZ])
{
    static const char zero[IFNAMSIZ];
    size_t len;

    cursor_copy(c, name, IFNAMSIZ);
    len = strnlen(name, IFNAMSIZ);
    if (len == 0 || len == IFNAMSIZ || memcmp(name + len, zero, IFNAMSIZ - len) != 0)
        c->failed = true;
}

static void read_addr(struct cursor *c, int family, struct addr *ret)
{
    *ret = (struct addr){.family = (uint8_t)family};
    cursor_copy(c, ret->bytes, addr_size(family));
}

/* The parts after vif and address; once for the key and once for its end. */
static void read_rest(struct cursor *c, int family, struct object *o, uint16_t *port,
                      struct addr *src)
{
    if (has_proto(o->kind)) {
        o->proto = cursor_u8(c);
        (void)cursor_take(c, 3);
    }
    if (has_port(o->kind)) {
        *port = cursor_u16be(c);
        (void)cursor_take(c, 2);
    }
    if (is_interval(o->kind))
        read_addr(c, family, src);
    if (o->kind == OBJECT_OWN)
        read_name(c, o->uplink);
}

/*
 * Also the bytes between the parts are as we would write them: else the element could not be
 * deleted by what was read from it, and one failed deletion fails the whole transaction.
 */
static bool is_as_written(const struct nft_element *e, const struct addr *addr,
                          const struct object *o)
{
    uint8_t data[NFT_KEY_MAX];
    size_t len = elements_data(addr, o, data);
    struct nft_key key;

    return elements_key(addr, o, &key) == 0 && key.len == e->key.len &&
           key.has_end == e->key.has_end && memcmp(key.data, e->key.data, key.len) == 0 &&
           (!key.has_end || memcmp(key.end, e->key.end, key.len) == 0) && len == e->data_len &&
           memcmp(data, e->data, len) == 0;
}

static int dnat_object(enum object_kind kind, int family, const struct nft_element *e,
                       struct addr *ret_addr, struct object *ret)
{
    struct cursor key = cursor_from(e->key.data, e->key.len);
    struct cursor data = cursor_from(e->data, e->data_len);
    struct object o = {.kind = kind};
    struct addr addr;

    if (e->key.has_end != is_interval(kind))
        return -EBADMSG;
    o.proto = cursor_u8(&key);
    (void)cursor_take(&key, 3);
    o.port_lo = cursor_u16be(&key);
    (void)cursor_take(&key, 2);
    if (e->key.has_end) { /* protocol and port end where they begin: is_as_written() */
        struct cursor end = cursor_from(e->key.end, e->key.len);

        (void)cursor_take(&end, 8);
        read_addr(&key, family, &o.src_lo);
        read_addr(&end, family, &o.src_hi);
    }
    read_addr(&data, family, &addr);
    o.port_hi = cursor_u16be(&data);
    (void)cursor_take(&data, 2);
    if (!cursor_ok(&key) || key.left != 0 || !cursor_ok(&data) || data.left != 0 ||
        !is_as_written(e, &addr, &o))
        return -EBADMSG;
    *ret_addr = addr;
    *ret = o;
    return 0;
}

int elements_object(enum object_kind kind, enum family_index family, const struct nft_element *e,
                    struct addr *ret_addr, struct object *ret)
{
    const struct nft_key *key = &e->key;
    int af = family == FAMILY_IP6 ? AF_INET6 : AF_INET;
    struct cursor c = cursor_from(key->data, key->len);
    struct object o = {.kind = kind};
    char name[IFNAMSIZ];
    struct addr addr;

    if (OBJECT_IS_DNAT(kind))
        return dnat_object(kind, af, e, ret_addr, ret);
    if (object_has_vif(kind))
        read_name(&c, o.vif);
    read_addr(&c, af, &addr);
    read_rest(&c, af, &o, &o.port_lo, &o.src_lo);
    if (!cursor_ok(&c) || c.left != 0 || key->has_end != is_interval(kind))
        return -EBADMSG;
    if (kind == OBJECT_RATE) {
        struct cursor data = cursor_from(e->data, e->data_len);

        o.rate = cursor_u32ne(&data);
        if (!cursor_ok(&data))
            return -EBADMSG;
    }
    o.port_hi = o.port_lo;
    if (key->has_end) {
        struct cursor end = cursor_from(key->end, key->len);
        struct addr last;

        read_name(&end, name);
        read_addr(&end, af, &last);
        read_rest(&end, af, &o, &o.port_hi, &o.src_hi);
        if (!cursor_ok(&end) || memcmp(name, o.vif, IFNAMSIZ) != 0 || !addr_equal(&last, &addr))
            return -EBADMSG;
    }
    if (!is_as_written(e, &addr, &o))
        return -EBADMSG;
    *ret_addr = addr;
    *ret = o;
    return 0;
}

struct nft_set elements_put_back_set(void)
{
    return (struct nft_set){NFPROTO_IPV4, TABLE_OWN, "put-back"};
}

/* mark: the switch in the upper half, its value in the lower; none is that large in earnest. */
int elements_put_back_key(const struct sysctl_value *value, struct nft_key *ret)
{
    uint32_t stored = value->value < 0xffff ? value->value : 0xffff;
    uint32_t mark = (uint32_t)value->id << 16 | stored;
    struct nft_key key = {0};
    int r = nft_key_add(&key, value->scope, IFNAMSIZ);

    if (r == 0)
        r = nft_key_add(&key, &mark, sizeof(mark));
    if (r == 0)
        *ret = key;
    return r;
}

int elements_put_back_value(const struct nft_key *key, struct sysctl_value *ret)
{
    struct cursor c = cursor_from(key->data, key->len);
    struct sysctl_value v = {0};
    uint32_t mark;

    read_name(&c, v.scope);
    mark = cursor_u32ne(&c);
    if (!cursor_ok(&c) || c.left != 0 || key->has_end || mark >> 16 < SYSCTL_IP6_FORWARDING ||
        mark >> 16 > SYSCTL_IP6_PROXY_DELAY)
        return -EBADMSG;
    v.id = (enum sysctl_id)(mark >> 16);
    v.value = mark & 0xffff;
    *ret = v;
    return 0;
}

struct nft_set elements_cut_set(enum family_index family)
{
    return (struct nft_set){elements_family(family), TABLE_OWN, "cut"};
}

int elements_cut_key(const struct cut_flow *flow, struct nft_key *ret)
{
    uint16_t qube_port = htons(flow->qube_port), client_port = htons(flow->client_port);
    size_t size = addr_size(flow->qube.family);
    struct nft_key key = {0};
    int r = nft_key_add(&key, flow->qube.bytes, size);

    if (r == 0)
        r = nft_key_add(&key, &flow->proto, sizeof(flow->proto));
    if (r == 0)
        r = nft_key_add(&key, &qube_port, sizeof(qube_port));
    if (r == 0)
        r = nft_key_add(&key, flow->client.bytes, size);
    if (r == 0)
        r = nft_key_add(&key, &client_port, sizeof(client_port));
    if (r == 0)
        *ret = key;
    return r;
}

struct nft_set elements_guard_set(void)
{
    return (struct nft_set){NFPROTO_IPV6, TABLE_OWN, "guard"};
}

int elements_guard_key(struct nft_key *ret)
{
    uint16_t type = htons(ETH_P_IPV6);
    struct nft_key key = {0};
    int r = nft_key_add(&key, &type, sizeof(type));

    key.len = sizeof(type); /* only the parts of a concatenation are padded */
    if (r == 0)
        *ret = key;
    return r;
}
