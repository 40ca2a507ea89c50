/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A message at the seal's socket. What is taken is a wish that may be granted, has one text, and
 * as elements of the kernel's sets and back it is not wider than it was. A first byte 0xff takes the
 * rest as the elements instead, as if somebody had written them: whatever a successor reads, it is
 * judged like a request.
 */
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/seal/elements.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool listed(const struct wish *w, const struct carrier *c)
{
    for (size_t i = 0; i < w->n_carriers; i++)
        if (addr_equal(&w->carriers[i].addr, &c->addr) && w->carriers[i].port == c->port &&
            w->carriers[i].protocol == c->protocol && w->carriers[i].marked == c->marked)
            return true;
    return false;
}

static void check_elements(const struct wish *w)
{
    _cleanup_(items_free) struct items elements = {0};
    struct rt_link tunnel = {.index = 5, .name = SEAL_TUNNEL, .arptype = ARPHRD_NONE};
    struct seal_model m = {.links = {.p = &tunnel, .n = 1}};
    struct wish back;
    const char *why;

    if (elements_of_wish(w, 4978, &m, &elements) < 0)
        return;
    elements_to_wish(&elements, &back);
    require(wish_check(&back, &why) == 0);
    require(back.n_carriers <= w->n_carriers && strcmp(back.tunnel, w->tunnel) == 0);
    for (size_t i = 0; i < back.n_carriers; i++)
        require(listed(w, &back.carriers[i]));
    for (size_t i = 0; i < w->n_carriers; i++)
        require(listed(&back, &w->carriers[i]));
    require(back.mtu == w->mtu && back.lookups == w->lookups && back.proxy == w->proxy &&
            back.proxy_uid == w->proxy_uid);
}

static void take_message(const char *text, size_t len)
{
    char written[WISH_TEXT_MAX];
    enum request_kind kind;
    struct wish w, again;
    const char *why = NULL;
    int n;

    if (request_parse(text, len, &kind, &w, &why) < 0) {
        require(why != NULL && why[0] != '\0');
        return;
    }
    if (kind != REQUEST_SET)
        return;
    require(wish_check(&w, &why) == 0);
    n = request_format(kind, &w, written, sizeof(written));
    require(n > 0);
    require(request_parse(written, (size_t)n, &kind, &again, &why) == 0 && wish_equal(&w, &again));
    check_elements(&w);
}

/* Records: set, key length, data length, then the bytes. */
static void take_elements(const uint8_t *data, size_t size)
{
    _cleanup_(items_free) struct items elements = {0};
    struct wish w;
    const char *why;

    while (size >= 3) {
        struct seal_element e = {.set = (enum seal_set)(data[0] % SEAL_SETS)};
        size_t key = data[1] % (NFT_KEY_MAX + 1), more = data[2] % (sizeof(e.data) + 1);

        data += 3;
        size -= 3;
        if (key + more > size)
            break;
        e.key.len = (uint8_t)key;
        memcpy(e.key.data, data, key);
        e.data_len = (uint8_t)more;
        memcpy(e.data, data + key, more);
        data += key + more;
        size -= key + more;
        if (items_add(&elements, &e, sizeof(e)) < 0)
            return;
    }
    elements_to_wish(&elements, &w);
    require(w.n_carriers <= WISH_CARRIERS_MAX && w.n_resolvers <= WISH_RESOLVERS_MAX &&
            w.n_dns <= WISH_DNS_MAX && memchr(w.tunnel, '\0', sizeof(w.tunnel)) != NULL);
    if (wish_check(&w, &why) == 0)
        check_elements(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = malloc(size > 0 ? size : 1); /* of its exact size */

    if (text == NULL || size > 2 * WISH_TEXT_MAX)
        return 0;
    if (size > 0 && data[0] == 0xff) {
        take_elements(data + 1, size - 1);
        return 0;
    }
    if (size > 0)
        memcpy(text, data, size);
    take_message(text, size);
    return 0;
}
