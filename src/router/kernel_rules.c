/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the rules: the platform's, our skeleton, which is put back where it has to, our elements. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "nft/nft.h"
#include "router/elements.h"
#include "router/kernel.h"
#include "router/sysctl.h"

#define RULES_TRIES 8 /* somebody else commits while we read */

/* ---- elements ---- */

struct read_elements {
    struct model *m;
    enum object_kind kind;
    enum family_index family;
    bool lent; /* so far: something of OBJECT_LENT was read */
};

static int family_af(enum family_index family)
{
    return family == FAMILY_IP6 ? AF_INET6 : AF_INET;
}

static void begin_elements(void *user)
{
    struct read_elements *r = user;

    model_read_begin(r->m, 1u << r->kind, family_af(r->family));
}

static int take_element(const struct nft_element *e, void *user)
{
    struct read_elements *r = user;
    const struct model_link *link;
    struct object o;
    struct addr addr;

    /* what we would never write cannot be compared; it is not reachable by the rules either */
    if (elements_object(r->kind, r->family, e, &addr, &o) < 0)
        return 0;
    if (o.kind == OBJECT_OWN) {
        link = model_link_by_name(r->m, o.uplink);
        o.uplink_index = link != NULL ? link->index : 0;
    }
    r->lent = r->lent || o.kind == OBJECT_LENT;
    if (OBJECT_IS_PLATFORMS(o.kind))
        return model_add_shared(r->m, &addr, &o);
    return model_add_actual(r->m, &addr, &o);
}

static void begin_put_back(void *user)
{
    model_sysctl_list_done(user);
}

static int take_put_back(const struct nft_element *e, void *user)
{
    struct sysctl_value value;

    return elements_put_back_value(&e->key, &value) < 0 ? 0 : model_sysctl_set(user, &value);
}

static void begin_guard(void *user)
{
    *(bool *)user = false;
}

static int take_guard(const struct nft_element *e, void *user)
{
    (void)e;
    *(bool *)user = true;
    return 0;
}

