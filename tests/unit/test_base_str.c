/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from outside (base/str.h) and bytes from a wire (base/cursor.h). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/str.h"

static void test_is(void **state)
{
    (void)state;
    assert_true(str_is(STR_LITERAL("tcp"), "tcp"));
    assert_false(str_is(STR_LITERAL("tcp"), "tc"));
    assert_false(str_is(STR_LITERAL("tc"), "tcp"));
    assert_false(str_is((struct str){"tcp\0", 4}, "tcp"));
    assert_true(str_is(STR_LITERAL(""), ""));
    assert_false(str_is(STR_LITERAL(""), "a"));
}

static void check_pieces(const char *text, size_t n, const char *const *pieces)
{
    struct str rest = str_from(text), piece;

    for (size_t i = 0; i < n; i++) {
        assert_true(str_next(&rest, '|', &piece));
        assert_true(str_is(piece, pieces[i]));
    }
    assert_false(str_next(&rest, '|', &piece));
    assert_null(rest.p);
    assert_false(str_next(&rest, '|', &piece));
}

static void test_next(void **state)
{
    (void)state;
    check_pieces("", 1, (const char *const[]){""});
    check_pieces("a", 1, (const char *const[]){"a"});
    check_pieces("|", 2, (const char *const[]){"", ""});
    check_pieces("a||b", 3, (const char *const[]){"a", "", "b"});
    check_pieces("a|b|", 3, (const char *const[]){"a", "b", ""});
    check_pieces("|||", 4, (const char *const[]){"", "", "", ""});
}

static void test_trim(void **state)
{
    (void)state;
    assert_true(str_is(str_trim(STR_LITERAL(" \t a b\t ")), "a b"));
    assert_true(str_is(str_trim(STR_LITERAL(" \t ")), ""));
    assert_true(str_is(str_trim(STR_LITERAL("")), ""));
    assert_true(str_is(str_trim(STR_LITERAL("\na")), "\na")); /* a line end is no blank */
    assert_int_equal(str_trim((struct str){NULL, 0}).len, 0);
}

static void test_to_u32(void **state)
{
    static const struct {
        const char *text;
        uint32_t max;
        int result;
        uint32_t value;
    } table[] = {
        {"0", 0, 0, 0}, {"1", 0, -ERANGE, 0}, {"65535", 65535, 0, 65535},
        {"65536", 65535, -ERANGE, 0}, {"4294967295", UINT32_MAX, 0, UINT32_MAX},
        {"4294967296", UINT32_MAX, -ERANGE, 0}, {"18446744073709551616", UINT32_MAX, -ERANGE, 0},
        {"99999999999999999999999999999", UINT32_MAX, -ERANGE, 0}, {"", 9, -EINVAL, 0},
        {"00", 9, -EINVAL, 0}, {"01", 9, -EINVAL, 0}, {"+1", 9, -EINVAL, 0},
        {"-1", 9, -EINVAL, 0}, {" 1", 9, -EINVAL, 0}, {"1 ", 9, -EINVAL, 0},
        {"0x1", 9, -EINVAL, 0}, {"1a", 99, -EINVAL, 0}, {"\xb2", 9, -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        uint32_t v = 4711;

        assert_int_equal(str_to_u32(str_from(table[i].text), table[i].max, &v), table[i].result);
        assert_int_equal(v, table[i].result == 0 ? table[i].value : 4711);
    }
    assert_int_equal(str_to_u32((struct str){NULL, 0}, 9, &(uint32_t){0}), -EINVAL);
}

/* What str_escape() has to give in a buffer without bound. */
static size_t escape_all(struct str s, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x20 && c < 0x7f && c != '\\')
            out[n++] = s.p[i];
        else
            n += (size_t)sprintf(out + n, "\\x%02x", c);
    }
    out[n] = '\0';
    return n;
}

