/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/dns_addr.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "nft/nft.h"

#define EXACT      1
#define SPACING_US 30000 /* between two looks at a ruleset that others keep changing */
#define TRIES_MAX  5
#define OURS_MAX   8

static const struct nft_set the_set = {NFPROTO_IPV4, "qubes-firewall", "dns-addr"};

struct dns_addr {
    void (*changed)(enum dns_addr_state state, int error, void *user);
    void *user;
    struct nl_sock *nl;
    struct nft_monitor *monitor;
    sd_event_source *source, *timer;
    struct addr wanted[DNS_ADDR_MAX];
    size_t n_wanted;
    struct addr ours[OURS_MAX]; /* put there by us */
    size_t n_ours;
    bool wanted_seen[DNS_ADDR_MAX], ours_seen[OURS_MAX]; /* in the set, at the last look */
    uint32_t generation;
    uint64_t looked_us;
    enum dns_addr_state state;
};

static void begin(void *user)
{
    struct dns_addr *d = user;

    memset(d->wanted_seen, 0, sizeof(d->wanted_seen));
    memset(d->ours_seen, 0, sizeof(d->ours_seen));
}

static int take_element(const struct nft_element *e, void *user)
{
    struct dns_addr *d = user;
    struct addr a;

    if (addr_from_bytes(AF_INET, e->key.data, e->key.len, &a) < 0)
        return 0;
    for (size_t i = 0; i < d->n_wanted; i++)
        d->wanted_seen[i] |= addr_equal(&d->wanted[i], &a);
    for (size_t i = 0; i < d->n_ours; i++)
        d->ours_seen[i] |= addr_equal(&d->ours[i], &a);
    return 0;
}

static bool is_in(const struct addr *a, const struct addr *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (addr_equal(a, &list[i]))
            return true;
    return false;
}

static int build(struct dns_addr *d, struct nft_batch *batch)
{
    int r = 0;

    for (size_t i = 0; i < d->n_ours && r >= 0; i++) {
        struct nft_key key = {0};

        if (!d->ours_seen[i] || is_in(&d->ours[i], d->wanted, d->n_wanted))
            continue;
        r = nft_key_add(&key, d->ours[i].bytes, 4);
        if (r >= 0)
            r = nft_batch_del_element(batch, &the_set, &key);
    }
    for (size_t i = 0; i < d->n_wanted && r >= 0; i++) {
        struct nft_key key = {0};

        if (d->wanted_seen[i])
            continue;
        r = nft_key_add(&key, d->wanted[i].bytes, 4);
        if (r >= 0)
            r = nft_batch_add_element(batch, &the_set, &key);
    }
    return r;
}

/* What stays ours: what was ours and is wished for, and what was added now. */
static void account(struct dns_addr *d)
{
    struct addr ours[DNS_ADDR_MAX];
    size_t n = 0;

    for (size_t i = 0; i < d->n_wanted; i++)
        if (!d->wanted_seen[i] || is_in(&d->wanted[i], d->ours, d->n_ours))
            ours[n++] = d->wanted[i];
    if (n > 0)
        memcpy(d->ours, ours, n * sizeof(ours[0]));
    d->n_ours = n;
}

static int put_right(struct dns_addr *d)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        _cleanup_(nft_batch_freep) struct nft_batch *batch = NULL;
        uint32_t generation = 0;
        int r = nft_generation(d->nl, &generation);

        if (r >= 0)
            r = nft_dump_elements(d->nl, &the_set, begin, take_element, d);
        if (r >= 0)
            r = nft_batch_new(generation, &batch);
        if (r >= 0)
            r = build(d, batch);
        if (r >= 0 && nft_batch_count(batch) > 0)
            r = nft_batch_commit(batch, d->nl, &generation);
        if (r == -ERESTART)
            continue;
        if (r < 0)
            return r;
        d->generation = generation;
        account(d);
        return 0;
    }
    return -EAGAIN;
}

static enum dns_addr_state look(struct dns_addr *d, int *ret_error)
{
    int set = nft_has_set(d->nl, &the_set);
    int r = set == 1 ? put_right(d) : nft_has_table(d->nl, the_set.family, the_set.table);

    if (set < 0 || (r < 0 && r != -ENOENT)) { /* -ENOENT: it went while we looked */
        *ret_error = set < 0 ? set : r;
        return DNS_ADDR_FAILED;
    }
    if (d->n_wanted == 0 || r == -ENOENT || (set == 0 && r == 0))
        return DNS_ADDR_UNUSED;
    return set == 1 ? DNS_ADDR_KEPT : DNS_ADDR_NO_SET;
}

static void look_and_tell(struct dns_addr *d)
{
    int error = 0;
    enum dns_addr_state state = look(d, &error);

    d->looked_us = clock_now_us();
    if (state == DNS_ADDR_FAILED) { /* somebody was quicker, or the kernel had no memory */
        (void)sd_event_source_set_time(d->timer, d->looked_us + 10 * SPACING_US);
        (void)sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
    }
    if (state != d->state) {
        d->state = state;
        d->changed(state, error, d->user);
    }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    look_and_tell(user);
    return 0;
}

static int on_nft(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    struct dns_addr *d = user;
    uint32_t generation = 0;
    int r = nft_monitor_read(d->monitor, &generation);

    (void)s;
    (void)fd;
    (void)revents;
    if (r == 0 || (r == 1 && generation == d->generation))
        return 0;
    if (d->n_wanted == 0 && d->n_ours == 0)
        return 0;
    if (clock_now_us() < d->looked_us + SPACING_US) {
        (void)sd_event_source_set_time(d->timer, d->looked_us + SPACING_US);
        (void)sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
        return 0;
    }
    look_and_tell(d);
    return 0;
}

static void dns_addr_freep(struct dns_addr **d)
{
    *d = dns_addr_free(*d);
}

int dns_addr_new(sd_event *loop, void (*changed)(enum dns_addr_state state, int error, void *user),
                 void *user, struct dns_addr **ret)
{
    _cleanup_(dns_addr_freep) struct dns_addr *d = calloc(1, sizeof(*d));
    int r;

    if (d == NULL)
        return -ENOMEM;
    d->changed = changed;
    d->user = user;
    r = nl_open(NETLINK_NETFILTER, &d->nl);
    if (r >= 0)
        r = nft_monitor_open(&d->monitor);
    if (r >= 0)
        r = sd_event_add_io(loop, &d->source, nft_monitor_fd(d->monitor), EPOLLIN, on_nft, d);
    if (r >= 0)
        r = sd_event_add_time(loop, &d->timer, CLOCK_MONOTONIC, UINT64_MAX, EXACT, on_timer, d);
    if (r >= 0)
        r = sd_event_source_set_enabled(d->timer, SD_EVENT_OFF);
    if (r >= 0)
        *ret = TAKE_PTR(d);
    return r;
}

struct dns_addr *dns_addr_free(struct dns_addr *d)
{
    if (d == NULL)
        return NULL;
    d->source = sd_event_source_disable_unref(d->source);
    d->timer = sd_event_source_disable_unref(d->timer);
    d->monitor = nft_monitor_free(d->monitor);
    d->nl = nl_free(d->nl);
    free(d);
    return NULL;
}

void dns_addr_set(struct dns_addr *d, const struct addr *servers, size_t n)
{
    d->n_wanted = n < DNS_ADDR_MAX ? n : DNS_ADDR_MAX;
    if (n > 0)
        memcpy(d->wanted, servers, d->n_wanted * sizeof(*servers));
    if (n > 0 || d->n_ours > 0)
        look_and_tell(d);
}
