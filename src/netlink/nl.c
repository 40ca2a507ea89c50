/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/nl.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "netlink/attr.h"
#include "netlink/socket.h"

#define NL_BUFFER_SIZE (64 * 1024)       /* the kernel fills at most 32 KiB of a dump at once */
#define NL_BUFFER_MAX  (4 * 1024 * 1024) /* a link with very many virtual functions */
#define NL_SOCKET_RECV (1024 * 1024)
#define NL_SOCKET_SEND (8 * 1024 * 1024) /* a batch goes out in one piece, 10,000 elements: 2 MB */
#define NL_DUMP_TRIES  8
#define NL_HEADER      sizeof(struct nlmsghdr) /* 16 bytes, aligned as it is */

struct nl_sock {
    struct mnl_socket *mnl;
    struct nl_buffer buffer;
    uint32_t sequence; /* last used */
    unsigned whole;    /* see nl_whole() */
    char error[160];
};

/* One exchange: what was asked and what came back so far. */
struct exchange {
    uint32_t first, count; /* sequence numbers of the messages sent */
    uint32_t ack;          /* the one that is acknowledged */
    bool acked;
    int error;
    nl_entry_fn entry;
    void *user;
};

struct dump {
    uint32_t sequence;
    bool again; /* incomplete: interrupted, overrun or truncated */
    bool done;
    int error; /* from the kernel or from entry */
    const struct nl_dump_ops *ops;
    void *user;
};

void nl_socket_grow(int fd, int force, int plain, int size)
{
    /* both may fail or be cut short; the kernel then reports overruns and they are handled */
    if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
}

