/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A notification daemon that shows nothing and tells everything, on the session's bus. Arguments
 * are its capabilities ("body", "body-markup"). Each Notify is a line of JSON on standard output.
 * Orders on standard input, a line each: "hold" (answer no Notify, as a daemon whose dom0 does not
 * answer), "release", "refuse" (answer with an error), "accept", "close ID". It has no
 * CloseNotification, as the proxy of Qubes 4.3. Ends with its input.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vpn/object/value.h"

#define NAME     "org.freedesktop.Notifications"
#define PATH     "/org/freedesktop/Notifications"
#define HELD_MAX 16

static struct {
    sd_bus *bus;
    char **capabilities;
    bool hold, refuse;
    uint32_t next_id;
    sd_bus_message *held[HELD_MAX];
    size_t n_held;
} probe = {.next_id = 1};

static int on_capabilities(sd_bus_message *m, void *user, sd_bus_error *e)
{
    sd_bus_message *answer = NULL;
    int r = sd_bus_message_new_method_return(m, &answer);

    (void)user;
    (void)e;
    if (r >= 0)
        r = sd_bus_message_append_strv(answer, probe.capabilities);
    if (r >= 0)
        r = sd_bus_send(NULL, answer, NULL);
    sd_bus_message_unref(answer);
    return r;
}

static int answer(sd_bus_message *m)
{
    uint32_t replaces = 0;
    const char *name;

    (void)sd_bus_message_rewind(m, 1);
    (void)sd_bus_message_read(m, "su", &name, &replaces);
    return sd_bus_reply_method_return(m, "u", replaces != 0 ? replaces : probe.next_id++);
}

static int on_notify(sd_bus_message *m, void *user, sd_bus_error *e)
{
    json_t *arguments = NULL;
    int r = vpn_value_read(m, &arguments);

    (void)user;
    if (r < 0)
        return r;
    (void)json_dumpf(arguments, stdout, JSON_COMPACT);
    (void)putchar('\n');
    (void)fflush(stdout);
    json_decref(arguments);
    if (probe.refuse)
        return sd_bus_error_set(e, NAME ".Error.Refused", "refused");
    if (probe.hold && probe.n_held < HELD_MAX) {
        probe.held[probe.n_held++] = sd_bus_message_ref(m);
        return 1;
    }
    return answer(m);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("GetCapabilities", "", "as", on_capabilities, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Notify", "susssasa{sv}i", "u", on_notify, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL("NotificationClosed", "uu", 0),
    SD_BUS_VTABLE_END,
};

static void take_line(const char *line)
{
    if (strcmp(line, "hold") == 0) {
        probe.hold = true;
    } else if (strcmp(line, "release") == 0) {
        probe.hold = false;
        for (size_t i = 0; i < probe.n_held; i++) {
            (void)answer(probe.held[i]);
            sd_bus_message_unref(probe.held[i]);
        }
        probe.n_held = 0;
    } else if (strcmp(line, "refuse") == 0 || strcmp(line, "accept") == 0) {
        probe.refuse = line[0] == 'r';
    } else if (strncmp(line, "close ", 6) == 0) {
        (void)sd_bus_emit_signal(probe.bus, PATH, NAME, "NotificationClosed", "uu",
                                 (uint32_t)strtoul(line + 6, NULL, 10), 2u);
    }
    printf("\"%s\"\n", line);
    (void)fflush(stdout);
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    static char buf[1024];
    char *line, *save = NULL;
    ssize_t n = read(fd, buf, sizeof(buf) - 1);

    (void)revents;
    (void)user;
    if (n <= 0)
        return sd_event_exit(sd_event_source_get_event(s), 0);
    buf[n] = '\0';
    for (line = strtok_r(buf, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        take_line(line);
    return 0;
}

int main(int argc, char **argv)
{
    sd_event *loop = NULL;
    int r = sd_event_new(&loop);

    (void)argc;
    probe.capabilities = argv + 1;
    if (r >= 0)
        r = sd_bus_open_user(&probe.bus);
    if (r >= 0)
        r = sd_bus_attach_event(probe.bus, loop, 0);
    if (r >= 0)
        r = sd_bus_add_object_vtable(probe.bus, NULL, PATH, NAME, vtable, NULL);
    if (r >= 0)
        r = sd_bus_request_name(probe.bus, NAME, SD_BUS_NAME_REPLACE_EXISTING);
    if (r >= 0)
        r = sd_event_add_io(loop, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL);
    if (r >= 0) {
        printf("\"ready\"\n");
        (void)fflush(stdout);
        r = sd_event_loop(loop);
    }
    sd_bus_flush_close_unref(probe.bus);
    sd_event_unref(loop);
    return r < 0 ? 1 : 0;
}
