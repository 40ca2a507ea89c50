/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The codec at both ends: the first byte says how the rest is cut into pieces. Whatever the cuts,
 * the messages must be the same as in one piece.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qubesdb/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t hash(uint64_t h, const void *p, size_t len)
{
    const uint8_t *b = p;

    for (size_t i = 0; i < len; i++)
        h = (h ^ b[i]) * 0x100000001b3ULL;
    return h;
}

static uint64_t decode(enum qdb_end end, const uint8_t *data, size_t size, size_t piece)
{
    struct qdb_decoder d;
    uint64_t h = 0xcbf29ce484222325ULL;

    qdb_decoder_init(&d, end);
    for (size_t at = 0; at < size; at += piece) {
        struct cursor in = cursor_from(data + at, piece < size - at ? piece : size - at);
        struct qdb_message m;
        int r;

        while ((r = qdb_decoder_next(&d, &in, &m)) > 0) {
            if (m.path[QDB_PATH_SIZE - 1] != '\0' || m.value.len > QDB_VALUE_MAX)
                abort();
            if (!m.bad && !qdb_path_is_valid(str_from(m.path)))
                abort();
            h = hash(h, &m.type, sizeof(m.type));
            h = hash(h, m.path, sizeof(m.path));
            h = hash(h, m.value.p, m.value.len);
            h = hash(h, &m.bad, sizeof(m.bad));
        }
        if (r < 0)
            return hash(h, "failed", 6);
        if (in.left != 0)
            abort();
    }
    return hash(h, qdb_decoder_is_idle(&d) ? "i" : "h", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece;

    if (size < 1)
        return 0;
    piece = (size_t)data[0] % 150 + 1;
    for (int end = QDB_END_CLIENT; end <= QDB_END_SERVER; end++)
        if (decode((enum qdb_end)end, data + 1, size - 1, piece) !=
            decode((enum qdb_end)end, data + 1, size - 1, SIZE_MAX / 2))
            abort();
    return 0;
}
