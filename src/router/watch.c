/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/watch.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "router/filter.h"

#define PROBES        3
#define PROBE_US      UINT64_C(200000)
#define ANNOUNCEMENTS 2 /* RFC 5227 ANNOUNCE_NUM, ANNOUNCE_INTERVAL */
#define ANNOUNCE_US   UINT64_C(2000000)
#define BURST         32
#define BURST_US      UINT64_C(10000)
#define READ_BUDGET   64

enum stage {
    STAGE_PROBING,    /* claimed, not yet announced */
    STAGE_ANNOUNCING,
    STAGE_HELD,
    STAGE_ASKING,     /* not claimed: somebody else had it */
};

struct claimed {
    struct addr addr;
    uint32_t index;
    enum stage stage;
    unsigned sent; /* in this stage */
    uint64_t due_us;
    TAILQ_ENTRY(claimed) queued; /* in a queue while not HELD */
    LIST_ENTRY(claimed) same_link;
};

TAILQ_HEAD(queue, claimed);

struct link {
    struct watch *watch;
    uint32_t index;
    uint8_t mac[MAC_SIZE];
    bool carrier, seen;
    bool filter_stale;
    bool deaf; /* its sockets may belong to a device that is gone: open them again */
    size_t n4, n6; /* entries of each family */
    LIST_HEAD(, claimed) entries;
    int arp_fd, nd_fd;
    sd_event_source *arp, *nd;
    LIST_ENTRY(link) links;
};

struct watch {
    sd_event *event;
    struct watch_ops ops;
    sd_event_source *timer;
    void *entries; /* tree by address and link */
    /* Within each queue all wait equally long, so each is in order of due_us. */
    struct queue probing, announcing;
    LIST_HEAD(, link) links;
};

static int compare_entry(const void *a, const void *b)
{
    const struct claimed *x = a, *y = b;
    int r = addr_compare(&x->addr, &y->addr);

    return r != 0 ? r : x->index < y->index ? -1 : x->index > y->index;
}

static struct claimed *find_entry(struct watch *w, const struct addr *addr, uint32_t index)
{
    struct claimed key = {.addr = *addr, .index = index};
    struct claimed **hit = tfind(&key, &w->entries, compare_entry);

    return hit != NULL ? *hit : NULL;
}

static struct link *find_link(struct watch *w, uint32_t index)
{
    struct link *l;

    LIST_FOREACH(l, &w->links, links) {
        if (l->index == index)
            return l;
    }
    return NULL;
}

static bool is_own_mac(struct watch *w, const uint8_t *mac)
{
    struct link *l;

    LIST_FOREACH(l, &w->links, links) {
        if (memcmp(l->mac, mac, MAC_SIZE) == 0)
            return true;
    }
    return false;
}

/* ---- sending ---- */

static struct queue *queue_of(struct watch *w, const struct claimed *e)
{
    switch (e->stage) {
    case STAGE_PROBING:
    case STAGE_ASKING:
        return &w->probing;
    case STAGE_ANNOUNCING:
        return &w->announcing;
    case STAGE_HELD:
        return NULL;
    }
    return NULL;
}

