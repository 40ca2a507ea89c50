/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/resolver.h"

#define CARES_NO_DEPRECATED /* what newer versions replace is all that the oldest one has */
#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "vpn/wish/wish.h"

#define LIMIT_US     (10 * 1000000ull) /* of the whole question */
#define GRACE_US     2500000ull /* for the other family once one answered: a second try and more */
#define SERVERS_MAX  WISH_RESOLVERS_MAX
#define TIMEOUT_MS   1500 /* of the first try; c-ares doubles it with each round */
#define TRIES        4
#define SOCKETS_MAX  16 /* one UDP and one TCP for each server, and room */
#define DNS_NAME_MAX 253
#define ERROR_MAX    200

struct watched {
    int fd;
    sd_event_source *source; /* NULL: free */
};

/* The question for one family. Two questions, so that one that nobody answers costs little. */
struct half {
    struct resolver *r;
    bool pending;
    int status; /* of c-ares */
    struct addr found[RESOLVER_ADDRS_MAX]; /* in the order of the answer */
    size_t n;
};

struct resolver {
    sd_event *loop;
    ares_channel channel; /* NULL: nothing is asked */
    struct watched sockets[SOCKETS_MAX];
    sd_event_source *timer; /* c-ares' own times */
    sd_event_source *limit;
    sd_event_source *answer; /* the result is handed over from the loop */
    resolver_fn fn;
    void *user;
    bool ending; /* ares_destroy() is at work: its answers are not wanted */
    int fault;   /* -errno of a socket that could not be had: stronger than what c-ares says */
    struct half halves[2]; /* IPv4, IPv6 */
    char refused[ERROR_MAX]; /* why an address was left out, "": none was */
};

/*
 * The mark has to be there before connect(): the route is looked up then, and a connection by TCP
 * begins. A socket without it is not used.
 */
static ares_socket_t open_socket(int family, int type, int protocol, void *user)
{
    const uint32_t mark = SEAL_MARK;
    struct resolver *r = user;
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0) {
        r->fault = -errno;
        fd = close_fd(fd);
    }
    return fd;
}

static int close_socket(ares_socket_t fd, void *user)
{
    (void)user;
    return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len,
                          void *user)
{
    (void)user;
    return connect(fd, to, len);
}

static ares_ssize_t receive(ares_socket_t fd, void *buf, size_t size, int flags,
                            struct sockaddr *from, ares_socklen_t *from_len, void *user)
{
    (void)user;
    return recvfrom(fd, buf, size, flags, from, from_len);
}

static ares_ssize_t send_vector(ares_socket_t fd, const struct iovec *iov, int n, void *user)
{
    struct msghdr msg = {.msg_iovlen = (size_t)n};

    (void)user;
    memcpy(&msg.msg_iov, &iov, sizeof(iov)); /* sendmsg() only reads it, its type does not say so */
    return sendmsg(fd, &msg, MSG_NOSIGNAL); /* writev() to a server that hung up would be the end */
}

static const struct ares_socket_functions socket_functions = {
    open_socket, close_socket, connect_socket, receive, send_vector};

static void end_question(struct resolver *r)
{
    r->ending = true;
    if (r->channel != NULL)
        ares_destroy(r->channel);
    r->channel = NULL;
    r->ending = false;
    /* c-ares tells of each socket it closes, so these are gone already; but trust is not needed */
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        r->sockets[i].source = sd_event_source_disable_unref(r->sockets[i].source);
    r->timer = sd_event_source_disable_unref(r->timer);
    r->limit = sd_event_source_disable_unref(r->limit);
    r->answer = sd_event_source_disable_unref(r->answer);
    r->fn = NULL;
}

static const char *reason(int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
        return "the name does not exist";
    case ARES_ENODATA:
    case ARES_SUCCESS:
        return "the name has no address";
    case ARES_ETIMEOUT:
        return "no name server answered";
    case ARES_ECONNREFUSED:
        return "no name server could be reached, or all refused";
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
        return "the name servers refuse to answer";
    default: /* an open set of numbers, not an enum */
        return ares_strerror(status);
    }
}

/*
 * In turns, IPv4 first: every net qube has it, IPv6 only some, and what cannot be reached costs
 * time. Within a family the name server's order stays: it is how providers balance.
 */
static size_t merge_halves(const struct resolver *r, struct addr ret[static RESOLVER_ADDRS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < RESOLVER_ADDRS_MAX; i++) {
        for (size_t h = 0; h < 2; h++) {
            if (i < r->halves[h].n && n < RESOLVER_ADDRS_MAX)
                ret[n++] = r->halves[h].found[i];
        }
    }
    return n;
}

/* Why there is nothing; the IPv4 half says it unless it only says that there is no such address. */
static void describe_failure(const struct resolver *r, char *buf, size_t size)
{
    const struct half *h = &r->halves[0];

    if (!h->pending && (h->status == ARES_ENODATA || h->status == ARES_SUCCESS))
        h = &r->halves[1];
    if (r->refused[0] != '\0')
        (void)snprintf(buf, size, "%s", r->refused);
    else if (r->fault != 0)
        (void)snprintf(buf, size, "a socket cannot be marked: %s", strerror(-r->fault));
    else
        (void)snprintf(buf, size, "%s", h->pending ? "no name server answered in time"
                                                   : reason(h->status));
}