/* At every size: whole when it fits, else whole characters of it and dots; never a byte beyond. */
static void check_escape(struct str s)
{
    char whole[256];
    size_t full = escape_all(s, whole);

    for (size_t size = 1; size <= full + 8; size++) {
        _cleanup_(freep) char *buf = malloc(size);
        size_t len, dots = size - 1 < 3 ? size - 1 : 3, at = 0;

        assert_non_null(buf);
        memset(buf, 'Z', size);
        assert_ptr_equal(str_escape(s, buf, size), buf);
        len = strnlen(buf, size);
        assert_true(len < size);
        if (full < size) {
            assert_string_equal(buf, whole);
            continue;
        }
        assert_true(len >= dots && memcmp(buf + len - dots, "...", dots) == 0);
        assert_memory_equal(buf, whole, len - dots);
        for (size_t i = 0; i < s.len && at < len - dots; i++) {
            unsigned char c = (unsigned char)s.p[i];

            at += c >= 0x20 && c < 0x7f && c != '\\' ? 1 : 4;
        }
        assert_int_equal(at, len - dots); /* no half of an escape */
    }
}

static void test_escape(void **state)
{
    char none[1] = {'Z'};

    (void)state;
    check_escape(STR_LITERAL(""));
    check_escape(STR_LITERAL("a"));
    check_escape(STR_LITERAL("abc"));
    check_escape(STR_LITERAL("abcdefgh"));
    check_escape(STR_LITERAL("\n"));
    check_escape(STR_LITERAL("\x1b[31mred\x7f\xff\\"));
    check_escape(STR_LITERAL("a\nb\nc\nd"));
    check_escape(STR_LITERAL("nul\0inside"));
    check_escape(STR_LITERAL("\n\n\n\n\n\n"));
    assert_ptr_equal(str_escape(STR_LITERAL("abc"), none, 0), none);
    assert_int_equal(none[0], 'Z');
}

static void test_cursor(void **state)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    struct cursor c = cursor_from(bytes, sizeof(bytes));
    uint8_t out[4] = {9, 9, 9, 9};
    uint32_t native;

    (void)state;
    assert_int_equal(cursor_u8(&c), 1);
    assert_int_equal(cursor_u16be(&c), 0x0203);
    assert_int_equal(cursor_u32be(&c), 0x04050607);
    assert_int_equal(c.left, 4);
    cursor_copy(&c, out, 2);
    assert_int_equal(out[1], 9);
    assert_ptr_equal(cursor_take(&c, 2), bytes + 9);
    assert_true(cursor_ok(&c));
    assert_int_equal(c.left, 0);
    assert_non_null(cursor_take(&c, 0));
    assert_true(cursor_ok(&c));
    c = cursor_from(bytes, 4);
    memcpy(&native, bytes, 4);
    assert_int_equal(cursor_u32ne(&c), native);
}

/* Too long a read fails, and nothing after it succeeds, however short. */
static void test_cursor_sticks(void **state)
{
    const uint8_t bytes[] = {1, 2, 3};
    const uint8_t zero[4] = {0};

    (void)state;
    for (int which = 0; which < 5; which++) {
        struct cursor c = cursor_from(bytes, sizeof(bytes));
        uint8_t out[4] = {9, 9, 9, 9};

        switch (which) {
        case 0:
            assert_int_equal(cursor_u32be(&c), 0);
            break;
        case 1:
            assert_int_equal(cursor_u32ne(&c), 0);
            break;
        case 2:
            assert_null(cursor_take(&c, 4));
            break;
        case 3:
            assert_null(cursor_take(&c, SIZE_MAX));
            break;
        case 4:
            cursor_copy(&c, out, 4);
            assert_memory_equal(out, zero, 4);
            break;
        }
        assert_false(cursor_ok(&c));
        assert_int_equal(cursor_u8(&c), 0);
        assert_int_equal(cursor_u16be(&c), 0);
        assert_null(cursor_take(&c, 0));
        assert_null(cursor_take(&c, 1));
        memset(out, 9, sizeof(out));
        cursor_copy(&c, out, 1);
        assert_int_equal(out[0], 0);
        assert_int_equal(out[1], 9);
        assert_false(cursor_ok(&c));
    }
}

static void test_cursor_empty(void **state)
{
    struct cursor c = cursor_from(NULL, 0);
    uint8_t out = 9;

    (void)state;
    cursor_copy(&c, &out, 0);
    assert_true(cursor_ok(&c));
    assert_int_equal(out, 9);
    assert_int_equal(cursor_u8(&c), 0);
    assert_false(cursor_ok(&c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_to_u32),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_cursor_sticks),
        cmocka_unit_test(test_cursor_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
