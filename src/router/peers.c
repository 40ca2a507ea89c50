/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/peers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "netlink/nflog.h"

#define GROUP     78  /* as in the rule */
#define SNAP_SIZE 128 /* likewise */

struct peers {
    struct nflog *log; /* owned */
    sd_event_source *io;
    bool said; /* that it cannot be done */
};

static const char *protocol_name(const struct nflog_packet *p, char buf[static 16])
{
    switch (p->protocol) {
    case IPPROTO_TCP:
        return "tcp";
    case IPPROTO_UDP:
        return "udp";
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return "icmp";
    default: /* a number of the packet's, no enum */
        (void)snprintf(buf, 16, "protocol %u", p->protocol);
        return buf;
    }
}

static void on_packet(const struct nflog_packet *p, void *user)
{
    const struct manager *m = user;
    const struct model_link *vif = model_link_by_index(m->model, p->out_index);
    const struct slot *slot = model_find(m->model, &p->dst);
    char addr[ADDR_STR_MAX], peer[ADDR_STR_MAX], name[16], port[16] = "";
    struct log_fields fields = {.address = addr_format(&p->dst, addr), .action = "peer"};

    if (slot == NULL)
        return; /* closed meanwhile */
    fields.qube = slot->qube;
    fields.interface = vif != NULL ? vif->name : NULL;
    if (p->dst_port != 0)
        (void)snprintf(port, sizeof(port), " port %u", p->dst_port);
    log_event(LOG_INFO, &fields, "%s of %s: new peer %s, %s%s", addr,
              slot->qube != NULL && slot->qube[0] != '\0' ? slot->qube : "a qube",
              addr_format(&p->src, peer), protocol_name(p, name), port);
}

static int on_readable(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct manager *m = user;

    (void)s;
    (void)fd;
    (void)revents;
    (void)nflog_read(m->peers->log, on_packet, m);
    return 0;
}

void peers_listen(struct manager *m)
{
    int r;

    if (m->peers == NULL)
        m->peers = calloc(1, sizeof(*m->peers));
    if (m->peers == NULL || m->peers->io != NULL)
        return;
    r = nflog_open(GROUP, SNAP_SIZE, &m->peers->log);
    if (r >= 0)
        r = sd_event_add_io(m->event, &m->peers->io, nflog_fd(m->peers->log), EPOLLIN, on_readable,
                            m);
    if (r >= 0) {
        /* names are the least urgent thing of all */
        (void)sd_event_source_set_priority(m->peers->io, SD_EVENT_PRIORITY_IDLE);
        return;
    }
    m->peers->log = nflog_free(m->peers->log);
    if (!m->peers->said)
        log_warning("Cannot listen for new peers (%s): log=1 has no effect. One program can have "
                    "group %d of nfnetlink_log",
                    strerror(-r), GROUP);
    m->peers->said = true;
}

void peers_stop(struct manager *m)
{
    if (m->peers == NULL)
        return;
    m->peers->io = sd_event_source_disable_unref(m->peers->io);
    m->peers->log = nflog_free(m->peers->log);
    free(m->peers);
    m->peers = NULL;
}
