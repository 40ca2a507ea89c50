/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nftables at run time: set elements and one kind of rule (a jump) by libnftnl in one atomic
 * batch, guarded by the ruleset generation; reading back; and the skeletons, which are text and
 * are loaded by the nft program, once or after somebody flushed them.
 * Source: UAPI nf_tables.h. All calls take a NETLINK_NETFILTER nl_sock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink/nl.h"

/* A set by name. family: NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET. Strings are borrowed. */
struct nft_set {
    uint8_t family;
    const char *table;
    const char *name;
};

/*
 * Key of an element, as the kernel has it: the parts of a concatenation, each padded with zeros to
 * a multiple of 4 bytes (an interface name is 16). For interval sets of concatenations end is the
 * upper bound, inclusive, of every part (NFTNL_SET_ELEM_KEY_END); without it end is all zeros.
 * Plain (not concatenated) interval sets are not served: the kernel has them in another form.
 */
#define NFT_KEY_MAX 64
#define NFT_CHAIN_NAME_SIZE 32 /* for the chains that this library makes on devices */
struct nft_key {
    uint8_t len;  /* begin with an all-zero key */
    bool has_end; /* some part is a range */
    uint8_t data[NFT_KEY_MAX];
    uint8_t end[NFT_KEY_MAX];
};

/* Builders of keys: append one part. -ENOSPC when it does not fit. Interval: lo..hi. */
int nft_key_add(struct nft_key *k, const void *part, size_t len);
int nft_key_add_range(struct nft_key *k, const void *lo, const void *hi, size_t len);

/* The ruleset's generation, never 0. */
int nft_generation(struct nl_sock *s, uint32_t *ret);

/*
 * Reads (fn) until no transaction came between: while elements are dumped the kernel does not say
 * that the set changed (no NLM_F_DUMP_INTR for them, kernel 6.18), and then repeats some and
 * leaves others out. At most 8 tries, then -EINTR. What is read by this library does so by itself;
 * within an fn it leaves that to the outer one, which saves two requests for each set and chain.
 */
typedef int (*nft_read_fn)(struct nl_sock *s, void *user);
int nft_read_whole(struct nl_sock *s, nft_read_fn fn, void *user);

typedef void (*nft_begin_fn)(void *user); /* forget what a dump gave so far */

/*
 * A batch is one kernel transaction. guard: the generation the caller's knowledge is of; when the
 * ruleset changed since, commit gives -ERESTART and nothing happened. Any other failure: nothing
 * happened either. On success *ret_generation is the generation our own commit made, as the kernel
 * told us, so that its notification can be told from a foreign one; it is guard when nothing had
 * to be changed (adding what is there is success; deleting what is not there is -ENOENT).
 * A batch is committed once; after -ERESTART begin a new one. guard 0 is -EINVAL.
 */
struct nft_batch;
int nft_batch_new(uint32_t guard, struct nft_batch **ret);
struct nft_batch *nft_batch_free(struct nft_batch *b);
void nft_batch_freep(struct nft_batch **b);
size_t nft_batch_count(const struct nft_batch *b); /* operations in it */
int nft_batch_add_element(struct nft_batch *b, const struct nft_set *set,
                          const struct nft_key *key);
/* An element of a map: data is the value, padded like a key. */
int nft_batch_add_mapping(struct nft_batch *b, const struct nft_set *set, const struct nft_key *key,
                          const void *data, size_t data_len);
int nft_batch_del_element(struct nft_batch *b, const struct nft_set *set,
                          const struct nft_key *key);
/* Appends the rule "jump target" to a chain. */
int nft_batch_add_jump(struct nft_batch *b, uint8_t family, const char *table, const char *chain,
                       const char *target);
int nft_batch_commit(struct nft_batch *b, struct nl_sock *s, uint32_t *ret_generation);

/*
 * A base chain on one device (family netdev), and taking a chain away with its rules. The hook goes
 * with the device: a renamed one loses it.
 */
struct nft_device_chain {
    char table[NFT_CHAIN_NAME_SIZE], name[NFT_CHAIN_NAME_SIZE];
    char device[16]; /* "": the hook is on no device any more */
    uint32_t hook;   /* NF_NETDEV_EGRESS, ... */
    int32_t priority;
    bool drops; /* policy drop */
};
int nft_batch_add_device_chain(struct nft_batch *b, const struct nft_device_chain *chain);
int nft_batch_del_chain(struct nft_batch *b, uint8_t family, const char *table, const char *chain);
typedef int (*nft_device_chain_fn)(const struct nft_device_chain *chain, void *user);
/* Those of one table, chains of several devices left out. */
int nft_dump_device_chains(struct nl_sock *s, const char *table, nft_begin_fn begin,
                           nft_device_chain_fn fn, void *user);

