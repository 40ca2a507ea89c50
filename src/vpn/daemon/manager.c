/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/manager.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "vpn/daemon/manager_private.h"

#define SECOND          UINT64_C(1000000)
#define RESOLVING_US    (30 * SECOND)
#define CONNECTING_US   (60 * SECOND)
#define CONNECTING_EACH (10 * SECOND) /* more for each address beyond the third */
#define STALLED_US      (60 * SECOND)
#define BACKOFF_MIN_US  (1 * SECOND)
#define BACKOFF_MAX_US  (60 * SECOND)
#define ADOPT_US        (3 * SECOND)
#define STOP_US         (2 * SECOND)

uint64_t manager_realtime_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec / 1000;
}

/* For an order that is not always the same; no secret depends on it. */
uint32_t manager_random(void)
{
    uint32_t random;

    return getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random)
               ? random
               : (uint32_t)clock_now_us();
}

void manager_arm(sd_event_source *timer, uint64_t delay_us)
{
    (void)sd_event_source_set_time(timer, clock_now_us() + delay_us);
    (void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

void manager_disarm(sd_event_source *timer)
{
    (void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
}

bool manager_wants_up(const struct manager *m)
{
    return !m->settings.down && !m->stopping && !platform_switched_off(m->platform);
}

/* ---- actions ---- */

static void do_close(struct manager *m)
{
    m->start_pending = m->adopting = m->tunnel_open = m->status.has_tunnel = false;
    manager_resolve_cancel(m);
    manager_disarm(m->adopt_timer);
    manager_drop_session(m);
    dns_addr_set(m->dns_addr, NULL, 0);
    manager_send_wish(m, DOOR_CLOSED);
}

static void do_admit(struct manager *m)
{
    if (m->adopting)
        return;
    m->tunnel_open = m->status.has_tunnel = false;
    manager_send_wish(m, DOOR_CARRIERS);
}

static void do_back_off(struct manager *m)
{
    uint64_t delay = m->backoff_us;

    if (!manager_wants_up(m))
        return;
    m->backoff_us = delay * 2 < BACKOFF_MAX_US ? delay * 2 : BACKOFF_MAX_US;
    m->status.retry_us = manager_realtime_us() + delay;
    manager_arm(m->retry_timer, delay);
    manager_phase(m, "another try in %" PRIu64 " s", delay / SECOND);
}

static void do_start(struct manager *m)
{
    if (m->adopting)
        manager_client_start(m);
    else
        m->start_pending = true; /* when the seal has granted the carriers */
}

static void do_actions(struct manager *m, unsigned actions)
{
    if (actions & ACTION_CLOSE)
        do_close(m);
    if (actions & ACTION_STOP_CLIENT)
        manager_client_stop(m);
    if (actions & ACTION_FORGET_FLOWS)
        manager_forget_flows(m);
    if (actions & ACTION_RESOLVE)
        manager_resolve(m);
    if (actions & ACTION_ADMIT)
        do_admit(m);
    if (actions & ACTION_START_CLIENT)
        do_start(m);
    if ((actions & ACTION_RESTART_CLIENT) && m->client != NULL)
        client_restart(m->client);
    if (actions & ACTION_CONFIGURE)
        manager_configure(m);
    if (actions & ACTION_BACK_OFF)
        do_back_off(m);
    if (actions & ACTION_NEXT_PROFILE)
        manager_next_profile(m);
}

void manager_arm_state(struct manager *m)
{
    uint64_t more = m->n_targets > 3 ? (m->n_targets - 3) * CONNECTING_EACH : 0;

    manager_disarm(m->state_timer);
    if (m->machine.state == STATE_RESOLVING)
        manager_arm(m->state_timer, RESOLVING_US);
    else if (m->machine.state == STATE_CONNECTING && m->status.missing == 0)
        manager_arm(m->state_timer, CONNECTING_US + more);
    else if (m->machine.state == STATE_STALLED)
        manager_arm(m->state_timer, STALLED_US);
}

static void step(struct manager *m, enum machine_event event)
{
    enum machine_state before = m->machine.state;
    bool was_open = m->tunnel_open;
    unsigned actions = machine_step(&m->machine, event);

    log_debug("%s + %s -> %s", machine_state_name(before), machine_event_name(event),
              machine_state_name(m->machine.state));
    if (m->machine.state != before) {
        if (m->machine.state != STATE_SEALED && m->machine.state != STATE_UNCONFIGURED)
            m->status.phase[0] = '\0';
        manager_arm_state(m);
    }
    if (m->machine.state != STATE_SEALED || (actions & ACTION_CLOSE)) {
        manager_disarm(m->retry_timer);
        m->status.retry_us = 0;
    }
    do_actions(m, actions);
    manager_show_state(m);
    if (actions & ACTION_TELL)
        manager_tell_state(m, was_open ? STATE_UP : before);
    manager_publish(m);
}

void manager_post(struct manager *m, enum machine_event event)
{
    if (m->n_queue < MANAGER_QUEUE_MAX)
        m->queue[m->n_queue++] = event;
    else
        m->queue[MANAGER_QUEUE_MAX - 1] = EVENT_SEAL_LOST; /* cannot be; sealed or as it is */
    if (m->draining)
        return;
    m->draining = true;
    while (m->n_queue > 0) {
        enum machine_event next = m->queue[0];

        m->n_queue--;
        memmove(m->queue, m->queue + 1, m->n_queue * sizeof(m->queue[0]));
        step(m, next);
    }
    m->draining = false;
}

/* ---- timers ---- */

static int on_state_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;
    const char *what = "the server stays silent";

    (void)s;
    (void)usec;
    if (m->machine.state == STATE_RESOLVING)
        what = "the server's name could not be looked up in time";
    else if (m->machine.state == STATE_CONNECTING)
        what = "the server did not answer in time";
    manager_error(m, "%s", what);
    manager_post(m, EVENT_TIMEOUT);
    return 0;
}

static int on_retry_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    m->status.retry_us = 0;
    if (manager_wants_up(m))
        manager_post(m, EVENT_RETRY);
    return 0;
}

static int on_reset_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    if (m->tunnel_open)
        m->backoff_us = BACKOFF_MIN_US;
    return 0;
}

