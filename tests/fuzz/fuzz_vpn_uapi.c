/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a WireGuard says of itself. As a reply of the text protocol, cut off where it says it ends: what
 * is read is within bounds, and written as a request and read again it is the same. And as a
 * message of the kernel, whose length is what there is.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/client/uapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_again(const struct wg_device *d)
{
    static char buf[UAPI_REQUEST_MAX];
    ssize_t n = uapi_format_set(d, WG_SET_ALL, buf, sizeof(buf) - 16);
    struct wg_device again;

    require(n > 0 && uapi_reply_size(buf, (size_t)n) == (size_t)n);
    memcpy(buf + n - 1, "errno=0\n\n", 9);
    require(uapi_parse_reply(buf, (size_t)n + 8, &again) == 0 && again.n_peers == d->n_peers);
    require(memcmp(again.private_key, d->private_key, WG_KEY_SIZE) == 0);
    for (size_t i = 0; i < d->n_peers; i++) {
        const struct wg_peer *a = &d->peers[i], *b = &again.peers[i];

        require(memcmp(a->public_key, b->public_key, WG_KEY_SIZE) == 0);
        require(memcmp(a->preshared_key, b->preshared_key, WG_KEY_SIZE) == 0);
        require(addr_equal(&a->endpoint, &b->endpoint) && a->port == b->port);
        require(a->keepalive == b->keepalive);
    }
}

static void check_message(const uint8_t *data, size_t size)
{
    static struct wg_device d;
    _cleanup_(freep) struct nlmsghdr *nlh = NULL;

    if (size < sizeof(*nlh))
        return;
    nlh = malloc(size);
    require(nlh != NULL);
    memcpy(nlh, data, size);
    nlh->nlmsg_len = (uint32_t)size;
    memset(&d, 0, sizeof(d));
    (void)wg_device_parse(nlh, &d);
    (void)wg_device_parse(nlh, &d); /* a second message goes on with the first */
    require(d.n_peers <= WG_PEERS_MAX && memchr(d.name, '\0', sizeof(d.name)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wg_device d;
    size_t whole;

    if (size > UAPI_REPLY_MAX)
        return 0;
    check_message(data, size);
    whole = uapi_reply_size((const char *)data, size);
    require(whole <= size);
    require(whole == size || uapi_parse_reply((const char *)data, size, &d) != 0);
    if (whole == 0 || uapi_parse_reply((const char *)data, whole, &d) != 0)
        return 0;
    require(d.n_peers <= WG_PEERS_MAX);
    for (size_t i = 0; i < d.n_peers; i++)
        require(d.peers[i].endpoint.family == 0 || addr_size(d.peers[i].endpoint.family) != 0);
    check_again(&d);
    return 0;
}
