/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "nft/nft.h"

static int key_room(const struct nft_key *k, size_t len, size_t *ret_padded)
{
    size_t padded = (len + 3) / 4 * 4;

    if (len == 0 || len > NFT_KEY_MAX || k->len > NFT_KEY_MAX - padded)
        return -ENOSPC;
    *ret_padded = padded;
    return 0;
}

int nft_key_add_range(struct nft_key *k, const void *lo, const void *hi, size_t len)
{
    size_t padded;
    int r;

    r = key_room(k, len, &padded);
    if (r < 0)
        return r;
    /* until the first range the end is not written: it is what the beginning is */
    if (!k->has_end)
        memcpy(k->end, k->data, k->len);
    k->has_end = true;
    memset(k->data + k->len, 0, padded);
    memset(k->end + k->len, 0, padded);
    memcpy(k->data + k->len, lo, len);
    memcpy(k->end + k->len, hi, len);
    k->len = (uint8_t)(k->len + padded);
    return 0;
}

int nft_key_add(struct nft_key *k, const void *part, size_t len)
{
    size_t padded;
    int r;

    if (k->has_end)
        return nft_key_add_range(k, part, part, len);
    r = key_room(k, len, &padded);
    if (r < 0)
        return r;
    memset(k->data + k->len, 0, padded);
    memcpy(k->data + k->len, part, len);
    k->len = (uint8_t)(k->len + padded);
    return 0;
}