int nl_socket_receive(int fd, struct nl_buffer *b, int flags, size_t *ret_len)
{
    for (;;) {
        struct sockaddr_nl from = {0};
        struct iovec iov = {.iov_base = b->p, .iov_len = b->size};
        struct msghdr msg = {
            .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
        /* MSG_TRUNC: the true length, so that the buffer can be made to fit */
        ssize_t n = recvmsg(fd, &msg, flags | MSG_TRUNC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (msg.msg_namelen != sizeof(from) || from.nl_family != AF_NETLINK || from.nl_pid != 0)
            continue; /* another process wrote to our port */
        if ((size_t)n > b->size) {
            uint8_t *bigger = NULL;

            if ((size_t)n <= NL_BUFFER_MAX)
                bigger = realloc(b->p, (size_t)n);
            if (bigger != NULL)
                *b = (struct nl_buffer){.p = bigger, .size = (size_t)n};
            return -EMSGSIZE;
        }
        *ret_len = (size_t)n;
        return 0;
    }
}

const struct nlmsghdr *nl_messages_next(struct nl_messages *m)
{
    const struct nlmsghdr *nlh = (const struct nlmsghdr *)(const void *)m->p;
    size_t step;

    if (m->left < NL_HEADER || nlh->nlmsg_len < NL_HEADER || nlh->nlmsg_len > m->left)
        return NULL;
    step = ((size_t)nlh->nlmsg_len + 3) / 4 * 4;
    if (step > m->left)
        step = m->left;
    m->p += step;
    m->left -= step;
    return nlh;
}

/* Where the attributes of an error begin; 0: too short. */
static size_t error_attributes(const struct nlmsghdr *nlh)
{
    const uint8_t *bytes = (const uint8_t *)nlh;
    size_t begin = NL_HEADER + sizeof(struct nlmsgerr);
    struct nlmsgerr e;

    if (nlh->nlmsg_type == NLMSG_DONE)
        return NL_HEADER + sizeof(int32_t);
    if (nlh->nlmsg_len < begin)
        return 0;
    memcpy(&e, bytes + NL_HEADER, sizeof(e));
    /* the message complained about comes along unless capped; its length is not to be trusted */
    if ((nlh->nlmsg_flags & NLM_F_CAPPED) == 0 && e.msg.nlmsg_len > sizeof(e.msg))
        begin += ((size_t)e.msg.nlmsg_len + 3) / 4 * 4 - sizeof(e.msg);
    return begin;
}

int nl_error_parse(const struct nlmsghdr *nlh, int *ret_error, char *text, size_t size)
{
    static const struct attr_rule policy[] = {[NLMSGERR_ATTR_MSG] = {1, ATTR_LEN_ANY}};
    struct attr tb[ARRAY_SIZE(policy)] = {0};
    const uint8_t *bytes = (const uint8_t *)nlh;
    int32_t error = 0;
    size_t begin;

    if (nlh->nlmsg_type != NLMSG_ERROR && nlh->nlmsg_type != NLMSG_DONE)
        return -EBADMSG;
    begin = error_attributes(nlh);
    if (begin == 0)
        return -EBADMSG;
    /* the end of a dump may come without a number */
    if (nlh->nlmsg_len >= NL_HEADER + sizeof(error))
        memcpy(&error, bytes + NL_HEADER, sizeof(error));
    if (error > 0 || error < -4095) /* kernel MAX_ERRNO */
        return -EBADMSG;

    if ((nlh->nlmsg_flags & NLM_F_ACK_TLVS) != 0 && begin < nlh->nlmsg_len)
        (void)attr_parse((struct attr){.p = bytes + begin, .len = nlh->nlmsg_len - begin}, policy,
                         ARRAY_SIZE(policy), tb); /* the number is what matters */
    *ret_error = error;
    if (size > 0) {
        struct attr m = tb[NLMSGERR_ATTR_MSG];

        text[0] = '\0';
        if (m.p != NULL)
            (void)str_escape(
                (struct str){(const char *)m.p, strnlen((const char *)m.p, m.len)}, text, size);
    }
    return 0;
}

/* An error message that does not parse is an error too. */
static int socket_take_error(struct nl_sock *s, const struct nlmsghdr *nlh)
{
    char text[sizeof(s->error)];
    int error;

    if (nl_error_parse(nlh, &error, text, sizeof(text)) < 0)
        return -EBADMSG;
    if (text[0] != '\0')
        memcpy(s->error, text, sizeof(text));
    return error;
}

static void exchange_take_datagram(struct nl_sock *s, struct exchange *x, size_t len)
{
    struct nl_messages messages = {.p = s->buffer.p, .left = len};
    const struct nlmsghdr *nlh;

    while ((nlh = nl_messages_next(&messages)) != NULL) {
        int r = 0;

        if (nlh->nlmsg_seq - x->first >= x->count)
            continue; /* late answer to something before */
        if (nlh->nlmsg_type == NLMSG_ERROR) {
            r = x->error == 0 ? socket_take_error(s, nlh) : 0;
            if (r == 0 && nlh->nlmsg_seq == x->ack)
                x->acked = true;
        } else if (nlh->nlmsg_type >= NLMSG_MIN_TYPE && x->entry != NULL && x->error == 0) {
            r = x->entry(nlh, x->user);
        }
        if (r < 0 && x->error == 0)
            x->error = r;
    }
}

/*
 * The kernel answers while it is being sent to, so what there is to hear is there already. Only
 * when neither success nor an error is among it do we wait.
 */
static int exchange_receive(struct nl_sock *s, struct exchange *x)
{
    const int fd = mnl_socket_get_fd(s->mnl);

    for (;;) {
        bool settled = x->acked || x->error < 0;
        size_t len;
        int r;

        if (settled && x->count == 1)
            return x->error;
        r = nl_socket_receive(fd, &s->buffer, MSG_DONTWAIT, &len);
        if (r == -EAGAIN && settled)
            return x->error;
        if (r == -EAGAIN)
            r = nl_socket_receive(fd, &s->buffer, 0, &len);
        if (r == -EAGAIN)
            return -ETIMEDOUT;
        if (r < 0)
            return r;
        exchange_take_datagram(s, x, len);
    }
}

static int socket_send(struct nl_sock *s, const void *messages, size_t len)
{
    static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n;

    s->error[0] = '\0';
    do
        n = sendto(mnl_socket_get_fd(s->mnl), messages, len, MSG_NOSIGNAL,
                   (const struct sockaddr *)&kernel, sizeof(kernel));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EMSGSIZE;
}

int nl_batch(struct nl_sock *s, void *messages, size_t len, nl_entry_fn entry, void *user)
{
    struct exchange x = {.first = s->sequence + 1, .entry = entry, .user = user};
    struct nlmsghdr *nlh = messages;
    int left, r;

    if (len > NL_SOCKET_SEND)
        return -EMSGSIZE;
    left = (int)len;
    for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
        nlh->nlmsg_seq = x.first + x.count;
        if ((nlh->nlmsg_flags & NLM_F_ACK) != 0)
            x.ack = nlh->nlmsg_seq;
        x.count++;
    }
    if (x.count == 0)
        return -EINVAL;
    s->sequence += x.count;

    r = socket_send(s, messages, len);
    return r < 0 ? r : exchange_receive(s, &x);
}

int nl_query(struct nl_sock *s, struct nlmsghdr *nlh, nl_entry_fn entry, void *user)
{
    nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    return nl_batch(s, nlh, nlh->nlmsg_len, entry, user);
}

int nl_request(struct nl_sock *s, struct nlmsghdr *nlh)
{
    return nl_query(s, nlh, NULL, NULL);
}

static void dump_take_message(struct nl_sock *s, struct dump *d, const struct nlmsghdr *nlh)
{
    int code = 0;

    if (nlh->nlmsg_seq != d->sequence)
        return;
    if ((nlh->nlmsg_flags & NLM_F_DUMP_INTR) != 0)
        d->again = true;

    switch (nlh->nlmsg_type) {
    case NLMSG_NOOP:
        return;
    case NLMSG_OVERRUN:
        d->again = true;
        return;
    case NLMSG_ERROR:
    case NLMSG_DONE:
        d->done = true;
        code = socket_take_error(s, nlh);
        break;
    default: /* an open set of numbers, not an enum */
        if (!d->again && d->error == 0)
            code = d->ops->entry(nlh, d->user);
        break;
    }
    if (d->done && (code == -EBUSY || code == -EINTR))
        d->again = true; /* another dump on this socket was cut off, or this one was */
    else if (code < 0 && d->error == 0)
        d->error = code;
}

/*
 * A dump is always read to its end: while one is unfinished the kernel refuses the next (-EBUSY).
 * 1: has to be done again.
 */
static int dump_once(struct nl_sock *s, struct nlmsghdr *request, struct dump *d)
{
    const int fd = mnl_socket_get_fd(s->mnl);
    int r;

    request->nlmsg_seq = d->sequence = ++s->sequence;
    r = socket_send(s, request, request->nlmsg_len);
    if (r < 0)
        return r;

    while (!d->done) {
        struct nl_messages messages = {.p = s->buffer.p};
        const struct nlmsghdr *nlh;

        r = nl_socket_receive(fd, &s->buffer, 0, &messages.left);
        if (r == -ENOBUFS || r == -EMSGSIZE) {
            d->again = true;
            continue;
        }
        if (r < 0)
            return r == -EAGAIN ? -ETIMEDOUT : r;
        while ((nlh = nl_messages_next(&messages)) != NULL)
            dump_take_message(s, d, nlh);
    }
    return d->error == 0 && d->again ? 1 : d->error;
}

int nl_dump(struct nl_sock *s, struct nlmsghdr *request, const struct nl_dump_ops *ops, void *user)
{
    request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_DUMP;
    for (unsigned i = 0; i < NL_DUMP_TRIES; i++) {
        struct dump d = {.ops = ops, .user = user};
        int r;

        if (ops->begin != NULL)
            ops->begin(user);
        r = dump_once(s, request, &d);
        if (r <= 0)
            return r;
    }
    return -EINTR;
}

struct nl_sock *nl_free(struct nl_sock *s)
{
    if (s == NULL)
        return NULL;
    if (s->mnl != NULL)
        (void)mnl_socket_close(s->mnl); /* nothing is lost: the kernel did what it was asked */
    free(s->buffer.p);
    free(s);
    return NULL;
}

void nl_freep(struct nl_sock **s)
{
    *s = nl_free(*s);
}

int nl_socket_open(int bus, struct mnl_socket **ret)
{
    const struct timeval limit = {.tv_sec = 1};
    struct mnl_socket *m;
    int fd, on = 1, r;

    m = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (m == NULL)
        return -errno;
    if (mnl_socket_bind(m, 0, MNL_SOCKET_AUTOPID) < 0) {
        r = -errno;
        (void)mnl_socket_close(m);
        return r;
    }
    fd = mnl_socket_get_fd(m);
    /* kernels without one of these (all since 4.20 have them) still answer, only with less care */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    nl_socket_grow(fd, SO_RCVBUFFORCE, SO_RCVBUF, NL_SOCKET_RECV);
    *ret = m;
    return 0;
}

int nl_buffer_alloc(struct nl_buffer *b)
{
    b->p = malloc(NL_BUFFER_SIZE);
    if (b->p == NULL)
        return -ENOMEM;
    b->size = NL_BUFFER_SIZE;
    return 0;
}

int nl_open(int bus, struct nl_sock **ret)
{
    _cleanup_(nl_freep) struct nl_sock *s = calloc(1, sizeof(*s));
    int r;

    if (s == NULL)
        return -ENOMEM;
    r = nl_buffer_alloc(&s->buffer);
    if (r < 0)
        return r;
    r = nl_socket_open(bus, &s->mnl);
    if (r < 0)
        return r;
    nl_socket_grow(mnl_socket_get_fd(s->mnl), SO_SNDBUFFORCE, SO_SNDBUF, NL_SOCKET_SEND);
    *ret = TAKE_PTR(s);
    return 0;
}

int nl_open_fd(int fd, struct nl_sock **ret)
{
    _cleanup_(closep) int own = fd;
    _cleanup_(nl_freep) struct nl_sock *s = calloc(1, sizeof(*s));
    int r;

    if (s == NULL)
        return -ENOMEM;
    r = nl_buffer_alloc(&s->buffer);
    if (r < 0)
        return r;
    s->mnl = mnl_socket_fdopen(own);
    if (s->mnl == NULL)
        return -errno;
    (void)TAKE_FD(own);
    *ret = TAKE_PTR(s);
    return 0;
}

int nl_fd(const struct nl_sock *s)
{
    return mnl_socket_get_fd(s->mnl);
}

unsigned *nl_whole(struct nl_sock *s)
{
    return &s->whole;
}

uint32_t nl_port(const struct nl_sock *s)
{
    return mnl_socket_get_portid(s->mnl);
}

const char *nl_error_text(const struct nl_sock *s)
{
    return s->error;
}
