/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serves the D-Bus object on a manager that only notes things (test_vpn_bus_fake.h), for tests of
 * the command and of a real bus: vpn-bus-probe [SOCKET]. Its standard input is a line of orders at
 * a time: "seal absent", "event TEXT", "last" (prints the last call); it ends with its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "test_vpn_bus_fake.h"

static void take_line(const char *line)
{
    if (strcmp(line, "seal absent") == 0) {
        fake.status.seal = SEAL_ABSENT;
        (void)snprintf(fake.status.seal_error, sizeof(fake.status.seal_error), "no answer");
        bus_changed(fake.bus);
    } else if (strncmp(line, "event ", 6) == 0) {
        bus_event(fake.bus, VPN_EVENT_UP, line + 6);
    } else if (strncmp(line, "phase ", 6) == 0) {
        (void)snprintf(fake.status.phase, sizeof(fake.status.phase), "%s", line + 6);
        bus_changed(fake.bus);
    } else if (strcmp(line, "last") == 0) {
        printf("%s|%zu|%s|%zu %s\n", fake.last, fake.len, fake.text, fake.n_others, fake.other);
    }
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

    fake.status.seal = SEAL_CLOSED;
    if (r >= 0)
        r = bus_new(loop, NULL, argc > 1 ? argv[1] : NULL, &fake.bus);
    if (r >= 0)
        r = sd_event_add_io(loop, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL);
    if (r >= 0) {
        printf("ready\n");
        (void)fflush(stdout);
        r = sd_event_loop(loop);
    }
    (void)bus_free(fake.bus);
    sd_event_unref(loop);
    return r < 0 ? 1 : 0;
}