static void arm_timer(struct watch *w)
{
    const struct claimed *a = TAILQ_FIRST(&w->probing), *b = TAILQ_FIRST(&w->announcing);
    uint64_t due = UINT64_MAX;

    if (a != NULL)
        due = a->due_us;
    if (b != NULL && b->due_us < due)
        due = b->due_us;
    (void)sd_event_source_set_time(w->timer, due);
    (void)sd_event_source_set_enabled(w->timer, due != UINT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void enqueue(struct watch *w, struct claimed *e, uint64_t due_us)
{
    e->due_us = due_us;
    TAILQ_INSERT_TAIL(queue_of(w, e), e, queued);
}

/* At the head: what is new asks at once, before those that wait for their next turn. */
static void begin_stage(struct watch *w, struct claimed *e, enum stage stage)
{
    struct queue *q = queue_of(w, e);

    if (q != NULL)
        TAILQ_REMOVE(q, e, queued);
    e->stage = stage;
    e->sent = 0;
    e->due_us = 0;
    if (stage != STAGE_HELD)
        TAILQ_INSERT_HEAD(queue_of(w, e), e, queued);
}

/* A frame that cannot be sent is lost like one on the wire: the next one follows anyway. */
static void send_frame(const struct link *l, int family, const struct frame *f)
{
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET,
        .sll_ifindex = (int)l->index,
        .sll_protocol = htons(family == AF_INET6 ? ETH_P_IPV6 : ETH_P_ARP),
    };
    int fd = family == AF_INET6 ? l->nd_fd : l->arp_fd;

    if (fd >= 0)
        (void)sendto(fd, f->bytes, f->len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
                     sizeof(to));
}

static void free_entry(struct watch *w, struct claimed *e)
{
    struct queue *q = queue_of(w, e);
    struct link *l = find_link(w, e->index);

    if (q != NULL)
        TAILQ_REMOVE(q, e, queued);
    if (l != NULL) {
        *(e->addr.family == AF_INET6 ? &l->n6 : &l->n4) -= 1;
        l->filter_stale = true;
    }
    LIST_REMOVE(e, same_link);
    (void)tdelete(e, &w->entries, compare_entry);
    free(e);
}

/* One step of an entry whose time has come. */
static void step(struct watch *w, struct claimed *e, uint64_t now)
{
    struct link *l = find_link(w, e->index);
    struct addr addr = e->addr;
    uint32_t index = e->index;
    struct frame f;

    if (l == NULL || !l->carrier) { /* nobody there: again when the carrier is back */
        if (e->stage != STAGE_ASKING) {
            begin_stage(w, e, STAGE_HELD);
            return;
        }
    } else if (e->stage != STAGE_ANNOUNCING && e->sent < PROBES) {
        frame_probe(&e->addr, l->mac, &f);
        send_frame(l, e->addr.family, &f);
    } else if (e->stage != STAGE_ASKING) {
        if (e->stage == STAGE_PROBING)
            begin_stage(w, e, STAGE_ANNOUNCING);
        frame_announce(&e->addr, l->mac, &f);
        send_frame(l, e->addr.family, &f);
    }
    if (e->stage == STAGE_ASKING && e->sent >= PROBES) {
        free_entry(w, e);
        w->ops.clear(&addr, index, w->ops.user);
        return;
    }
    e->sent++;
    TAILQ_REMOVE(queue_of(w, e), e, queued);
    if (e->stage == STAGE_ANNOUNCING && e->sent >= ANNOUNCEMENTS) {
        e->stage = STAGE_HELD;
        return;
    }
    enqueue(w, e, now + (e->stage == STAGE_ANNOUNCING ? ANNOUNCE_US : PROBE_US));
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    struct watch *w = user;
    struct queue *queues[] = {&w->probing, &w->announcing};
    uint64_t now = clock_now_us();
    unsigned budget = BURST;

    (void)s;
    (void)usec;
    for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
        struct claimed *e;

        while (budget > 0 && (e = TAILQ_FIRST(queues[i])) != NULL && e->due_us <= now) {
            step(w, e, now);
            budget--;
        }
    }
    arm_timer(w);
    if (budget == 0) { /* there may be more: after a pause */
        (void)sd_event_source_set_time(w->timer, now + BURST_US);
        (void)sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
    }
    return 0;
}

/* ---- receiving ---- */

static void handle_probe(struct watch *w, struct link *l, const struct claimed *e,
                         const struct addr *addr, const uint8_t *mac)
{
    struct frame f;

    switch (e->stage) {
    case STAGE_PROBING: /* both ask at once: RFC 5227 2.1.1, RFC 4862 5.4.3 */
    case STAGE_ASKING:
        w->ops.conflict(addr, l->index, mac, w->ops.user); /* may free the entry */
        break;
    case STAGE_ANNOUNCING:
    case STAGE_HELD:
        if (addr->family == AF_INET) { /* the kernel never answers ARP probes for proxies */
            frame_defend(addr, l->mac, mac, &f);
            send_frame(l, AF_INET, &f);
        }
        break;
    }
}

static void handle_frame(struct watch *w, struct link *l, const void *bytes, size_t len)
{
    uint8_t mac[MAC_SIZE];
    struct addr addr;
    struct claimed *e;
    enum frame_kind kind = frame_parse(bytes, len, &addr, mac);

    if (kind == FRAME_OTHER || is_own_mac(w, mac))
        return;
    e = find_entry(w, &addr, l->index);
    if (e == NULL)
        return;
    addr = e->addr;
    if (kind == FRAME_CLAIM)
        w->ops.conflict(&addr, l->index, mac, w->ops.user);
    else
        handle_probe(w, l, e, &addr, mac);
}

