/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs one VPN client and prints its events as lines, for lab tests:
 *
 *   vpn-client-probe PROFILE RUNTIME UID [adopt] [targets=ADDR,ADDR...] [program=PATH]
 *
 * The endpoints of the profile have to be addresses; targets are tried in their place, on the port
 * of the first. Lines on standard input: "user NAME PASSWORD", "key PASSWORD", "challenge TEXT",
 * "restart", "poll", "configure" (sets the device up with what the judge let pass), "leave" and
 * "free" (both end the probe).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "netlink/nl.h"
#include "vpn/client/client.h"
#include "vpn/client/device.h"
#include "vpn/profile/openvpn.h"
#include "vpn/profile/profile.h"

struct probe {
    sd_event *loop;
    struct client *client;
    struct pushed pushed;
    struct openvpn_target targets[PROFILE_ENDPOINTS_MAX];
    size_t n_targets;
    char line[1024];
    size_t len;
};

__attribute__((format(printf, 1, 2))) static void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)fflush(stdout);
}

static const char *prefix_text(const struct prefix *p, char *buf)
{
    return p->addr.family == 0 ? "none" : prefix_format(p, buf);
}

static void print_up(const struct client_event *e)
{
    char a[PREFIX_STR_MAX], b[PREFIX_STR_MAX], server[ADDR_STR_MAX] = "none", dns[ADDR_STR_MAX];

    if (e->server.family != 0)
        (void)addr_format(&e->server, server);
    print("UP %s %s server %s mtu %u dns", prefix_text(&e->pushed->addr4, a),
          prefix_text(&e->pushed->addr6, b), server, e->pushed->mtu);
    for (size_t i = 0; i < e->pushed->n_dns; i++)
        print(" %s", addr_format(&e->pushed->dns[i], dns));
    print("\n");
}

static void on_event(struct client *c, const struct client_event *e, void *user)
{
    static const char *const secrets[] = {"user-password", "key-password", "challenge"};
    struct probe *p = user;

    (void)c;
    switch (e->kind) {
    case CLIENT_CONNECTING:
        print("CONNECTING %s\n", e->text);
        break;
    case CLIENT_SECRET:
        print("SECRET %s %s\n", secrets[e->secret], e->text);
        break;
    case CLIENT_UP:
        p->pushed = *e->pushed;
        print_up(e);
        break;
    case CLIENT_ALIVE:
        print("ALIVE %llu %llu\n", (unsigned long long)e->bytes_in,
              (unsigned long long)e->bytes_out);
        break;
    case CLIENT_STALLED:
        print("STALLED %s\n", e->text);
        break;
    case CLIENT_RECONNECTING:
        print("RECONNECTING %s\n", e->text);
        break;
    case CLIENT_REFUSED:
        print("REFUSED %s\n", e->text);
        break;
    case CLIENT_ENDED:
        print("ENDED %s\n", e->text);
        break;
    }
}

static void configure(struct probe *p)
{
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    static struct findings findings;
    const struct surroundings nothing = {0};
    struct tunnel_facts facts;
    int r = nl_open(NETLINK_ROUTE, &s);

    if (r == 0)
        r = pushed_judge(&p->pushed, &nothing, &findings, &facts);
    if (r == 0)
        r = device_configure(s, &facts);
    print("configured %d\n", r);
}

