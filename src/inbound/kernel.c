/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inbound/kernel.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/nft.h"
#include "reconcile/reconcile.h"

#define TABLE       "qubes"
#define CHAIN_BASE  "input"
#define CHAIN_HOOK  "custom-input" /* the platform's, for rules of others */
#define CHAIN_ENTRY "network-server-inbound"

static const char text_ip4[] =
#include "inbound-ip.inc"
    ;
static const char text_ip6[] =
#include "inbound-ip6.inc"
    ;

struct elements { /* of the kernel */
    struct door_element *items; /* owned */
    size_t n, capacity;
    uint8_t family, set; /* being read */
};

int kernel_open(struct kernel *k, const char *nft_program)
{
    *k = (struct kernel){.nft_program = nft_program};
    return nl_open(NETLINK_NETFILTER, &k->nft);
}

void kernel_done(struct kernel *k)
{
    k->nft = nl_free(k->nft);
}

void kernel_changes_done(struct kernel_changes *c)
{
    free(c->items);
    *c = (struct kernel_changes){0};
}

static int grow(void *array, size_t n, size_t *capacity, size_t size)
{
    void **at = array, *grown;
    size_t more = *capacity == 0 ? 16 : *capacity * 2;

    if (n < *capacity)
        return 0;
    grown = reallocarray(*at, more, size);
    if (grown == NULL)
        return -ENOMEM;
    *at = grown;
    *capacity = more;
    return 0;
}

static int add_change(struct kernel_changes *c, const struct kernel_change *change)
{
    int r = grow(&c->items, c->n, &c->capacity, sizeof(*c->items));

    if (r == 0)
        c->items[c->n++] = *change;
    return r;
}

/* ---- the platform's ruleset, and our skeleton ---- */

static int find_platform(struct kernel *k, unsigned family)
{
    static const char *const texts[DOOR_FAMILIES][4] = {
        {"no table \"ip qubes\"", "no chain \"custom-input\" in table \"ip qubes\"",
         "no chain \"input\" on the input hook in table \"ip qubes\"",
         "no jump from \"input\" to \"custom-input\" in table \"ip qubes\""},
        {"no table \"ip6 qubes\"", "no chain \"custom-input\" in table \"ip6 qubes\"",
         "no chain \"input\" on the input hook in table \"ip6 qubes\"",
         "no jump from \"input\" to \"custom-input\" in table \"ip6 qubes\""},
    };
    uint8_t nf = door_nfproto(family);
    int found[4], at = 0;

    found[0] = nft_has_table(k->nft, nf, TABLE);
    found[1] = found[0] > 0 ? nft_has_chain(k->nft, nf, TABLE, CHAIN_HOOK) : 0;
    found[2] = found[1] > 0 ? nft_is_base_chain(k->nft, nf, TABLE, CHAIN_BASE, NF_INET_LOCAL_IN) : 0;
    found[3] = found[2] > 0 ? nft_count_jumps(k->nft, nf, TABLE, CHAIN_BASE, CHAIN_HOOK) : 0;
    while (at < 4 && found[at] > 0)
        at++;
    if (at < 4 && found[at] < 0)
        return found[at];
    k->missing[family] = at < 4 ? texts[family][at] : NULL;
    return 0;
}

static int read_skeleton(struct kernel *k, unsigned family, uint64_t *digest)
{
    int r = nft_digest_chain(k->nft, door_nfproto(family), TABLE, CHAIN_ENTRY, &digest[0]);

    for (unsigned set = 0; set < DOOR_SETS && r == 0; set++) {
        struct nft_set s = door_set(family, (enum door_set)set);

        r = nft_digest_set(k->nft, &s, &digest[1 + set]);
    }
    return r;
}

/* What was read counts as ours only if nobody else changed anything since we looked before. */
static int load_skeleton(struct kernel *k, unsigned family)
{
    uint64_t digest[KERNEL_SKELETON_PARTS];
    uint32_t before, after;
    int r = nft_generation(k->nft, &before);

    k->error[0] = '\0';
    if (r == 0)
        r = nft_load_text(k->nft_program, family == 0 ? text_ip4 : text_ip6, k->error,
                          sizeof(k->error));
    if (r == 0)
        r = read_skeleton(k, family, digest);
    if (r == 0)
        r = nft_generation(k->nft, &after);
    if (r < 0)
        return r;
    if (after != before + 1)
        return -ERESTART;
    k->n_put_back += k->loaded[family];
    k->loaded[family] = true;
    memcpy(k->digest[family], digest, sizeof(digest));
    return 0;
}

static int ensure_skeleton(struct kernel *k, unsigned family)
{
    uint64_t digest[KERNEL_SKELETON_PARTS];
    int r = read_skeleton(k, family, digest);

    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0 && k->loaded[family] && memcmp(digest, k->digest[family], sizeof(digest)) == 0)
        return 0;
    if (k->nft_program == NULL) /* what a predecessor loaded, or somebody changed, cannot be told */
        return 0;
    return load_skeleton(k, family);
}

/* ---- elements ---- */

