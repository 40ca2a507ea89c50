/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames byte by byte; the long ones are captures of core-admin 4.4. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "adminapi/wire.h"
#include "base/cleanup.h"

#define BYTES(literal) ((struct str){(literal), sizeof(literal) - 1})

static void assert_str(struct str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.len > 0 ? s.p : "", expected, s.len);
}

static void check_header(const char *method, const char *arg, const char *dest, const char *bytes,
                         size_t len)
{
    const struct admin_request request = {.method = method, .arg = arg, .dest = dest};
    _cleanup_(freep) char *header = NULL;
    size_t header_len = 0;

    assert_return_code(admin_pack_header(&request, &header, &header_len), 0);
    assert_int_equal(header_len, len);
    assert_memory_equal(header, bytes, len);
}

#define CHECK_HEADER(method, arg, dest, literal)                                                   \
    check_header(method, arg, dest, literal, sizeof(literal)) /* with its NUL */

static void test_header(void **state)
{
    (void)state;
    CHECK_HEADER("admin.vm.List", NULL, "dom0", "admin.vm.List+ dom0 name dom0");
    CHECK_HEADER("admin.vm.property.Get", "ip", "testvm",
                 "admin.vm.property.Get+ip dom0 name testvm");
    CHECK_HEADER("admin.Events", NULL, "dom0", "admin.Events+ dom0 name dom0");
}

static int pack(const char *method, const char *arg, const char *dest, size_t payload)
{
    const struct admin_request request = {
        .method = method, .arg = arg, .dest = dest, .payload = {"", payload}};
    char *header = NULL;
    size_t len;
    int r = admin_pack_header(&request, &header, &len);

    assert_true((r < 0) == (header == NULL)); /* written only on success */
    free(header);
    return r;
}

static void test_header_refused(void **state)
{
    const size_t room = ADMIN_REQUEST_MAX - sizeof("m+ dom0 name d");

    (void)state;
    assert_int_equal(pack("", NULL, "d", 0), -EINVAL);
    assert_int_equal(pack("m m", NULL, "d", 0), -EINVAL);
    assert_int_equal(pack("m+a", NULL, "d", 0), -EINVAL);
    assert_int_equal(pack("m", "a b", "d", 0), -EINVAL);
    assert_int_equal(pack("m", "a\n", "d", 0), -EINVAL);
    assert_int_equal(pack("m", "\xc3\xa4", "d", 0), -EINVAL);
    assert_int_equal(pack("m", NULL, "", 0), -EINVAL);
    assert_int_equal(pack("m", NULL, "a\tb", 0), -EINVAL);
    assert_int_equal(pack("m", NULL, "a\x7f", 0), -EINVAL);
    assert_int_equal(pack("m", NULL, "d", room), 0);
    assert_int_equal(pack("m", NULL, "d", room + 1), -E2BIG);
    assert_int_equal(pack("m", NULL, "d", SIZE_MAX), -E2BIG);
}

static void test_answers(void **state)
{
    struct admin_answer a;

    (void)state;
    admin_parse_answer(BYTES("0\0default=True type=str 10.137.0.4"), &a);
    assert_int_equal(a.status, ADMIN_OK);
    assert_str(a.content, "default=True type=str 10.137.0.4");
    admin_parse_answer(BYTES("0\0"), &a);
    assert_int_equal(a.status, ADMIN_OK);
    assert_int_equal(a.content.len, 0);
    admin_parse_answer((struct str){NULL, 0}, &a);
    assert_int_equal(a.status, ADMIN_EMPTY);
    admin_parse_answer(BYTES("2\0QubesFeatureNotFoundError\0\0"
                             "Feature not set for domain testvm: routing-method\0"), &a);
    assert_int_equal(a.status, ADMIN_EXCEPTION);
    assert_str(a.type, "QubesFeatureNotFoundError");
    assert_str(a.message, "Feature not set for domain testvm: routing-method");
    admin_parse_answer(BYTES("2\0Type\0Trace\nback\0No %s\0field\0"), &a);
    assert_int_equal(a.status, ADMIN_EXCEPTION);
    assert_str(a.message, "No %s");
}

static void test_answers_broken(void **state)
{
    static const struct str broken[] = {
        {"0", 1}, {"2", 1}, {"2\0", 2}, {"2\0Type", 6}, {"2\0Type\0", 7}, {"2\0Type\0\0", 8},
        {"2\0Type\0\0message", 15}, {"00", 2}, {"1\0\0e\0\0", 6}, {"3\0", 2}, {"\0", 1},
    };
    struct admin_answer a;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        admin_parse_answer(broken[i], &a);
        assert_int_equal(a.status, ADMIN_BROKEN);
        assert_int_equal(a.content.len + a.type.len + a.message.len, 0);
    }
}

#define SET_EVENT                                                                                  \
    "1\0testvm\0domain-feature-set:routing-method\0feature\0routing-method\0value\0masquerade\0"  \
    "oldvalue\0forward\0\0"