/* Values that a predecessor stored; ours stay known when somebody flushed the set. */
static int merge_put_back(struct kernel *k, struct model *m)
{
    for (size_t i = 0; i < k->stored.n; i++) {
        uint32_t known;
        int r = 0;

        if (!model_sysctl_get(&m->put_back, k->stored.values[i].scope, k->stored.values[i].id,
                              &known))
            r = model_sysctl_set(&m->put_back, &k->stored.values[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int absent_is_empty(int r, void (*begin)(void *), void *user)
{
    if (r != -ENOENT)
        return r;
    begin(user);
    return 0;
}

static int read_family(struct kernel *k, struct model *m, enum family_index family)
{
    struct nft_set put_back = elements_put_back_set(), guard = elements_guard_set();
    struct read_elements read = {.m = m, .family = family};
    int r = 0;

    for (unsigned kind = 0; kind < OBJECT_SETS && r == 0; kind++) {
        struct nft_set set = elements_set((enum object_kind)kind, family);

        read.kind = (enum object_kind)kind;
        /* where nothing is lent, all of the platform's is its own */
        r = OBJECT_IS_PLATFORMS(kind) && !read.lent
                ? -ENOENT
                : nft_dump_elements(k->nft, &set, begin_elements, take_element, &read);
        r = absent_is_empty(r, begin_elements, &read);
        if (r == 0)
            model_read_end(m, 1u << kind, family_af(family));
    }
    if (r == 0 && family == FAMILY_IP4) {
        r = nft_dump_elements(k->nft, &put_back, begin_put_back, take_put_back, &k->stored);
        r = absent_is_empty(r, begin_put_back, &k->stored);
    }
    if (r == 0 && family == FAMILY_IP6) {
        r = nft_dump_elements(k->nft, &guard, begin_guard, take_guard, &k->guard_stored);
        r = absent_is_empty(r, begin_guard, &k->guard_stored);
    }
    return r;
}

struct reading {
    struct kernel *k;
    struct model *m;
};

static int read_families(struct nl_sock *nft, void *user)
{
    const struct reading *reading = user;
    int r = 0;

    (void)nft;
    for (unsigned f = 0; f < FAMILIES && r == 0; f++)
        r = read_family(reading->k, reading->m, (enum family_index)f);
    return r;
}

/* ---- the skeleton ---- */

/* *generation is what is known of the ruleset: our own commits do not make that older. */
static int put_jump_back(struct kernel *k, enum family_index family, uint32_t *generation)
{
    _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
    int r = nft_batch_new(*generation, &batch);

    if (r == 0)
        r = nft_batch_add_jump(batch, elements_family(family), TABLE_PLATFORM, CHAIN_HOOK,
                               CHAIN_ENTRY);
    return r < 0 ? r : nft_batch_commit(batch, k->nft, generation);
}

/*
 * What is read back after a load is ours only if nobody wrote in between: it is as at the load
 * before, or nothing but the load happened. Otherwise it is loaded once more.
 */
static int load_families(struct kernel *k, unsigned families, char *err, size_t err_size,
                         uint32_t *generation)
{
    struct skeleton_digest now[FAMILIES] = {{.n = 0}};
    uint32_t before, after;
    bool known = true, alone;
    int r = nft_generation(k->nft, &before);

    if (r == 0)
        r = skeleton_load(k->nft_program, families, err, err_size);
    for (unsigned f = 0; f < FAMILIES && r == 0; f++) {
        if (families & 1u << f)
            r = skeleton_read(k->nft, (enum family_index)f, &now[f]);
    }
    if (r == 0)
        r = nft_generation(k->nft, &after);
    if (r < 0)
        return r;
    alone = after == before + 1;
    for (unsigned f = 0; f < FAMILIES; f++) {
        if ((families & 1u << f) == 0)
            continue;
        if (alone || skeleton_equal(&now[f], &k->skeleton[f]) ||
            skeleton_equal(&now[f], &k->loaded[f]))
            k->skeleton[f] = now[f];
        else
            known = false;
        k->loaded[f] = now[f];
    }
    if (alone && *generation == before)
        *generation = after;
    return known ? 0 : -ERESTART;
}

static bool is_moving(int r)
{
    return r == -ERESTART || r == -EINTR;
}

/* What cannot be put back is the state of its family, not of the other one. */
static int settle_family(struct kernel *k, enum family_index family, bool load,
                         struct skeleton_look *look, uint32_t *generation)
{
    char *err = k->error[family];
    int r = 0;

    err[0] = '\0';
    if (load)
        r = load_families(k, 1u << family, err, sizeof(k->error[family]), generation);
    if (r == 0 && !look->jump)
        r = put_jump_back(k, family, generation);
    if (r == 0 || is_moving(r))
        return r;
    look->missing = "our rules could not be loaded (see the log)";
    k->load_failed = true;
    if (err[0] == '\0')
        (void)snprintf(err, sizeof(k->error[family]), "%s", strerror(-r));
    return 0;
}

/*
 * Our chains are what we loaded, or are loaded again: what a predecessor left is replaced once,
 * in one transaction, because nothing tells whether it was of this version.
 */
static int ensure_skeletons(struct kernel *k, struct skeleton_look looks[static FAMILIES],
                            uint32_t *generation)
{
    unsigned load = 0, ours = 0, damaged = 0;
    char err[sizeof(k->error[0])];
    int r = 0;

    for (unsigned f = 0; f < FAMILIES; f++) {
        bool same = skeleton_equal(&looks[f].ours, &k->skeleton[f]);

        if (looks[f].missing != NULL)
            continue;
        ours |= k->skeleton[f].n > 0 ? 1u << f : 0;
        damaged |= !same || !looks[f].jump ? 1u << f : 0;
        load |= !same ? 1u << f : 0;
    }
    if (load == (1u << FAMILIES) - 1) {
        r = load_families(k, load, err, sizeof(err), generation);
        if (is_moving(r))
            return r;
        load = r == 0 ? 0 : load; /* which of them is it? */
        r = 0;
    }
    for (unsigned f = 0; f < FAMILIES && r == 0; f++) {
        if (looks[f].missing != NULL)
            continue;
        r = settle_family(k, (enum family_index)f, load & 1u << f, &looks[f], generation);
        k->repairs += r == 0 && looks[f].missing == NULL && (ours & damaged & 1u << f) != 0;
    }
    return r;
}

static int read_skeletons(struct kernel *k, struct model *m, uint32_t *generation)
{
    struct skeleton_look looks[FAMILIES];
    int r = skeleton_look(k->nft, looks);

    if (r == 0 && k->nft_program != NULL)
        r = ensure_skeletons(k, looks, generation);
    for (unsigned f = 0; f < FAMILIES && r == 0; f++) {
        bool before = m->platform[f];

        m->missing[f] = looks[f].missing;
        m->platform[f] = looks[f].missing == NULL;
        if (m->platform[f] != before)
            model_touch_all(m);
    }
    return r;
}

/* ---- all of it ---- */

static int read_once(struct kernel *k, struct model *m, uint32_t *generation)
{
    struct reading reading = {k, m};
    int seal, r = read_skeletons(k, m, generation);

    if (r == 0)
        r = nft_read_whole(k->nft, read_families, &reading);
    if (r == 0)
        r = merge_put_back(k, m);
    if (r < 0)
        return r;
    seal = skeleton_vpn_seal_present(k->nft);
    if (seal < 0)
        return seal;
    if (m->sealed != (seal == 1))
        model_touch_all(m);
    m->sealed = seal == 1;
    return 0;
}

int kernel_read_rules(struct kernel *k, struct model *m)
{
    uint32_t known, now;
    int r;

    k->load_failed = k->moving = false;
    for (int i = 0; i < RULES_TRIES; i++) {
        /* before all of it: a change between the families must not be taken for seen */
        r = nft_generation(k->nft, &known);
        if (r == 0)
            r = read_once(k, m, &known);
        if (is_moving(r))
            continue;
        if (r == 0)
            r = nft_generation(k->nft, &now);
        if (r < 0)
            return r;
        if (known == now) {
            k->generation = now;
            return 0;
        }
    }
    k->moving = true;
    return -EAGAIN;
}
