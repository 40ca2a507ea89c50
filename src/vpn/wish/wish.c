/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/wish/wish.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {
    [REQUEST_SET] = "set",
    [REQUEST_CHECK] = "check",
    [REQUEST_ON] = "on",
    [REQUEST_BLACKHOLE] = "blackhole",
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int refuse(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -EINVAL;
}

/* What the kernel's own rules let a carrier or resolver be sent to. */
static bool is_remote(const struct addr *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t zero[15];

    if (a->family == AF_INET)
        return a->bytes[0] != 0 && a->bytes[0] != 127 && a->bytes[0] < 224;
    if (a->family != AF_INET6)
        return false;
    if (a->bytes[0] == 0xff || memcmp(a->bytes, mapped, sizeof(mapped)) == 0)
        return false;
    if (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80)
        return false; /* link-local: has no meaning without a device */
    return memcmp(a->bytes, zero, sizeof(zero)) != 0; /* :: and ::1 */
}

static int check_tunnel(const struct wish *w, const char **ret_why)
{
    if (w->tunnel[0] == '\0') {
        if (w->tunnel_addr[0].family != 0 || w->tunnel_addr[1].family != 0 || w->mtu != 0)
            return refuse(ret_why, "address or MTU of a tunnel, but no tunnel");
        if (w->n_dns > 0 || w->lookups)
            return refuse(ret_why, "name servers, but no tunnel");
        return 0;
    }
    /* one name only: a wish must not be able to call an uplink the tunnel */
    if (strcmp(w->tunnel, SEAL_TUNNEL) != 0)
        return refuse(ret_why, "the tunnel has another name than qubes-vpn");
    if (w->tunnel_addr[0].family == 0 && w->tunnel_addr[1].family == 0)
        return refuse(ret_why, "a tunnel without an address");
    if ((w->tunnel_addr[0].family != 0 &&
         (w->tunnel_addr[0].family != AF_INET || !is_remote(&w->tunnel_addr[0]))) ||
        (w->tunnel_addr[1].family != 0 &&
         (w->tunnel_addr[1].family != AF_INET6 || !is_remote(&w->tunnel_addr[1]))))
        return refuse(ret_why, "the tunnel's address is none that a host can have");
    if (w->mtu < WISH_MTU_MIN || w->mtu > WISH_MTU_MAX)
        return refuse(ret_why, "MTU out of bounds (576 to 1500)");
    if (w->n_dns > 0 && w->tunnel_addr[0].family == 0)
        return refuse(ret_why, "name servers are asked by IPv4, which the tunnel does not carry");
    return 0;
}

int wish_check(const struct wish *w, const char **ret_why)
{
    if (w->n_carriers > WISH_CARRIERS_MAX || w->n_resolvers > WISH_RESOLVERS_MAX ||
        w->n_dns > WISH_DNS_MAX)
        return refuse(ret_why, "too many of a kind");
    for (size_t i = 0; i < w->n_carriers; i++) {
        const struct carrier *c = &w->carriers[i];

        if (!is_remote(&c->addr))
            return refuse(ret_why, "a carrier's address is none that a host can have");
        if (c->port == 0)
            return refuse(ret_why, "a carrier has port 0");
        if (c->protocol != IPPROTO_UDP && (c->protocol != IPPROTO_TCP || c->marked))
            return refuse(ret_why, "a carrier is neither UDP nor TCP (marked: UDP only)");
    }
    for (size_t i = 0; i < w->n_resolvers; i++)
        if (!is_remote(&w->resolvers[i]))
            return refuse(ret_why, "a resolver's address is none that a host can have");
    for (size_t i = 0; i < w->n_dns; i++)
        if (w->dns[i].family != AF_INET || !is_remote(&w->dns[i]))
            return refuse(ret_why, "a name server is no IPv4 address of a host");
    if (w->lookups && w->n_dns == 0)
        return refuse(ret_why, "look-ups, but no name server");
    /* the platform's proxy has a user of its own: never root, never the client's */
    if (w->proxy && (w->proxy_uid == 0 || w->proxy_uid == UINT32_MAX))
        return refuse(ret_why, "the proxy has no user of its own");
    if (!w->proxy && w->proxy_uid != 0)
        return refuse(ret_why, "a proxy's user, but no proxy");
    return check_tunnel(w, ret_why);
}

static int parse_carrier(struct str text, struct wish *w, const char **ret_why)
{
    struct str protocol, address, port, way;
    struct carrier *c;
    uint32_t number;

    if (w->n_carriers >= WISH_CARRIERS_MAX)
        return refuse(ret_why, "more than 64 carriers");
    c = &w->carriers[w->n_carriers];
    if (!str_next(&text, ' ', &protocol) || !str_next(&text, ' ', &address) ||
        !str_next(&text, ' ', &port) || !str_next(&text, ' ', &way) || text.p != NULL)
        return refuse(ret_why, "a carrier is not \"PROTOCOL ADDRESS PORT uid|mark\"");
    if (str_is(protocol, "udp"))
        c->protocol = IPPROTO_UDP;
    else if (str_is(protocol, "tcp"))
        c->protocol = IPPROTO_TCP;
    else
        return refuse(ret_why, "a carrier's protocol is neither udp nor tcp");
    if (addr_parse(address, &c->addr) < 0)
        return refuse(ret_why, "a carrier's address is none");
    if (str_to_u32(port, UINT16_MAX, &number) < 0)
        return refuse(ret_why, "a carrier's port is none");
    c->port = (uint16_t)number;
    if (!str_is(way, "uid") && !str_is(way, "mark"))
        return refuse(ret_why, "a carrier is told neither by uid nor by mark");
    c->marked = str_is(way, "mark");
    w->n_carriers++;
    return 0;
}

static int parse_list(struct str text, struct addr *list, size_t *n, size_t max,
                      const char **ret_why)
{
    if (*n >= max)
        return refuse(ret_why, "more servers than there is room for");
    if (addr_parse(text, &list[*n]) < 0)
        return refuse(ret_why, "a server's address is none");
    (*n)++;
    return 0;
}

static int parse_address(struct str text, struct wish *w, const char **ret_why)
{
    struct addr a;
    size_t at;

    if (addr_parse(text, &a) < 0)
        return refuse(ret_why, "the tunnel's address is none");
    at = a.family == AF_INET6;
    if (w->tunnel_addr[at].family != 0)
        return refuse(ret_why, "two addresses of one family");
    w->tunnel_addr[at] = a;
    return 0;
}

static int parse_number(struct str text, uint32_t max, uint32_t *ret, const char **ret_why)
{
    return str_to_u32(text, max, ret) < 0 ? refuse(ret_why, "a number is none") : 0;
}

static int parse_line(struct str key, struct str value, struct wish *w, const char **ret_why)
{
    uint32_t number = 0;
    int r;

    if (str_is(key, "carrier"))
        return parse_carrier(value, w, ret_why);
    if (str_is(key, "resolver"))
        return parse_list(value, w->resolvers, &w->n_resolvers, WISH_RESOLVERS_MAX, ret_why);
    if (str_is(key, "dns"))
        return parse_list(value, w->dns, &w->n_dns, WISH_DNS_MAX, ret_why);
    if (str_is(key, "address"))
        return parse_address(value, w, ret_why);
    if (str_is(key, "tunnel") && w->tunnel[0] == '\0') {
        if (value.len == 0 || value.len >= sizeof(w->tunnel) ||
            memchr(value.p, '\0', value.len) != NULL)
            return refuse(ret_why, "the tunnel's name is none");
        memcpy(w->tunnel, value.p, value.len);
        return 0;
    }
    if (str_is(key, "mtu") && w->mtu == 0) {
        r = parse_number(value, WISH_MTU_MAX, &number, ret_why);
        w->mtu = (uint16_t)number;
        return r;
    }
    if (str_is(key, "lookups") && !w->lookups && str_is(value, "1")) {
        w->lookups = true;
        return 0;
    }
    if (str_is(key, "proxy") && !w->proxy) {
        w->proxy = true;
        return parse_number(value, UINT32_MAX - 1, &w->proxy_uid, ret_why);
    }
    return refuse(ret_why, "an unknown or repeated key");
}

int request_parse(const char *text, size_t len, enum request_kind *ret, struct wish *ret_wish,
                  const char **ret_why)
{
    struct str rest = {text, len}, line, key;
    struct wish w = {0};
    size_t kind = 0;
    int r;

    if (len == 0 || len > WISH_TEXT_MAX || text[len - 1] != '\n')
        return refuse(ret_why, "a message that is empty, too long or not ended");
    rest.len--;
    (void)str_next(&rest, '\n', &line);
    while (kind < N_KINDS && !str_is(line, kinds[kind]))
        kind++;
    if (kind == N_KINDS)
        return refuse(ret_why, "an unknown request");
    if (kind != REQUEST_SET && rest.p != NULL)
        return refuse(ret_why, "lines behind a request that takes none");
    while (str_next(&rest, '\n', &line)) {
        if (!str_next(&line, '=', &key) || line.p == NULL)
            return refuse(ret_why, "a line without '='");
        r = parse_line(key, line, &w, ret_why);
        if (r < 0)
            return r;
    }
    if (kind == REQUEST_SET) {
        r = wish_check(&w, ret_why);
        if (r < 0)
            return r;
        *ret_wish = w;
    }
    *ret = (enum request_kind)kind;
    return 0;
}

struct writer {
    char *p;
    size_t left;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(w->p, w->left, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= w->left) {
        w->full = true;
        return;
    }
    w->p += n;
    w->left -= (size_t)n;
}

static void put_addr(struct writer *w, const char *key, const struct addr *a)
{
    char text[ADDR_STR_MAX];

    if (a->family != 0)
        put(w, "%s=%s\n", key, addr_format(a, text));
}

static void put_wish(struct writer *out, const struct wish *w)
{
    char text[ADDR_STR_MAX];

    for (size_t i = 0; i < w->n_carriers; i++)
        put(out, "carrier=%s %s %u %s\n", w->carriers[i].protocol == IPPROTO_TCP ? "tcp" : "udp",
            addr_format(&w->carriers[i].addr, text), w->carriers[i].port,
            w->carriers[i].marked ? "mark" : "uid");
    for (size_t i = 0; i < w->n_resolvers; i++)
        put_addr(out, "resolver", &w->resolvers[i]);
    if (w->tunnel[0] != '\0')
        put(out, "tunnel=%s\n", w->tunnel);
    put_addr(out, "address", &w->tunnel_addr[0]);
    put_addr(out, "address", &w->tunnel_addr[1]);
    if (w->mtu != 0)
        put(out, "mtu=%u\n", w->mtu);
    for (size_t i = 0; i < w->n_dns; i++)
        put_addr(out, "dns", &w->dns[i]);
    if (w->lookups)
        put(out, "lookups=1\n");
    if (w->proxy)
        put(out, "proxy=%u\n", w->proxy_uid);
}

int request_format(enum request_kind kind, const struct wish *wish, char *buf, size_t size)
{
    struct writer out = {buf, size, false};

    put(&out, "%s\n", kinds[kind]);
    if (kind == REQUEST_SET && wish != NULL)
        put_wish(&out, wish);
    return out.full ? -ENOSPC : (int)(size - out.left);
}

/* By the text: there is one form of it, and padding does not count. */
bool wish_equal(const struct wish *a, const struct wish *b)
{
    char one[WISH_TEXT_MAX], other[WISH_TEXT_MAX];
    int n = request_format(REQUEST_SET, a, one, sizeof(one));
    int m = request_format(REQUEST_SET, b, other, sizeof(other));

    return n > 0 && n == m && memcmp(one, other, (size_t)n) == 0;
}