static void test_event(void **state)
{
    struct str bytes = BYTES(SET_EVENT "1\0\0connection-established\0\0"), value;
    struct admin_event e;
    size_t used = 0;

    (void)state;
    assert_int_equal(admin_parse_event(bytes, &e, &used), 1);
    assert_int_equal(used, sizeof(SET_EVENT) - 1);
    assert_str(e.subject, "testvm");
    assert_str(e.name, "domain-feature-set:routing-method");
    assert_int_equal(e.n_pairs, 3);
    assert_true(admin_event_value(&e, "oldvalue", &value));
    assert_str(value, "forward");
    assert_false(admin_event_value(&e, "old", &value));
    assert_str(value, "forward"); /* written only when there is one */
    bytes.p += used;
    bytes.len -= used;
    assert_int_equal(admin_parse_event(bytes, &e, &used), 1);
    assert_int_equal(used, bytes.len);
    assert_str(e.subject, "");
    assert_str(e.name, "connection-established");
    assert_int_equal(e.n_pairs, 0);
}

/* Wherever it is cut, it is not complete; nothing is ever taken for something else. */
static void test_event_cut(void **state)
{
    struct admin_event e;
    size_t used;

    (void)state;
    for (size_t len = 0; len < sizeof(SET_EVENT) - 1; len++)
        assert_int_equal(admin_parse_event((struct str){SET_EVENT, len}, &e, &used), 0);
}

/* A value may be empty, and is no end: keys and values take turns. */
static void test_event_empty_values(void **state)
{
    struct admin_event e;
    struct str value;
    size_t used;

    (void)state;
    assert_int_equal(admin_parse_event(BYTES("1\0q\0n\0a\0\0b\0\0\0"), &e, &used), 1);
    assert_int_equal(used, 13);
    assert_int_equal(e.n_pairs, 2);
    assert_true(admin_event_value(&e, "b", &value));
    assert_int_equal(value.len, 0);
    assert_int_equal(admin_parse_event(BYTES("1\0q\0n\0a\0\0b\0\0"), &e, &used), 0);
}

static void test_event_refused(void **state)
{
    static const struct str broken[] = {
        {"0\0", 2}, {"2\0PermissionDenied\0", 19}, {"11", 2}, {"\0", 1}, {"x", 1},
        {"1\0\0\0\0", 5}, /* no name */
    };
    char many[256] = "1\0q\0n\0";
    struct admin_event e;
    size_t used, len = 6;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++)
        assert_int_equal(admin_parse_event(broken[i], &e, &used), -EPROTO);
    for (unsigned i = 0; i < ADMIN_PAIRS_MAX; i++, len += 4)
        memcpy(many + len, "k\0v", 4);
    assert_int_equal(admin_parse_event((struct str){many, len + 1}, &e, &used), 1);
    assert_int_equal(e.n_pairs, ADMIN_PAIRS_MAX);
    memcpy(many + len, "k\0v\0", 5);
    assert_int_equal(admin_parse_event((struct str){many, len + 5}, &e, &used), -EPROTO);
}

static void test_vm_lines(void **state)
{
    static const char *const bad[] = {"", " ", "web", "web class=AppVM", "web state=Halted",
                                      " class=AppVM state=Halted", "web class= state="};
    struct admin_vm vm;

    (void)state;
    assert_return_code(admin_parse_vm(STR_LITERAL("web class=AppVM state=Running"), &vm), 0);
    assert_str(vm.name, "web");
    assert_str(vm.klass, "AppVM");
    assert_str(vm.state, "Running");
    assert_return_code(admin_parse_vm(STR_LITERAL("a class=DispVM state=Halted uuid=1-2 new=x y"),
                                      &vm), 0);
    assert_str(vm.state, "Halted");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(admin_parse_vm(str_from(bad[i]), &vm), -EINVAL);
    assert_str(vm.name, "a");
}

static void test_property_lines(void **state)
{
    static const char *const bad[] = {"", "ip", "ip default=True", "ip type=str 10.0.0.1",
                                      "ip default=yes type=str x", " default=True type=str x",
                                      "ip default=True 10.0.0.1"};
    struct admin_property p;

    (void)state;
    assert_return_code(admin_parse_property(
                           STR_LITERAL("ip default=False type=str 10.137.0.4"), &p), 0);
    assert_str(p.name, "ip");
    assert_str(p.type, "str");
    assert_str(p.value, "10.137.0.4");
    assert_false(p.is_default);
    assert_return_code(admin_parse_property(STR_LITERAL("netvm default=True type=vm "), &p), 0);
    assert_true(p.is_default);
    assert_str(p.value, "");
    assert_return_code(admin_parse_property(STR_LITERAL("netvm default=True type=vm"), &p), 0);
    assert_str(p.value, "");
    assert_return_code(admin_parse_property(
                           STR_LITERAL("k default=True type=str  a  \\\\b\\n =x"), &p), 0);
    assert_str(p.value, " a  \\\\b\\n =x");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(admin_parse_property(str_from(bad[i]), &p), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_header_refused),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_broken),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_event_cut),
        cmocka_unit_test(test_event_empty_values),
        cmocka_unit_test(test_event_refused),
        cmocka_unit_test(test_vm_lines),
        cmocka_unit_test(test_property_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
