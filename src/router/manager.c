/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "netlink/rt.h"
#include "nft/nft.h"
#include "router/peers.h"
#include "router/report.h"
#include "router/sources.h"
#include "router/status.h"

#define RECONCILE_TRIES 5 /* the ruleset or the links change while we look */
#define WITHDRAW_TRIES  20

void manager_schedule(struct manager *m)
{
    (void)sd_event_source_set_enabled(m->reconcile_source, SD_EVENT_ONESHOT);
}

/* ---- after a plan was applied: what the other rooms need to know ---- */

static void follow_proxies(struct manager *m, const struct plan *p)
{
    for (size_t i = 0; i < p->n_ops; i++) {
        const struct op *op = &p->ops[i];
        int r = 0;

        if (op->object.kind != OBJECT_PROXY || (op->kind == OP_ADD && op->failed))
            continue;
        if (op->kind == OP_REMOVE)
            watch_remove(m->watch, &op->addr, op->object.uplink_index);
        else if (op->kind == OP_ADD)
            r = watch_add(m->watch, &op->addr, op->object.uplink_index);
        if (r == -ENODEV)
            m->need_network = true;
    }
}

/* A successor finds the entries of its predecessor in place: they are watched like new ones. */
static void watch_slot(struct manager *m, const struct slot *slot)
{
    for (size_t i = 0; i < slot->n_actual; i++) {
        if (slot->actual[i].kind == OBJECT_PROXY)
            (void)watch_add(m->watch, &slot->addr, slot->actual[i].uplink_index);
    }
}

/* Also of what is closed: a port or an address may become free for another one then. */
static void note_expiry(struct manager *m, const struct planned *planned)
{
    const struct claim *c = planned->claim;

    if (c != NULL && c->valid && c->record.expires > m->model->now &&
        c->record.expires < m->next_expiry)
        m->next_expiry = c->record.expires;
}

static int set_text(char **at, const char *text)
{
    char *copy = NULL;

    if (*at != NULL && text[0] != '\0' && strcmp(*at, text) == 0)
        return 0;
    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        return -ENOMEM;
    free(*at);
    *at = copy;
    return 0;
}

/* What the kernel refused for one address is that address's state, and is tried again. */
static void settle_error(struct planned *planned)
{
    if (planned->error == 0)
        return;
    planned->verdict = VERDICT_FAILED;
    planned->changed = false;
    (void)snprintf(planned->reason, sizeof(planned->reason),
                   "the kernel refused a change (%s): tried again", strerror(-planned->error));
}

static void note_planned(struct manager *m, struct planned *planned)
{
    struct slot *slot = planned->slot;
    enum verdict before = slot->verdict;
    bool news;
    int r;

    note_expiry(m, planned);
    plan_note_flows(m->model, planned);
    settle_error(planned);
    news = slot->verdict != planned->verdict || planned->changed ||
           strcmp(slot->reason != NULL ? slot->reason : "", planned->reason) != 0;
    r = set_text(&slot->reason, planned->reason);
    slot->verdict = planned->verdict;
    slot->keep = planned->keep;
    if (r == 0 && planned->claim != NULL && planned->claim->valid)
        r = set_text(&slot->qube, planned->claim->record.vm);
    if (r < 0)
        log_error("Out of memory: status is not complete");
    watch_slot(m, slot);
    if (news)
        slot->changed = m->model->now;
    if (r == 0 && planned->claim != NULL && planned->verdict == VERDICT_OPEN &&
        planned->claim->record.log)
        peers_listen(m);
    if (news)
        report_change(m->model, slot, before);
}

static void note_all(struct manager *m, struct plan *p)
{
    follow_proxies(m, p);
    for (size_t i = 0; i < p->n_planned; i++)
        note_planned(m, &p->planned[i]);
    for (size_t i = 0; i < p->n_planned; i++)
        (void)model_drop_idle(m->model, p->planned[i].slot);
    report_burst_end();
}

/* ---- reading ---- */