/*
 * Tables that others cannot touch (UAPI: NFT_TABLE_F_OWNER since kernel 5.12, _PERSIST since 6.9).
 * Owned: only the socket that said so may change it, `nft flush ruleset` passes it by. Persistent:
 * it outlives its owner, and whoever says NFT_TABLE_OWNED then is the next one; until then everybody
 * may change it. Ownership is the socket's, whichever process holds it.
 */
enum nft_table_holding { NFT_TABLE_PLAIN = 0, NFT_TABLE_OWNED = 2, NFT_TABLE_PERSISTENT = 4 };
struct nft_table {
    uint32_t flags; /* bits as above */
    uint32_t owner; /* netlink port, 0: nobody */
};
/* 1, 0 when there is none, or -errno. */
int nft_table_read(struct nl_sock *s, uint8_t family, const char *table, struct nft_table *ret);
/* Creates the table or changes its flags. -EOPNOTSUPP: this kernel does not know them;
 * -EPERM: somebody else owns it. */
int nft_table_write(struct nl_sock *s, uint8_t family, const char *table, unsigned flags);
int nft_table_remove(struct nl_sock *s, uint8_t family, const char *table);

/*
 * Elements of a set or map; data of a mapping in data/data_len (0 for a set). They are those of
 * one moment: begin is called, and the dump begins again, when a transaction came between.
 * -ENOENT: no set; -EINTR: no quiet moment found.
 */
struct nft_element {
    struct nft_key key;
    uint8_t data[NFT_KEY_MAX];
    uint8_t data_len;
};
typedef int (*nft_element_fn)(const struct nft_element *e, void *user);
int nft_dump_elements(struct nl_sock *s, const struct nft_set *set, nft_begin_fn begin,
                      nft_element_fn fn, void *user);

/* 1 or 0, or -errno. What is missing is 0. */
int nft_has_table(struct nl_sock *s, uint8_t family, const char *table);
int nft_has_set(struct nl_sock *s, const struct nft_set *set);
int nft_has_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain);
/* Base chain of that hook (NF_INET_FORWARD, ...)? */
int nft_is_base_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                      uint32_t hook);
/* Rules in chain that are "jump target" without a condition; a counter does not matter. */
int nft_count_jumps(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                    const char *target);
/* Is "jump target" all that the chain has? 1 or 0, or -errno. */
int nft_is_just_jump(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                     const char *target);

/*
 * Digests tell whether a chain or set is what it was; they are for comparing within one run of a
 * program only. A number that changes when any rule of the chain, or what the chain itself is
 * (type, hook, priority, policy), changes; handles, positions, counters and comments do not count.
 * Sets without a name count by what is in them, named ones by name. Missing chain: -ENOENT.
 */
int nft_digest_chain(struct nl_sock *s, uint8_t family, const char *table, const char *chain,
                     uint64_t *ret);
/* The same for what a set is: key type and length, flags, data type; not its elements. */
int nft_digest_set(struct nl_sock *s, const struct nft_set *set, uint64_t *ret);
/* Of several sets of one table, by one request: ret[i] is that of names[i]. -ENOENT: one is missing. */
int nft_digest_sets(struct nl_sock *s, uint8_t family, const char *table, const char *const *names,
                    size_t n, uint64_t *ret);

/*
 * The monitor hears NFT_MSG_NEWGEN only (a socket filter drops the rest in the kernel), so a batch
 * of ours with 10,000 elements is one short message.
 */
struct nft_monitor;
int nft_monitor_open(struct nft_monitor **ret);
struct nft_monitor *nft_monitor_free(struct nft_monitor *m);
int nft_monitor_fd(const struct nft_monitor *m);
/*
 * Reads all that is queued. 1: *ret_generation is the newest generation heard; 0: nothing;
 * -ENOBUFS: heard too much, look again; other -errno.
 */
int nft_monitor_read(struct nft_monitor *m, uint32_t *ret_generation);

/*
 * Runs "PROGRAM -f -" on text: absolute program path, empty environment, no shell, default signals,
 * at most five seconds (then killed, -ETIMEDOUT). What nft said goes to err, cut, NUL-terminated.
 * Only for skeletons; it blocks the caller for a few milliseconds. 0, -EBADMSG when nft refused.
 */
int nft_load_text(const char *nft_program, const char *text, char *err, size_t err_size);
/* The same with "-cf": the kernel judges the whole transaction and changes nothing. */
int nft_check_text(const char *nft_program, const char *text, char *err, size_t err_size);
