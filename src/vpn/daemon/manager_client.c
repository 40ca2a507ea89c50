/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client and its tunnel: started when the seal has granted its endpoints, heard, given the
 * secrets it asks for, and its tunnel set up with what the judge let pass.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "netlink/ct.h"
#include "vpn/client/client.h"
#include "vpn/client/device.h"
#include "vpn/daemon/manager_private.h"

#define POLL_SPACING_US 1000000
#define REFUSALS_MAX    10          /* about five minutes */
#define CLIENT_TICKS 2
#define CT_MARK_QUBES   0x78000000u /* flows of qubes through the tunnel; set by the seal */

static unsigned needs_bit(enum client_secret kind)
{
    switch (kind) {
    case SECRET_USER_PASSWORD:
        return NEEDS_USER_PASSWORD;
    case SECRET_KEY_PASSWORD:
        return NEEDS_KEY_PASSWORD;
    case SECRET_CHALLENGE:
        return NEEDS_CHALLENGE;
    }
    return 0;
}

static const char *needs_words(unsigned bits)
{
    if (bits & NEEDS_USER_PASSWORD)
        return "a user name and a password";
    if (bits & NEEDS_KEY_PASSWORD)
        return "the password of the private key";
    return "an answer to its question";
}

/* Gives what is there. False: the user has to give it first. */
static bool give_secret(struct manager *m, enum client_secret kind)
{
    struct folder_secrets s = {0};
    const char *name = "", *value = "";
    int r = folder_read_secrets(m->folder, m->profile->name, &s);

    switch (kind) {
    case SECRET_USER_PASSWORD:
        name = s.user;
        value = s.password;
        break;
    case SECRET_KEY_PASSWORD:
        value = s.key_password;
        break;
    case SECRET_CHALLENGE:
        value = m->challenge;
        break;
    }
    if (r < 0 && kind != SECRET_CHALLENGE)
        manager_error(m, "the stored secrets of %s are not used: %s", m->profile->name,
                      r == -EPERM    ? "others may read the file"
                      : r == -ESTALE ? "the profile's file is another one since; give them again"
                                     : strerror(-r));
    else
        r = value[0] == '\0' ? -ENOENT : client_give_secret(m->client, kind, name, value);
    if (kind == SECRET_CHALLENGE)
        explicit_bzero(m->challenge, sizeof(m->challenge));
    folder_secrets_wipe(&s);
    if (r < 0 && r != -ENOENT && r != -EPERM && r != -ESTALE)
        manager_error(m, "the client did not take a secret (%s)", strerror(-r));
    return r == 0;
}

static void on_secret(struct manager *m, enum client_secret kind)
{
    unsigned bit = needs_bit(kind);

    if (give_secret(m, kind)) {
        m->status.missing &= ~bit;
        return;
    }
    m->status.missing |= bit;
    manager_arm_state(m); /* nobody is late while a person is asked */
    manager_phase(m, "the client waits for %s", needs_words(bit));
    log_warning("Profile %s needs %s: qubes-vpn set-secret %s", m->profile->name, needs_words(bit),
                m->profile->name);
    manager_tell(m, VPN_EVENT_SECRET, needs_words(bit));
}

void manager_give_secrets(struct manager *m)
{
    static const enum client_secret kinds[] = {SECRET_USER_PASSWORD, SECRET_KEY_PASSWORD,
                                               SECRET_CHALLENGE};

    for (size_t i = 0; i < ARRAY_SIZE(kinds) && m->client != NULL; i++)
        if ((m->status.missing & needs_bit(kinds[i])) && give_secret(m, kinds[i]))
            m->status.missing &= ~needs_bit(kinds[i]);
    if (m->status.missing == 0)
        manager_arm_state(m);
}

/* ---- up ---- */

static void report_pushed(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *one = &f->list[i];

        if (one->kind == FINDING_NOTE)
            log_debug("From the server: %s: %s", one->word, one->text);
        else
            log_warning("Not taken from the server: %s: %s", one->word, one->text);
    }
    if (f->more > 0)
        log_warning("The server said %zu more things that are not used", f->more);
}

