/* SPDX-License-Identifier: GPL-2.0-or-later */
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
#include "exposure/record.h"

#define VALUE_MAX 3072 /* QubesDB's, wire.h */

static int parse_bytes(const char *text, size_t len, enum record_form form, struct record *ret,
                       char *why)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return record_parse((struct str){copy, len}, form, ret, why);
}

static int parse(const char *text, enum record_form form, struct record *ret, char *why)
{
    return parse_bytes(text, strlen(text), form, ret, why);
}

#define FULL                                                                                       \
    "v=1|vm=web-1.x_Y|xid=11,12|via=10.137.0.9|edge=1|mode=forward|allow=tcp/80"                   \
    "|publish=tcp/8080:80|expires=2026-12-31T18:00:00Z|keep=1|limit=25|log=1"

static void test_full(void **state)
{
    _cleanup_(record_done) struct record r = {0};
    char why[RECORD_WHY_MAX], buf[ADDR_STR_MAX];

    (void)state;
    assert_int_equal(parse(FULL, RECORD_FORM_DOM0, &r, why), 0);
    assert_string_equal(r.vm, "web-1.x_Y");
    assert_int_equal(r.xid[0], 11);
    assert_int_equal(r.xid[1], 12);
    assert_false(r.pending);
    assert_string_equal(addr_format(&r.via, buf), "10.137.0.9");
    assert_true(r.edge && r.forward && r.has_allow && r.keep && r.log);
    assert_int_equal(r.limit, 25);
    assert_int_equal(r.allow.n, 1);
    assert_int_equal(r.publish.n, 1);
    assert_int_equal(r.expires, 1798740000);
}

static void test_least(void **state)
{
    _cleanup_(record_done) struct record r = {0}, c = {0};
    char why[RECORD_WHY_MAX];

    (void)state;
    assert_int_equal(parse("v=1|vm=a|xid=1|via=direct|edge=0|mode=forward", RECORD_FORM_DOM0, &r,
                           why), 0);
    assert_int_equal(r.xid[1], 0);
    assert_int_equal(r.via.family, 0);
    assert_false(r.edge || r.has_allow || r.keep || r.log);
    assert_int_equal(r.limit, 0);
    assert_int_equal(r.expires, 0);
    assert_int_equal(parse("v=1|mode=forward", RECORD_FORM_VM_CONFIG, &c, why), 0);
    assert_true(c.edge && c.forward);
    assert_string_equal(c.vm, "");
    assert_int_equal(c.xid[0], 0);
}

struct line {
    const char *fields[12];
    size_t n;
};

static struct line full_line(char *storage)
{
    struct line l = {.n = 0};
    char *save = NULL;

    (void)strcpy(storage, FULL);
    for (char *f = strtok_r(storage, "|", &save); f != NULL; f = strtok_r(NULL, "|", &save))
        l.fields[l.n++] = f;
    assert_int_equal(l.n, 12);
    return l;
}

/* Joins the fields, without that number `without` and with that of number `again` once more. */
static void join(const struct line *l, size_t without, size_t again, char *out)
{
    out[0] = '\0';
    for (size_t i = 0; i < l->n; i++) {
        if (i != without)
            (void)sprintf(out + strlen(out), "%s%s", out[0] != '\0' ? "|" : "", l->fields[i]);
    }
    if (again < l->n)
        (void)sprintf(out + strlen(out), "|%s", l->fields[again]);
}

