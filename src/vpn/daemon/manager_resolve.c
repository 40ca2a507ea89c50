/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the endpoints of a profile to numeric targets: literal addresses as they are, names looked
 * up one after the other by marked sockets, once the seal lets these through. Where no name could
 * be looked up, the last good address of each is tried.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "vpn/client/wireguard.h"
#include "vpn/daemon/manager_private.h"

#define NAMES_MAX   8       /* different names that are looked up in one try */
#define PATIENCE_US 3000000 /* with a name server, where an address is remembered */

static void add_target(struct manager *m, size_t endpoint, const struct addr *a)
{
    const struct endpoint *e = &m->profile->endpoints[endpoint];
    struct openvpn_target t = {*a, e->port, e->protocol};

    if (m->n_targets == MANAGER_TARGETS_MAX || (e->family != 0 && e->family != a->family))
        return;
    for (size_t i = 0; i < m->n_targets; i++)
        if (addr_equal(&m->targets[i].addr, a) && m->targets[i].port == t.port &&
            m->targets[i].protocol == t.protocol)
            return;
    m->target_endpoint[m->n_targets] = endpoint;
    m->targets[m->n_targets++] = t;
}

static bool literal(const struct endpoint *e, struct addr *ret)
{
    return addr_parse(str_from(e->host), ret) == 0;
}

static void shuffle(size_t *list, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = manager_random() % i, kept = list[i - 1];

        list[i - 1] = list[other];
        list[other] = kept;
    }
}

/*
 * Targets of a family that no uplink has a way for cost a time limit each, and are not worth a hole
 * in the seal. Without any way at all they stay: one may come.
 */
static void keep_those_with_a_way(struct manager *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n_targets; i++) {
        bool way = m->targets[i].addr.family == AF_INET ? m->network.way4 : m->network.way6;

        if (!way)
            continue;
        m->targets[n] = m->targets[i];
        m->target_endpoint[n++] = m->target_endpoint[i];
    }
    if (n > 0)
        m->n_targets = n;
}

static void add_remembered(struct manager *m)
{
    for (size_t i = 0; i < m->profile->n_endpoints; i++) {
        struct addr a;

        if (folder_recall(m->folder, m->profile->endpoints[i].host, &a) == 0)
            add_target(m, i, &a);
    }
}

static void finish(struct manager *m)
{
    if (m->n_targets == 0) {
        add_remembered(m);
        if (m->n_targets > 0)
            log_notice("No name server answers for the VPN server's name: trying the address that "
                       "was good last");
    }
    if (m->n_targets == 0) {
        manager_post(m, EVENT_RESOLVE_FAILED);
        return;
    }
    keep_those_with_a_way(m);
    m->by_mark = m->profile->kind == PROFILE_WIREGUARD && wireguard_in_kernel() > 0;
    manager_post(m, EVENT_RESOLVED);
}

static bool asked_before(const struct manager *m, size_t at)
{
    const struct endpoint *e = &m->profile->endpoints[m->resolve_order[at]];

    for (size_t i = 0; i < at; i++) {
        const struct endpoint *other = &m->profile->endpoints[m->resolve_order[i]];

        if (strcmp(other->host, e->host) == 0 && (other->family == e->family || other->family == 0))
            return true;
    }
    return false;
}

static void on_answer(const struct addr *addrs, size_t n, const char *error, void *user)
{
    struct manager *m = user;
    const char *host = m->profile->endpoints[m->resolve_order[m->resolve_at]].host;
    char text[PROFILE_HOST_MAX];

    manager_disarm(m->resolve_timer);
    if (error != NULL || n == 0)
        manager_error(m, "%s could not be looked up: %s",
                      str_escape(str_from(host), text, sizeof(text)),
                      error != NULL ? error : "it has no address");
    /* every endpoint of that name; each takes the families it wants */
    for (size_t i = 0; i < m->profile->n_endpoints; i++)
        for (size_t j = 0; j < n; j++)
            if (strcmp(m->profile->endpoints[i].host, host) == 0)
                add_target(m, i, &addrs[j]);
    m->resolve_at++;
    m->resolve_pending = true;
    manager_resolve_go_on(m);
}

static size_t count_names(const struct manager *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->resolve_at; i++) {
        struct addr a;

        if (!literal(&m->profile->endpoints[m->resolve_order[i]], &a) && !asked_before(m, i))
            n++;
    }
    return n;
}

