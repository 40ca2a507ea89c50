/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/command/selftest_watch.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/cursor.h"
#include "netlink/link.h"
#include "vpn/wish/wish.h"

#define BUFFER   (16 << 20) /* a busy uplink for a second, cut to FRAME_SEEN */
#define ETHERNET 14

/* ---- one frame ---- */

static void note_leak(struct watch *w, int class, const struct watch_device *d, const char *what)
{
    struct watch_class *c;

    if (class < 0 || class >= TEST_CLASSES)
        return;
    c = &w->classes[class];
    if (c->leaked++ > 0)
        return;
    (void)snprintf(c->by, sizeof(c->by), "%s", d->name);
    (void)snprintf(c->what, sizeof(c->what), "%s", what);
}

static bool holds(const uint8_t *frame, size_t len, const struct addr *a)
{
    size_t size = addr_size(a->family);

    return size > 0 && memmem(frame, len, a->bytes, size) != NULL;
}

/* ARP request or neighbour solicitation: for whom. */
static bool asks_for(const uint8_t *frame, size_t len, struct addr *ret)
{
    struct cursor c = cursor_from(frame, len);
    uint16_t type;

    (void)cursor_take(&c, 12);
    type = cursor_u16be(&c);
    if (type == ETH_P_ARP) { /* htype ptype sizes op sha spa tha tpa */
        (void)cursor_take(&c, 24);
        *ret = (struct addr){.family = AF_INET};
        cursor_copy(&c, ret->bytes, 4);
        return cursor_ok(&c);
    }
    if (type == ETH_P_IPV6) {
        (void)cursor_take(&c, 40);
        if (cursor_u8(&c) != 135) /* behind other headers there is none */
            return false;
        (void)cursor_take(&c, 7);
        *ret = (struct addr){.family = AF_INET6};
        cursor_copy(&c, ret->bytes, 16);
        return cursor_ok(&c);
    }
    return false;
}

static void judge_uplink(struct watch *w, const struct watch_device *d, const uint8_t *frame,
                         size_t len, int number)
{
    char text[ADDR_STR_MAX], what[96];
    struct addr asked;
    int class;

    if (number >= 0) {
        note_leak(w, number, d, "a packet of the test, or what quotes one");
    } else if (asks_for(frame, len, &asked)) {
        class = test_plan_aims_at(w->place, &asked);
        (void)snprintf(what, sizeof(what), "a question to the LAN: who has %s",
                       addr_format(&asked, text));
        if (class >= 0)
            note_leak(w, class, d, what);
    } else if (holds(frame, len, &w->place->qube4) || holds(frame, len, &w->place->qube6)) {
        note_leak(w, CLASS_ERROR, d, "a packet with the address of the stand-in");
    }
}

/* In the tunnel only the tunnel's own address may be the sender: the rest names its owner. */
static void judge_tunnel(struct watch *w, const uint8_t *frame, size_t len, int number)
{
    const struct test_place *p = w->place;

    if (number >= 0 && number < TEST_CLASSES)
        w->classes[number].tunnel++;
    if (number == CLASS_LOCAL || holds(frame, len, &p->qube4) || holds(frame, len, &p->qube6) ||
        (number >= 0 && (holds(frame, len, &p->uplink4) || holds(frame, len, &p->uplink6))))
        w->foreign++;
}

void watch_judge(struct watch *w, const struct watch_device *d, const uint8_t *frame, size_t len)
{
    int number = tag_find(w->place->random, frame, len);

    switch (d->kind) {
    case WATCH_UPLINK:
        judge_uplink(w, d, frame, len, number);
        break;
    case WATCH_TUNNEL:
        judge_tunnel(w, frame, len, number);
        break;
    case WATCH_VIF:
        if (d->index == w->vif)
            w->control += number == CLASS_CONTROL;
        else if (number >= 0)
            note_leak(w, number, d, "a packet of the test, to another qube");
        break;
    case WATCH_NOTHING:
        break;
    }
}

/* ---- the socket ---- */

/* What leaves by anything, what comes by the vif; cut. */
static int attach_filter(int fd, uint32_t vif)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 2, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_IFINDEX)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, vif, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, FRAME_SEEN),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {ARRAY_SIZE(code), code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

int watch_open(struct watch *w, uint32_t vif, const struct test_place *place)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int size = BUFFER, r;

    *w = (struct watch){.fd = -1, .vif = vif, .place = place};
    w->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->fd < 0)
        return -errno;
    r = attach_filter(w->fd, vif);
    if (r == 0 && setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        r = -errno;
    if (r == 0 && bind(w->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        r = -errno;
    if (r < 0)
        watch_close(w);
    return r;
}

void watch_close(struct watch *w)
{
    w->fd = close_fd(w->fd);
}

static enum watch_kind kind_of(uint32_t index, const char *name)
{
    _cleanup_(nl_freep) struct nl_sock *rt = NULL;
    struct link_facts link = {0};

    (void)index;
    if (strcmp(name, "lo") == 0)
        return WATCH_NOTHING;
    if (strcmp(name, SEAL_TUNNEL) == 0)
        return WATCH_TUNNEL;
    if (strncmp(name, "vif", 3) == 0 && nl_open(NETLINK_ROUTE, &rt) == 0 &&
        link_find(rt, name, &link) == 0 && link.group == 2)
        return WATCH_VIF;
    return WATCH_UPLINK; /* by whatever name, in whatever group */
}

static const struct watch_device *find_device(struct watch *w, uint32_t index)
{
    struct watch_device *d;

    for (size_t i = 0; i < w->n_devices; i++) {
        if (w->devices[i].index == index)
            return &w->devices[i];
    }
    if (w->n_devices == WATCH_DEVICES)
        return NULL;
    d = &w->devices[w->n_devices++];
    d->index = index;
    if (if_indextoname(index, d->name) == NULL)
        (void)snprintf(d->name, sizeof(d->name), "%u", index);
    d->kind = kind_of(index, d->name);
    return d;
}

static void take_frame(struct watch *w, const struct sockaddr_ll *from, const uint8_t *frame,
                       size_t len)
{
    const struct watch_device *d;
    int number;

    if (from->sll_pkttype != PACKET_OUTGOING) { /* by the vif, as the filter has it */
        number = tag_find(w->place->random, frame, len);
        if (number >= 0 && number < TEST_CLASSES)
            w->classes[number].arrived++;
        return;
    }
    d = find_device(w, (uint32_t)from->sll_ifindex);
    if (d == NULL)
        w->lost++;
    else
        watch_judge(w, d, frame, len);
}

static int read_all(struct watch *w)
{
    uint8_t frame[FRAME_SEEN];

    for (;;) {
        struct sockaddr_ll from = {0};
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(w->fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &len);

        if (n < 0 && (errno == EINTR || errno == ENETDOWN))
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        take_frame(w, &from, frame, (size_t)n);
    }
}

int watch_run(struct watch *w, unsigned ms)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    int64_t end = (int64_t)(clock_now_us() / 1000) + ms, left;
    struct tpacket_stats stats;
    socklen_t len = sizeof(stats);
    int r;

    do {
        r = read_all(w);
        left = end - (int64_t)(clock_now_us() / 1000);
        if (r == 0 && left > 0 && poll(&p, 1, (int)left) < 0 && errno != EINTR)
            r = -errno;
    } while (r == 0 && left > 0);
    if (getsockopt(w->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0)
        w->lost += stats.tp_drops;
    return r;
}