/*
 * ENETDOWN, told once. After a mere down and up the socket hears again by itself, but the socket of a
 * deleted device never does, also when its index is used again; the two cannot be told apart.
 */
static void go_deaf(struct link *l)
{
    l->deaf = true;
    if (l->carrier)
        l->watch->ops.links(l->watch->ops.user);
}

static int on_frames(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct link *l = user;
    uint8_t buf[256]; /* what is longer is cut: the parser needs less */

    (void)s;
    (void)revents;
    for (int i = 0; i < READ_BUDGET; i++) {
        ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                go_deaf(l);
            break;
        }
        handle_frame(l->watch, l, buf, (size_t)n);
    }
    return 0;
}

/* ---- sockets ---- */

static size_t collect(const struct link *l, struct addr *addrs, size_t max)
{
    const struct claimed *e;
    size_t n = 0;

    LIST_FOREACH(e, &l->entries, same_link) {
        if (n == max)
            break;
        addrs[n++] = e->addr;
    }
    return n;
}

static int attach_filter(const struct link *l, uint16_t protocol, int fd)
{
    struct sock_filter code[FILTER_MAX];
    struct addr addrs[FILTER_MAX_ADDRESSES + 1];
    size_t n = collect(l, addrs, ARRAY_SIZE(addrs));
    struct sock_fprog program = {.filter = code};

    program.len = (unsigned short)(protocol == ETH_P_ARP ? filter_build(addrs, n, code)
                                                         : filter_build_nd(addrs, n, code));
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

/* Bound only after the filter is in place: nothing unfiltered is ever queued. */
static int open_socket(struct watch *w, struct link *l, uint16_t protocol, int *ret_fd,
                       sd_event_source **ret_source)
{
    _cleanup_(closep) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET,
        .sll_ifindex = (int)l->index,
        .sll_protocol = htons(protocol),
    };
    int one = 1, r;

    if (fd < 0)
        return -errno;
    /* kernel 4.20; older ones give us our own frames, which is_own_mac() drops */
    (void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    r = attach_filter(l, protocol, fd);
    if (r < 0)
        return r;
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return -errno;
    r = sd_event_add_io(w->event, ret_source, fd, EPOLLIN, on_frames, l);
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void close_socket(int *fd, sd_event_source **source)
{
    *source = sd_event_source_disable_unref(*source);
    *fd = close_fd(*fd);
}

static int sync_socket(struct watch *w, struct link *l, bool wanted, uint16_t protocol, int *fd,
                       sd_event_source **source)
{
    if (!wanted) {
        close_socket(fd, source);
        return 0;
    }
    return *fd >= 0 ? attach_filter(l, protocol, *fd) : open_socket(w, l, protocol, fd, source);
}

int watch_flush(struct watch *w)
{
    struct link *l;
    int error = 0;

    LIST_FOREACH(l, &w->links, links) {
        int r;

        if (!l->filter_stale)
            continue;
        r = sync_socket(w, l, l->n4 > 0, ETH_P_ARP, &l->arp_fd, &l->arp);
        /*
         * Every frame, not ETH_P_IPV6: that tap comes behind the IPv6 stack and costs a clone of each
         * IPv6 packet (7 % measured on 6.18), this one comes before it and costs the filter only.
         * An ICMPv6 socket would hear nothing: the platform drops what comes from a qube's address
         * on an uplink, which is what a claim of that address does.
         */
        if (r == 0)
            r = sync_socket(w, l, l->n6 > 0, ETH_P_ALL, &l->nd_fd, &l->nd);
        if (r == 0)
            l->filter_stale = false;
        else if (error == 0)
            error = r;
    }
    arm_timer(w);
    return error;
}

/* ---- entries and links ---- */

static int add_entry(struct watch *w, const struct addr *addr, uint32_t index, enum stage stage)
{
    struct link *l = find_link(w, index);
    struct claimed *e = find_entry(w, addr, index);

    if (l == NULL)
        return -ENODEV;
    if (e != NULL) {
        if ((e->stage == STAGE_ASKING) != (stage == STAGE_ASKING))
            begin_stage(w, e, stage);
        return 0;
    }
    e = calloc(1, sizeof(*e));
    if (e == NULL)
        return -ENOMEM;
    e->addr = *addr;
    e->index = index;
    e->stage = stage;
    if (tsearch(e, &w->entries, compare_entry) == NULL) {
        free(e);
        return -ENOMEM;
    }
    TAILQ_INSERT_HEAD(queue_of(w, e), e, queued);
    LIST_INSERT_HEAD(&l->entries, e, same_link);
    *(addr->family == AF_INET6 ? &l->n6 : &l->n4) += 1;
    l->filter_stale = true;
    return 0;
}

int watch_add(struct watch *w, const struct addr *addr, uint32_t index)
{
    return add_entry(w, addr, index, STAGE_PROBING);
}

int watch_ask(struct watch *w, const struct addr *addr, uint32_t index)
{
    return add_entry(w, addr, index, STAGE_ASKING);
}

void watch_remove(struct watch *w, const struct addr *addr, uint32_t index)
{
    struct claimed *e = find_entry(w, addr, index);

    if (e != NULL)
        free_entry(w, e);
}

static void restart_link(struct watch *w, struct link *l)
{
    struct claimed *e;

    LIST_FOREACH(e, &l->entries, same_link) {
        if (e->stage != STAGE_ASKING)
            begin_stage(w, e, STAGE_PROBING);
    }
}

void watch_restart(struct watch *w)
{
    struct link *l;

    LIST_FOREACH(l, &w->links, links)
        restart_link(w, l);
    arm_timer(w);
}

void watch_links_begin(struct watch *w)
{
    struct link *l;

    LIST_FOREACH(l, &w->links, links)
        l->seen = false;
}

int watch_link(struct watch *w, uint32_t index, const uint8_t mac[static MAC_SIZE], bool carrier)
{
    struct link *l = find_link(w, index);
    bool again;

    if (l == NULL) {
        l = calloc(1, sizeof(*l));
        if (l == NULL)
            return -ENOMEM;
        *l = (struct link){.watch = w, .index = index, .arp_fd = -1, .nd_fd = -1};
        LIST_INSERT_HEAD(&w->links, l, links);
    }
    /* a link that is down would make a new socket deaf at once */
    if (l->deaf && carrier) {
        close_socket(&l->arp_fd, &l->arp);
        close_socket(&l->nd_fd, &l->nd);
        l->deaf = false;
        l->filter_stale = true;
        l->carrier = false;
    }
    again = (carrier && !l->carrier) || memcmp(l->mac, mac, MAC_SIZE) != 0;
    memcpy(l->mac, mac, MAC_SIZE);
    l->carrier = carrier;
    l->seen = true;
    if (again)
        restart_link(w, l);
    return again;
}

static void drop_link(struct watch *w, struct link *l)
{
    while (!LIST_EMPTY(&l->entries))
        free_entry(w, LIST_FIRST(&l->entries));
    close_socket(&l->arp_fd, &l->arp);
    close_socket(&l->nd_fd, &l->nd);
    LIST_REMOVE(l, links);
    free(l);
}

bool watch_links_end(struct watch *w)
{
    struct link *l = LIST_FIRST(&w->links);
    bool gone = false;

    while (l != NULL) {
        struct link *next = LIST_NEXT(l, links);

        if (!l->seen) {
            drop_link(w, l);
            gone = true;
        }
        l = next;
    }
    return gone;
}

struct watch *watch_free(struct watch *w)
{
    if (w == NULL)
        return NULL;
    while (!LIST_EMPTY(&w->links))
        drop_link(w, LIST_FIRST(&w->links));
    w->timer = sd_event_source_disable_unref(w->timer);
    sd_event_unref(w->event);
    free(w);
    return NULL;
}

void watch_freep(struct watch **w)
{
    *w = watch_free(*w);
}

int watch_new(sd_event *event, const struct watch_ops *ops, struct watch **ret)
{
    _cleanup_(watch_freep) struct watch *w = calloc(1, sizeof(*w));
    int r;

    if (w == NULL)
        return -ENOMEM;
    w->event = sd_event_ref(event);
    w->ops = *ops;
    TAILQ_INIT(&w->probing);
    TAILQ_INIT(&w->announcing);
    LIST_INIT(&w->links);
    r = sd_event_add_time(event, &w->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, w);
    if (r == 0)
        r = sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(w);
    return 0;
}
