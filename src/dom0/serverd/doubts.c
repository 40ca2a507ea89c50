/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attachments that nobody heard of: while the stream was cut, or this daemon away, a qube may have
 * been attached anew, by a change of its net qube or because that one was started again. Then its
 * vif has the address that the property said by then, else the one it had.
 *
 * What tells is the QubesDB of the net qube, where qubesd writes /mapped-ip/ADDR/visible-ip for each
 * client before it attaches it, and which is empty when the net qube starts
 * (set_mapped_ip_info_for_vm(), qubes-core-admin 4.2). Where both addresses were attached in that
 * life, the later one stands in the qube's own QubesDB, as /qubes-ip (create_qdb_entries()). That
 * one the qube can write, so it is heard only then, can name but the address that its property has
 * by now, and never one that another qube runs with. The net qube can write the other keys; with
 * them it decides for its own clients only, whose packets it has in its hands anyway.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "dom0/serverd/manager.h"

static bool is_readdressed(const struct qube *q)
{
    return q->ip[0].family != 0 && q->live.ip[0].family != 0 &&
           !addr_equal(&q->ip[0], &q->live.ip[0]);
}

/* Moved unheard, it may have gone there with the IPv4 address that it had; nothing tells of the other. */
static void follow_netvm(struct qube *q)
{
    struct attachment old = q->live;

    if (strcmp(old.netvm, q->netvm) == 0)
        return;
    qube_attach(q);
    if (old.ip[0].family != 0 && old.netvm[0] != '\0')
        q->live.ip[0] = old.ip[0];
}

void doubts_raise(struct manager *m, struct qube *q)
{
    struct hop *own = hops_find(m->hops, q->name), *hop;

    if (!q->live.known)
        return;
    follow_netvm(q);
    q->doubted = is_readdressed(q) && q->live.netvm[0] != '\0';
    hop = q->doubted ? hops_find(m->hops, q->live.netvm) : NULL;
    if (hop)
        hop_reread(hop);
    if (q->doubted && own)
        hop_reread(own);
}

/* Everything is known that was there when it was asked. */
static bool is_read(const struct hop *h)
{
    return h && h->state == HOP_READY && !h->reread && !h->present.overflow;
}

static bool was_mapped(const struct hop *netvm, const struct addr *a)
{
    char path[sizeof(PRESENT_MAPPED) + ADDR_STR_MAX + sizeof(PRESENT_VISIBLE)], text[ADDR_STR_MAX];

    (void)snprintf(path, sizeof(path), PRESENT_MAPPED "%s" PRESENT_VISIBLE, addr_format(a, text));
    return present_find(&netvm->present, path) != NULL;
}

static bool is_anothers(const struct manager *m, const struct qube *q, const struct addr *a)
{
    for (size_t i = 0; i < tree_count(m->tree); i++) {
        const struct qube *other = tree_at(m->tree, i);

        if (other != q && other->live.known && addr_equal(&other->live.ip[0], a))
            return true;
    }
    return false;
}

static bool says_it_has(const struct hop *own, const struct addr *a)
{
    char text[ADDR_STR_MAX];

    return is_read(own) && present_is(&own->present, PRESENT_IP, str_from(addr_format(a, text)));
}

/* Does its vif have the address of the property? */
static bool has_new_address(const struct manager *m, const struct qube *q, const struct hop *netvm,
                            const struct hop *own)
{
    const struct addr *fresh = &q->ip[0];

    if (!was_mapped(netvm, fresh) || is_anothers(m, q, fresh))
        return false;
    return !was_mapped(netvm, &q->live.ip[0]) || says_it_has(own, fresh);
}

static void settle(struct manager *m, struct qube *q)
{
    const struct hop *netvm = hops_find(m->hops, q->live.netvm), *own = hops_find(m->hops, q->name);

    if (!is_read(netvm) || (own && !is_read(own)))
        return;
    q->doubted = false;
    if (q->changing || !is_readdressed(q) || !has_new_address(m, q, netvm, own))
        return;
    qube_attach(q);
    /* soon, not here: what is computed may end the connection that is just speaking */
    m->recompute = true;
    sources_arm_repair(m, clock_now_us());
}

void doubts_settle(struct manager *m, const struct hop *h)
{
    for (size_t i = 0; i < tree_count(m->tree); i++) {
        struct qube *q = tree_at(m->tree, i);

        if (q->doubted && qube_is_alive(q) && q->live.known &&
            (strcmp(q->name, h->name) == 0 || strcmp(q->live.netvm, h->name) == 0))
            settle(m, q);
    }
}
