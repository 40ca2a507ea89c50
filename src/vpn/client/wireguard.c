/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The WireGuard driver: one peer's endpoint goes through the targets until a handshake comes, the
 * counters are watched as wireguard_pace.h says, the rest is told to the supervisor.
 *
 * WireGuard is silent until it has something to send, so nobody would ever learn whether the server
 * is there: while asking, peers have a keepalive (the file's, else 25 s), which makes WireGuard
 * start a handshake at once; after the handshake the file's value counts, often none. Peers are
 * removed and made anew for each try, which also makes it forget when it asked last.
 */
#include "vpn/client/wireguard.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "netlink/link.h"
#include "vpn/client/wireguard_private.h"
#include "vpn/profile/wireguard.h"
#include "vpn/wish/wish.h"

#define ASK_KEEPALIVE 25   /* seconds */
#define DEFAULT_MTU   1420 /* 1500 less IPv6, UDP and WireGuard's own 80 bytes */

static const struct wireguard_peer *file_peer(const struct wireguard *w, size_t i)
{
    return &w->c->profile->wireguard->peers[i];
}

static bool has_default_route(const struct wireguard_peer *p)
{
    for (size_t i = 0; i < p->n_allowed; i++) {
        if (p->allowed[i].len == 0)
            return true;
    }
    return false;
}

/* The peer that the targets are for: the way to everywhere, else the first with an endpoint. */
static int find_primary(const struct wireguard_file *f, size_t *ret)
{
    size_t found = SIZE_MAX;

    for (size_t i = 0; i < f->n_peers; i++) {
        if (f->peers[i].endpoint == SIZE_MAX)
            continue;
        if (has_default_route(&f->peers[i])) {
            found = i;
            break;
        }
        if (found == SIZE_MAX)
            found = i;
    }
    if (found == SIZE_MAX)
        return -EINVAL;
    *ret = found;
    return 0;
}

/* Another peer has an endpoint only where the file names an address: names are the primary's. */
static void fill_endpoint(const struct wireguard *w, size_t i, struct wg_peer *p)
{
    const struct profile *profile = w->c->profile;
    size_t place = file_peer(w, i)->endpoint;

    if (i == w->primary) {
        p->endpoint = w->c->targets[w->target].addr;
        p->port = w->c->targets[w->target].port;
    } else if (place < profile->n_endpoints &&
               addr_parse(str_from(profile->endpoints[place].host), &p->endpoint) == 0) {
        p->port = profile->endpoints[place].port;
    }
}

static void fill_device(const struct wireguard *w, bool asking, struct wg_device *ret)
{
    const struct wireguard_file *f = w->c->profile->wireguard;

    *ret = (struct wg_device){
        .name = SEAL_TUNNEL, .listen_port = f->listen_port, .fwmark = SEAL_MARK};
    memcpy(ret->private_key, f->private_key, WG_KEY_SIZE);
    for (size_t i = 0; i < f->n_peers && i < WG_PEERS_MAX; i++) {
        const struct wireguard_peer *from = &f->peers[i];
        struct wg_peer *p = &ret->peers[ret->n_peers++];

        memcpy(p->public_key, from->public_key, WG_KEY_SIZE);
        if (from->has_preshared)
            memcpy(p->preshared_key, from->preshared_key, WG_KEY_SIZE);
        p->allowed = from->allowed;
        p->n_allowed = from->n_allowed;
        p->keepalive = from->keepalive > 0 || !asking ? from->keepalive : ASK_KEEPALIVE;
        fill_endpoint(w, i, p);
    }
}

static int set_device(struct wireguard *w, bool asking, enum wg_set what)
{
    struct wg_device d;
    int r;

    fill_device(w, asking, &d);
    r = w->way->set(w, &d, what);
    wg_device_wipe(&d);
    return r;
}

/* Seconds between two keepalives of any of the peers once up; 0: none. */
static unsigned keepalive_interval(const struct wireguard *w)
{
    const struct wireguard_file *f = w->c->profile->wireguard;
    unsigned least = 0, n = 0;

    for (size_t i = 0; i < f->n_peers; i++) {
        if (f->peers[i].keepalive == 0)
            continue;
        n++;
        if (least == 0 || f->peers[i].keepalive < least)
            least = f->peers[i].keepalive;
    }
    return n > 1 && least >= n ? least / n : least;
}

static uint64_t now_us(const struct wireguard *w)
{
    uint64_t now = 0;

    (void)sd_event_now(w->c->loop, CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return now;
}

static void arm(struct wireguard *w, uint64_t after, uint64_t accuracy)
{
    (void)sd_event_source_set_time_accuracy(w->timer, accuracy > 0 ? accuracy : 1);
    (void)sd_event_source_set_time_relative(w->timer, after);
    (void)sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static void arm_pace(struct wireguard *w)
{
    arm(w, pace_interval(&w->pace), pace_accuracy(&w->pace));
}

bool wireguard_end(struct wireguard *w, const char *format, ...)
{
    char text[CLIENT_TEXT_MAX];
    va_list args;

    if (w->ended)
        return true;
    w->ended = true;
    (void)sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return client_say(w->c, CLIENT_ENDED, "%s", text);
}

static bool end_by_error(struct wireguard *w, const char *doing, int error)
{
    if (error == -ENODEV)
        return wireguard_end(w, "the device %s is gone", SEAL_TUNNEL);
    return wireguard_end(w, "%s: %s", doing, strerror(-error));
}

/* Sets the peers, at first everything, for the target in use, and waits for a handshake. */
static int begin_target(struct wireguard *w)
{
    int r = set_device(w, true, w->raised ? WG_SET_PEERS : WG_SET_ALL);

    if (r < 0)
        return r;
    w->waiting = false; /* what is still owed is about the peers before */
    pace_begin(&w->pace, now_us(w), keepalive_interval(w), w->round);
    arm_pace(w);
    return 0;
}

static void target_text(const struct wireguard *w, char *buf, size_t size)
{
    const struct openvpn_target *t = &w->c->targets[w->target];
    char text[ADDR_STR_MAX];

    (void)snprintf(buf, size, "%s port %u", addr_format(&t->addr, text), t->port);
}

static bool next_target(struct wireguard *w)
{
    char old[80], new[80];
    int r;

    target_text(w, old, sizeof(old));
    w->target++;
    if (w->target >= w->c->n_targets) {
        w->target = 0;
        w->round++;
    }
    target_text(w, new, sizeof(new));
    r = begin_target(w);
    if (r < 0)
        return end_by_error(w, "another endpoint cannot be set", r);
    return client_say(w->c, w->was_up ? CLIENT_RECONNECTING : CLIENT_CONNECTING,
                      "no answer from %s, asking %s", old, new);
}

static bool tell_up(struct wireguard *w)
{
    struct pushed pushed = {0};
    struct client_event e = {.kind = CLIENT_UP, .text = "", .pushed = &pushed};
    int r = set_device(w, false, WG_SET_KEEPALIVE);

    if (r < 0)
        return end_by_error(w, "the keepalive cannot be set", r);
    w->was_up = true;
    w->round = 0;
    pushed_from_wireguard(&pushed, w->c->profile);
    e.server = w->c->targets[w->target].addr;
    return client_emit(w->c, &e);
}

static bool tell_counters(struct wireguard *w, enum client_event_kind kind)
{
    struct client_event e = {.kind = kind, .text = "", .bytes_in = w->pace.last.rx,
                             .bytes_out = w->pace.last.tx};

    w->asked = false;
    return client_emit(w->c, &e);
}

static bool tell_verdict(struct wireguard *w, enum pace_verdict verdict)
{
    switch (verdict) {
    case PACE_UP:
        return tell_up(w);
    case PACE_STALLED:
        return client_say(w->c, CLIENT_STALLED, "the server has been silent for 20 s");
    case PACE_BACK:
        return tell_counters(w, CLIENT_ALIVE);
    case PACE_NEXT:
        return next_target(w);
    case PACE_NOTHING:
        break;
    }
    return true;
}

static struct pace_sample sum(const struct wg_device *d)
{
    struct pace_sample s = {0};

    for (size_t i = 0; i < d->n_peers; i++) {
        const struct wg_peer *p = &d->peers[i];

        s.rx += p->rx;
        s.tx += p->tx;
        if (p->handshake_ns > s.handshake_ns)
            s.handshake_ns = p->handshake_ns;
    }
    return s;
}

bool wireguard_take(struct wireguard *w, const struct wg_device *d)
{
    const struct pace_sample s = sum(d);
    enum pace_verdict verdict;

    if (w->ended)
        return true;
    w->waiting = false;
    if (w->adopted && s.handshake_ns != 0) {
        pace_adopt(&w->pace, now_us(w), keepalive_interval(w), &s);
        verdict = PACE_UP;
    } else {
        verdict = pace_look(&w->pace, now_us(w), &s);
    }
    w->adopted = false;
    arm_pace(w);
    if (!tell_verdict(w, verdict))
        return false;
    /* while the server is silent no counter may look like a sign of life */
    if (w->asked && !w->ended)
        return tell_counters(w, w->pace.state == PACE_SILENT ? CLIENT_STALLED : CLIENT_ALIVE);
    return true;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct wireguard *w = user;
    int r;

    (void)source;
    (void)usec;
    if (w->waiting)
        return 0; /* the answer arms the timer again, or the link breaks */
    w->waiting = true;
    r = w->way->get(w);
    if (r < 0)
        (void)end_by_error(w, "the state cannot be read", r);
    return 0;
}

/*
 * Up without an address: only the handshake needs it. The kernel's IPv6 is kept from making an
 * address of its own; a kernel without IPv6 does not know how to be told.
 */
static int raise_link(struct wireguard *w)
{
    const uint16_t mtu = w->c->profile->wireguard->mtu;
    const struct link_change up = {.flags = IFF_UP, .flags_mask = IFF_UP};
    struct link_change quiet = {
        .mtu = mtu > 0 ? mtu : DEFAULT_MTU, .set_group = true, .no_link_local = true};
    struct link_facts link;
    int r = link_find(w->c->nl, SEAL_TUNNEL, &link);

    if (r < 0)
        return r;
    r = link_set(w->c->nl, link.index, &quiet);
    if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP) {
        quiet.no_link_local = false;
        r = link_set(w->c->nl, link.index, &quiet);
    }
    if (r == 0)
        r = link_set(w->c->nl, link.index, &up);
    w->raised = r == 0;
    return r;
}

/* The link comes up when key, mark and peers are in place: it must not carry anything before. */
bool wireguard_set_done(struct wireguard *w)
{
    int r = w->raised || w->ended ? 0 : raise_link(w);

    return r < 0 ? end_by_error(w, "the device cannot be brought up", r) : true;
}

static int wireguard_new(struct client *c)
{
    struct wireguard *w;
    size_t primary = 0;
    int r;

    if (c->profile->wireguard == NULL || c->n_targets == 0)
        return -EINVAL;
    r = find_primary(c->profile->wireguard, &primary);
    if (r < 0)
        return r;
    w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->c = c;
    w->log = -1;
    w->primary = primary;
    c->driver = w; /* from here on released by wireguard_release() */
    r = sd_event_add_time_relative(c->loop, &w->timer, CLOCK_MONOTONIC, 0, 1, on_timer, w);
    return r < 0 ? r : sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
}

static int wireguard_start(struct client *c)
{
    struct wireguard *w;
    char text[80];
    int r = wireguard_new(c);

    if (r < 0)
        return r;
    w = c->driver;
    w->way = &wireguard_kernel_way;
    r = w->way->start(w);
    if (r == -EOPNOTSUPP) {
        w->way->release(w, true);
        w->way = &wireguard_go_way;
        r = w->way->start(w);
    }
    if (r == 0)
        r = begin_target(w);
    if (r == 0 && !w->way->later)
        r = raise_link(w);
    if (r < 0)
        return r;
    target_text(w, text, sizeof(text));
    return client_post(c, CLIENT_CONNECTING, "asking %s", text);
}

/* Is this what we would set for one of the targets? */
static bool is_ours(struct wireguard *w, const struct wg_device *d)
{
    const struct wireguard_file *f = w->c->profile->wireguard;
    size_t known = 0;

    if (memcmp(d->private_key, f->private_key, WG_KEY_SIZE) != 0 || d->n_peers != f->n_peers)
        return false;
    for (size_t i = 0; i < d->n_peers; i++) {
        const struct wg_peer *p = &d->peers[i];

        for (size_t k = 0; k < f->n_peers; k++) {
            if (memcmp(p->public_key, f->peers[k].public_key, WG_KEY_SIZE) == 0) {
                known++;
                if (k != w->primary)
                    continue;
                for (w->target = 0; w->target < w->c->n_targets; w->target++) {
                    if (addr_equal(&p->endpoint, &w->c->targets[w->target].addr) &&
                        p->port == w->c->targets[w->target].port)
                        break;
                }
                if (w->target == w->c->n_targets)
                    return false;
            }
        }
    }
    return known == f->n_peers;
}

static int wireguard_adopt(struct client *c)
{
    static const struct wireguard_way *const ways[] = {&wireguard_kernel_way, &wireguard_go_way};
    struct wg_device d = {0};
    struct wireguard *w;
    int r = wireguard_new(c);

    if (r < 0)
        return r;
    w = c->driver;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        w->way = ways[i];
        r = w->way->adopt(w, &d);
        if (r == 0 && !is_ours(w, &d))
            r = -ENOENT;
        wg_device_wipe(&d);
        if (r == 0)
            break;
        w->way->release(w, false);
    }
    if (r < 0)
        return r == -ENOMEM ? r : -ENOENT;
    w->adopted = w->raised = true;
    pace_begin(&w->pace, now_us(w), keepalive_interval(w), 0);
    arm(w, 0, 1);
    return 0;
}

static int wireguard_give_secret(struct client *c, enum client_secret kind, const char *name,
                                 const char *value)
{
    (void)c;
    (void)kind;
    (void)name;
    (void)value;
    return -EOPNOTSUPP; /* all it needs is in the file */
}

static void wireguard_restart(struct client *c)
{
    struct wireguard *w = c->driver;
    int r;

    if (w->ended)
        return;
    w->round = 0;
    w->adopted = false;
    r = begin_target(w);
    if (r < 0) {
        w->ended = true;
        (void)client_post(c, CLIENT_ENDED, "the device cannot be set anew: %s", strerror(-r));
    }
}

static int wireguard_poll(struct client *c)
{
    struct wireguard *w = c->driver;

    if (w->ended)
        return -ESRCH;
    w->asked = true;
    if (!w->waiting)
        arm(w, 0, 1);
    return 0;
}

static void wireguard_release(struct client *c, bool stop)
{
    struct wireguard *w = c->driver;

    if (w == NULL)
        return;
    if (w->way != NULL)
        w->way->release(w, stop);
    w->timer = sd_event_source_disable_unref(w->timer);
    free(w);
    c->driver = NULL;
}

const struct client_ops client_wireguard_ops = {
    .program = "wireguard-go",
    .start = wireguard_start,
    .adopt = wireguard_adopt,
    .give_secret = wireguard_give_secret,
    .restart = wireguard_restart,
    .poll = wireguard_poll,
    .release = wireguard_release,
};
