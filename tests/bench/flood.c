/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a forwarded packet costs, side by side: small UDP packets are sent from two or more network
 * namespaces in turns, a batch each, so that whatever slows the machine slows all sides. The kernel
 * takes a packet through bridge, router and veth pairs inside the sender's own system call; the
 * thread's CPU time is therefore the whole path's.
 *
 *   bench-flood ROUNDS PORTS SIDE SIDE...
 *   SIDE is NAMESPACE,INTERFACE,ROUTER-MAC,SOURCE,PORT,FILE-OF-DESTINATIONS
 *
 * PORTS source ports are used in turn (0: each packet has a new one, hence is a new flow). Prints
 * for each side: least and median nanoseconds per packet, packets sent; then for each side but the
 * first the median over all rounds of its cost divided by the first side's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "client.h"

#define BATCH      64
#define MAX_SIDES  8
#define PAYLOAD    18
#define FIRST_PORT 20000
#define LAST_PORT  65000
#define WARM_UP    16 /* batches */

#define FRAME_MAX (ETH_HLEN + 40 + 8 + PAYLOAD)

struct side {
    int fd;
    uint8_t mac[ETH_ALEN], router[ETH_ALEN];
    struct addr source;
    uint16_t port;
    struct addr *to; /* owned */
    size_t n_to;
    uint64_t sent;
    double *cost; /* owned; ns per packet of each round */
    uint8_t frames[BATCH][FRAME_MAX];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
};

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* ---- frames ---- */

static uint32_t sum_bytes(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    return sum;
}

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static unsigned fold(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* Everything but what differs from packet to packet. */
static void frame_init(struct side *s, size_t i)
{
    bool six = s->source.family == AF_INET6;
    size_t ip_len = six ? 40 : 20, udp_len = 8 + PAYLOAD;
    uint8_t *f = s->frames[i], *ip = f + ETH_HLEN;

    memcpy(f, s->router, ETH_ALEN);
    memcpy(f + ETH_ALEN, s->mac, ETH_ALEN);
    put16(f + 12, six ? ETH_P_IPV6 : ETH_P_IP);
    if (six) {
        ip[0] = 0x60;
        put16(ip + 4, (unsigned)udp_len);
        ip[6] = IPPROTO_UDP;
        ip[7] = 64;
        memcpy(ip + 8, s->source.bytes, 16);
    } else {
        ip[0] = 0x45;
        put16(ip + 2, (unsigned)(ip_len + udp_len));
        ip[8] = 64;
        ip[9] = IPPROTO_UDP;
        memcpy(ip + 12, s->source.bytes, 4);
    }
    put16(ip + ip_len + 2, s->port);
    put16(ip + ip_len + 4, (unsigned)udp_len);
    s->parts[i] = (struct iovec){f, ETH_HLEN + ip_len + udp_len};
    s->messages[i].msg_hdr = (struct msghdr){.msg_iov = &s->parts[i], .msg_iovlen = 1};
}

static void frame_aim(struct side *s, size_t i, const struct addr *to, uint16_t from_port)
{
    uint8_t *ip = s->frames[i] + ETH_HLEN;
    size_t udp_len = 8 + PAYLOAD;

    if (to->family == AF_INET6) {
        uint8_t *udp = ip + 40;

        memcpy(ip + 24, to->bytes, 16);
        put16(udp, from_port);
        put16(udp + 6, 0);
        put16(udp + 6, fold(sum_bytes(udp, udp_len,
                                      sum_bytes(ip + 8, 32, (uint32_t)udp_len + IPPROTO_UDP))));
    } else {
        memcpy(ip + 16, to->bytes, 4);
        put16(ip + 20, from_port);
        put16(ip + 10, 0);
        put16(ip + 10, fold(sum_bytes(ip, 20, 0)));
    }
}

/* ---- sides ---- */

static void read_destinations(struct side *s, const char *path)
{
    FILE *file = fopen(path, "re");
    char line[ADDR_STR_MAX + 2];
    size_t room = 0;

    if (file == NULL)
        bench_die(path);
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (s->n_to == room) {
            room = room == 0 ? 64 : 2 * room;
            s->to = reallocarray(s->to, room, sizeof(*s->to));
            if (s->to == NULL)
                bench_die(path);
        }
        if (addr_parse(str_from(line), &s->to[s->n_to++]) < 0) {
            errno = EINVAL;
            bench_die(line);
        }
    }
    (void)fclose(file);
    if (s->n_to == 0) {
        errno = ENODATA;
        bench_die(path);
    }
}

static void parse_mac(const char *text, uint8_t *ret)
{
    unsigned b[ETH_ALEN];

    if (sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != ETH_ALEN) {
        errno = EINVAL;
        bench_die(text);
    }
    for (size_t i = 0; i < ETH_ALEN; i++)
        ret[i] = (uint8_t)b[i];
}

