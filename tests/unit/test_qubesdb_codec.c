/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "qubesdb/codec.h"

struct raw {
    uint8_t bytes[16384];
    size_t len;
};

/* A message with garbage wherever the protocol allows it. */
static void put(struct raw *raw, uint8_t type, const char *path, uint32_t announced,
                const void *value, size_t len)
{
    uint8_t *h = raw->bytes + raw->len;

    memset(h, 0xee, QDB_HEADER_SIZE);
    h[0] = type;
    memcpy(h + 1, path, strlen(path) + 1);
    memcpy(h + 68, &announced, 4);
    if (len > 0)
        memcpy(h + QDB_HEADER_SIZE, value, len);
    raw->len += QDB_HEADER_SIZE + len;
}

static void put_text(struct raw *raw, uint8_t type, const char *path, const char *value)
{
    put(raw, type, path, (uint32_t)strlen(value), value, strlen(value));
}

static int first(enum qdb_end end, const struct raw *raw, struct qdb_message *ret)
{
    static struct qdb_decoder d;
    struct cursor in = cursor_from(raw->bytes, raw->len);

    qdb_decoder_init(&d, end);
    return qdb_decoder_next(&d, &in, ret);
}

static void test_path(void **state)
{
    static const char long_path[] =
        "/345678901234567890123456789012345678901234567890123456789012345";
    (void)state;
    assert_true(qdb_path_is_valid(STR_LITERAL("/a/B9_/.:@-")));
    assert_true(qdb_path_is_valid(STR_LITERAL("")));
    assert_true(qdb_path_is_valid(STR_LITERAL("a//..")));
    assert_false(qdb_path_is_valid(STR_LITERAL("-a")));
    assert_false(qdb_path_is_valid(STR_LITERAL("/a b")));
    assert_false(qdb_path_is_valid(STR_LITERAL("/a%eth0")));
    assert_false(qdb_path_is_valid(STR_LITERAL("/a\n")));
    assert_false(qdb_path_is_valid(STR_LITERAL("/a\0b")));
    assert_false(qdb_path_is_valid(STR_LITERAL("/\xc3\xa4")));
    assert_int_equal(strlen(long_path), 64);
    assert_true(qdb_path_is_valid((struct str){long_path, 63}));
    assert_false(qdb_path_is_valid((struct str){long_path, 64}));
}

static void test_encode(void **state)
{
    uint8_t out[QDB_HEADER_SIZE], expected[QDB_HEADER_SIZE] = {1, '/', 'a'};
    uint32_t len = QDB_VALUE_MAX;

    (void)state;
    memcpy(expected + 68, &len, 4);
    memset(out, 0xff, sizeof(out));
    assert_int_equal(qdb_encode(QDB_CMD_WRITE, "/a", QDB_VALUE_MAX, out), 0);
    assert_memory_equal(out, expected, sizeof(out));
    assert_int_equal(qdb_encode(QDB_CMD_WRITE, "/a", QDB_VALUE_MAX + 1, out), -EMSGSIZE);
    assert_int_equal(qdb_encode(QDB_CMD_READ, "/a b", 0, out), -EINVAL);
    assert_int_equal(qdb_encode(QDB_CMD_READ, "-", 0, out), -EINVAL);
}

/* Every way to cut a stream in two, and every piece size, gives the same messages. */
static void test_client_splits(void **state)
{
    static struct raw raw;
    static char big[QDB_VALUE_MAX];

    (void)state;
    raw.len = 0;
    memset(big, 'x', sizeof(big));
    put_text(&raw, QDB_RESP_OK, "/a", "");
    put_text(&raw, QDB_RESP_READ, "/b", "value");
    put_text(&raw, QDB_RESP_WATCH, "/c/", "");
    put_text(&raw, QDB_RESP_READ, "/empty", "");
    put(&raw, QDB_RESP_MULTIREAD, "/big", sizeof(big), big, sizeof(big));
    put_text(&raw, QDB_RESP_MULTIREAD, "", "");
    for (size_t cut = 1; cut < raw.len; cut++) {
        static const enum qdb_type types[] = {QDB_RESP_OK,        QDB_RESP_READ,
                                              QDB_RESP_WATCH,     QDB_RESP_READ,
                                              QDB_RESP_MULTIREAD, QDB_RESP_MULTIREAD};
        static const char *const paths[] = {"/a", "/b", "/c/", "/empty", "/big", ""};
        static const size_t lens[] = {0, 5, 0, 0, QDB_VALUE_MAX, 0};
        static struct qdb_decoder d;
        size_t n = 0;

        qdb_decoder_init(&d, QDB_END_CLIENT);
        for (size_t at = 0; at < raw.len;) {
            size_t len = at == 0 ? cut : raw.len - cut;
            struct cursor in = cursor_from(raw.bytes + at, len);
            struct qdb_message m;
            int r;

            while ((r = qdb_decoder_next(&d, &in, &m)) > 0) {
                assert_int_equal(m.type, types[n]);
                assert_string_equal(m.path, paths[n]);
                assert_int_equal(m.value.len, lens[n]);
                if (n == 1)
                    assert_memory_equal(m.value.p, "value", 5);
                n++;
            }
            assert_int_equal(r, 0);
            assert_int_equal(in.left, 0);
            at += len;
        }
        assert_int_equal(n, 6);
        assert_true(qdb_decoder_is_idle(&d));
    }
}

