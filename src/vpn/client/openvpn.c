/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/openvpn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/memory_file.h"
#include "vpn/client/device.h"
#include "vpn/client/openvpn_private.h"
#include "vpn/client/runtime.h"
#include "vpn/client/seccomp.h"
#include "vpn/wish/wish.h"

#define START_LIMIT_MS 15000 /* to its first words; a slow machine, many certificates */
#define ADOPT_LIMIT_MS 3000
#define RESTART_GRACE_MS 200

struct text { /* wiped: it holds keys */
    char *p;
    size_t len;
};

static void text_wipe(struct text *t)
{
    if (t->p != NULL)
        explicit_bzero(t->p, t->len);
    free(t->p);
}

static int openvpn_socket_path(const struct client *c, char **ret)
{
    if (asprintf(ret, "%s/management", c->sockets) < 0) {
        *ret = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* What the text depends on, but for the endpoints: is a running client one of this profile? */
static int openvpn_digest(const struct client *c, uint64_t *ret)
{
    const struct openvpn_target any = {.addr = {.family = AF_INET, .bytes = {192, 0, 2, 1}},
                                       .port = 1,
                                       .protocol = IPPROTO_UDP};
    const struct openvpn_setup setup = {
        .targets = &any, .n_targets = 1, .device = SEAL_TUNNEL, .management = "/"};
    _cleanup_(text_wipe) struct text text = {0};
    int r = openvpn_write(c->profile, &setup, &text.p, &text.len);

    if (r == 0)
        *ret = hash_bytes(HASH_START, text.p, text.len);
    return r;
}

static int openvpn_spawn(struct client *c, const char *management)
{
    static const char *const argv[] = {"openvpn", "--config", "stdin", NULL};
    struct openvpn_setup text_setup = {.targets = c->targets,
                                       .n_targets = c->n_targets,
                                       .device = SEAL_TUNNEL,
                                       .management = management};
    struct spawn_setup setup = {.program = c->program,
                                .argv = argv,
                                .uid = c->uid,
                                .gid = c->gid,
                                .file_size = OPENVPN_LOG_MAX,
                                .prepare = seccomp_prepare_openvpn};
    _cleanup_(text_wipe) struct text text = {0};
    _cleanup_(closep) int input = -1, output = -1;
    int r = openvpn_write(c->profile, &text_setup, &text.p, &text.len);

    if (r < 0)
        return r;
    r = memory_file("openvpn", text.p, text.len, &input);
    if (r < 0)
        return r;
    output = runtime_open_log(c->folder);
    if (output < 0)
        return output;
    setup.input = input;
    setup.output = output;
    return spawn_process(&setup, &c->process);
}

static int openvpn_on_exit(sd_event_source *source, int fd, uint32_t events, void *user)
{
    struct openvpn_driver *d = user;
    char words[64];
    int status;

    (void)fd;
    (void)events;
    if (!process_ended(&d->client->process, &status))
        return 0;
    if (d->link != NULL && !management_link_drain(d->link))
        return 0;
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
    d->kill = sd_event_source_disable_unref(d->kill);
    d->link = management_link_free(d->link);
    process_forget(&d->client->process);
    (void)openvpn_say_ended(d, process_status_text(status, words, sizeof(words)));
    return 0;
}

/* To the process there is. */
static int openvpn_connect(struct client *c, unsigned limit_ms)
{
    struct openvpn_driver *d = c->driver;
    _cleanup_(freep) char *path = NULL;
    int r = openvpn_socket_path(c, &path);

    if (r < 0)
        return r;
    r = sd_event_add_io(c->loop, &d->exit, c->process.pidfd, EPOLLIN, openvpn_on_exit, d);
    if (r < 0)
        return r;
    return management_link_new(c->loop, path, c->process.pid, c->uid, limit_ms, &openvpn_link_ops,
                               d, &d->link);
}

static int openvpn_driver_new(struct client *c)
{
    struct openvpn_driver *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return -ENOMEM;
    d->client = c;
    openvpn_told_begin(&d->told);
    c->driver = d;
    return 0;
}

/* The process and the connection to it; the device is there. */
static int openvpn_launch(struct client *c)
{
    struct openvpn_driver *d = c->driver;
    _cleanup_(freep) char *path = NULL;
    uint64_t digest;
    int r = openvpn_socket_path(c, &path);

    if (r == 0)
        r = openvpn_digest(c, &digest);
    if (r == 0)
        r = openvpn_spawn(c, path);
    if (r == 0)
        r = runtime_remember(c->folder, &c->process, digest);
    if (r == 0)
        r = openvpn_connect(c, START_LIMIT_MS);
    if (r == 0)
        r = management_link_send(d->link, "state on", NULL, NULL);
    /* it goes on by itself when we are not there; the hold at the start is for being heard */
    return r < 0 ? r : management_link_send(d->link, "hold off", NULL, NULL);
}

static int openvpn_start(struct client *c)
{
    int r;

    if (c->program == NULL)
        return -ENOENT;
    r = openvpn_driver_new(c);
    if (r == 0)
        r = device_make_tun(c->nl, c->uid);
    return r < 0 ? r : openvpn_launch(c);
}

static int openvpn_adopt(struct client *c)
{
    struct openvpn_driver *d;
    uint64_t digest, found;
    bool wireguard;
    int r = openvpn_driver_new(c);

    if (r == 0)
        r = openvpn_digest(c, &digest);
    if (r < 0)
        return r;
    d = c->driver;
    r = runtime_recall(c->folder, c->uid, &c->process, &found);
    if (r < 0)
        return r == -ESRCH ? -ENOENT : r;
    if (found != digest || device_find(c->nl, &wireguard) != 1 || wireguard ||
        openvpn_told_read(&d->told, c->folder, &d->adopt) < 0)
        return -ENOENT;
    d->adopting = true;
    r = openvpn_connect(c, ADOPT_LIMIT_MS);
    if (r == 0)
        r = management_link_send(d->link, "state on", NULL, NULL);
    return r < 0 ? r : management_link_send(d->link, "state", NULL, NULL);
}

static void openvpn_disconnect(struct openvpn_driver *d)
{
    d->link = management_link_free(d->link);
    d->exit = sd_event_source_disable_unref(d->exit);
    d->kill = sd_event_source_disable_unref(d->kill);
}

static int openvpn_respawn(struct client *c)
{
    struct openvpn_driver *d = c->driver;
    int r;

    openvpn_disconnect(d);
    (void)process_signal(&c->process, SIGTERM);
    if (!process_wait(&c->process, RESTART_GRACE_MS)) {
        (void)process_signal(&c->process, SIGKILL);
        if (!process_wait(&c->process, RESTART_GRACE_MS))
            return -EBUSY;
    }
    process_forget(&c->process);
    r = process_end_all_of(c->uid);
    if (r < 0)
        return r;
    (void)runtime_remove(c->sockets, "management"); /* killed, it leaves its socket */
    d->asked = ASKED_NOTHING;
    d->up = d->refused = d->collecting = d->adopting = d->looping = false;
    d->fatal[0] = d->phase[0] = '\0';
    return openvpn_launch(c);
}

/*
 * OpenVPN takes SIGUSR1 for SIGHUP while it sets itself up (in a pause, asking for a secret,
 * calling by TCP), and dies of it, since its configuration came by a descriptor.
 */
static void openvpn_restart(struct client *c)
{
    struct openvpn_driver *d = c->driver;
    int r;

    if (d->link != NULL && d->looping &&
        management_link_send(d->link, "signal SIGUSR1", NULL, NULL) == 0)
        return;
    r = openvpn_respawn(c);
    if (r < 0)
        (void)client_post(c, CLIENT_ENDED, "it cannot be started again: %s", strerror(-r));
}

static int openvpn_poll(struct client *c)
{
    struct openvpn_driver *d = c->driver;

    return d->link == NULL ? -ENOTCONN : management_link_send(d->link, "load-stats", NULL, NULL);
}

static void openvpn_release(struct client *c, bool stop)
{
    struct openvpn_driver *d = c->driver;

    (void)stop; /* SIGTERM is all it needs */
    if (d == NULL)
        return;
    openvpn_disconnect(d);
    free(d->told.text);
    explicit_bzero(&d->secrets, sizeof(d->secrets));
    free(d);
    c->driver = NULL;
}

const struct client_ops client_openvpn_ops = {
    .program = "openvpn",
    .start = openvpn_start,
    .adopt = openvpn_adopt,
    .give_secret = openvpn_give_secret,
    .restart = openvpn_restart,
    .poll = openvpn_poll,
    .release = openvpn_release,
};