static void forget_set(void *user)
{
    struct elements *e = user;

    while (e->n > 0 && e->items[e->n - 1].family == e->family && e->items[e->n - 1].set == e->set)
        e->n--;
}

static int take_element(const struct nft_element *element, void *user)
{
    struct elements *e = user;
    int r = grow(&e->items, e->n, &e->capacity, sizeof(*e->items));

    if (r == 0)
        e->items[e->n++] =
            (struct door_element){.family = e->family, .set = e->set, .key = element->key};
    return r;
}

static int read_elements(struct kernel *k, unsigned family, struct elements *e)
{
    int r = 0;

    for (unsigned set = 0; set < DOOR_SETS && r == 0; set++) {
        struct nft_set s = door_set(family, (enum door_set)set);

        e->family = (uint8_t)family;
        e->set = (uint8_t)set;
        r = nft_dump_elements(k->nft, &s, forget_set, take_element, e);
        if (r == -ENOENT) /* a dry run before the first start, or gone since: the guard tells */
            r = 0;
    }
    return r;
}

static bool wants_family(const struct door_element *wished, size_t n, unsigned family)
{
    for (size_t i = 0; i < n; i++) {
        if (wished[i].family == family)
            return true;
    }
    return false;
}

static int read_jump(struct kernel *k, unsigned family, struct kernel_changes *changes)
{
    int jumps = nft_count_jumps(k->nft, door_nfproto(family), TABLE, CHAIN_HOOK, CHAIN_ENTRY);

    if (jumps != 0)
        return jumps < 0 ? jumps : 0;
    return add_change(changes,
                      &(struct kernel_change){.add = true, .jump = true, .family = (uint8_t)family});
}

static int read_family(struct kernel *k, unsigned family, bool wanted, struct elements *actual,
                       struct kernel_changes *changes)
{
    int r = find_platform(k, family);

    if (r < 0 || k->missing[family] != NULL)
        return r;
    if (!wanted) {
        r = nft_has_chain(k->nft, door_nfproto(family), TABLE, CHAIN_ENTRY);
        if (r <= 0)
            return r;
    }
    r = ensure_skeleton(k, family);
    if (r == 0)
        r = read_jump(k, family, changes);
    return r < 0 ? r : read_elements(k, family, actual);
}

/* ---- the difference ---- */

struct differ {
    struct kernel *k;
    struct kernel_changes *changes;
};

static int differ(struct differ *d, const struct door_element *e, bool add)
{
    if (d->k->missing[e->family] != NULL)
        return 0;
    return add_change(d->changes, &(struct kernel_change){
                                      .add = add, .family = e->family, .element = *e});
}

static int on_add(const void *wished, void *user)
{
    return differ(user, wished, true);
}

static int on_remove(const void *actual, void *user)
{
    return differ(user, actual, false);
}

static int commit(struct kernel *k, const struct kernel_changes *changes)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    int r = nft_batch_new(k->generation, &batch);

    for (size_t i = 0; i < changes->n && r == 0; i++) {
        const struct kernel_change *c = &changes->items[i];
        struct nft_set set = door_set(c->family, (enum door_set)c->element.set);

        if (c->jump)
            r = nft_batch_add_jump(batch, door_nfproto(c->family), TABLE, CHAIN_HOOK, CHAIN_ENTRY);
        else if (c->add)
            r = nft_batch_add_element(batch, &set, &c->element.key);
        else
            r = nft_batch_del_element(batch, &set, &c->element.key);
    }
    return r < 0 ? r : nft_batch_commit(batch, k->nft, &k->generation);
}

static void elements_done(struct elements *e)
{
    free(e->items);
}

/* All of it belongs to one moment, or -ERESTART: also when a skeleton was loaded. */
static int read_all(struct kernel *k, const struct door_element *wished, size_t n,
                    struct elements *actual, struct kernel_changes *changes)
{
    uint32_t after;
    int r = nft_generation(k->nft, &k->generation);

    for (unsigned f = 0; f < DOOR_FAMILIES && r == 0; f++)
        r = read_family(k, f, wants_family(wished, n, f), actual, changes);
    if (r == 0)
        r = nft_generation(k->nft, &after);
    if (r < 0)
        return r;
    actual->n = reconcile_sort(actual->items, actual->n, sizeof(*actual->items), door_compare);
    return after == k->generation ? 0 : -ERESTART;
}

int kernel_pass(struct kernel *k, const struct door_element *wished, size_t n,
                struct kernel_changes *ret)
{
    static const struct reconcile_ops ops = {sizeof(struct door_element), door_compare, on_add,
                                             on_remove};
    _cleanup_(kernel_changes_done) struct kernel_changes changes = {0};
    _cleanup_(elements_done) struct elements actual = {0};
    struct differ d = {k, &changes};
    int r = read_all(k, wished, n, &actual, &changes);

    if (r == 0)
        r = reconcile_diff(wished, n, actual.items, actual.n, &ops, &d);
    if (r == 0 && k->nft_program != NULL && changes.n > 0)
        r = commit(k, &changes);
    if (r < 0)
        return r;
    *ret = changes;
    changes = (struct kernel_changes){0};
    return 0;
}