/* The adopted client has not said that it is up: what its predecessor was granted ends. */
static int on_adopt_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    if (!m->adopting)
        return 0;
    m->adopting = false;
    if (m->machine.state == STATE_CONNECTING)
        do_admit(m);
    return 0;
}

static int on_stop_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)usec;
    log_warning("The seal did not answer in time: it may keep the client's endpoints open, and "
                "no client runs");
    return sd_event_exit(m->loop, 1);
}

static int on_publish(sd_event_source *s, void *user)
{
    (void)s;
    manager_tell_status(user);
    return 0;
}

static int add_timer(struct manager *m, uint64_t accuracy, sd_event_source **ret,
                     sd_event_time_handler_t fn)
{
    int r = sd_event_add_time(m->loop, ret, CLOCK_MONOTONIC, UINT64_MAX, accuracy, fn, m);

    return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_timers(struct manager *m)
{
    int r = add_timer(m, EXACT, &m->state_timer, on_state_timer);

    if (r >= 0)
        r = add_timer(m, EXACT, &m->retry_timer, on_retry_timer);
    if (r >= 0)
        r = add_timer(m, LAZY, &m->reset_timer, on_reset_timer);
    if (r >= 0)
        r = add_timer(m, EXACT, &m->adopt_timer, on_adopt_timer);
    if (r >= 0)
        r = add_timer(m, EXACT, &m->stop_timer, on_stop_timer);
    if (r >= 0)
        r = sd_event_add_defer(m->loop, &m->publish_source, on_publish, m);
    if (r >= 0)
        r = sd_event_source_set_enabled(m->publish_source, SD_EVENT_OFF);
    /* after what else is due: one publication for a series of changes */
    if (r >= 0)
        r = sd_event_source_set_priority(m->publish_source, SD_EVENT_PRIORITY_NORMAL + 10);
    return r;
}

/* ---- life ---- */

static void on_platform(void *user)
{
    struct manager *m = user;

    if (!m->begun)
        return;
    if (m->resolve_pending)
        manager_resolve_go_on(m);
    if (platform_switched_off(m->platform) && m->machine.state != STATE_SEALED) {
        log_notice("The service qubes-vpn was switched off: down, and sealed until the next boot");
        manager_post(m, EVENT_DOWN);
    }
    /* a rule names a host now, or none does any more; or the proxy's name servers are known */
    if (m->door == DOOR_TUNNEL || (m->proxy_wanted && !m->adopting))
        manager_send_wish(m, m->door);
}

static void on_dns_addr(enum dns_addr_state state, int error, void *user)
{
    (void)user;
    if (state == DNS_ADDR_NO_SET)
        log_notice("The firewall of this Qubes release cannot be told of the VPN's name servers: a "
                   "qube whose rules allow DNS only has no names here (Qubes 4.3 can)");
    else if (state == DNS_ADDR_FAILED)
        log_warning("The set dns-addr of qubes-firewall could not be changed (%s)",
                    strerror(-error));
}

static void manager_freep(struct manager **m)
{
    *m = manager_free(*m, true);
}

int manager_new(sd_event *loop, const struct manager_config *config, struct manager **ret)
{
    _cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
    int r;

    if (m == NULL)
        return -ENOMEM;
    m->config = *config;
    m->loop = sd_event_ref(loop);
    m->machine.state = m->status.state = STATE_SEALED;
    m->status.since_us = manager_realtime_us();
    m->backoff_us = BACKOFF_MIN_US;
    r = nl_open(NETLINK_ROUTE, &m->route);
    if (r >= 0)
        r = nl_open(NETLINK_NETFILTER, &m->netfilter);
    if (r >= 0)
        r = add_timers(m);
    if (r >= 0)
        r = dns_addr_new(loop, on_dns_addr, m, &m->dns_addr);
    if (r >= 0)
        r = platform_new(loop, config->qubesdb, config->resolv_conf, on_platform, m, &m->platform);
    if (r >= 0)
        r = manager_resolve_new(m);
    if (r >= 0)
        r = manager_seal_new(m);
    if (r >= 0)
        r = folder_open(config->folder, &m->folder);
    if (r >= 0)
        r = manager_sources_new(m);
    if (r >= 0)
        *ret = TAKE_PTR(m);
    return r;
}

/* Is it the profile that would be used, or one of the fail-over list? */
static bool may_be_used(struct manager *m, const char *name)
{
    const char *chosen = NULL;

    if (folder_choose(&m->list, &m->settings, &chosen) == 0 && strcmp(chosen, name) == 0)
        return true;
    for (size_t i = 0; i < m->settings.n_order; i++)
        if (strcmp(m->settings.order[i], name) == 0) {
            (void)snprintf(m->fail_over, sizeof(m->fail_over), "%s", name);
            return true;
        }
    return false;
}

/* The client of an earlier life, if it is the one that would be started now. */
static bool can_adopt(struct manager *m)
{
    struct findings findings = {0};
    struct profile *p = NULL;
    uint64_t digest = 0;
    struct session s;

    if (m->settings.down || manager_read_session(m, &s) < 0 || !may_be_used(m, s.profile) ||
        manager_load(m, s.profile, &findings, &p, &digest) < 0)
        return false;
    if (digest != s.digest || s.wish.n_carriers == 0) {
        (void)profile_free(p);
        return false;
    }
    m->profile = p;
    m->digest = digest;
    m->status.profile_findings = findings;
    m->status.kind = p->kind;
    memcpy(m->status.profile, s.profile, sizeof(m->status.profile));
    m->adopted_wish = s.wish;
    m->server = s.server;
    m->tunnel_id = (struct tunnel_id){s.wish.tunnel_addr[0], s.wish.tunnel_addr[1], s.server};
    for (size_t i = 0; i < s.wish.n_carriers && m->n_targets < MANAGER_TARGETS_MAX; i++)
        m->targets[m->n_targets++] = (struct openvpn_target){
            s.wish.carriers[i].addr, s.wish.carriers[i].port, s.wish.carriers[i].protocol};
    m->by_mark = s.wish.carriers[0].marked;
    return m->n_targets > 0;
}

int manager_begin(struct manager *m)
{
    struct findings findings = {0};
    int r = folder_watch(m->folder, m->loop, manager_folder_changed, m);

    if (r < 0)
        return r;
    folder_check(m->folder, &findings);
    for (size_t i = 0; i < findings.n; i++)
        log_warning("%s: %s: %s", m->config.folder, findings.list[i].word, findings.list[i].text);
    manager_look_at_services(m);
    manager_check_way_out(m);
    (void)folder_list(m->folder, &m->list, &findings);
    (void)folder_read_settings(m->folder, &m->settings, &findings);
    m->begun = true;
    if (can_adopt(m)) {
        m->adopting = true;
        manager_arm(m->adopt_timer, ADOPT_US);
        manager_post(m, EVENT_START);
    } else {
        m->n_targets = 0;
        r = client_sweep(m->config.runtime, m->config.client_uid);
        if (r < 0)
            log_warning("What an earlier client left cannot be removed (%s)", strerror(-r));
        manager_drop_session(m);
        manager_send_wish(m, DOOR_CLOSED);
        manager_forget_flows(m);
    }
    manager_look_at_folder(m);
    manager_publish(m);
    return 0;
}

void manager_stop(struct manager *m)
{
    if (m->stopping)
        return;
    m->stopping = true;
    manager_drop_session(m);
    manager_post(m, EVENT_STOP);
    if (!seal_link_is_connected(m->seal))
        (void)sd_event_exit(m->loop, 0);
    else
        manager_arm(m->stop_timer, STOP_US);
}

void manager_reload(struct manager *m)
{
    manager_look_at_services(m);
    manager_check_way_out(m);
    manager_look_at_folder(m);
}

struct manager *manager_free(struct manager *m, bool handover)
{
    if (m == NULL)
        return NULL;
    manager_sources_done(m);
    m->client = handover ? client_leave(m->client) : client_free(m->client);
    m->seal = seal_link_free(m->seal);
    m->resolver = resolver_free(m->resolver);
    m->platform = platform_free(m->platform);
    m->dns_addr = dns_addr_free(m->dns_addr);
    m->folder = folder_close(m->folder);
    m->profile = profile_free(m->profile);
    m->candidate = profile_free(m->candidate);
    m->route = nl_free(m->route);
    m->netfilter = nl_free(m->netfilter);
    m->loop = sd_event_unref(m->loop);
    explicit_bzero(m->challenge, sizeof(m->challenge));
    free(m);
    return NULL;
}

void manager_listen(struct manager *m, const struct manager_listener *listener)
{
    m->listener = listener != NULL ? *listener : (struct manager_listener){0};
}

const struct vpn_status *manager_status(const struct manager *m)
{
    return &m->status;
}
