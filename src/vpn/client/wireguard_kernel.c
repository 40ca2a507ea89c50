/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/netlink.h>

#include "base/cleanup.h"
#include "vpn/client/device.h"
#include "vpn/client/wireguard.h"
#include "vpn/client/wireguard_private.h"
#include "vpn/wish/wish.h"

int wireguard_in_kernel(void)
{
    _cleanup_(nl_freep) struct nl_sock *s = NULL;
    uint16_t family;
    int r = nl_open(NETLINK_GENERIC, &s);

    if (r == 0)
        r = wg_find_family(s, &family);
    return r == -EOPNOTSUPP ? 0 : r < 0 ? r : 1;
}

static int kernel_open(struct wireguard *w)
{
    int r = nl_open(NETLINK_GENERIC, &w->genl);

    return r < 0 ? r : wg_find_family(w->genl, &w->family);
}

static int kernel_start(struct wireguard *w)
{
    int r = kernel_open(w);

    return r < 0 ? r : device_make_wireguard(w->c->nl);
}

static int kernel_adopt(struct wireguard *w, struct wg_device *ret)
{
    bool wireguard = false;
    int r = device_find(w->c->nl, &wireguard);

    if (r <= 0 || !wireguard)
        return -ENOENT;
    r = kernel_open(w);
    if (r == 0)
        r = wg_get_device(w->genl, w->family, SEAL_TUNNEL, ret);
    /* without the mark its packets would have no way out, and must not have one */
    return r < 0 ? r : ret->fwmark == SEAL_MARK ? 0 : -ENOENT;
}

static int kernel_set(struct wireguard *w, const struct wg_device *d, enum wg_set what)
{
    return wg_set_device(w->genl, w->family, d, what);
}

static int kernel_get(struct wireguard *w)
{
    struct wg_device d;
    int r = wg_get_device(w->genl, w->family, SEAL_TUNNEL, &d);

    if (r == 0)
        (void)wireguard_take(w, &d); /* the last thing done here and in the caller */
    wg_device_wipe(&d);
    return r;
}

static void kernel_release(struct wireguard *w, bool stop)
{
    (void)stop; /* the device holds the keys, and goes with client.c's device_remove() */
    w->genl = nl_free(w->genl);
}

const struct wireguard_way wireguard_kernel_way = {
    .start = kernel_start,
    .adopt = kernel_adopt,
    .set = kernel_set,
    .get = kernel_get,
    .release = kernel_release,
};
