/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/object/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 8

void vpn_value_name(const char *name, char *buf, size_t size)
{
    size_t n = 0;

    for (const char *p = name; *p != '\0' && n + 2 < size; p++) {
        if (isupper((unsigned char)*p) && p != name)
            buf[n++] = '_';
        buf[n++] = (char)tolower((unsigned char)*p);
    }
    buf[n] = '\0';
}

static json_t *read_basic(sd_bus_message *m, char type)
{
    union {
        uint8_t y;
        int b;
        uint32_t u;
        int32_t i;
        uint64_t t;
        const char *s;
    } v;

    if (sd_bus_message_read_basic(m, type, &v) <= 0)
        return NULL;
    switch (type) {
    case 'y':
        return json_integer(v.y);
    case 'b':
        return json_boolean(v.b);
    case 'u':
        return json_integer(v.u);
    case 'i':
        return json_integer(v.i);
    case 't':
        return json_integer((json_int_t)v.t);
    case 's':
    case 'o':
    case 'g':
        return json_string(v.s);
    default:
        return NULL; /* nothing else is in our interface */
    }
}

/* What is in a container that is no dictionary. */
static bool read_members(sd_bus_message *m, unsigned depth, json_t *into,
                         json_t *(*read)(sd_bus_message *m, unsigned depth))
{
    while (sd_bus_message_at_end(m, false) == 0) {
        if (json_array_append_new(into, read(m, depth)) < 0)
            return false;
    }
    return true;
}

static bool read_entries(sd_bus_message *m, unsigned depth, json_t *into,
                         json_t *(*read)(sd_bus_message *m, unsigned depth))
{
    while (sd_bus_message_enter_container(m, 'e', NULL) > 0) {
        const char *key;
        char name[64];

        if (sd_bus_message_read(m, "s", &key) <= 0)
            return false;
        vpn_value_name(key, name, sizeof(name));
        if (json_object_set_new(into, name, read(m, depth)) < 0 ||
            sd_bus_message_exit_container(m) < 0)
            return false;
    }
    return true;
}

static json_t *read_value(sd_bus_message *m, unsigned depth)
{
    const char *contents;
    char type;
    json_t *value, *inner;
    bool object, whole;

    if (depth == 0 || sd_bus_message_peek_type(m, &type, &contents) <= 0)
        return NULL;
    if (strchr("avr", type) == NULL)
        return read_basic(m, type);
    object = type == 'a' && contents[0] == '{';
    value = object ? json_object() : json_array();
    whole = value != NULL && sd_bus_message_enter_container(m, type, contents) >= 0;
    if (whole)
        whole = (object ? read_entries : read_members)(m, depth - 1, value, read_value);
    if (!whole || sd_bus_message_exit_container(m) < 0) {
        json_decref(value);
        return NULL;
    }
    if (type != 'v')
        return value;
    inner = json_incref(json_array_get(value, 0));
    json_decref(value);
    return inner;
}

int vpn_value_read(sd_bus_message *m, json_t **ret)
{
    json_t *all = json_array();

    if (all == NULL)
        return -ENOMEM;
    if (!read_members(m, DEPTH_MAX, all, read_value)) {
        json_decref(all);
        return -EBADMSG;
    }
    *ret = all;
    return 0;
}

int vpn_value_address(const char *socket, char *buf, size_t size)
{
    int r;

    if (socket[0] == '\0' || strpbrk(socket, ",;=%*\\ ") != NULL)
        return -EINVAL;
    r = snprintf(buf, size, "unix:path=%s", socket);
    return r < 0 || (size_t)r >= size ? -EINVAL : 0;
}

int vpn_value_open(const char *socket, sd_bus **ret)
{
    char address[VPN_ADDRESS_MAX];
    int r;

    if (socket == NULL)
        return sd_bus_open_system(ret);
    r = vpn_value_address(socket, address, sizeof(address));
    if (r >= 0)
        r = sd_bus_new(ret);
    if (r >= 0)
        r = sd_bus_set_address(*ret, address);
    if (r >= 0)
        r = sd_bus_negotiate_fds(*ret, 1);
    return r < 0 ? r : sd_bus_start(*ret);
}