static void test_missing_repeated(void **state)
{
    static const bool required[12] = {true, true, true, true, true, true};
    char storage[400], text[800], why[RECORD_WHY_MAX];
    struct line l = full_line(storage);

    (void)state;
    for (size_t i = 0; i < l.n; i++) {
        struct record r = {0};
        char *name_end;

        join(&l, i, SIZE_MAX, text);
        assert_int_equal(parse(text, RECORD_FORM_DOM0, &r, why), required[i] ? -EINVAL : 0);
        if (required[i] && i > 0) { /* it names the field */
            char name[32];

            (void)snprintf(name, sizeof(name), "%s", l.fields[i]);
            name_end = strchr(name, '=');
            assert_non_null(name_end);
            name_end[1] = '\0';
            assert_non_null(strstr(why, name));
        }
        record_done(&r);
        join(&l, SIZE_MAX, i, text);
        assert_int_equal(parse(text, RECORD_FORM_DOM0, &r, why), -EINVAL);
        assert_true(why[0] != '\0');
    }
}

/* Every order is fine as long as v=1 comes first. */
static void test_order(void **state)
{
    char storage[400], text[800], why[RECORD_WHY_MAX];
    struct line l = full_line(storage);

    (void)state;
    for (size_t shift = 1; shift < l.n; shift++) {
        struct line turned = l;
        struct record r = {0};

        for (size_t i = 1; i < l.n; i++)
            turned.fields[i] = l.fields[1 + (i - 1 + shift) % (l.n - 1)];
        join(&turned, SIZE_MAX, SIZE_MAX, text);
        assert_int_equal(parse(text, RECORD_FORM_DOM0, &r, why), 0);
        record_done(&r);
        turned.fields[0] = turned.fields[shift];
        turned.fields[shift] = "v=1";
        join(&turned, SIZE_MAX, SIZE_MAX, text);
        assert_int_equal(parse(text, RECORD_FORM_DOM0, &r, why), -EINVAL);
    }
}

static void test_bad(void **state)
{
#define HEAD "v=1|vm=a|xid=1|via=direct|edge=1|mode=forward"
    static const char *const table[] = {
        "", "|", "v=1", "v=1|", "v=2|vm=a|xid=1|via=direct|edge=1|mode=forward", "v=01" HEAD,
        "v=|" HEAD, " " HEAD, HEAD "|", HEAD "||keep=1", HEAD "|color=red", HEAD "|keep",
        HEAD "|=1",
        HEAD "|Keep=1", HEAD "| keep=1", HEAD "|keep =1", HEAD "|keep= 1", HEAD "|keep=2",
        HEAD "|keep=", HEAD "|keep=01", HEAD "|keep=1=1", HEAD "|limit=", HEAD "|limit=0", HEAD "|limit=1000001",
        HEAD "|limit=-1", HEAD "|limit=+1", HEAD "|limit=1k", HEAD "|limit=1/second",
        HEAD "|limit=4294967297", HEAD "|limit=1|limit=1", HEAD "|log=", HEAD "|log=2",
        HEAD "|log=yes", HEAD "|allow=tcp/0", HEAD "|allow=;",
        HEAD "|publish=any/80", HEAD "|publish=tcp/80;tcp/80:81", HEAD "|expires=",
        HEAD "|expires=tomorrow", HEAD "|expires=2026-12-31", HEAD "|v=1", HEAD "|vm=b",
        "v=1|vm=|xid=1|via=direct|edge=1|mode=forward",
        "v=1|vm=a b|xid=1|via=direct|edge=1|mode=forward",
        "v=1|vm=a/b|xid=1|via=direct|edge=1|mode=forward",
        "v=1|vm=a23456789012345678901234567890ab|xid=1|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=0|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1,|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1,0|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1,1|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1,2,3|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=32752|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=pending,1|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1,pending|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=Pending|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=Direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=127.0.0.1|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=10.0.0.0/8|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=direct|edge=|mode=forward",
        "v=1|vm=a|xid=1|via=direct|edge=yes|mode=forward",
        "v=1|vm=a|xid=1|via=direct|edge=1|mode=",
        "v=1|vm=a|xid=1|via=direct|edge=1|mode=masquerade",
        "v=1|vm=a|xid=1|via=direct|edge=1|mode=publish",
        "v=1|vm=a|xid=1|via=direct|edge=1|mode=publish|publish=",
        "v=1|vm=a|xid=1|via=direct|edge=1|mode=publish|publish=tcp/80|allow=tcp/80",
    };
    char why[RECORD_WHY_MAX];
    struct record untouched, r;

    (void)state;
    memset(&untouched, 0x5a, sizeof(untouched));
    memcpy(&r, &untouched, sizeof(r));
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        memset(why, 0x80, sizeof(why));
        if (parse(table[i], RECORD_FORM_DOM0, &r, why) != -EINVAL)
            fail_msg("\"%s\" was accepted", table[i]);
        assert_memory_equal(&r, &untouched, sizeof(r));
        assert_non_null(memchr(why, '\0', sizeof(why)));
        assert_true(why[0] != '\0');
    }
}

