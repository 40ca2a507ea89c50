/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a LAN host sees of an exposure, in the LAN host's network namespace. IPv4.
 *
 *   bench-contact first INTERFACE ADDRESS PORT MAC|- COUNT PAUSE_MS QUBESDB KEY VALUE
 *   bench-contact conflict INTERFACE ADDRESS COUNT PAUSE_MS QUBESDB KEY VALUE
 *
 * first: writes KEY and at once begins to knock, every 0.2 ms: by ARP until somebody answers (not
 * when MAC is given: the host has the neighbour entry), then by SYN. Prints nanoseconds from the
 * write to the SYN/ACK. QUBESDB "-": nothing is written, the address is open already; one ARP
 * request, one SYN.
 * conflict: writes KEY, asks by ARP every 0.2 ms until somebody answers, then says with another MAC
 * that the address is its own, and goes on asking. Prints nanoseconds from that word to the last
 * answer that came (0: none came after it).
 * KEY is removed after each round.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

#define SPACING  INT64_C(200000)
#define LIMIT    INT64_C(5000000000)
#define SILENCE  INT64_C(100000000) /* so long no answer: it has stopped */
#define ARP_LEN  (ETH_HLEN + 28)
#define SYN_LEN  (ETH_HLEN + 20 + 20)
#define TCP_SYN  0x02
#define TCP_ACK  0x10

struct host {
    int fd;
    uint8_t mac[ETH_ALEN];
    uint8_t ip[4];
    uint8_t target[4];
    uint16_t port, own_port;
    uint8_t target_mac[ETH_ALEN];
};

enum heard {
    HEARD_NOTHING,
    HEARD_ARP,
    HEARD_SYN_ACK,
};

