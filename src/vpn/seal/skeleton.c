/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/skeleton.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/nft.h"
#include "vpn/seal/elements.h"

static const char text_inet[] =
#include "vpn-seal-inet.inc"
    ;
static const char text_netdev[] =
#include "vpn-seal-netdev.inc"
    ;

static const char *const chains_inet[] = {
    "prerouting", "from-qube", "from-tunnel", "from-uplink",   "answers",       "dns",
    "forward",    "out",       "back",        "input",         "qube-asks",     "output",
    "own-by-uplink", "own-dns", "own-in-tunnel", "carried", "postrouting", "own-address",
};
static const char *const chains_netdev[] = {SKELETON_EGRESS, "egress4", "egress6"};

static const struct part {
    enum seal_layer layer;
    uint8_t family;
    const char *text;
    const char *const *chains;
    size_t n_chains;
} parts[] = {
    {LAYER_INET, NFPROTO_INET, text_inet, chains_inet, ARRAY_SIZE(chains_inet)},
    {LAYER_EGRESS, NFPROTO_NETDEV, text_netdev, chains_netdev, ARRAY_SIZE(chains_netdev)},
};

#define FNV_START 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

static uint64_t hash(uint64_t h, const void *p, size_t len)
{
    const uint8_t *bytes = p;

    for (size_t i = 0; i < len; i++)
        h = (h ^ bytes[i]) * FNV_PRIME;
    return h;
}

/* The text and what the kernel has of it: another version of the program gives another number. */
static int fingerprint(struct nl_sock *nft, const struct part *part, uint64_t *ret)
{
    uint64_t h = hash(FNV_START, part->text, strlen(part->text));

    for (size_t i = 0; i < part->n_chains; i++) {
        uint64_t digest;
        int r = nft_digest_chain(nft, part->family, SEAL_NFT_TABLE, part->chains[i], &digest);

        if (r < 0)
            return r;
        h = hash(h, &digest, sizeof(digest));
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
        h = hash(h, &digest, sizeof(digest));
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

int skeleton_read(struct nl_sock *nft, unsigned layers, struct seal_model *m)
{
    m->loaded = m->owned = m->foreign = 0;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct nft_table table = {0};
        bool whole = false;
        int r;

        if ((layers & parts[i].layer) == 0)
            continue;
        r = nft_table_read(nft, parts[i].family, SEAL_NFT_TABLE, &table);
        if (r > 0)
            r = part_is_whole(nft, &parts[i], &whole);
        if (r < 0)
            return r;
        if (whole)
            m->loaded |= parts[i].layer;
        if (table.owner != 0)
            m->owned |= parts[i].layer;
        if (table.owner != 0 && table.owner != nl_port(nft))
            m->foreign |= parts[i].layer;
    }
    return 0;
}

/* ---- loading ---- */

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

/* -EOPNOTSUPP (and -EINVAL of kernels that check less) is an old kernel: the plain table is kept. */
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

static int prepare(struct nl_sock *nft, unsigned missing)
{
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        struct nft_table table = {0};
        int r = 0;

        if ((missing & parts[i].layer) == 0)
            continue;
        r = nft_table_read(nft, parts[i].family, SEAL_NFT_TABLE, &table);
        /* one that somebody else made cannot be taken into ownership */
        if (r > 0 && (table.flags & NFT_TABLE_PERSISTENT) == 0)
            r = nft_table_remove(nft, parts[i].family, SEAL_NFT_TABLE);
        if (r == 0)
            r = make_table(nft, &parts[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int load_text(const char *nft_program, unsigned missing, char *why, size_t why_size)
{
    char text[sizeof(text_inet) + sizeof(text_netdev)] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if ((missing & parts[i].layer) != 0) {
            size_t n = strlen(parts[i].text);

            memcpy(text + len, parts[i].text, n + 1);
            len += n;
        }
    return nft_load_text(nft_program, text, why, why_size);
}

/* Something of the same name that our text cannot be laid over: another shape of a set or chain. */
static int start_over(struct nl_sock *nft, unsigned missing)
{
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if ((missing & parts[i].layer) != 0) {
            int r = nft_table_remove(nft, parts[i].family, SEAL_NFT_TABLE);

            if (r < 0)
                return r;
        }
    return prepare(nft, missing);
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
    if (r == 0)
        r = prepare(nft, missing);
    if (r == 0 && missing != 0)
        r = load_text(nft_program, missing, why, why_size);
    if (r == -EBADMSG && start_over(nft, missing) == 0)
        r = load_text(nft_program, missing, why, why_size);
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
