/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/skeleton.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "nft/nft.h"
#include "vpn/seal/elements.h"

static const char text_inet[] =
#include "vpn-seal-inet.inc"
    ;
static const char text_netdev[] =
#include "vpn-seal-netdev.inc"
    ;

static const char *const chains_inet[] = {
    "prerouting", "from-qube",    "from-tunnel",   "from-uplink", "answers",      "answer",
    "dns",        "own-dns",      "forward",       "out",         "out-largest",  "back",
    "back-largest", "input",      "tunnel-tells",  "qube-asks",   "output",       "own-by-uplink",
    "own-in-tunnel", "carried",   "postrouting",   "in-tunnel",   "by-uplink",    "own-address",
};
static const char *const chains_netdev[] = {SKELETON_EGRESS, "egress4", "egress6"};

#define PROOF_US (9 * UINT64_C(1000000)) /* the owner's tick is longer: it reads everything */

#define ANEW(family)                                                                               \
    "delete table " family " " SEAL_NFT_TABLE "\nadd table " family " " SEAL_NFT_TABLE "\n"

static const struct part {
    enum seal_layer layer;
    uint8_t family;
    const char *text;
    const char *anew; /* takes away what is there and makes an empty table, for a check */
    const char *const *chains;
    size_t n_chains;
} parts[] = {
    {LAYER_INET, NFPROTO_INET, text_inet, ANEW("inet"), chains_inet, ARRAY_SIZE(chains_inet)},
    {LAYER_EGRESS, NFPROTO_NETDEV, text_netdev, ANEW("netdev"), chains_netdev,
     ARRAY_SIZE(chains_netdev)},
};

/* The text and what the kernel has of it: another version of the program gives another number. */
static int fingerprint(struct nl_sock *nft, const struct part *part, uint64_t *ret)
{
    uint64_t h = hash_bytes(HASH_START, part->text, strlen(part->text));

    for (size_t i = 0; i < part->n_chains; i++) {
        uint64_t digest;
        int r = nft_digest_chain(nft, part->family, SEAL_NFT_TABLE, part->chains[i], &digest);

        if (r < 0)
            return r;
        h = hash_bytes(h, &digest, sizeof(digest));
    }
    for (unsigned set = 0; set < SEAL_SETS; set++) {
        struct nft_set name = elements_set((enum seal_set)set);
        uint64_t digest;
        int r;

        if (elements_layer((enum seal_set)set) != part->layer)
            continue;
        r = nft_digest_set(nft, &name, &digest);
        if (r < 0)
            return r;
        h = hash_bytes(h, &digest, sizeof(digest));
    }
    *ret = h;
    return 0;
}

/* Kept as two elements of a set. */
static void fingerprint_words(uint64_t h, uint32_t ret[2])
{
    ret[0] = (uint32_t)h;
    ret[1] = (uint32_t)(h >> 32);
}

struct kept {
    uint32_t words[2];
    unsigned seen, n;
};

static void kept_begin(void *user)
{
    struct kept *k = user;

    k->seen = k->n = 0;
}

static int kept_element(const struct nft_element *e, void *user)
{
    struct kept *k = user;

    k->n++;
    for (unsigned i = 0; i < 2; i++)
        if (e->key.len == sizeof(uint32_t) && memcmp(e->key.data, &k->words[i], 4) == 0)
            k->seen |= 1u << i;
    return 0;
}

static struct nft_set fingerprint_set(const struct part *part)
{
    return (struct nft_set){part->family, SEAL_NFT_TABLE, "fingerprint"};
}

static int part_is_whole(struct nl_sock *nft, const struct part *part, bool *ret)
{
    const struct nft_set set = fingerprint_set(part);
    struct kept k = {0};
    uint64_t h;
    int r = fingerprint(nft, part, &h);

    *ret = false;
    if (r == 0) {
        fingerprint_words(h, k.words);
        r = nft_dump_elements(nft, &set, kept_begin, kept_element, &k);
    }
    if (r == -ENOENT)
        return 0;
    *ret = r == 0 && k.n == 2 && k.seen == 3;
    return r;
}

/*
 * Rules that were whole since this socket owns their table still are: the kernel lets nobody else
 * change them, and we change elements only. So they are read again each PROOF_US and not for each
 * wish, of whose time that would be two thirds.
 */
int skeleton_read(struct nl_sock *nft, unsigned layers, struct seal_model *m)
{
    uint64_t now = clock_now_us();

    m->loaded = m->owned = m->foreign = 0;
    if (now - m->proved_us >= PROOF_US)
        m->proved = 0;
    if (m->proved == 0)
        m->proved_us = now;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct nft_table table = {0};
        bool whole = (m->proved & parts[i].layer) != 0;
        int r;

        if ((layers & parts[i].layer) == 0)
            continue;
        m->proved &= ~(unsigned)parts[i].layer;
        r = nft_table_read(nft, parts[i].family, SEAL_NFT_TABLE, &table);
        whole = whole && r > 0 && table.owner == nl_port(nft);
        if (r > 0 && !whole)
            r = part_is_whole(nft, &parts[i], &whole);
        if (r < 0)
            return r;
        if (whole)
            m->loaded |= parts[i].layer;
        if (whole && table.owner == nl_port(nft))
            m->proved |= parts[i].layer;
        if (table.owner != 0)
            m->owned |= parts[i].layer;
        if (table.owner != 0 && table.owner != nl_port(nft))
            m->foreign |= parts[i].layer;
    }
    return 0;
}

