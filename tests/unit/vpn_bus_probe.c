/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serves the D-Bus object on a manager that only notes things (test_vpn_bus_fake.h), for tests of
 * the command and of a real bus: vpn-bus-probe [SOCKET]. Its standard input is a line of orders at
 * a time: "seal absent", "event TEXT", "last" (prints the last call), and for tests of the desktop
 * "state NAME" (with what belongs to it), "profile NAME", "error TEXT", "pushed TEXT", "missing",
 * "wanted yes|no"; it ends with its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "test_vpn_bus_fake.h"

/* A state as the supervisor shows it, with a tunnel where one belongs to it. */
static void set_state(const char *name)
{
    struct vpn_status *s = &fake.status;

    for (int i = 0; i < MACHINE_STATES; i++) {
        if (strcmp(machine_state_name((enum machine_state)i), name) == 0)
            s->state = (enum machine_state)i;
    }
    s->has_tunnel = s->state == STATE_UP || s->state == STATE_STALLED;
    s->seal = s->has_tunnel                  ? SEAL_TUNNEL_OPEN
              : s->state == STATE_CONNECTING ? SEAL_CARRIER
                                             : SEAL_CLOSED;
    s->wanted_up = true;
    s->server_port = 1194;
    s->server_protocol = 17;
    (void)addr_parse(str_from("203.0.113.10"), &s->server);
    (void)addr_parse(str_from("10.64.0.53"), &s->tunnel.dns[0]);
    s->tunnel.n_dns = 1;
    (void)snprintf(s->device, sizeof(s->device), "%s", s->has_tunnel ? "qubes-vpn" : "");
    (void)snprintf(s->endpoint, sizeof(s->endpoint), "vpn.example.net");
}

/* True: it was one of these orders. */
static bool take_setting(const char *line)
{
    struct vpn_status *s = &fake.status;

    if (strncmp(line, "state ", 6) == 0)
        set_state(line + 6);
    else if (strncmp(line, "profile ", 8) == 0)
        (void)snprintf(s->profile, sizeof(s->profile), "%s", line + 8);
    else if (strncmp(line, "error ", 6) == 0)
        (void)snprintf(s->error, sizeof(s->error), "%s", line + 6);
    else if (strncmp(line, "pushed ", 7) == 0)
        findings_add(&s->pushed_findings, FINDING_LEFT_OUT, 0, STR_LITERAL("route"), "%s",
                     line + 7);
    else if (strcmp(line, "missing") == 0)
        s->missing = NEEDS_USER_PASSWORD;
    else if (strncmp(line, "wanted ", 7) == 0)
        s->wanted_up = strcmp(line + 7, "yes") == 0;
    else
        return false;
    bus_changed(fake.bus);
    return true;
}

static void take_line(const char *line)
{
    if (take_setting(line))
        return;
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