static int judge(struct manager *m, const struct client_event *e)
{
    struct addr servers[PLATFORM_SERVERS_MAX];
    size_t n = platform_servers(m->platform, servers);
    struct findings *f = &m->status.pushed_findings;
    struct surroundings around;
    int r = network_read(m->route, SEAL_TUNNEL, &m->network);

    memset(f, 0, sizeof(*f));
    if (e->findings != NULL)
        *f = *e->findings;
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        network_add_taken(&m->network, &servers[i]);
    for (size_t i = 0; i < m->n_targets; i++)
        network_add_taken(&m->network, &m->targets[i].addr);
    if (m->network.is_full)
        return -E2BIG;
    around = (struct surroundings){m->network.taken, m->network.n_taken, m->network.uplinks,
                                   m->network.n_uplinks};
    r = pushed_judge(e->pushed, &around, f, &m->facts);
    report_pushed(f);
    return r;
}

static void on_up(struct manager *m, const struct client_event *e)
{
    int r;

    if (e->pushed == NULL)
        return;
    r = judge(m, e);
    if (r < 0) {
        const struct findings *f = &m->status.pushed_findings;
        const char *why = strerror(-r);

        for (size_t i = 0; i < f->n && r == -EINVAL; i++)
            if (f->list[i].kind == FINDING_REFUSED)
                why = f->list[i].text;
        manager_error(m, "what the server gives cannot be used: %s", why);
        manager_post(m, EVENT_CLIENT_BAD_PUSH);
        return;
    }
    m->server = e->server;
    m->status.server = e->server;
    m->status.missing = 0;
    manager_post(m, EVENT_CLIENT_UP);
}

void manager_forget_flows(struct manager *m)
{
    int r = ct_forget_marked(m->netfilter, CT_MARK_QUBES, SEAL_MARK_MASK);

    if (r < 0)
        log_warning("Flows of the old tunnel cannot be forgotten (%s)", strerror(-r));
    else if (r > 0)
        log_debug("%d flows of the old tunnel forgotten", r);
    memset(&m->tunnel_id, 0, sizeof(m->tunnel_id));
}

void manager_configure(struct manager *m)
{
    struct tunnel_id id = {m->facts.addr4.addr, m->facts.addr6.addr, m->server};
    int r = device_configure(m->route, &m->facts);

    m->adopting = false;
    if (r < 0) {
        manager_error(m, "the tunnel device cannot be set up (%s)", strerror(-r));
        manager_post(m, EVENT_CLIENT_ENDED);
        return;
    }
    if (!addr_equal(&id.addr4, &m->tunnel_id.addr4) ||
        !addr_equal(&id.addr6, &m->tunnel_id.addr6) ||
        !addr_equal(&id.server, &m->tunnel_id.server))
        manager_forget_flows(m);
    m->tunnel_id = id;
    manager_send_wish(m, DOOR_TUNNEL);
}

/* ---- events ---- */

/*
 * A server that took these secrets before may refuse them for a while (too many connections, a
 * session that it has not given up yet): then it is tried again. Else a person has to look.
 */
static enum machine_event refused(struct manager *m)
{
    return m->was_up && m->refusals++ < REFUSALS_MAX ? EVENT_CLIENT_ENDED : EVENT_CLIENT_REFUSED;
}

/* The counters alone are no news on the bus: who shows them asks. */
static void on_alive(struct manager *m, const struct client_event *e)
{
    bool moved = m->status.bytes_in != e->bytes_in || m->status.bytes_out != e->bytes_out;

    m->status.bytes_in = e->bytes_in;
    m->status.bytes_out = e->bytes_out;
    m->unanswered = 0;
    if (moved)
        manager_write_state(m);
    if (m->machine.state == STATE_STALLED)
        manager_post(m, EVENT_CLIENT_ALIVE);
}

static void on_client(struct client *c, const struct client_event *e, void *user)
{
    struct manager *m = user;

    (void)c;
    switch (e->kind) {
    case CLIENT_CONNECTING:
        manager_phase(m, "%s", e->text);
        manager_post(m, EVENT_CLIENT_CONNECTING);
        break;
    case CLIENT_SECRET:
        on_secret(m, e->secret);
        break;
    case CLIENT_UP:
        on_up(m, e);
        break;
    case CLIENT_ALIVE:
        on_alive(m, e);
        break;
    case CLIENT_STALLED:
        manager_error(m, "%s", e->text[0] ? e->text : "the server is silent");
        manager_post(m, EVENT_CLIENT_STALLED);
        break;
    case CLIENT_RECONNECTING:
        manager_error(m, "%s", e->text);
        log_info("The client tries again: %s", e->text);
        manager_post(m, EVENT_CLIENT_RECONNECTING);
        break;
    case CLIENT_REFUSED:
        manager_error(m, "%s", e->text);
        manager_post(m, refused(m));
        break;
    case CLIENT_ENDED:
        manager_error(m, "the client ended: %s", e->text);
        manager_post(m, EVENT_CLIENT_ENDED);
        break;
    }
}

