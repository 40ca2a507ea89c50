/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/report.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "router/elements.h"

static struct {
    unsigned changes;          /* in this series */
    size_t over_limit; /* at the last look */
    bool platform_said[FAMILIES], platform[FAMILIES];
    int last_error;
} state;

static int priority_of(enum verdict v)
{
    switch (v) {
    case VERDICT_NONE:
    case VERDICT_OPEN:
    case VERDICT_ADOPTED:
    case VERDICT_EXPIRED:
    case VERDICT_PENDING:
    case VERDICT_NO_VIF:
    case VERDICT_SUPERSEDED:
        return LOG_INFO;
    case VERDICT_REFUSED:
    case VERDICT_DUPLICATE:
    case VERDICT_UNUSABLE:
    case VERDICT_MISMATCH:
    case VERDICT_CONFLICT:
    case VERDICT_PLATFORM:
    case VERDICT_VPN_HERE:
    case VERDICT_UNREADABLE:
    case VERDICT_FAILED:
        return LOG_WARNING;
    }
    return LOG_WARNING;
}

static const char *serving_vif(const struct slot *slot)
{
    return slot->n_actual > 0 && object_has_vif(slot->actual[0].kind) ? slot->actual[0].vif : NULL;
}

void report_change(const struct model *m, const struct slot *slot, enum verdict before)
{
    char addr[ADDR_STR_MAX];
    bool open = slot->verdict == VERDICT_OPEN || slot->verdict == VERDICT_ADOPTED;
    const struct model_link *link = model_link_by_index(m, slot->conflict.uplink_index);
    struct log_fields fields = {
        .address = addr_format(&slot->addr, addr),
        .qube = slot->qube,
        .interface = slot->verdict == VERDICT_CONFLICT && link != NULL ? link->name
                                                                       : serving_vif(slot),
        .action = plan_verdict_name(slot->verdict),
    };
    const char *who = slot->qube != NULL && slot->qube[0] != '\0' ? slot->qube : "a qube";

    if (++state.changes > ROUTER_LOG_BURST)
        return;
    if (open)
        log_event(LOG_INFO, &fields, "%s of %s is served%s%s%s", addr, who,
                  fields.interface != NULL ? " by " : "",
                  fields.interface != NULL ? fields.interface : "",
                  before == VERDICT_OPEN ? " (changed)" : "");
    else if (slot->verdict == VERDICT_NONE)
        log_event(LOG_INFO, &fields, "%s is not served any more", addr);
    if (slot->reason != NULL)
        log_event(priority_of(slot->verdict), &fields, "%s%s: %s", addr,
                  open ? "" : " is not served", slot->reason);
}

void report_burst_end(void)
{
    if (state.changes > ROUTER_LOG_BURST)
        log_info("... and %u more addresses changed; --status lists them all",
                 state.changes - ROUTER_LOG_BURST);
    state.changes = 0;
}

static void say_stray(struct stray *stray, void *user)
{
    unsigned *said = user;
    char path[2 * CLAIM_PATH_MAX];

    if (stray->said)
        return;
    stray->said = true;
    if (++*said <= ROUTER_LOG_BURST)
        log_warning("Key %s %s: it exposes nothing",
                    str_escape(str_from(stray->path), path, sizeof(path)), stray->why);
}

void report_refusals(const struct model *m)
{
    unsigned said = 0;

    if (m->n_strays > 0)
        model_each_stray(m, say_stray, &said);
    if (said > ROUTER_LOG_BURST)
        log_warning("... and %u more keys name no address that can be served",
                    said - ROUTER_LOG_BURST);
    if (m->n_over_limit > 0 && state.over_limit == 0)
        log_error("%zu keys are beyond the limit of %d addresses and expose nothing",
                  m->n_over_limit, ROUTER_MAX_ADDRESSES);
    state.over_limit = m->n_over_limit;
}

void report_platform(const struct model *m, enum family_index family, const char *error)
{
    if (state.platform_said[family] && state.platform[family] == m->platform[family])
        return;
    state.platform_said[family] = true;
    state.platform[family] = m->platform[family];
    if (m->platform[family])
        log_info("The platform's rules of \"%s qubes\" are in place", elements_family_name(family));
    else
        log_warning("%s: nothing is exposed over %s until that changes%s%s",
                    m->missing[family] != NULL ? m->missing[family] : "no rules",
                    family == FAMILY_IP6 ? "IPv6" : "IPv4", error[0] != '\0' ? "; nft: " : "",
                    error);
}

void report_failure(int error)
{
    if (state.last_error == error)
        return; /* tried again every few seconds: said once */
    state.last_error = error;
    log_error("Cannot bring the kernel in line (%s); tried again", strerror(-error));
}

void report_success(void)
{
    state.last_error = 0;
}