static void test_client_byte_by_byte(void **state)
{
    struct raw raw = {.len = 0};
    struct qdb_decoder d;
    struct qdb_message m;
    size_t n = 0;

    (void)state;
    put_text(&raw, QDB_RESP_READ, "/b", "value");
    put_text(&raw, QDB_RESP_WATCH, "/b", "");
    qdb_decoder_init(&d, QDB_END_CLIENT);
    for (size_t i = 0; i < raw.len; i++) {
        struct cursor in = cursor_from(raw.bytes + i, 1);
        int r = qdb_decoder_next(&d, &in, &m);

        assert_int_equal(r, i == 76 || i == 148);
        n += (size_t)r;
        assert_int_equal(qdb_decoder_is_idle(&d), i == 76 || i == 148);
    }
    assert_int_equal(n, 2);
}

static void test_client_refuses(void **state)
{
    static const struct {
        uint8_t type;
        const char *path;
        uint32_t len;
    } cases[] = {
        {QDB_CMD_READ, "/a", 0},         {14, "/a", 0},
        {255, "/a", 0},                  {QDB_RESP_READ, "/a b", 0},
        {QDB_RESP_READ, "/a", 3072},     {QDB_RESP_MULTIREAD, "/a", UINT32_MAX},
        {QDB_RESP_OK, "/a", 1},          {QDB_RESP_WATCH, "/a", 1},
        {QDB_RESP_ERROR_NOENT, "/a", 7}, {QDB_RESP_LIST, "/a", 1},
        {QDB_RESP_OK, "-a", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct raw raw = {.len = 0};
        struct qdb_decoder d;
        struct qdb_message m;
        struct cursor in;

        put(&raw, cases[i].type, cases[i].path, cases[i].len, NULL, 0);
        qdb_decoder_init(&d, QDB_END_CLIENT);
        in = cursor_from(raw.bytes, raw.len);
        assert_int_equal(qdb_decoder_next(&d, &in, &m), -EPROTO);
        in = cursor_from(raw.bytes, 0);
        assert_int_equal(qdb_decoder_next(&d, &in, &m), -EPROTO); /* sticky */
    }
}

static void test_client_refuses_path_without_end(void **state)
{
    struct raw raw = {.len = QDB_HEADER_SIZE};
    struct qdb_message m;

    (void)state;
    memset(raw.bytes + 1, 'a', 64);
    raw.bytes[0] = QDB_RESP_OK;
    assert_int_equal(first(QDB_END_CLIENT, &raw, &m), -EPROTO);
}

static void test_server_bad_requests_are_skipped(void **state)
{
    static struct raw raw;
    struct qdb_decoder d;
    struct qdb_message m;
    struct cursor in;
    static const char skipped[3072];

    (void)state;
    raw.len = 0;
    put(&raw, 7, "/a", 5, "12345", 5);
    put(&raw, QDB_CMD_WRITE, "/a b", 3, "abc", 3);
    put(&raw, QDB_CMD_WRITE, "/a", 3072, skipped, 3072);
    put(&raw, QDB_CMD_RM, "/a", 3, "abc", 3);
    put(&raw, QDB_CMD_WRITE, "/ok", 2, "ok", 2);
    qdb_decoder_init(&d, QDB_END_SERVER);
    in = cursor_from(raw.bytes, raw.len);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(qdb_decoder_next(&d, &in, &m), 1);
        assert_true(m.bad);
    }
    assert_int_equal(qdb_decoder_next(&d, &in, &m), 1);
    assert_false(m.bad);
    assert_int_equal(m.type, QDB_CMD_RM);
    assert_int_equal(m.announced, 3);
    assert_int_equal(m.value.len, 0);
    assert_int_equal(qdb_decoder_next(&d, &in, &m), 1);
    assert_false(m.bad);
    assert_string_equal(m.path, "/ok");
    assert_memory_equal(m.value.p, "ok", 2);
    assert_int_equal(qdb_decoder_next(&d, &in, &m), 0);
}

static void test_server_leaves_what_daemon_leaves(void **state)
{
    struct raw raw = {.len = 0};
    struct qdb_decoder d;
    struct qdb_message m;
    struct cursor in;

    (void)state;
    put(&raw, QDB_CMD_WATCH, "/w", 9, NULL, 0);
    put(&raw, QDB_CMD_READ, "/r", 9, NULL, 0);
    qdb_decoder_init(&d, QDB_END_SERVER);
    in = cursor_from(raw.bytes, raw.len);
    assert_int_equal(qdb_decoder_next(&d, &in, &m), 1);
    assert_string_equal(m.path, "/w");
    assert_int_equal(qdb_decoder_next(&d, &in, &m), 1);
    assert_string_equal(m.path, "/r");
    assert_int_equal(m.announced, 9);
}

static void test_server_cuts_path_of_64(void **state)
{
    struct raw raw = {.len = QDB_HEADER_SIZE};
    struct qdb_message m;

    (void)state;
    memset(raw.bytes + 1, 'a', 64);
    assert_int_equal(first(QDB_END_SERVER, &raw, &m), 1);
    assert_false(m.bad);
    assert_int_equal(strlen(m.path), 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_client_splits),
        cmocka_unit_test(test_client_byte_by_byte),
        cmocka_unit_test(test_client_refuses),
        cmocka_unit_test(test_client_refuses_path_without_end),
        cmocka_unit_test(test_server_bad_requests_are_skipped),
        cmocka_unit_test(test_server_leaves_what_daemon_leaves),
        cmocka_unit_test(test_server_cuts_path_of_64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