/* The last thing a handler does: the callback may ask again, cancel or free. */
static void finish(struct resolver *r)
{
    struct addr found[RESOLVER_ADDRS_MAX];
    size_t n = merge_halves(r, found);
    char error[ERROR_MAX];
    resolver_fn fn = r->fn;
    void *user = r->user;

    describe_failure(r, error, sizeof(error));
    end_question(r);
    fn(found, n, n == 0 ? error : NULL, user);
}

static int on_answer(sd_event_source *source, void *user)
{
    (void)source;
    finish(user);
    return 0;
}

static int on_limit(sd_event_source *source, uint64_t usec, void *user)
{
    (void)source;
    (void)usec;
    finish(user);
    return 0;
}

/*
 * What is known is kept and told in the next round, never from within c-ares or resolver_ask().
 * Failures here (no memory) leave it to the limit to tell.
 */
static void settle(struct resolver *r)
{
    if (!r->halves[0].pending && !r->halves[1].pending) {
        if (r->answer == NULL)
            (void)sd_event_add_defer(r->loop, &r->answer, on_answer, r);
    } else if (r->halves[0].n + r->halves[1].n > 0) {
        (void)sd_event_source_set_time_relative(r->limit, GRACE_US);
    }
}

/*
 * No server of a VPN is there: loopback, multicast, link-local ... Private addresses are fine (a
 * company's VPN in the LAN), and so are translated ones (NAT64) where the uplink has IPv6 only.
 */
static const char *why_not(const struct addr *a)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};

    if (a->family == AF_INET6 && memcmp(a->bytes, nat64, sizeof(nat64)) == 0)
        return NULL;
    return addr_why_unusable(a);
}

static bool is_found(const struct addr *list, size_t n, const struct addr *a)
{
    for (size_t i = 0; i < n; i++) {
        if (addr_equal(&list[i], a))
            return true;
    }
    return false;
}

static bool node_address(const struct ares_addrinfo_node *node, struct addr *ret)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (node->ai_family == AF_INET && (size_t)node->ai_addrlen >= sizeof(v4)) {
        memcpy(&v4, node->ai_addr, sizeof(v4));
        return addr_from_bytes(AF_INET, &v4.sin_addr, sizeof(v4.sin_addr), ret) == 0;
    }
    if (node->ai_family == AF_INET6 && (size_t)node->ai_addrlen >= sizeof(v6)) {
        memcpy(&v6, node->ai_addr, sizeof(v6));
        return addr_from_bytes(AF_INET6, &v6.sin6_addr, sizeof(v6.sin6_addr), ret) == 0;
    }
    return false;
}

static void take_nodes(struct half *h, const struct ares_addrinfo_node *node)
{
    for (; node != NULL; node = node->ai_next) {
        char text[ADDR_STR_MAX];
        const char *why;
        struct addr a;

        if (!node_address(node, &a))
            continue;
        why = why_not(&a);
        if (why != NULL)
            (void)snprintf(h->r->refused, sizeof(h->r->refused), "the only answer is %s, which %s",
                           addr_format(&a, text), why);
        else if (h->n < RESOLVER_ADDRS_MAX && !is_found(h->found, h->n, &a))
            h->found[h->n++] = a;
    }
}

/* Called by c-ares, also from within ares_getaddrinfo(). */
static void on_addrinfo(void *user, int status, int timeouts, struct ares_addrinfo *result)
{
    struct half *h = user;

    (void)timeouts;
    if (!h->r->ending) {
        h->pending = false;
        h->status = status;
        if (status == ARES_SUCCESS && result != NULL)
            take_nodes(h, result->nodes);
        settle(h->r);
    }
    if (result != NULL)
        ares_freeaddrinfo(result);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user);

