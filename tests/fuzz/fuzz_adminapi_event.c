/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream of events: the first byte says how the rest is cut into pieces. Whatever the cuts, the
 * events are the same as in one piece, and a stream that is refused is refused at the same event.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adminapi/wire.h"
#include "base/cleanup.h"
#include "base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t hash_part(uint64_t h, struct str part, struct str whole)
{
    require(part.p >= whole.p && part.p + part.len < whole.p + whole.len);
    require(part.p[part.len] == '\0' && memchr(part.p, '\0', part.len + 1) == part.p + part.len);
    return hash_bytes(h, part.p, part.len + 1);
}

static uint64_t hash_event(uint64_t h, const struct admin_event *e, struct str whole)
{
    struct str value;

    require(e->n_pairs <= ADMIN_PAIRS_MAX && e->name.len > 0);
    h = hash_part(h, e->subject, whole);
    h = hash_part(h, e->name, whole);
    for (size_t i = 0; i < e->n_pairs; i++) {
        require(e->pairs[i].key.len > 0);
        h = hash_part(h, e->pairs[i].key, whole);
        h = hash_part(h, e->pairs[i].value, whole);
        require(admin_event_value(e, e->pairs[i].key.p, &value));
    }
    return hash_bytes(h, "|", 1);
}

/* Reads as the client does: pieces are added behind, whole events are taken off the front. */
static uint64_t read_stream(const uint8_t *data, size_t size, size_t piece)
{
    _cleanup_(freep) char *bytes = malloc(size + 1);
    uint64_t h = HASH_START;
    size_t begin = 0, end = 0;

    while (bytes && end < size) {
        size_t n = piece < size - end ? piece : size - end, used;
        struct admin_event e;
        int r;

        memcpy(bytes + end, data + end, n);
        end += n;
        while ((r = admin_parse_event((struct str){bytes + begin, end - begin}, &e, &used)) > 0) {
            require(used > 0 && used <= end - begin);
            h = hash_event(h, &e, (struct str){bytes + begin, used});
            begin += used;
        }
        if (r < 0)
            return hash_bytes(h, "refused", 7);
    }
    return hash_bytes(h, &begin, sizeof(begin));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    require(read_stream(data + 1, size - 1, (size_t)data[0] % 64 + 1) ==
            read_stream(data + 1, size - 1, size));
    return 0;
}
