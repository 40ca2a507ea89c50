/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/line.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "vpn/object/value.h"

/* The supervisor reads descriptors for 5 s, polkit may ask a person. */
#define CALL_US UINT64_C(130000000)

/* ---- the line ---- */

int line_open(struct line *l, const char *socket)
{
    *l = (struct line){0};
    return vpn_value_open(socket, &l->bus);
}

void line_close(struct line *l)
{
    l->bus = sd_bus_flush_close_unref(l->bus);
}

static void keep_error(struct line *l, const sd_bus_error *e, int r)
{
    static const char prefix[] = VPN_OBJECT_ERROR;

    l->error_name[0] = '\0';
    (void)str_escape(str_from(e->message != NULL ? e->message : strerror(-r)), l->error,
                     sizeof(l->error));
    if (e->name != NULL && strncmp(e->name, prefix, sizeof(prefix) - 1) == 0)
        (void)str_escape(str_from(e->name + sizeof(prefix) - 1), l->error_name,
                         sizeof(l->error_name));
}

int line_begin(struct line *l, const char *method, sd_bus_message **ret)
{
    int r = sd_bus_message_new_method_call(l->bus, ret, VPN_OBJECT_NAME, VPN_OBJECT_PATH,
                                           VPN_OBJECT_NAME, method);

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
        r = vpn_value_read(answer, ret);
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
    int r = sd_bus_message_new_method_call(l->bus, &m, VPN_OBJECT_NAME, VPN_OBJECT_PATH,
                                           "org.freedesktop.DBus.Properties", "GetAll");

    if (r >= 0)
        r = sd_bus_message_append(m, "s", VPN_OBJECT_NAME);
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
