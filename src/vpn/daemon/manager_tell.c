/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the manager says: to the journal, to systemd, to its listener and to state.json. */
#include "vpn/daemon/manager_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"

__attribute__((format(printf, 2, 0))) static void set_text(char *ret, const char *format,
                                                           va_list args)
{
    char text[VPN_TEXT_MAX];
    int n = vsnprintf(text, sizeof(text), format, args);

    if (n > 0)
        (void)str_escape(str_from(text), ret, VPN_TEXT_MAX);
    else
        ret[0] = '\0';
}

void manager_phase(struct manager *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(m->status.phase, format, args);
    va_end(args);
    manager_publish(m);
}

void manager_error(struct manager *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(m->status.error, format, args);
    va_end(args);
    m->status.error_us = manager_realtime_us();
    manager_publish(m);
}

void manager_publish(struct manager *m)
{
    if (m->publish_source != NULL)
        (void)sd_event_source_set_enabled(m->publish_source, SD_EVENT_ONESHOT);
}

void manager_tell(struct manager *m, enum vpn_event event, const char *text)
{
    if (m->listener.event != NULL)
        m->listener.event(event, text, m->listener.user);
}

void manager_tell_status(struct manager *m)
{
    const struct vpn_status *st = &m->status;

    (void)sd_notifyf(0, "STATUS=%s%s%s%s%s", machine_state_name(st->state),
                     st->profile[0] ? ", profile " : "", st->profile, st->phase[0] ? ": " : "",
                     st->phase);
    manager_write_state(m);
    if (m->listener.changed != NULL)
        m->listener.changed(m->listener.user);
}

void manager_show_state(struct manager *m)
{
    enum machine_state state = m->machine.state;

    if (machine_is_open(state) && !m->tunnel_open)
        state = STATE_CONNECTING;
    if (state == m->status.state)
        return;
    m->status.state = state;
    m->status.since_us = manager_realtime_us();
}

static bool left_out(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->list[i].kind != FINDING_NOTE)
            return true;
    return f->more > 0;
}

void manager_tell_up(struct manager *m)
{
    char addr[ADDR_STR_MAX], text[VPN_TEXT_MAX];
    const struct vpn_status *st = &m->status;
    struct log_fields fields = {.interface = SEAL_TUNNEL, .action = "up", .address = addr};

    if (st->server.family != 0)
        (void)addr_format(&st->server, addr);
    else
        (void)snprintf(addr, sizeof(addr), "its server");
    (void)snprintf(text, sizeof(text), "connected by %s to %s%s%s", st->profile, addr,
                   st->tunnel.n_dns == 0
                       ? "; the server named no name server that qubes could ask, "
                         "so their queries are dropped"
                       : "",
                   left_out(&st->pushed_findings) ? "; not all the server said was taken" : "");
    log_event(LOG_NOTICE, &fields, "Up: %s", text);
    manager_tell(m, VPN_EVENT_UP, text);
}

void manager_tell_state(struct manager *m, enum machine_state before)
{
    const struct vpn_status *st = &m->status;
    struct log_fields fields = {.action = machine_state_name(m->machine.state)};
    const char *because = st->error[0] ? st->error : st->phase;

    switch (m->machine.state) {
    case STATE_UNCONFIGURED:
        log_event(LOG_NOTICE, &fields, "No profile to use (%s): sealed", st->phase);
        break;
    case STATE_SEALED:
        if (!manager_wants_up(m)) {
            log_event(LOG_NOTICE, &fields, "Down: sealed, qubes reach nothing");
            manager_tell(m, VPN_EVENT_DOWN, "sealed, as wished");
        } else if (before != STATE_SEALED) {
            log_event(LOG_WARNING, &fields, "No tunnel (%s): sealed, another try follows", because);
            if (machine_is_open(before) || m->tunnel_open)
                manager_tell(m, VPN_EVENT_LOST, because);
        }
        break;
    case STATE_RESOLVING:
        log_event(LOG_INFO, &fields, "Profile %s: looking for its server", st->profile);
        manager_tell(m, VPN_EVENT_CONNECTING, st->profile);
        break;
    case STATE_CONNECTING:
        log_event(LOG_INFO, &fields, "Profile %s: connecting", st->profile);
        if (machine_is_open(before))
            manager_tell(m, VPN_EVENT_LOST, because);
        break;
    case STATE_UP: /* told when the seal has granted it */
        break;
    case STATE_STALLED:
        log_event(LOG_WARNING, &fields,
                  "The server is silent: qubes go into the tunnel or nowhere");
        manager_tell(m, VPN_EVENT_STALLED, "the server is silent");
        break;
    case STATE_FAILED:
        log_event(LOG_ERR, &fields, "Profile %s needs you: %s. Sealed", st->profile, because);
        manager_tell(m, VPN_EVENT_FAILED, because);
        break;
    case MACHINE_STATES:
        break;
    }
}