/* ---- loading ---- */

#define TEXT_MAX (sizeof(text_inet) + sizeof(text_netdev) + 512) /* and room for ANEW() */

static int keep_fingerprint(struct nl_sock *nft, const struct part *part)
{
    _cleanup_(nft_batch_freep) struct nft_batch *b = NULL;
    const struct nft_set set = fingerprint_set(part);
    uint32_t generation, words[2];
    uint64_t h;
    int r = fingerprint(nft, part, &h);

    if (r == 0)
        r = nft_generation(nft, &generation);
    if (r == 0)
        r = nft_batch_new(generation, &b);
    if (r < 0)
        return r;
    fingerprint_words(h, words);
    for (unsigned i = 0; i < 2 && r == 0; i++) {
        struct nft_key key = {0};

        r = nft_key_add(&key, &words[i], sizeof(words[i]));
        if (r == 0)
            r = nft_batch_add_element(b, &set, &key);
    }
    return r < 0 ? r : nft_batch_commit(b, nft, &generation);
}

/* -EOPNOTSUPP (-EINVAL of kernels that check less) is an old kernel: the plain table is kept. */
static int write_flags(struct nl_sock *nft, const struct part *part, unsigned flags)
{
    int r = nft_table_write(nft, part->family, SEAL_NFT_TABLE, flags);

    return r == -EOPNOTSUPP || r == -EINVAL ? 1 : r;
}

static int make_table(struct nl_sock *nft, const struct part *part)
{
    int r = write_flags(nft, part, NFT_TABLE_PERSISTENT);

    return r == 1 ? nft_table_write(nft, part->family, SEAL_NFT_TABLE, NFT_TABLE_PLAIN) : r;
}

/* Text for the missing layers, for an empty table or to be laid over what is there. */
static void compose(unsigned missing, bool anew, char ret[TEXT_MAX])
{
    size_t len = 0;

    ret[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if ((missing & parts[i].layer) != 0)
            len += (size_t)snprintf(ret + len, TEXT_MAX - len, "%s%s",
                                    anew ? parts[i].anew : "", parts[i].text);
}

/*
 * Takes the tables away for new ones, but only when the text would load without them: strange rules
 * seal better than none, and a flag of a table cannot change in the transaction that fills it.
 */
static int start_over(struct nl_sock *nft, const char *nft_program, unsigned missing, char *why,
                      size_t why_size)
{
    char text[TEXT_MAX];
    int r;

    compose(missing, true, text);
    r = nft_check_text(nft_program, text, why, why_size);
    for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++) {
        if ((missing & parts[i].layer) == 0)
            continue;
        r = nft_table_remove(nft, parts[i].family, SEAL_NFT_TABLE);
        if (r == 0 || r == -ENOENT)
            r = make_table(nft, &parts[i]);
    }
    return r;
}

/* *ret_strange: one that somebody else made is there, which cannot be taken into ownership. */
static int make_missing_tables(struct nl_sock *nft, unsigned missing, bool *ret_strange)
{
    *ret_strange = false;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct nft_table table = {0};
        int r = 0;

        if ((missing & parts[i].layer) == 0)
            continue;
        r = nft_table_read(nft, parts[i].family, SEAL_NFT_TABLE, &table);
        if (r > 0 && (table.flags & NFT_TABLE_PERSISTENT) == 0)
            *ret_strange = true;
        else if (r == 0)
            r = make_table(nft, &parts[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int load_text(struct nl_sock *nft, const char *nft_program, unsigned missing, char *why,
                     size_t why_size)
{
    char text[TEXT_MAX];
    bool strange;
    int r = make_missing_tables(nft, missing, &strange);

    if (r == 0 && strange)
        r = start_over(nft, nft_program, missing, why, why_size);
    if (r < 0)
        return r;
    compose(missing, false, text);
    r = nft_load_text(nft_program, text, why, why_size);
    if (r != -EBADMSG || strange)
        return r;
    /* a set or chain of another shape is there, over which the text cannot be laid */
    r = start_over(nft, nft_program, missing, why, why_size);
    return r < 0 ? r : nft_load_text(nft_program, text, why, why_size);
}

/* Our own ownership keeps nft out as well. */
static int check_owner(struct nl_sock *nft, unsigned missing)
{
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct nft_table table = {0};
        int r = (missing & parts[i].layer) == 0
                    ? 0
                    : nft_table_read(nft, parts[i].family, SEAL_NFT_TABLE, &table);

        if (r < 0)
            return r;
        if (table.owner != 0)
            return table.owner == nl_port(nft) ? -EBUSY : -EPERM;
    }
    return 0;
}

int skeleton_load(struct nl_sock *nft, const char *nft_program, unsigned layers,
                  const struct seal_model *m, char *why, size_t why_size)
{
    unsigned missing = layers & (LAYER_INET | LAYER_EGRESS) & ~m->loaded;
    int r = check_owner(nft, missing);

    why[0] = '\0';
    if (r == 0 && missing != 0)
        r = load_text(nft, nft_program, missing, why, why_size);
    for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++) {
        if ((layers & parts[i].layer) == 0)
            continue;
        if ((missing & parts[i].layer) != 0)
            r = keep_fingerprint(nft, &parts[i]);
        if (r == 0)
            r = write_flags(nft, &parts[i], NFT_TABLE_OWNED | NFT_TABLE_PERSISTENT);
    }
    return r < 0 ? r : 0;
}
