/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/skeleton.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/nft.h"
#include "router/elements.h"

/* The table of the VPN qube's seal (qubes-vpn-forwarding). */
#define VPN_SEAL_TABLE "qubes-vpn"

static const char text_ip4[] =
#include "skeleton-ip.inc"
    ;
static const char text_ip6[] =
#include "skeleton-ip6.inc"
    ;

/* What the older package's defect NS-12 was: a ruleset of another shape must close, not crash. */
static int find_platform(struct nl_sock *nft, enum family_index family, const char **ret_missing)
{
    static const char *const texts[FAMILIES][4] = {
        {"no table \"ip qubes\"", "no chain \"custom-forward\" in table \"ip qubes\"",
         "no chain \"forward\" on the forward hook in table \"ip qubes\"",
         "no jump from \"forward\" to \"custom-forward\" in table \"ip qubes\""},
        {"no table \"ip6 qubes\"", "no chain \"custom-forward\" in table \"ip6 qubes\"",
         "no chain \"forward\" on the forward hook in table \"ip6 qubes\"",
         "no jump from \"forward\" to \"custom-forward\" in table \"ip6 qubes\""},
    };
    uint8_t nf = elements_family(family);
    int found = nft_has_table(nft, nf, TABLE_PLATFORM);
    size_t at = 0;

    if (found == 1) {
        at++;
        found = nft_has_chain(nft, nf, TABLE_PLATFORM, CHAIN_HOOK);
    }
    if (found == 1 && at == 1) {
        at++;
        found = nft_is_base_chain(nft, nf, TABLE_PLATFORM, "forward", NF_INET_FORWARD);
    }
    if (found == 1 && at == 2) {
        at++;
        found = nft_count_jumps(nft, nf, TABLE_PLATFORM, "forward", CHAIN_HOOK);
    }
    if (found < 0)
        return found;
    *ret_missing = found > 0 && at == 3 ? NULL : texts[family][at];
    return 0;
}

static int add_chain(struct nl_sock *nft, enum family_index family, const char *table,
                     const char *chain, struct skeleton_digest *d)
{
    int r = nft_digest_chain(nft, elements_family(family), table, chain, &d->parts[d->n]);

    if (r == 0)
        d->n++;
    return r;
}

static int add_sets(struct nl_sock *nft, enum family_index family, const char *table,
                    const char *const *names, size_t n, struct skeleton_digest *d)
{
    int r = nft_digest_sets(nft, elements_family(family), table, names, n, &d->parts[d->n]);

    if (r == 0)
        d->n += n;
    return r;
}

struct skeleton_reading {
    enum family_index family;
    struct skeleton_digest digest;
};

static int read_whole(struct nl_sock *nft, void *user)
{
    static const char *const chains[] = {"prerouting", "output", "postrouting", "forward",
                                         "served",     "first",  "rate-limit"};
    const char *platform[OBJECT_SETS], *own[OBJECT_SETS + 6] = {"put-back", "guard", "cut",
                                                                "buckets",  "peers", "offloaded"};
    struct skeleton_reading *reading = user;
    enum family_index family = reading->family;
    struct skeleton_digest *d = &reading->digest;
    size_t n_platform = 0, n_own = 6;
    int r;

    d->n = 0;
    r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_ENTRY, d);
    if (r == 0)
        r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_SOME, d);
    if (r == 0)
        r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_PUBLISHED, d);
    for (size_t i = 0; i < ARRAY_SIZE(chains) && r == 0; i++)
        r = add_chain(nft, family, TABLE_OWN, chains[i], d);
    for (unsigned kind = 0; kind < OBJECT_SETS; kind++) {
        const char *name = elements_set((enum object_kind)kind, family).name;

        if (OBJECT_IS_ACCESS(kind))
            platform[n_platform++] = name;
        else if (!OBJECT_IS_PLATFORMS(kind))
            own[n_own++] = name;
    }
    if (r == 0)
        r = add_sets(nft, family, TABLE_PLATFORM, platform, n_platform, d);
    return r == 0 ? add_sets(nft, family, TABLE_OWN, own, n_own, d) : r;
}

int skeleton_read(struct nl_sock *nft, enum family_index family, struct skeleton_digest *ret)
{
    struct skeleton_reading reading = {.family = family};
    int r = nft_read_whole(nft, read_whole, &reading);

    if (r == 0)
        *ret = reading.digest;
    return r;
}

static int look_at_families(struct nl_sock *nft, void *user)
{
    struct skeleton_look *looks = user;
    int r = 0;

    for (unsigned f = 0; f < FAMILIES && r == 0; f++) {
        looks[f] = (struct skeleton_look){.missing = NULL};
        r = find_platform(nft, (enum family_index)f, &looks[f].missing);
        if (r < 0 || looks[f].missing != NULL)
            continue;
        r = skeleton_read(nft, (enum family_index)f, &looks[f].ours);
        if (r == -ENOENT)
            r = 0;
        if (r == 0)
            r = nft_count_jumps(nft, elements_family((enum family_index)f), TABLE_PLATFORM,
                                CHAIN_HOOK, CHAIN_ENTRY);
        looks[f].jump = r > 0;
        r = r < 0 ? r : 0;
    }
    return r;
}

int skeleton_look(struct nl_sock *nft, struct skeleton_look ret[static FAMILIES])
{
    return nft_read_whole(nft, look_at_families, ret);
}

bool skeleton_equal(const struct skeleton_digest *a, const struct skeleton_digest *b)
{
    return a->n > 0 && a->n == b->n && memcmp(a->parts, b->parts, a->n * sizeof(*a->parts)) == 0;
}

int skeleton_load(const char *nft_program, unsigned families, char *err, size_t err_size)
{
    char text[sizeof(text_ip4) + sizeof(text_ip6)] = "";
    size_t len = 0;

    if (families & 1u << FAMILY_IP4) {
        memcpy(text, text_ip4, sizeof(text_ip4));
        len = sizeof(text_ip4) - 1;
    }
    if (families & 1u << FAMILY_IP6)
        memcpy(text + len, text_ip6, sizeof(text_ip6));
    return nft_load_text(nft_program, text, err, err_size);
}

int skeleton_vpn_seal_present(struct nl_sock *nft)
{
    return nft_has_table(nft, NFPROTO_INET, VPN_SEAL_TABLE);
}