static const uint8_t broadcast[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t other_mac[ETH_ALEN] = {0x52, 0x54, 0x00, 0xbe, 0xef, 0x01};

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static unsigned checksum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += get16(p + i);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

static void host_open(struct host *h, const char *interface, const char *address)
{
    struct sockaddr_ll self = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    struct ifreq request = {0};
    struct sockaddr_in *own = (struct sockaddr_in *)(void *)&request.ifr_addr;
    int ip = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    if (ip < 0 || ioctl(ip, SIOCGIFADDR, &request) < 0)
        bench_die(interface);
    memcpy(h->ip, &own->sin_addr, 4);
    if (ioctl(ip, SIOCGIFHWADDR, &request) < 0)
        bench_die(interface);
    memcpy(h->mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
    (void)close(ip);
    self.sll_ifindex = (int)if_nametoindex(interface);
    h->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (h->fd < 0 || bind(h->fd, (struct sockaddr *)&self, sizeof(self)) < 0)
        bench_die(interface);
    if (inet_pton(AF_INET, address, h->target) != 1) {
        errno = EINVAL;
        bench_die(address);
    }
}

static void host_send(const struct host *h, const uint8_t *frame, size_t len)
{
    if (send(h->fd, frame, len, 0) != (ssize_t)len && errno != ENOBUFS)
        bench_die("send");
}

/* op 1: who has target; op 2: mac says that the target's address is its own. */
static void send_arp(const struct host *h, unsigned op, const uint8_t *mac)
{
    uint8_t f[ARP_LEN] = {0};
    uint8_t *arp = f + ETH_HLEN;

    memcpy(f, broadcast, ETH_ALEN);
    memcpy(f + ETH_ALEN, mac, ETH_ALEN);
    put16(f + 12, ETH_P_ARP);
    put16(arp, 1);
    put16(arp + 2, ETH_P_IP);
    arp[4] = ETH_ALEN;
    arp[5] = 4;
    put16(arp + 6, op);
    memcpy(arp + 8, mac, ETH_ALEN);
    memcpy(arp + 14, op == 1 ? h->ip : h->target, 4);
    memcpy(arp + 24, h->target, 4);
    host_send(h, f, sizeof(f));
}

static void send_syn(const struct host *h)
{
    uint8_t f[SYN_LEN] = {0};
    uint8_t *ip = f + ETH_HLEN, *tcp = ip + 20;

    memcpy(f, h->target_mac, ETH_ALEN);
    memcpy(f + ETH_ALEN, h->mac, ETH_ALEN);
    put16(f + 12, ETH_P_IP);
    ip[0] = 0x45;
    put16(ip + 2, 40);
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    memcpy(ip + 12, h->ip, 4);
    memcpy(ip + 16, h->target, 4);
    put16(ip + 10, checksum(ip, 20, 0));
    put16(tcp, h->own_port);
    put16(tcp + 2, h->port);
    tcp[7] = 1; /* sequence number */
    tcp[12] = 5 << 4;
    tcp[13] = TCP_SYN;
    put16(tcp + 14, 64240);
    put16(tcp + 16, checksum(tcp, 20, ~checksum(ip + 12, 8, IPPROTO_TCP + 20) & 0xffff));
    host_send(h, f, sizeof(f));
}

static enum heard understand(struct host *h, const uint8_t *f, size_t n)
{
    const uint8_t *p = f + ETH_HLEN;

    if (n >= ARP_LEN && get16(f + 12) == ETH_P_ARP && get16(p + 6) == 2 &&
        memcmp(p + 14, h->target, 4) == 0 && memcmp(p + 8, other_mac, ETH_ALEN) != 0 &&
        memcmp(p + 24, h->ip, 4) == 0) {
        memcpy(h->target_mac, p + 8, ETH_ALEN);
        return HEARD_ARP;
    }
    if (n >= SYN_LEN && get16(f + 12) == ETH_P_IP && p[0] == 0x45 && p[9] == IPPROTO_TCP &&
        memcmp(p + 12, h->target, 4) == 0 && get16(p + 20) == h->port &&
        get16(p + 22) == h->own_port && (p[33] & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
        return HEARD_SYN_ACK;
    return HEARD_NOTHING;
}

/* Listens until something is heard or until the time has come. */
static enum heard listen_until(struct host *h, int64_t until)
{
    struct pollfd wait = {.fd = h->fd, .events = POLLIN};
    enum heard heard = HEARD_NOTHING;

    while (heard == HEARD_NOTHING) {
        int64_t left = until - bench_now();
        struct timespec ts = {.tv_nsec = left > 0 ? (long)left : 0};
        uint8_t f[2048];
        ssize_t n;

        if (ppoll(&wait, 1, &ts, NULL) == 0)
            return HEARD_NOTHING;
        n = recv(h->fd, f, sizeof(f), MSG_DONTWAIT);
        if (n > 0)
            heard = understand(h, f, (size_t)n);
    }
    return heard;
}

static void forget_heard(struct host *h)
{
    uint8_t f[16];

    while (recv(h->fd, f, sizeof(f), MSG_DONTWAIT) > 0)
        continue;
}

static void check_limit(int64_t begin, const char *what)
{
    if (bench_now() - begin < LIMIT)
        return;
    errno = ETIMEDOUT;
    bench_die(what);
}

/* Asks by ARP until somebody answers. */
static void resolve(struct host *h, int64_t begin, int64_t spacing)
{
    do {
        check_limit(begin, "ARP answer");
        send_arp(h, 1, h->mac);
    } while (listen_until(h, bench_now() + spacing) != HEARD_ARP);
}

static int64_t knock(struct host *h, int64_t begin, bool known, int64_t spacing)
{
    if (!known)
        resolve(h, begin, spacing);
    do {
        check_limit(begin, "SYN/ACK");
        send_syn(h);
    } while (listen_until(h, bench_now() + spacing) != HEARD_SYN_ACK);
    return bench_now() - begin;
}

static int64_t last_answer(struct host *h)
{
    int64_t said, last = 0, next;

    forget_heard(h);
    send_arp(h, 2, other_mac);
    said = next = bench_now();
    while (bench_now() - said - last < SILENCE) {
        next += SPACING;
        send_arp(h, 1, h->mac);
        while (listen_until(h, next) == HEARD_ARP)
            last = bench_now() - said;
        check_limit(said, "silence");
    }
    return last;
}

struct change { /* what opens the address */
    int qubesdb; /* -1: it is open */
    const char *key, *value;
};

static void set(const struct change *c, bool open)
{
    if (c->qubesdb >= 0)
        bench_qubesdb_send(c->qubesdb, c->key, open ? c->value : NULL);
}

static void settle(const struct change *c, long pause_ms)
{
    if (c->qubesdb >= 0) {
        bench_qubesdb_answer(c->qubesdb); /* of the write */
        set(c, false);
        bench_qubesdb_answer(c->qubesdb);
    }
    bench_sleep(pause_ms * 1000000);
}

static struct change change_parse(char **words)
{
    struct change c = {.qubesdb = -1, .key = words[1], .value = words[2]};

    if (strcmp(words[0], "-") != 0)
        c.qubesdb = bench_qubesdb_connect(words[0]);
    return c;
}

static int run_first(char **words)
{
    struct host h = {.port = (uint16_t)bench_number(words[2], 1, UINT16_MAX)};
    bool known = strcmp(words[3], "-") != 0;
    long count = bench_number(words[4], 1, 20000), pause_ms = bench_number(words[5], 0, 60000);
    struct change c = change_parse(words + 6);
    /* one question must do where nothing changes */
    int64_t spacing = c.qubesdb >= 0 ? SPACING : INT64_C(999999999);
    unsigned mac[ETH_ALEN];

    host_open(&h, words[0], words[1]);
    if (known && sscanf(words[3], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                        &mac[5]) != ETH_ALEN) {
        errno = EINVAL;
        bench_die(words[3]);
    }
    for (size_t i = 0; known && i < ETH_ALEN; i++)
        h.target_mac[i] = (uint8_t)mac[i];
    for (long i = 0; i < count; i++) {
        int64_t begin;

        h.own_port = (uint16_t)(30000 + i);
        forget_heard(&h);
        begin = bench_now();
        set(&c, true);
        (void)printf("%lld\n", (long long)knock(&h, begin, known, spacing));
        settle(&c, pause_ms);
    }
    return 0;
}

static int run_conflict(char **words)
{
    struct host h = {0};
    long count = bench_number(words[2], 1, 20000), pause_ms = bench_number(words[3], 0, 60000);
    struct change c = change_parse(words + 4);

    host_open(&h, words[0], words[1]);
    for (long i = 0; i < count; i++) {
        forget_heard(&h);
        set(&c, true);
        resolve(&h, bench_now(), SPACING);
        bench_sleep(5000000);
        (void)printf("%lld\n", (long long)last_answer(&h));
        settle(&c, pause_ms);
    }
    return 0;
}

int main(int argc, char **argv)
{
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 11 && strcmp(argv[1], "first") == 0)
        return run_first(argv + 2);
    if (argc == 9 && strcmp(argv[1], "conflict") == 0)
        return run_conflict(argv + 2);
    (void)fputs("usage: bench-contact first INTERFACE ADDRESS PORT MAC|- COUNT PAUSE_MS QUBESDB KEY "
                "VALUE\n       bench-contact conflict INTERFACE ADDRESS COUNT PAUSE_MS QUBESDB KEY "
                "VALUE\n", stderr);
    return 2;
}
