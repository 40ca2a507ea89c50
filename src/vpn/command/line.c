/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/line.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

#define NAME      "org.qubes_os.Vpn1"
#define PATH      "/org/qubes_os/Vpn1"
#define DEPTH_MAX 8

/* The supervisor reads descriptors for 5 s, polkit may ask a person. */
#define CALL_US UINT64_C(130000000)

/* ---- messages to JSON ---- */

void line_json_name(const char *name, char *buf, size_t size)
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
        line_json_name(key, name, sizeof(name));
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

int line_read_message(sd_bus_message *m, json_t **ret)
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

/* ---- the line ---- */

int line_open(struct line *l, const char *socket)
{
    char address[256];
    int r;

    *l = (struct line){0};
    if (socket == NULL)
        return sd_bus_open_system(&l->bus);
    /* The address has its own quoting; a path that needs it is not worth it. */
    r = snprintf(address, sizeof(address), "unix:path=%s", socket);
    if (r < 0 || (size_t)r >= sizeof(address) || strpbrk(socket, ",;=%*\\ ") != NULL)
        return -EINVAL;
    r = sd_bus_new(&l->bus);
    if (r >= 0)
        r = sd_bus_set_address(l->bus, address);
    if (r >= 0)
        r = sd_bus_negotiate_fds(l->bus, 1);
    return r < 0 ? r : sd_bus_start(l->bus);
}

void line_close(struct line *l)
{
    l->bus = sd_bus_flush_close_unref(l->bus);
}

static void keep_error(struct line *l, const sd_bus_error *e, int r)
{
    static const char prefix[] = NAME ".Error.";

    l->error_name[0] = '\0';
    (void)str_escape(str_from(e->message != NULL ? e->message : strerror(-r)), l->error,
                     sizeof(l->error));
    if (e->name != NULL && strncmp(e->name, prefix, sizeof(prefix) - 1) == 0)
        (void)str_escape(str_from(e->name + sizeof(prefix) - 1), l->error_name,
                         sizeof(l->error_name));
}

int line_begin(struct line *l, const char *method, sd_bus_message **ret)
{
    int r = sd_bus_message_new_method_call(l->bus, ret, NAME, PATH, NAME, method);

    if (r >= 0 && isatty(STDIN_FILENO))
        r = sd_bus_message_set_allow_interactive_authorization(*ret, 1);
    return r;
}

int line_send(struct line *l, sd_bus_message *m, json_t **ret)
{
    sd_bus_error e = SD_BUS_ERROR_NULL;
    sd_bus_message *answer = NULL;
    int r = sd_bus_call(l->bus, m, CALL_US, &e, &answer);

    if (r < 0)
        keep_error(l, &e, r);
    else if (ret != NULL)
        r = line_read_message(answer, ret);
    sd_bus_message_unref(answer);
    sd_bus_message_unref(m);
    sd_bus_error_free(&e);
    return r < 0 ? r : 0;
}

int line_call(struct line *l, json_t **ret, const char *method, const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list ap;
    int r = line_begin(l, method, &m);

    if (r >= 0 && types[0] != '\0') {
        va_start(ap, types);
        r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
    }
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    return line_send(l, m, ret);
}

int line_get_all(struct line *l, json_t **ret)
{
    json_t *answer = NULL;
    sd_bus_message *m = NULL;
    int r = sd_bus_message_new_method_call(l->bus, &m, NAME, PATH,
                                           "org.freedesktop.DBus.Properties", "GetAll");

    if (r >= 0)
        r = sd_bus_message_append(m, "s", NAME);
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    r = line_send(l, m, &answer);
    if (r >= 0 && !json_is_object(json_array_get(answer, 0)))
        r = -EBADMSG;
    if (r >= 0)
        *ret = json_incref(json_array_get(answer, 0));
    json_decref(answer);
    return r;
}