static void open_socket(struct side *s, const char *namespace, const char *interface)
{
    struct sockaddr_ll self = {.sll_family = AF_PACKET}; /* protocol 0: receives nothing */
    struct sockaddr_ll got;
    socklen_t len = sizeof(got);
    int one = 1, ns = open(namespace, O_RDONLY | O_CLOEXEC);

    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
        bench_die(namespace);
    (void)close(ns);
    s->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    self.sll_ifindex = (int)if_nametoindex(interface);
    if (s->fd < 0 || self.sll_ifindex == 0 ||
        bind(s->fd, (struct sockaddr *)&self, sizeof(self)) < 0 ||
        setsockopt(s->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0 ||
        getsockname(s->fd, (struct sockaddr *)&got, &len) < 0)
        bench_die(interface);
    memcpy(s->mac, got.sll_addr, ETH_ALEN);
}

static void side_open(struct side *s, char *spec, long rounds)
{
    char *field[6];

    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        field[i] = strsep(&spec, ",");
        if (field[i] == NULL) {
            errno = EINVAL;
            bench_die("SIDE");
        }
    }
    parse_mac(field[2], s->router);
    if (addr_parse(str_from(field[3]), &s->source) < 0) {
        errno = EINVAL;
        bench_die(field[3]);
    }
    s->port = (uint16_t)bench_number(field[4], 1, UINT16_MAX);
    read_destinations(s, field[5]);
    open_socket(s, field[0], field[1]);
    s->cost = calloc((size_t)rounds, sizeof(*s->cost));
    if (s->cost == NULL)
        bench_die("rounds");
    for (size_t i = 0; i < BATCH; i++)
        frame_init(s, i);
}

/* ---- measuring ---- */

static double thread_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* Nanoseconds per packet. */
static double send_batch(struct side *s, long ports)
{
    double begin, end;
    size_t done = 0;

    for (size_t i = 0; i < BATCH; i++) {
        uint64_t turn = s->sent + i;
        uint64_t span = ports > 0 ? (uint64_t)ports : LAST_PORT - FIRST_PORT;

        frame_aim(s, i, &s->to[random_next() % s->n_to], (uint16_t)(FIRST_PORT + turn % span));
    }
    begin = thread_ns();
    while (done < BATCH) {
        int n = sendmmsg(s->fd, s->messages + done, (unsigned)(BATCH - done), 0);

        if (n < 0)
            bench_die("send");
        done += (size_t)n;
    }
    end = thread_ns();
    s->sent += BATCH;
    return (end - begin) / BATCH;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare_double);
    return n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void print_ratio(const struct side *base, const struct side *s, size_t n)
{
    double *ratio = calloc(n, sizeof(*ratio));

    if (ratio == NULL)
        bench_die("rounds");
    for (size_t i = 0; i < n; i++)
        ratio[i] = s->cost[i] / base->cost[i];
    (void)printf("ratio %.4f\n", median(ratio, n));
    free(ratio);
}

/* One core, and nobody in between for as long as a batch takes. */
static void settle(void)
{
    struct sched_param fifo = {.sched_priority = 1};
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
    (void)sched_setscheduler(0, SCHED_FIFO, &fifo); /* not permitted everywhere; only less exact */
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
}

int main(int argc, char **argv)
{
    static struct side sides[MAX_SIDES];
    size_t n = argc > 3 ? (size_t)argc - 3 : 0;
    long rounds, ports;

    if (n == 0 || n > MAX_SIDES) {
        (void)fputs("usage: bench-flood ROUNDS PORTS SIDE...\n", stderr);
        return 2;
    }
    rounds = bench_number(argv[1], 1, 1000000);
    ports = bench_number(argv[2], 0, LAST_PORT - FIRST_PORT);
    for (size_t i = 0; i < n; i++)
        side_open(&sides[i], argv[3 + i], rounds);
    settle();
    for (long r = -WARM_UP; r < rounds; r++) {
        for (size_t i = 0; i < n; i++) {
            /* who goes first changes: the first of a round finds colder caches */
            struct side *s = &sides[((size_t)(r + WARM_UP) + i) % n];
            double cost = send_batch(s, ports);

            if (r >= 0)
                s->cost[r] = cost;
        }
        /* a real-time thread must leave the core to others, softirq thread included */
        if (r % 64 == 0)
            bench_sleep(1000000);
    }
    for (size_t i = 1; i < n; i++)
        print_ratio(&sides[0], &sides[i], (size_t)rounds);
    for (size_t i = 0; i < n; i++) {
        double mid = median(sides[i].cost, (size_t)rounds);

        (void)printf("side %.1f %.1f %llu\n", sides[i].cost[0], mid,
                     (unsigned long long)sides[i].sent);
        free(sides[i].cost);
        free(sides[i].to);
    }
    return 0;
}
