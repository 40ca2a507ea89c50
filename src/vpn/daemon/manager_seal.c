/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The manager and the seal: what is wished for in which state, and what its answers mean. */
#include "vpn/daemon/manager_private.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"

/* ---- the wish ---- */

static void add_carrier(struct wish *w, const struct openvpn_target *t, bool marked)
{
    if (w->n_carriers < WISH_CARRIERS_MAX && !(marked && t->protocol != IPPROTO_UDP))
        w->carriers[w->n_carriers++] = (struct carrier){t->addr, t->port, t->protocol, marked};
}

static void add_carriers(const struct manager *m, struct wish *w)
{
    for (size_t i = 0; i < m->n_targets; i++)
        add_carrier(w, &m->targets[i], m->by_mark);
}

static void add_tunnel(const struct manager *m, struct wish *w)
{
    (void)snprintf(w->tunnel, sizeof(w->tunnel), "%s", SEAL_TUNNEL);
    w->tunnel_addr[0] = m->facts.addr4.addr;
    w->tunnel_addr[1] = m->facts.addr6.addr;
    w->mtu = m->facts.mtu;
    w->n_dns = m->facts.n_dns;
    memcpy(w->dns, m->facts.dns, sizeof(w->dns));
    w->lookups = w->n_dns > 0 && platform_names_hosts(m->platform);
}

void manager_send_wish(struct manager *m, enum door door)
{
    struct wish w = {0};
    const char *why = "";

    m->door = door;
    if (m->proxy_wanted) {
        w.proxy = true;
        w.proxy_uid = m->proxy_uid;
    }
    /* the proxy looks its hosts up where this qube's uplink does */
    if (door == DOOR_RESOLVERS || m->proxy_wanted)
        w.n_resolvers = platform_servers(m->platform, w.resolvers);
    if (door == DOOR_CARRIERS || door == DOOR_TUNNEL)
        add_carriers(m, &w);
    if (door == DOOR_TUNNEL)
        add_tunnel(m, &w);
    if (seal_link_set(m->seal, &w, &why) < 0) {
        manager_error(m, "this cannot be asked of the seal: %s", why);
        manager_post(m, EVENT_CLIENT_BAD_PUSH); /* sealed, from wherever */
    }
}

/* ---- its answers ---- */

static void tell_ready(struct manager *m)
{
    if (m->told_ready)
        return;
    m->told_ready = true;
    (void)sd_notify(0, "READY=1");
}

static enum vpn_seal seal_state(enum door door)
{
    switch (door) {
    case DOOR_CLOSED:
        return SEAL_CLOSED;
    case DOOR_RESOLVERS:
    case DOOR_CARRIERS:
        return SEAL_CARRIER;
    case DOOR_TUNNEL:
        return SEAL_TUNNEL_OPEN;
    }
    return SEAL_ABSENT;
}

static void tunnel_granted(struct manager *m)
{
    struct vpn_status *st = &m->status;

    dns_addr_set(m->dns_addr, m->facts.dns, m->facts.n_dns);
    manager_write_session(m);
    if (m->tunnel_open)
        return;
    m->tunnel_open = st->has_tunnel = m->was_up = true;
    m->up_us = clock_now_us();
    m->tried = m->refusals = 0;
    st->tunnel = m->facts;
    st->connects++;
    st->error[0] = st->phase[0] = '\0';
    (void)snprintf(st->device, sizeof(st->device), "%s", SEAL_TUNNEL);
    manager_show_state(m);
    manager_arm(m->reset_timer, MANAGER_RESET_US);
    manager_remember(m);
    manager_tell_up(m);
}

static void on_granted(const struct wish *wish, void *user)
{
    struct manager *m = user;

    (void)wish;
    m->granted_door = m->door;
    m->status.seal = seal_state(m->door);
    m->status.proxy = wish->proxy;
    m->status.seal_error[0] = '\0';
    switch (m->door) {
    case DOOR_CLOSED:
        if (m->stopping)
            (void)sd_event_exit(m->loop, 0);
        break;
    case DOOR_RESOLVERS:
        manager_resolve_go_on(m);
        break;
    case DOOR_CARRIERS:
        if (m->start_pending) {
            m->start_pending = false;
            manager_client_start(m);
        }
        break;
    case DOOR_TUNNEL:
        tunnel_granted(m);
        break;
    }
    tell_ready(m);
    manager_publish(m);
}

static void on_refused(const char *why, void *user)
{
    struct manager *m = user;

    (void)snprintf(m->status.seal_error, sizeof(m->status.seal_error), "%s", why);
    log_error("The seal refuses: %s", why);
    manager_error(m, "the seal refuses: %s", why);
    tell_ready(m);
    switch (m->door) {
    case DOOR_CLOSED:
        if (m->stopping)
            (void)sd_event_exit(m->loop, 1);
        break;
    case DOOR_RESOLVERS:
        manager_post(m, EVENT_RESOLVE_FAILED);
        break;
    case DOOR_CARRIERS:
    case DOOR_TUNNEL:
        manager_post(m, EVENT_CLIENT_BAD_PUSH);
        break;
    }
}

static void on_lost(int error, void *user)
{
    struct manager *m = user;

    m->status.seal = SEAL_ABSENT;
    (void)snprintf(m->status.seal_error, sizeof(m->status.seal_error),
                   "its owner does not answer (%s)", strerror(-error));
    log_error("The seal's owner, qubes-vpn-forwarding, does not answer (%s): no client is started; "
              "what was armed stays",
              strerror(-error));
    tell_ready(m);
    manager_publish(m);
    if (m->stopping) {
        (void)sd_event_exit(m->loop, 0);
    } else if (machine_is_open(m->machine.state) && !m->tunnel_open) {
        manager_error(m, "the seal's owner does not answer");
        manager_post(m, EVENT_CLIENT_ENDED); /* it said up, and was never let through */
    } else {
        manager_post(m, EVENT_SEAL_LOST);
    }
}

static void on_back(void *user)
{
    struct manager *m = user;

    log_info("The seal's owner answers");
    m->status.seal_error[0] = '\0';
    manager_post(m, EVENT_SEAL_BACK);
    if (m->machine.state == STATE_SEALED && m->profile != NULL && manager_wants_up(m))
        manager_post(m, EVENT_RETRY);
}

int manager_seal_new(struct manager *m)
{
    const struct seal_link_ops ops = {on_granted, on_refused, on_lost, on_back, m};

    return seal_link_new(m->loop, m->config.seal, &ops, &m->seal);
}