/* c-ares' next time-out, one shot; nothing wakes us when it has none. */
static void arm_timer(struct resolver *r)
{
    struct timeval tv, *next;
    uint64_t now, at;

    next = ares_timeout(r->channel, NULL, &tv);
    if (next == NULL) {
        if (r->timer != NULL)
            (void)sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
        return;
    }
    if (sd_event_now(r->loop, CLOCK_MONOTONIC, &now) < 0)
        return; /* cannot fail with this clock */
    at = now + (uint64_t)next->tv_sec * 1000000 + (uint64_t)next->tv_usec + 1000;
    if (r->timer == NULL) {
        /* without it tries are not repeated, and the limit ends the question */
        (void)sd_event_add_time(r->loop, &r->timer, CLOCK_MONOTONIC, at, 1, on_timer, r);
        return;
    }
    (void)sd_event_source_set_time(r->timer, at);
    (void)sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct resolver *r = user;

    (void)source;
    (void)usec;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timer(r);
    return 0;
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *user)
{
    struct resolver *r = user;
    bool in = (revents & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0;
    bool out = (revents & EPOLLOUT) != 0;

    (void)source;
    ares_process_fd(r->channel, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
    arm_timer(r);
    return 0;
}

static struct watched *find_watched(struct resolver *r, int fd)
{
    struct watched *empty = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        if (r->sockets[i].source == NULL)
            empty = &r->sockets[i];
        else if (r->sockets[i].fd == fd)
            return &r->sockets[i];
    }
    return empty;
}

/* c-ares says which sockets it waits for; both zero: it is about to close this one. */
static void on_socket_state(void *user, ares_socket_t fd, int readable, int writable)
{
    uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
    struct resolver *r = user;
    struct watched *w = find_watched(r, fd);

    if (w == NULL)
        return; /* more than two sockets for each server: its answer is missed, others count */
    if (events == 0) {
        w->source = sd_event_source_disable_unref(w->source);
    } else if (w->source != NULL) {
        (void)sd_event_source_set_io_events(w->source, events);
    } else if (sd_event_add_io(r->loop, &w->source, fd, events, on_socket, r) >= 0) {
        w->fd = fd;
    } else {
        w->source = NULL;
    }
}

/* Everything is said here: no file of the system, no variable's domain, no search. */
static int open_channel(struct resolver *r, const struct addr *servers, size_t n)
{
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = TIMEOUT_MS,
        .tries = TRIES,
        .lookups = (char[]){"b"},
        .resolvconf_path = (char[]){"/dev/null"},
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = r,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_DOMAINS | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB | ARES_OPT_ROTATE;
    char list[SERVERS_MAX * (ADDR_STR_MAX + 3)] = "", text[ADDR_STR_MAX];
    size_t used = 0;

    for (size_t i = 0; i < n && i < SERVERS_MAX; i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used,
                                 servers[i].family == AF_INET6 ? "%s[%s]" : "%s%s",
                                 i > 0 ? "," : "", addr_format(&servers[i], text));
    if (ares_init_options(&r->channel, &options, mask) != ARES_SUCCESS) {
        r->channel = NULL;
        return -ENOMEM;
    }
    ares_set_socket_functions(r->channel, &socket_functions, r);
    /* from here on it has these servers and no other */
    return ares_set_servers_csv(r->channel, list) == ARES_SUCCESS ? 0 : -EINVAL;
}

static int check_question(const struct addr *servers, size_t n, const char *name, int family)
{
    size_t len = strnlen(name, DNS_NAME_MAX + 2);

    if (n == 0 || len == 0 || len > DNS_NAME_MAX + (name[len - 1] == '.'))
        return -EINVAL;
    if (family != 0 && addr_size(family) == 0)
        return -EAFNOSUPPORT;
    for (size_t i = 0; i < n; i++) {
        if (addr_size(servers[i].family) == 0)
            return -EINVAL;
    }
    return 0;
}

static void ask_half(struct resolver *r, size_t i, const char *name, int family)
{
    const struct ares_addrinfo_hints hints = {
        .ai_family = family,
        .ai_socktype = SOCK_DGRAM,
        .ai_flags = ARES_AI_NOSORT, /* sorting would connect a socket to every address found */
    };

    ares_getaddrinfo(r->channel, name, NULL, &hints, on_addrinfo, &r->halves[i]);
}

int resolver_ask(struct resolver *r, const struct addr *servers, size_t n_servers, const char *name,
                 int family, resolver_fn fn, void *user)
{
    int error;

    if (r->fn != NULL)
        return -EBUSY;
    error = check_question(servers, n_servers, name, family);
    if (error < 0)
        return error;
    error = sd_event_add_time_relative(r->loop, &r->limit, CLOCK_MONOTONIC, LIMIT_US, 1, on_limit,
                                       r);
    if (error < 0)
        return error;
    error = open_channel(r, servers, n_servers);
    if (error < 0) {
        end_question(r);
        return error;
    }
    r->fn = fn;
    r->user = user;
    r->fault = 0;
    r->refused[0] = '\0';
    r->halves[0] = (struct half){.r = r, .pending = family != AF_INET6};
    r->halves[1] = (struct half){.r = r, .pending = family != AF_INET};
    /* pending is set for both before either may answer, which can be at once */
    if (family != AF_INET6)
        ask_half(r, 0, name, AF_INET);
    if (family != AF_INET)
        ask_half(r, 1, name, AF_INET6);
    arm_timer(r);
    return 0;
}

void resolver_cancel(struct resolver *r)
{
    end_question(r);
}

int resolver_new(sd_event *loop, struct resolver **ret)
{
    _cleanup_(freep) struct resolver *r = calloc(1, sizeof(*r));

    if (r == NULL || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return -ENOMEM;
    r->loop = sd_event_ref(loop);
    *ret = TAKE_PTR(r);
    return 0;
}

struct resolver *resolver_free(struct resolver *r)
{
    if (r == NULL)
        return NULL;
    end_question(r);
    r->loop = sd_event_unref(r->loop);
    ares_library_cleanup();
    free(r);
    return NULL;
}

void resolver_freep(struct resolver **r)
{
    *r = resolver_free(*r);
}
