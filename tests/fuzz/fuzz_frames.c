/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frame from the LAN, through the parser and the socket filter for a few addresses; the first
 * byte says for which. What the parser calls a claim or probe of a watched address, the filter lets
 * by, but for what it leaves out on purpose (router/filter.c).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/test_bpf.h"
#include "base/cleanup.h"
#include "router/elements.h"
#include "router/filter.h"
#include "router/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static const struct addr watched[] = {
    {AF_INET, {10, 137, 0, 5}},
    {AF_INET, {192, 168, 1, 77}},
    {AF_INET6, {0xfd, 0x09, [15] = 5}},
    {AF_INET6, {0xfd, 0x09, [14] = 1, [15] = 5}},
};

static bool is_watched(const struct addr *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (addr_equal(&watched[i], a))
            return true;
    }
    return false;
}

static void check_frame(const uint8_t *frame, size_t len, size_t n)
{
    struct sock_filter code[FILTER_MAX];
    size_t code_len = filter_build(watched, n, code);
    uint8_t mac[MAC_SIZE] = {0};
    struct addr a = {0};
    int64_t verdict = bpf_run(code, code_len, frame, len);
    enum frame_kind kind = frame_parse(frame, len, &a, mac);

    require(verdict == 0 || verdict >= 65536);
    if (kind == FRAME_OTHER) {
        require(a.family == 0 && mac[0] == 0);
        return;
    }
    require(addr_size(a.family) != 0 && !(mac[0] & 1));
    if (is_watched(&a, n) && !(frame[12] == 0x86 && frame[54] == 136 && frame[58] & 0x40))
        require(verdict > 0);
}

/* An element that is not what we write is refused; what is read is written back the same. */
static void check_element(const uint8_t *data, size_t size, uint8_t kind)
{
    enum family_index family = kind & 0x80 ? FAMILY_IP6 : FAMILY_IP4;
    struct nft_element e = {.key.len = (uint8_t)(size < NFT_KEY_MAX ? size : NFT_KEY_MAX)};
    struct nft_key key;
    struct object o;
    struct addr a;

    if (size > 0)
        memcpy(e.key.data, data, e.key.len);
    e.key.has_end = kind & 0x40;
    if (e.key.has_end)
        memcpy(e.key.end, e.key.data, e.key.len);
    if (elements_object((enum object_kind)(kind % OBJECT_SETS), family, &e, &a, &o) == 0)
        require(elements_key(&a, &o, &key) == 0 && key.len == e.key.len &&
                memcmp(key.data, e.key.data, key.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 2048)
        return 0;
    check_frame(data + 1, size - 1, data[0] % (ARRAY_SIZE(watched) + 1));
    check_element(data + 1, size - 1, data[0]);
    return 0;
}