/* The next endpoint that needs a look-up; without one more, the end. */
static void ask_next(struct manager *m)
{
    struct addr servers[PLATFORM_SERVERS_MAX];
    size_t n = platform_servers(m->platform, servers);

    for (; m->resolve_at < m->profile->n_endpoints; m->resolve_at++) {
        const struct endpoint *e = &m->profile->endpoints[m->resolve_order[m->resolve_at]];
        struct addr a;
        int r;

        if (literal(e, &a)) {
            add_target(m, m->resolve_order[m->resolve_at], &a);
            continue;
        }
        if (asked_before(m, m->resolve_at) || count_names(m) >= NAMES_MAX)
            continue;
        if (n == 0) {
            manager_error(m, "no name server is known to look the VPN server's name up");
            continue;
        }
        r = resolver_ask(m->resolver, servers, n, e->host, e->family, on_answer, m);
        if (r == 0) {
            if (folder_recall(m->folder, e->host, &a) == 0)
                manager_arm(m->resolve_timer, PATIENCE_US);
            return;
        }
        manager_error(m, "the name server cannot be asked (%s)", strerror(-r));
    }
    finish(m);
}

static bool needs_names(const struct profile *p)
{
    for (size_t i = 0; i < p->n_endpoints; i++) {
        struct addr a;

        if (!literal(&p->endpoints[i], &a))
            return true;
    }
    return false;
}

static void take_candidate(struct manager *m)
{
    if (m->candidate == NULL)
        return;
    (void)profile_free(m->profile);
    m->profile = TAKE_PTR(m->candidate);
    m->digest = m->candidate_digest;
    m->was_up = false;
    m->status.kind = m->profile->kind;
    memcpy(m->status.profile, m->profile->name, sizeof(m->status.profile));
}

void manager_resolve(struct manager *m)
{
    manager_resolve_cancel(m);
    if (m->adopting) {
        manager_post(m, EVENT_RESOLVED);
        return;
    }
    take_candidate(m);
    memset(&m->adopted_wish, 0, sizeof(m->adopted_wish));
    m->n_targets = 0;
    m->resolve_at = 0;
    m->status.missing = 0;
    if (m->profile == NULL) { /* cannot be: no event comes here without one */
        manager_post(m, EVENT_NO_PROFILE);
        return;
    }
    for (size_t i = 0; i < m->profile->n_endpoints; i++)
        m->resolve_order[i] = i;
    if (m->profile->random)
        shuffle(m->resolve_order, m->profile->n_endpoints);
    m->resolve_pending = true;
    if (needs_names(m->profile))
        manager_phase(m, "looking up the server's name");
    else
        manager_phase(m, "preparing");
    manager_resolve_go_on(m);
}

/* Called again whenever one of the things it waits for has come. */
void manager_resolve_go_on(struct manager *m)
{
    if (!m->resolve_pending)
        return;
    if (!needs_names(m->profile)) {
        m->resolve_pending = false;
        ask_next(m);
        return;
    }
    if (!platform_is_known(m->platform))
        return;
    if (m->door != DOOR_RESOLVERS) {
        manager_send_wish(m, DOOR_RESOLVERS); /* its grant comes here */
        return;
    }
    if (!seal_link_is_settled(m->seal))
        return;
    m->resolve_pending = false;
    ask_next(m);
}

static int on_resolve_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    resolver_cancel(m->resolver);
    on_answer(NULL, 0, "no answer yet", m);
    return 0;
}

int manager_resolve_new(struct manager *m)
{
    int r = resolver_new(m->loop, &m->resolver);

    if (r >= 0)
        r = sd_event_add_time(m->loop, &m->resolve_timer, CLOCK_MONOTONIC, UINT64_MAX, EXACT,
                              on_resolve_timer, m);
    return r < 0 ? r : sd_event_source_set_enabled(m->resolve_timer, SD_EVENT_OFF);
}

void manager_resolve_cancel(struct manager *m)
{
    m->resolve_pending = false;
    manager_disarm(m->resolve_timer);
    resolver_cancel(m->resolver);
}

/* The endpoint that the address is of. Of an adopted client only the address is known. */
static const struct endpoint *find_endpoint(struct manager *m, const struct addr *server)
{
    for (size_t i = 0; m->adopted_wish.n_carriers == 0 && i < m->n_targets; i++)
        if (addr_equal(&m->targets[i].addr, server))
            return &m->profile->endpoints[m->target_endpoint[i]];
    for (size_t i = 0; i < m->profile->n_endpoints; i++) {
        const struct endpoint *e = &m->profile->endpoints[i];
        struct addr a;

        if ((literal(e, &a) || folder_recall(m->folder, e->host, &a) == 0) &&
            addr_equal(&a, server))
            return e;
    }
    return NULL;
}

void manager_remember(struct manager *m)
{
    const struct endpoint *e = m->server.family == 0 ? NULL : find_endpoint(m, &m->server);
    struct addr known;

    if (e == NULL)
        return;
    memcpy(m->status.endpoint, e->host, sizeof(m->status.endpoint));
    m->status.server_port = e->port;
    m->status.server_protocol = e->protocol;
    if (!literal(e, &known) &&
        !(folder_recall(m->folder, e->host, &known) == 0 && addr_equal(&known, &m->server)))
        (void)folder_remember(m->folder, e->host, &m->server);
}