static void run_line(struct probe *p, char *line)
{
    char *word[3] = {NULL}, *rest = line;
    int r = 0;

    for (int i = 0; i < 3 && rest != NULL; i++)
        word[i] = i == 2 ? rest : strsep(&rest, " ");
    if (strcmp(word[0], "user") == 0 && word[2] != NULL) {
        r = client_give_secret(p->client, SECRET_USER_PASSWORD, word[1], word[2]);
    } else if (strcmp(word[0], "key") == 0 && word[1] != NULL) {
        r = client_give_secret(p->client, SECRET_KEY_PASSWORD, NULL, word[1]);
    } else if (strcmp(word[0], "challenge") == 0 && word[1] != NULL) {
        r = client_give_secret(p->client, SECRET_CHALLENGE, NULL, word[1]);
    } else if (strcmp(word[0], "restart") == 0) {
        client_restart(p->client);
    } else if (strcmp(word[0], "poll") == 0) {
        r = client_poll(p->client);
    } else if (strcmp(word[0], "configure") == 0) {
        configure(p);
    } else if (strcmp(word[0], "leave") == 0) {
        p->client = client_leave(p->client);
        (void)sd_event_exit(p->loop, 0);
    } else if (strcmp(word[0], "free") == 0) {
        p->client = client_free(p->client);
        (void)sd_event_exit(p->loop, 0);
    } else {
        r = -EINVAL;
    }
    if (r < 0)
        print("error %s\n", strerror(-r));
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *user)
{
    struct probe *p = user;
    ssize_t n = read(fd, p->line + p->len, sizeof(p->line) - 1 - p->len);
    char *end;

    (void)events;
    if (n <= 0)
        return sd_event_source_set_enabled(source, SD_EVENT_OFF); /* nobody has more to say */
    p->len += (size_t)n;
    p->line[p->len] = '\0';
    while (p->client != NULL && (end = strchr(p->line, '\n')) != NULL) {
        *end = '\0';
        run_line(p, p->line);
        p->len -= (size_t)(end + 1 - p->line);
        memmove(p->line, end + 1, p->len + 1);
    }
    return 0;
}

static struct profile *read_profile(const char *path)
{
    static struct findings findings;
    static char text[PROFILE_FILE_MAX];
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct profile *profile = NULL;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    int r = n < 0 ? -errno : profile_read("probe", text, (size_t)n, NULL, &findings, &profile);

    for (size_t i = 0; i < findings.n; i++)
        (void)fprintf(stderr, "line %u: %s: %s\n", findings.list[i].line, findings.list[i].word,
                      findings.list[i].text);
    if (r < 0)
        (void)fprintf(stderr, "%s: %s\n", path, strerror(-r));
    return profile;
}

static void fill_targets(struct probe *p, const struct profile *profile)
{
    for (size_t i = 0; i < profile->n_endpoints; i++) {
        const struct endpoint *e = &profile->endpoints[i];
        struct openvpn_target *t = &p->targets[p->n_targets];

        if (addr_parse(str_from(e->host), &t->addr) < 0)
            continue;
        t->port = e->port;
        t->protocol = e->protocol;
        p->n_targets++;
    }
}

static void replace_targets(struct probe *p, const char *text)
{
    const uint16_t port = p->targets[0].port;
    const uint8_t protocol = p->targets[0].protocol;
    struct str rest = str_from(text), one;

    p->n_targets = 0;
    while (str_next(&rest, ',', &one) && p->n_targets < PROFILE_ENDPOINTS_MAX) {
        struct openvpn_target *t = &p->targets[p->n_targets];

        *t = (struct openvpn_target){.port = port, .protocol = protocol};
        if (addr_parse(one, &t->addr) == 0)
            p->n_targets++;
    }
}

int main(int argc, char **argv)
{
    static struct probe p;
    bool adopt = false;
    struct client_setup setup = {0};
    struct profile *profile;
    sigset_t term;
    int r;

    if (argc < 4)
        return 2;
    profile = read_profile(argv[1]);
    if (profile == NULL)
        return 1;
    fill_targets(&p, profile);
    for (int i = 4; i < argc; i++) {
        if (strncmp(argv[i], "targets=", 8) == 0)
            replace_targets(&p, argv[i] + 8);
        else if (strncmp(argv[i], "program=", 8) == 0)
            setup.program = argv[i] + 8;
        else
            adopt = true;
    }
    setup = (struct client_setup){.profile = profile,
                                  .targets = p.targets,
                                  .n_targets = p.n_targets,
                                  .runtime = argv[2],
                                  .program = setup.program,
                                  .uid = (uid_t)atoi(argv[3]),
                                  .gid = (gid_t)atoi(argv[3])};
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    r = sd_event_default(&p.loop);
    if (r >= 0)
        r = sd_event_add_signal(p.loop, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_io(p.loop, NULL, STDIN_FILENO, EPOLLIN, on_input, &p);
    if (r >= 0)
        r = adopt ? client_adopt(p.loop, &setup, on_event, &p, &p.client)
                  : client_start(p.loop, &setup, on_event, &p, &p.client);
    if (r < 0) {
        print("failed %s\n", strerror(-r));
        return 1;
    }
    print("started\n");
    r = sd_event_loop(p.loop);
    p.client = client_free(p.client);
    (void)profile_free(profile);
    (void)sd_event_unref(p.loop);
    return r < 0 ? 1 : 0;
}
