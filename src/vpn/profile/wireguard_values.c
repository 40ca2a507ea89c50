/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/wireguard_values.h"

#include <string.h>

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 32 bytes are 43 digits, the last of which has two bits to spare that must be 0, and one '='. */
bool wireguard_parse_key(struct str text, uint8_t key[static WIREGUARD_KEY_SIZE])
{
    uint8_t bytes[WIREGUARD_KEY_SIZE + 1] = {0};
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;
    bool good = text.len == 44 && text.p[43] == '=';

    for (size_t i = 0; good && i < 43; i++) {
        int value = base64_value(text.p[i]);

        good = value >= 0;
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[n++] = (uint8_t)(bits >> have);
        }
    }
    good = good && (bits & 3) == 0;
    if (good)
        memcpy(key, bytes, WIREGUARD_KEY_SIZE);
    explicit_bzero(bytes, sizeof(bytes));
    explicit_bzero(&bits, sizeof(bits));
    return good;
}

bool wireguard_key_is_zero(const uint8_t key[static WIREGUARD_KEY_SIZE])
{
    static const uint8_t zero[WIREGUARD_KEY_SIZE];

    return memcmp(key, zero, sizeof(zero)) == 0;
}

/* Returns true and the next piece between commas and blanks. */
bool wireguard_next_piece(struct str *rest, struct str *ret)
{
    size_t i = 0, n = 0;

    while (i < rest->len && strchr(", \t", rest->p[i]) != NULL)
        i++;
    while (i + n < rest->len && strchr(", \t", rest->p[i + n]) == NULL)
        n++;
    *ret = (struct str){rest->p + i, n};
    rest->p += i + n;
    rest->len -= i + n;
    return n > 0;
}

/* "ADDR" or "ADDR/LEN"; host bits may be set. */
bool wireguard_parse_net(struct str text, struct prefix *ret)
{
    struct str head;
    struct prefix p;
    uint32_t len;

    (void)str_next(&text, '/', &head);
    if (addr_parse(head, &p.addr) < 0)
        return false;
    len = addr_bits(p.addr.family);
    if (text.p != NULL && str_to_u32(text, len, &len) < 0)
        return false;
    p.len = (uint8_t)len;
    *ret = p;
    return true;
}

static bool is_label(struct str s)
{
    if (s.len == 0 || s.len > 63 || s.p[0] == '-' || s.p[s.len - 1] == '-')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '-')
            return false;
    }
    return true;
}

/*
 * RFC 1123 2.1. A name whose last label begins with a digit is refused: no top-level domain does,
 * but "127.1" or "0x7f.0x1" would be taken for an address by some resolvers.
 */
bool wireguard_is_host_name(struct str s)
{
    struct str label = {0};

    if (s.len == 0 || s.len >= PROFILE_HOST_MAX)
        return false;
    while (str_next(&s, '.', &label))
        if (!is_label(label))
            return false;
    return label.p[0] < '0' || label.p[0] > '9';
}

/* "NAME:PORT", "ADDR:PORT", "[ADDR6]:PORT" */
bool wireguard_split_endpoint(struct str value, struct str *ret_host, struct str *ret_port)
{
    const char *colon = value.len > 0 ? memrchr(value.p, ':', value.len) : NULL;
    struct str host;

    if (colon == NULL)
        return false;
    host = (struct str){value.p, (size_t)(colon - value.p)};
    *ret_port = (struct str){colon + 1, value.len - host.len - 1};
    if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
        host = (struct str){host.p + 1, host.len - 2};
    else if (host.len == 0 || memchr(host.p, ':', host.len) != NULL)
        return false; /* IPv6 without brackets: where does the port begin? */
    *ret_host = host;
    return true;
}
