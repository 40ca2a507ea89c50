/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink request sockets and dumps on libmnl. A request socket is used by one caller at a time
 * and blocks only for the kernel's own answer, which comes during the send for everything that is
 * asked here; a receive time limit of a second guards against surprises.
 *
 * Rules: strict checking, extended errors and capped acknowledgements are on (UAPI netlink.h);
 * messages that do not come from the kernel (port 0) are ignored; a truncated message, an
 * interrupted dump (NLM_F_DUMP_INTR) or an overrun (ENOBUFS) begins the dump again.
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

struct nl_sock;

/* bus: NETLINK_ROUTE or NETLINK_NETFILTER. The caller owns *ret. 0 or -errno. */
int nl_open(int bus, struct nl_sock **ret);
/*
 * The same around a socket that an earlier life of the program opened and somebody kept. What the
 * kernel counts as its owner's stays so. fd is owned from then on, also when this fails.
 */
int nl_open_fd(int fd, struct nl_sock **ret);
int nl_fd(const struct nl_sock *s); /* borrowed */
struct nl_sock *nl_free(struct nl_sock *s); /* NULL is fine; returns NULL */
void nl_freep(struct nl_sock **s);
uint32_t nl_port(const struct nl_sock *s);
/* A number that a library keeps beside its socket: reads of one moment under way (src/nft). */
unsigned *nl_whole(struct nl_sock *s);

/* What the kernel said beside the last error number; "" when nothing. Valid until the next call. */
const char *nl_error_text(const struct nl_sock *s);

/* Sends one message with NLM_F_REQUEST|NLM_F_ACK added and waits for its answer. 0 or -errno. */
int nl_request(struct nl_sock *s, struct nlmsghdr *nlh);

/* Takes one answer that is not an acknowledgement; a negative result becomes the call's. */
typedef int (*nl_entry_fn)(const struct nlmsghdr *nlh, void *user);

/* The same for a question: entry sees what the kernel answers. */
int nl_query(struct nl_sock *s, struct nlmsghdr *nlh, nl_entry_fn entry, void *user);

/*
 * Sends several messages at once (an nfnetlink batch) and reads every answer: the first error is
 * the result. One message carries NLM_F_ACK: the last whose success matters. Sequence numbers are
 * written here. entry may be NULL.
 */
int nl_batch(struct nl_sock *s, void *messages, size_t len, nl_entry_fn entry, void *user);

/*
 * Dumps: begin (may be NULL) is called before every try and must forget what entry collected;
 * entry sees each message and may stop with a negative errno. At most 8 tries, then -EINTR.
 */
struct nl_dump_ops {
    void (*begin)(void *user);
    nl_entry_fn entry;
};
int nl_dump(struct nl_sock *s, struct nlmsghdr *request, const struct nl_dump_ops *ops, void *user);

/*
 * Pure: what an NLMSG_ERROR or NLMSG_DONE message says. *ret_error is 0 or -errno; text gets the
 * kernel's words, fit for a log, or "". -EBADMSG.
 */
int nl_error_parse(const struct nlmsghdr *nlh, int *ret_error, char *text, size_t size);
