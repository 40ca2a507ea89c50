/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vpn/command/explain.h"

static int parse_port(struct str text, uint16_t *ret)
{
    uint32_t port;

    if (str_to_u32(text, UINT16_MAX, &port) < 0 || port == 0)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

static bool is_name(struct str text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '\0' || strchr(allowed, text.p[i]) == NULL)
            return false;
    }
    return text.len > 0 && text.len <= 253;
}

int destination_parse(const char *text, struct destination *ret)
{
    struct destination d = {0};
    struct str host = str_from(text);
    const char *colon = strrchr(text, ':'), *bracket = strchr(text, ']');

    if (addr_parse(host, &d.addr) == 0) {
        *ret = d;
        return 0;
    }
    if (text[0] == '[') {
        if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':'))
            return -EINVAL;
        host = (struct str){text + 1, (size_t)(bracket - text - 1)};
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
    } else if (colon != NULL) {
        host.len = (size_t)(colon - text);
    }
    if (colon != NULL && parse_port(str_from(colon + 1), &d.port) < 0)
        return -EINVAL;
    if (addr_parse(host, &d.addr) < 0 && (text[0] == '[' || !is_name(host)))
        return -EINVAL;
    if (text[0] == '[' && d.addr.family != AF_INET6)
        return -EINVAL;
    *ret = d;
    return 0;
}

bool destination_is_dns(const struct destination *d)
{
    static const uint8_t net[] = {10, 139, 1};

    return d->addr.family == AF_INET && memcmp(d->addr.bytes, net, sizeof(net)) == 0 &&
           (d->addr.bytes[3] == 1 || d->addr.bytes[3] == 2) && (d->port == 0 || d->port == 53);
}
