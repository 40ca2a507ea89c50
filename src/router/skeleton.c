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
int skeleton_find_platform(struct nl_sock *nft, enum family_index family, const char **ret_missing)
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

static int add_set(struct nl_sock *nft, const struct nft_set *set, struct skeleton_digest *d)
{
    int r = nft_digest_set(nft, set, &d->parts[d->n]);

    if (r == 0)
        d->n++;
    return r;
}

int skeleton_read(struct nl_sock *nft, enum family_index family, struct skeleton_digest *ret)
{
    uint8_t nf = elements_family(family);
    const struct nft_set own[] = {{nf, TABLE_OWN, "put-back"}, {nf, TABLE_OWN, "guard"},
                                  {nf, TABLE_OWN, "cut"},      {nf, TABLE_OWN, "buckets"},
                                  {nf, TABLE_OWN, "peers"},    {nf, TABLE_OWN, "offloaded"}};
    static const char *const chains[] = {"prerouting", "output", "postrouting", "forward",
                                         "served",     "first",  "rate-limit"};
    struct skeleton_digest d = {.n = 0};
    int r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_ENTRY, &d);

    if (r == 0)
        r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_SOME, &d);
    if (r == 0)
        r = add_chain(nft, family, TABLE_PLATFORM, CHAIN_PUBLISHED, &d);
    for (size_t i = 0; i < ARRAY_SIZE(chains) && r == 0; i++)
        r = add_chain(nft, family, TABLE_OWN, chains[i], &d);
    for (unsigned kind = 0; kind < OBJECT_SETS && r == 0; kind++) {
        struct nft_set set = elements_set((enum object_kind)kind, family);

        if (!OBJECT_IS_PLATFORMS(kind))
            r = add_set(nft, &set, &d);
    }
    for (size_t i = 0; i < ARRAY_SIZE(own) && r == 0; i++)
        r = add_set(nft, &own[i], &d);
    if (r == 0)
        *ret = d;
    return r;
}

bool skeleton_equal(const struct skeleton_digest *a, const struct skeleton_digest *b)
{
    return a->n > 0 && a->n == b->n && memcmp(a->parts, b->parts, a->n * sizeof(*a->parts)) == 0;
}

int skeleton_load(const char *nft_program, enum family_index family, char *err, size_t err_size)
{
    return nft_load_text(nft_program, family == FAMILY_IP6 ? text_ip6 : text_ip4, err, err_size);
}

int skeleton_load_all(const char *nft_program, char *err, size_t err_size)
{
    char text[sizeof(text_ip4) + sizeof(text_ip6)];

    memcpy(text, text_ip4, sizeof(text_ip4) - 1);
    memcpy(text + sizeof(text_ip4) - 1, text_ip6, sizeof(text_ip6));
    return nft_load_text(nft_program, text, err, err_size);
}

int skeleton_has_jump(struct nl_sock *nft, enum family_index family)
{
    int n = nft_count_jumps(nft, elements_family(family), TABLE_PLATFORM, CHAIN_HOOK, CHAIN_ENTRY);

    return n > 0 ? 1 : n;
}

int skeleton_vpn_seal_present(struct nl_sock *nft)
{
    return nft_has_table(nft, NFPROTO_INET, VPN_SEAL_TABLE);
}