static struct client_setup client_setup(const struct manager *m)
{
    return (struct client_setup){
        .profile = m->profile,
        .targets = m->targets,
        .n_targets = m->n_targets,
        .runtime = m->config.runtime,
        .program = m->profile->kind == PROFILE_OPENVPN ? m->config.openvpn : m->config.wireguard_go,
        .uid = m->config.client_uid,
        .gid = m->config.client_gid,
    };
}

/* A client that ended without a word must not be told of from inside an action: by the queue. */
static void start_failed(struct manager *m, int error)
{
    manager_error(m, "the client cannot be started (%s)", strerror(-error));
    manager_post(m, EVENT_CLIENT_ENDED);
}

void manager_client_start(struct manager *m)
{
    struct client_setup setup = client_setup(m);
    int r;

    m->status.bytes_in = m->status.bytes_out = 0;
    m->secrets_digest = manager_secrets_digest(m, m->profile->name);
    if (m->adopting) {
        r = client_adopt(m->loop, &setup, on_client, m, &m->client);
        if (r >= 0) {
            log_notice("Profile %s: the running client is taken over", m->profile->name);
            return;
        }
        log_info("No client to take over (%s)", strerror(-r));
        m->adopting = false;
        m->client = NULL;
        start_failed(m, r);
        return;
    }
    r = client_start(m->loop, &setup, on_client, m, &m->client);
    if (r < 0) {
        m->client = NULL;
        start_failed(m, r);
    }
}

/* Not by itself: an idle tunnel wakes nobody. */
void manager_poll(struct manager *m)
{
    uint64_t now = clock_now_us();

    if (m->client == NULL || !m->tunnel_open || now < m->polled_us + POLL_SPACING_US)
        return;
    m->polled_us = now;
    (void)client_poll(m->client);
}

/*
 * A process can live and do nothing: stopped, or in a loop. OpenVPN is asked for its counters on
 * the tick and has the time of two more to answer; WireGuard's driver has limits of its own.
 */
void manager_check_client(struct manager *m)
{
    if (m->client == NULL || !m->tunnel_open || m->profile->kind != PROFILE_OPENVPN) {
        m->unanswered = 0;
        return;
    }
    if (m->unanswered++ < CLIENT_TICKS) {
        (void)client_poll(m->client);
        return;
    }
    m->unanswered = 0;
    manager_error(m, "the client does not answer any more");
    manager_post(m, EVENT_CLIENT_ENDED);
}

/*
 * The device is as the client's server wants it, and nobody else has its address: others may change
 * links and addresses at any time.
 */
void manager_check_device(struct manager *m)
{
    const struct addr *own[] = {&m->facts.addr4.addr, &m->facts.addr6.addr};
    bool taken = m->network.is_full; /* what did not fit may be it */
    int r;

    if (m->client == NULL || !m->tunnel_open)
        return;
    for (size_t i = 0; i < m->network.n_taken && !taken; i++)
        for (size_t j = 0; j < ARRAY_SIZE(own); j++)
            taken |= own[j]->family != 0 && addr_equal(own[j], &m->network.taken[i]);
    if (taken) {
        manager_error(m, m->network.is_full ? "there are more addresses here than can be looked at"
                                            : "a qube or an uplink has the tunnel's address now");
        manager_post(m, EVENT_CLIENT_BAD_PUSH);
        return;
    }
    r = device_is_configured(m->route, &m->facts);
    if (r == 0) {
        log_notice("Somebody changed the tunnel device: it is set up again");
        r = device_configure(m->route, &m->facts);
    }
    if (r >= 0)
        return;
    manager_error(m, "the tunnel device is gone or cannot be set up (%s)", strerror(-r));
    manager_post(m, EVENT_CLIENT_ENDED);
}

void manager_client_stop(struct manager *m)
{
    m->client = client_free(m->client);
    m->status.missing = 0;
    m->status.bytes_in = m->status.bytes_out = 0;
}