static int tell_links(struct manager *m)
{
    bool news = false;
    int r = 0;

    watch_links_begin(m->watch);
    for (size_t i = 0; i < m->model->n_links && r >= 0; i++) {
        const struct model_link *link = &m->model->links[i];

        if (link->uplink)
            r = watch_link(m->watch, link->index, link->mac, link->carrier);
        news = news || r == 1;
    }
    news = watch_links_end(m->watch) || news;
    if (news)
        sources_ask_conflicts(m);
    return r < 0 ? r : 0;
}

static int read_rules(struct manager *m)
{
    unsigned repairs = m->kernel.repairs;
    int r = kernel_read_rules(&m->kernel, m->model);

    m->rules_read_us = clock_now_us();
    for (unsigned f = 0; f < FAMILIES; f++)
        report_platform(m->model, (enum family_index)f, m->kernel.error[f]);
    if (r == 0 && m->ready && m->kernel.repairs != repairs) {
        m->healed++;
        log_warning("Somebody changed or removed our firewall rules: put back");
    }
    return r;
}

/* Reads what is flagged. A flag is taken down only by a reading that succeeded. */
static int look(struct manager *m, bool *ret_switches)
{
    int r = 0;

    if (m->need_network) {
        r = kernel_read_network(&m->kernel, m->model);
        if (r == 0)
            r = tell_links(m);
        m->need_network = r < 0;
    }
    if (r == 0 && m->need_rules) {
        r = read_rules(m);
        m->need_rules = r < 0;
    }
    if (r == 0 && m->need_unnotified) {
        r = kernel_read_unnotified(&m->kernel, m->model);
        m->need_unnotified = r < 0;
        *ret_switches = true;
    }
    if (r == 0 && (m->model->publish_changed || (m->model->has_publish && *ret_switches)))
        r = kernel_read_listeners(&m->kernel, m->model);
    return r;
}

/* ---- one look ---- */

static void look_again(struct manager *m)
{
    m->need_network = m->need_rules = m->need_unnotified = true;
}

static void clear_dirty(struct slot *list)
{
    while (list != NULL) {
        struct slot *next = list->next_dirty;

        list->dirty = false;
        list->next_dirty = NULL;
        list = next;
    }
}

static void touch_planned(struct manager *m, const struct plan *p)
{
    for (size_t i = 0; i < p->n_planned; i++)
        model_touch(m->model, p->planned[i].slot);
}

/* Those that the kernel refused are planned again with the next try. 1: there are some. */
static int touch_refused(struct manager *m, const struct plan *p)
{
    int found = 0;

    for (size_t i = 0; i < p->n_planned; i++) {
        if (p->planned[i].error == 0 && !p->planned[i].cut_failed)
            continue;
        model_touch(m->model, p->planned[i].slot);
        found = 1;
    }
    return found;
}

/* 1: look again at once; 0: done; -errno: later. */
static int take_result(struct manager *m, struct plan *p, const struct apply_result *result)
{
    int refused;

    m->need_network = m->need_network || result->again_network;
    m->need_unnotified = m->need_unnotified || result->again_network;
    m->need_rules = m->need_rules || result->again_rules;
    if (!result->elements_done) {
        touch_planned(m, p);
        if (result->failed)
            look_again(m);
        return result->failed ? result->error : 1;
    }
    if (result->flows > 0)
        log_debug("Ended %u established connections that are not permitted any more",
                  result->flows);
    refused = touch_refused(m, p); /* before: what is touched is not dropped */
    note_all(m, p);
    if (result->failed || refused)
        look_again(m);
    if (result->failed)
        return result->error;
    return refused ? -EAGAIN : result->again_network || result->again_rules;
}

/* The slots of the list keep their dirty mark until here: plan_sysctls() goes by it. */
static int plan_and_apply(struct manager *m, bool switches)
{
    _cleanup_(plan_done) struct plan plan = {0};
    struct apply_result result = {0};
    struct slot *list = model_take_dirty(m->model);
    int r;

    m->model->now = (int64_t)time(NULL);
    r = plan_slots(m->model, list, &plan);
    if (r == 0 && (switches || plan.proxies_changed))
        r = plan_sysctls(m->model, &plan);
    clear_dirty(list);
    if (r == 0)
        status_capture(m->status, &plan);
    if (r == 0)
        r = apply_plan(&m->kernel, m->model, &plan, &result);
    if (r < 0) { /* out of memory: nothing is known for sure */
        look_again(m);
        model_touch_all(m->model);
        return r;
    }
    return take_result(m, &plan, &result);
}