static void test_good(void **state)
{
    static const char *const table[] = {
        HEAD, HEAD "|allow=", HEAD "|allow=  ", HEAD "|keep=0", HEAD "|limit=1", HEAD "|limit=1000000",
        HEAD "|log=0", HEAD "|log=1|limit=10", HEAD "|publish=",
        HEAD "|publish=tcp/80",
        "v=1|vm=a|xid=pending|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=32751,1|via=direct|edge=1|mode=forward",
        "v=1|vm=a|xid=1|via=fd00::9|edge=0|mode=publish|publish=tcp/80",
        "v=1|vm=a23456789012345678901234567890a|xid=1|via=direct|edge=1|mode=forward",
    };
    char why[RECORD_WHY_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct record r = {0};

        if (parse(table[i], RECORD_FORM_DOM0, &r, why) != 0)
            fail_msg("\"%s\": %s", table[i], why);
        record_done(&r);
    }
}

static void test_vm_config(void **state)
{
    static const struct {
        const char *text;
        int result;
    } table[] = {
        {"v=1|mode=forward", 0}, {"v=1|via=direct|mode=forward", 0},
        {"v=1|edge=0|mode=forward|allow=tcp/22|keep=1|expires=2030-01-01T00:00:00Z", 0},
        {"v=1|mode=publish|publish=tcp/80", 0}, {"v=1", -EINVAL}, {"v=1|edge=1", -EINVAL},
        {"mode=forward", -EINVAL}, {"v=1|mode=forward|vm=a", -EINVAL},
        {"v=1|mode=forward|xid=1", -EINVAL}, {"v=1|mode=forward|xid=pending", -EINVAL},
        {"v=1|mode=forward|via=10.0.0.1", -EINVAL}, {"v=1|mode=forward|mode=forward", -EINVAL},
    };
    char why[RECORD_WHY_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct record r = {0};

        if (parse(table[i].text, RECORD_FORM_VM_CONFIG, &r, why) != table[i].result)
            fail_msg("\"%s\": %s", table[i].text, why);
        record_done(&r);
    }
}

/* Each of the 256 bytes inside a value and after it: only printable ASCII may pass. */
static void test_bytes(void **state)
{
    char why[RECORD_WHY_MAX];

    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[] = HEAD "|allow=?";
        struct record r = {0};

        text[sizeof(text) - 2] = (char)c;
        assert_int_equal(parse_bytes(text, sizeof(text) - 1, RECORD_FORM_DOM0, &r, why),
                         c == ' ' ? 0 : -EINVAL);
        for (const char *w = why; *w != '\0'; w++)
            assert_true(*w >= 0x20 && *w < 0x7f);
        record_done(&r);
    }
}

