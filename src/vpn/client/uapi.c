/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/uapi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define NS_PER_S  1000000000u
#define ERRNO_MAX 4095

struct out {
    char *p;
    size_t size, used;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void out_line(struct out *o, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(o->p + o->used, o->size - o->used, format, args);
    va_end(args);
    /* the NUL of the last line has to fit as well: one byte more than needed, nothing worse */
    if (n < 0 || (size_t)n >= o->size - o->used) {
        o->full = true;
        return;
    }
    o->used += (size_t)n;
}

static void out_key(struct out *o, const char *name, const uint8_t key[static WG_KEY_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * WG_KEY_SIZE + 1] = {0};

    for (size_t i = 0; i < WG_KEY_SIZE; i++) {
        text[2 * i] = digits[key[i] >> 4];
        text[2 * i + 1] = digits[key[i] & 15];
    }
    out_line(o, "%s=%s\n", name, text);
    explicit_bzero(text, sizeof(text));
}

static void out_peer(struct out *o, const struct wg_peer *p, enum wg_set what)
{
    char text[ADDR_STR_MAX];

    out_key(o, "public_key", p->public_key);
    if (what == WG_SET_KEEPALIVE)
        out_line(o, "update_only=true\n");
    if (what != WG_SET_KEEPALIVE) {
        out_key(o, "preshared_key", p->preshared_key);
        if (p->endpoint.family != 0)
            out_line(o, p->endpoint.family == AF_INET6 ? "endpoint=[%s]:%u\n" : "endpoint=%s:%u\n",
                     addr_format(&p->endpoint, text), p->port);
        out_line(o, "replace_allowed_ips=true\n");
        for (size_t i = 0; i < p->n_allowed; i++)
            out_line(o, "allowed_ip=%s/%u\n", addr_format(&p->allowed[i].addr, text),
                     p->allowed[i].len);
    }
    out_line(o, "persistent_keepalive_interval=%u\n", p->keepalive);
}

ssize_t uapi_format_set(const struct wg_device *d, enum wg_set what, char *buf, size_t size)
{
    struct out o = {.p = buf, .size = size};

    if (size == 0)
        return -ENOSPC;
    out_line(&o, "set=1\n");
    /* the port may be refused, and wireguard-go then logs the line after: let that be no key */
    if (what == WG_SET_ALL && d->listen_port != 0)
        out_line(&o, "listen_port=%u\n", d->listen_port);
    if (what != WG_SET_KEEPALIVE)
        out_line(&o, "replace_peers=true\n");
    if (what == WG_SET_ALL)
        out_key(&o, "private_key", d->private_key);
    for (size_t i = 0; i < d->n_peers; i++)
        out_peer(&o, &d->peers[i], what);
    out_line(&o, "\n");
    if (o.full) {
        explicit_bzero(buf, size);
        return -ENOSPC;
    }
    return (ssize_t)o.used;
}

size_t uapi_reply_size(const char *text, size_t len)
{
    const char *end;

    if (len == 0)
        return 0;
    if (text[0] == '\n')
        return 1;
    end = memmem(text, len, "\n\n", 2);
    return end != NULL ? (size_t)(end - text) + 2 : 0;
}

static int parse_u64(struct str s, uint64_t *ret)
{
    uint64_t value = 0;

    if (s.len == 0 || (s.len > 1 && s.p[0] == '0'))
        return -EBADMSG;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
            return -EBADMSG;
    }
    *ret = value;
    return 0;
}

static int parse_number(struct str s, uint32_t max, uint32_t *ret)
{
    return str_to_u32(s, max, ret) < 0 ? -EBADMSG : 0;
}