static int look_and_apply(struct manager *m)
{
    bool switches = false;
    int r = look(m, &switches);

    if (r < 0)
        return r;
    if (m->kernel.generation == 0)
        return -EAGAIN;
    return plan_and_apply(m, switches);
}

void manager_withdraw_now(struct manager *m)
{
    if (m->kernel.generation == 0 || plan_and_apply(m, false) != 0)
        look_again(m);
    /* the rest (timers, sockets) is not urgent */
    manager_schedule(m);
}

/* Type=notify: ready means that what QubesDB says is in place, or that it cannot say anything. */
static void tell_ready(struct manager *m)
{
    if (m->ready || !(m->model->readable || m->said_lost))
        return;
    m->ready = true;
    (void)sd_notify(0, "READY=1");
}

int manager_reconcile(struct manager *m)
{
    int r = 1;

    m->reconciliations++;
    for (int i = 0; i < RECONCILE_TRIES && r > 0; i++)
        r = look_and_apply(m);
    if (watch_flush(m->watch) < 0)
        log_warning("Cannot listen on an uplink: conflicts with other hosts are not noticed there");
    sources_arm_expiry(m);
    sources_arm_conflicts(m);
    if (r == 0)
        tell_ready(m);
    else if (r < 0 && r != -EAGAIN)
        report_failure(r);
    if (r == 0 && !m->kernel.load_failed) {
        reconcile_retry_reset(&m->retry);
        sources_disarm_retry(m);
        report_success();
    } else if (m->kernel.moving) {
        sources_arm_retry(m, ROUTER_NFT_SPACING_US); /* no failure: others are writing too */
    } else {
        sources_arm_retry(m, reconcile_retry_delay_us(&m->retry));
    }
    return r;
}

/* ---- life ---- */

static void withdraw(struct manager *m)
{
    m->model->stopping = true;
    for (int i = 0; i < WITHDRAW_TRIES; i++) {
        model_touch_all(m->model);
        look_again(m);
        if (manager_reconcile(m) == 0) {
            log_info("Stopped: all exposures are withdrawn");
            return;
        }
    }
    log_error("Stopped, but the kernel could not be brought in line: exposures may still be open. "
              "See: nft list table ip qubes");
}

int manager_run(struct manager *m)
{
    int r;

    look_again(m);
    (void)manager_reconcile(m);
    r = sd_event_loop(m->event);
    (void)sd_notify(0, "STOPPING=1");
    if (m->stop) {
        withdraw(m);
    } else if (r >= 0) {
        log_info("Stopped for a successor: exposures stay as they are");
    }
    return r;
}

struct manager *manager_free(struct manager *m)
{
    if (m == NULL)
        return NULL;
    m->status = status_free(m->status);
    peers_stop(m);
    m->wishes = wishes_free(m->wishes);
    m->watch = watch_free(m->watch);
    sources_done(m);
    m->rt_monitor = rt_monitor_free(m->rt_monitor);
    m->nft_monitor = nft_monitor_free(m->nft_monitor);
    kernel_done(&m->kernel);
    m->model = model_free(m->model);
    m->event = sd_event_unref(m->event);
    free(m);
    return NULL;
}

void manager_freep(struct manager **m)
{
    *m = manager_free(*m);
}

int manager_new(const struct manager_config *config, struct manager **ret)
{
    _cleanup_(manager_freep) struct manager *m = calloc(1, sizeof(*m));
    int r;

    if (m == NULL)
        return -ENOMEM;
    m->config = *config;
    m->next_expiry = INT64_MAX;
    m->model = model_new();
    if (m->model == NULL)
        return -ENOMEM;
    m->model->adopting = true;
    r = sd_event_default(&m->event);
    if (r >= 0)
        r = kernel_open(&m->kernel, config->nft_program);
    /* listening begins before the first reading: no change falls in between */
    if (r >= 0)
        r = sources_new(m);
    if (r >= 0 && config->control != NULL)
        r = status_new(m, config->control, &m->status);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}