/* As long as QubesDB can have it, full of rules, and of one long word. */
static void test_longest(void **state)
{
    char text[VALUE_MAX], why[RECORD_WHY_MAX];
    size_t head = strlen(HEAD "|allow=");
    struct record r = {0};

    (void)state;
    memset(text, ' ', sizeof(text));
    memcpy(text, HEAD "|allow=", head);
    memcpy(text + sizeof(text) - 7, "tcp/80", 6);
    assert_int_equal(parse_bytes(text, VALUE_MAX - 1, RECORD_FORM_DOM0, &r, why), 0);
    assert_int_equal(r.allow.n, 1);
    record_done(&r);
    memset(text + head, 'x', sizeof(text) - head);
    assert_int_equal(parse_bytes(text, VALUE_MAX - 1, RECORD_FORM_DOM0, &r, why), -EINVAL);
    assert_true(strlen(why) < RECORD_WHY_MAX);
    memset(text, '|', sizeof(text));
    memcpy(text, HEAD, strlen(HEAD));
    assert_int_equal(parse_bytes(text, VALUE_MAX - 1, RECORD_FORM_DOM0, &r, why), -EINVAL);
    memset(text, 'v', sizeof(text));
    assert_int_equal(parse_bytes(text, VALUE_MAX - 1, RECORD_FORM_DOM0, &r, why), -EINVAL);
}

static void test_time(void **state)
{
    static const struct {
        const char *text;
        int64_t value; /* 0: refused */
    } table[] = {
        {"2026-12-31T18:00:00Z", 1798740000}, {"1970-01-01T00:00:01Z", 1},
        {"2024-02-29T12:00:00Z", 1709208000}, {"2000-02-29T00:00:00Z", 951782400},
        {"2038-01-19T03:14:08Z", INT64_C(2147483648)},
        {"9999-12-31T23:59:59Z", INT64_C(253402300799)},
        {"1970-01-01T00:00:00Z", 0}, {"1969-12-31T23:59:59Z", 0}, {"0000-01-01T00:00:00Z", 0},
        {"0000-00-00T00:00:00Z", 0}, {"2025-02-29T12:00:00Z", 0}, {"2100-02-29T00:00:00Z", 0},
        {"2026-02-30T00:00:00Z", 0}, {"2026-04-31T00:00:00Z", 0}, {"2026-13-01T00:00:00Z", 0},
        {"2026-00-01T00:00:00Z", 0}, {"2026-01-00T00:00:00Z", 0}, {"2026-01-32T00:00:00Z", 0},
        {"2026-01-01T24:00:00Z", 0}, {"2026-01-01T23:60:00Z", 0}, {"2026-12-31T23:59:60Z", 0},
        {"2026-12-31T18:00:00", 0}, {"2026-12-31T18:00:00z", 0}, {"2026-12-31t18:00:00Z", 0},
        {"2026-12-31 18:00:00Z", 0}, {"2026-12-31T18:00:00Z ", 0}, {"2026-12-31T18:00Z", 0},
        {"2026-12-31T18:00:00+00", 0}, {"+026-12-31T18:00:00Z", 0}, {"-026-12-31T18:00:00Z", 0},
        {"202a-12-31T18:00:00Z", 0}, {"2026-1 -31T18:00:00Z", 0}, {"2026/12/31T18:00:00Z", 0},
        {"10000-12-31T18:00:00Z", 0}, {"", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t t = -77;
        int r = record_parse_time(str_from(table[i].text), &t);

        if (r != (table[i].value != 0 ? 0 : -EINVAL))
            fail_msg("%s: %d", table[i].text, r);
        assert_int_equal(t, table[i].value != 0 ? table[i].value : -77);
    }
}

/* The machine's time zone must not matter. */
static void test_time_zone(void **state)
{
    int64_t t;

    (void)state;
    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    assert_int_equal(record_parse_time(STR_LITERAL("2026-07-31T18:00:00Z"), &t), 0);
    assert_int_equal(t, 1785520800);
    assert_int_equal(unsetenv("TZ"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),      cmocka_unit_test(test_least),
        cmocka_unit_test(test_order),     cmocka_unit_test(test_missing_repeated),
        cmocka_unit_test(test_bad),       cmocka_unit_test(test_good),
        cmocka_unit_test(test_vm_config), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_longest),   cmocka_unit_test(test_time),
        cmocka_unit_test(test_time_zone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