static int parse_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static int parse_key(struct str s, uint8_t key[static WG_KEY_SIZE])
{
    if (s.len != 2 * WG_KEY_SIZE)
        return -EBADMSG;
    for (size_t i = 0; i < WG_KEY_SIZE; i++) {
        int high = parse_digit(s.p[2 * i]), low = parse_digit(s.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EBADMSG;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

/* "ADDR:PORT" or "[ADDR]:PORT". An address with a zone is none that we gave: left out. */
static int parse_endpoint(struct str s, struct wg_peer *p)
{
    const char *colon = s.len > 0 ? memrchr(s.p, ':', s.len) : NULL;
    struct str host, port;
    uint32_t number;

    if (colon == NULL)
        return -EBADMSG;
    host = (struct str){s.p, (size_t)(colon - s.p)};
    port = (struct str){colon + 1, s.len - host.len - 1};
    if (host.len >= 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
        host = (struct str){host.p + 1, host.len - 2};
    if (parse_number(port, UINT16_MAX, &number) < 0)
        return -EBADMSG;
    if (host.len > 0 && memchr(host.p, '%', host.len) != NULL)
        return 0;
    if (addr_parse(host, &p->endpoint) < 0)
        return -EBADMSG;
    p->port = (uint16_t)number;
    return 0;
}

/* The seconds come before their fraction, which alone says nothing. */
static int parse_time(struct str key, struct str value, struct wg_peer *p)
{
    uint64_t number;

    if (parse_u64(value, &number) < 0)
        return -EBADMSG;
    if (str_is(key, "last_handshake_time_nsec")) {
        if (number >= NS_PER_S)
            return -EBADMSG;
        p->handshake_ns += number;
        return 0;
    }
    if (number > INT64_MAX / NS_PER_S - 1)
        return -EBADMSG;
    p->handshake_ns = number * NS_PER_S;
    return 0;
}

static int parse_peer_line(struct str key, struct str value, struct wg_peer *p)
{
    uint32_t number;

    if (str_is(key, "preshared_key"))
        return parse_key(value, p->preshared_key);
    if (str_is(key, "endpoint"))
        return parse_endpoint(value, p);
    if (str_is(key, "last_handshake_time_sec") || str_is(key, "last_handshake_time_nsec"))
        return parse_time(key, value, p);
    if (str_is(key, "tx_bytes"))
        return parse_u64(value, &p->tx);
    if (str_is(key, "rx_bytes"))
        return parse_u64(value, &p->rx);
    if (str_is(key, "persistent_keepalive_interval")) {
        if (parse_number(value, UINT16_MAX, &number) < 0)
            return -EBADMSG;
        p->keepalive = (uint16_t)number;
    }
    return 0;
}

static int parse_device_line(struct str key, struct str value, struct wg_device *d)
{
    uint32_t number;

    if (str_is(key, "private_key"))
        return parse_key(value, d->private_key);
    if (str_is(key, "listen_port")) {
        if (parse_number(value, UINT16_MAX, &number) < 0)
            return -EBADMSG;
        d->listen_port = (uint16_t)number;
    }
    if (str_is(key, "fwmark"))
        return parse_number(value, UINT32_MAX, &d->fwmark);
    return 0;
}

static int parse_line(struct str key, struct str value, struct wg_device *d)
{
    struct wg_peer *last = d->n_peers > 0 ? &d->peers[d->n_peers - 1] : NULL;

    if (str_is(key, "public_key")) {
        if (d->n_peers >= WG_PEERS_MAX)
            return -E2BIG;
        return parse_key(value, d->peers[d->n_peers++].public_key);
    }
    return last != NULL ? parse_peer_line(key, value, last) : parse_device_line(key, value, d);
}

/* wireguard-go writes the negative number, others the positive one. */
static int parse_errno(struct str value, int *ret)
{
    uint32_t number;

    if (value.len > 0 && value.p[0] == '-')
        value = (struct str){value.p + 1, value.len - 1};
    if (parse_number(value, ERRNO_MAX, &number) < 0)
        return -EBADMSG;
    *ret = -(int)number;
    return 0;
}

int uapi_parse_reply(const char *text, size_t len, struct wg_device *ret)
{
    struct str rest = {text, len}, line;
    struct wg_device d = {0};
    bool has_errno = false;
    int result = 0, r = -EBADMSG;

    if (len == 0 || uapi_reply_size(text, len) != len)
        return -EBADMSG;
    while (str_next(&rest, '\n', &line) && line.len > 0) {
        struct str key;

        if (!str_next(&line, '=', &key) || line.p == NULL)
            goto out;
        if (str_is(key, "errno")) {
            r = parse_errno(line, &result);
            has_errno = true;
        } else {
            r = parse_line(key, line, &d);
        }
        if (r < 0)
            goto out;
    }
    r = !has_errno ? -EBADMSG : result;
    if (r == 0)
        *ret = d;
out:
    wg_device_wipe(&d);
    return r;
}
