/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "exposure/record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"

struct parser {
    enum record_form form;
    struct record record;
    char *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(char *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, RECORD_WHY_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

static int refuse_value(struct parser *p, const char *field, struct str value, const char *expected)
{
    char text[48];

    return refuse(p->why, "%s=%s is not %s", field, str_escape(value, text, sizeof(text)), expected);
}

static int parse_flag(struct parser *p, const char *field, struct str value, bool *ret)
{
    if (!str_is(value, "0") && !str_is(value, "1"))
        return refuse_value(p, field, value, "0 or 1");
    *ret = value.p[0] == '1';
    return 0;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static int parse_vm(struct parser *p, struct str value)
{
    bool ok = value.len > 0 && value.len < QUBE_NAME_MAX;

    for (size_t i = 0; ok && i < value.len; i++)
        ok = name_char(value.p[i]);
    if (!ok)
        return refuse_value(p, "vm", value, "the name of a qube");
    memcpy(p->record.vm, value.p, value.len);
    p->record.vm[value.len] = '\0';
    return 0;
}

static int parse_xid(struct parser *p, struct str value)
{
    struct str rest = value, piece;
    size_t n = 0;

    if (str_is(value, "pending")) {
        p->record.pending = true;
        return 0;
    }
    while (str_next(&rest, ',', &piece)) {
        uint32_t xid;

        if (n == ARRAY_SIZE(p->record.xid) || str_to_u32(piece, XID_MAX, &xid) < 0 || xid == 0)
            return refuse_value(p, "xid", value, "a domain id, two of them, or pending");
        p->record.xid[n++] = (uint16_t)xid;
    }
    return 0;
}

static int parse_via(struct parser *p, struct str value)
{
    if (str_is(value, "direct"))
        return 0;
    if (p->form == RECORD_FORM_VM_CONFIG)
        return refuse_value(p, "via", value, "direct, the only way without dom0's daemon");
    if (addr_parse(value, &p->record.via) < 0 || addr_why_unusable(&p->record.via) != NULL)
        return refuse_value(p, "via", value, "direct or the address of the next hop");
    return 0;
}

static int parse_edge(struct parser *p, struct str value)
{
    return parse_flag(p, "edge", value, &p->record.edge);
}

static int parse_mode(struct parser *p, struct str value)
{
    if (!str_is(value, "forward") && !str_is(value, "publish"))
        return refuse_value(p, "mode", value, "forward or publish");
    p->record.forward = str_is(value, "forward");
    return 0;
}

static int parse_allow(struct parser *p, struct str value)
{
    char why[ALLOW_WHY_MAX];
    int r = allow_parse(value, &p->record.allow, why);

    p->record.has_allow = true;
    if (r == -EINVAL || r == -E2BIG)
        return refuse(p->why, "allow: %s", why);
    return r;
}

static int parse_publish(struct parser *p, struct str value)
{
    char why[ALLOW_WHY_MAX];
    int r = publish_parse(value, &p->record.publish, why);

    if (r == -EINVAL || r == -E2BIG)
        return refuse(p->why, "publish: %s", why);
    return r;
}

static bool fixed_number(const char *text, size_t digits, int *ret)
{
    *ret = 0;
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *ret = *ret * 10 + (text[i] - '0');
    }
    return true;
}

int record_parse_time(struct str text, int64_t *ret)
{
    static const char shape[] = "0000-00-00T00:00:00Z";
    struct tm tm = {0}, back = {0};
    time_t t;

    if (text.len != sizeof(shape) - 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++) {
        if (shape[i] != '0' && shape[i] != text.p[i])
            return -EINVAL;
    }
    if (!fixed_number(text.p, 4, &tm.tm_year) || !fixed_number(text.p + 5, 2, &tm.tm_mon) ||
        !fixed_number(text.p + 8, 2, &tm.tm_mday) || !fixed_number(text.p + 11, 2, &tm.tm_hour) ||
        !fixed_number(text.p + 14, 2, &tm.tm_min) || !fixed_number(text.p + 17, 2, &tm.tm_sec))
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    t = timegm(&tm);
    /* timegm() puts February 30th right silently: what it changed was no date */
    if (t <= 0 || tm.tm_mon != back.tm_mon || tm.tm_mday != back.tm_mday ||
        tm.tm_hour != back.tm_hour || tm.tm_min != back.tm_min || tm.tm_sec != back.tm_sec)
        return -EINVAL;
    *ret = (int64_t)t;
    return 0;
}

static int parse_expires(struct parser *p, struct str value)
{
    if (record_parse_time(value, &p->record.expires) < 0)
        return refuse_value(p, "expires", value, "a UTC time like 2026-12-31T18:00:00Z");
    return 0;
}

static int parse_limit(struct parser *p, struct str value)
{
    uint32_t limit;

    if (str_to_u32(value, RECORD_LIMIT_MAX, &limit) < 0 || limit == 0)
        return refuse_value(p, "limit", value, "a number from 1 to 1000000");
    p->record.limit = limit;
    return 0;
}

static int parse_log(struct parser *p, struct str value)
{
    return parse_flag(p, "log", value, &p->record.log);
}

static int parse_keep(struct parser *p, struct str value)
{
    return parse_flag(p, "keep", value, &p->record.keep);
}

static const struct field {
    const char *name;
    int (*parse)(struct parser *p, struct str value);
    bool dom0_only, required, required_in_vm_config;
} fields[] = {
    {"vm", parse_vm, true, true, false},
    {"xid", parse_xid, true, true, false},
    {"via", parse_via, false, true, false},
    {"edge", parse_edge, false, true, false},
    {"mode", parse_mode, false, true, true},
    {"allow", parse_allow, false, false, false},
    {"publish", parse_publish, false, false, false},
    {"expires", parse_expires, false, false, false},
    {"limit", parse_limit, false, false, false},
    {"log", parse_log, false, false, false},
    {"keep", parse_keep, false, false, false},
};

static int parse_field(struct parser *p, struct str text, unsigned *seen)
{
    struct str rest = text, name;
    char shown[48];

    (void)str_next(&rest, '=', &name);
    if (rest.p == NULL)
        return refuse(p->why, "\"%s\" is no field=value", str_escape(text, shown, sizeof(shown)));
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!str_is(name, fields[i].name))
            continue;
        if (*seen & 1u << i)
            return refuse(p->why, "%s= stands there twice", fields[i].name);
        if (fields[i].dom0_only && p->form == RECORD_FORM_VM_CONFIG)
            return refuse(p->why, "%s= is for records of dom0's daemon only", fields[i].name);
        *seen |= 1u << i;
        return fields[i].parse(p, rest);
    }
    return refuse(p->why, "unknown field \"%s\"", str_escape(name, shown, sizeof(shown)));
}

static int check_complete(struct parser *p, unsigned seen)
{
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        bool required = p->form == RECORD_FORM_DOM0 ? fields[i].required
                                                    : fields[i].required_in_vm_config;

        if (required && !(seen & 1u << i))
            return refuse(p->why, "%s= is missing", fields[i].name);
    }
    if (!p->record.forward && p->record.has_allow)
        return refuse(p->why, "allow= without mode=forward opens nothing: contradictory");
    if (!p->record.forward && p->record.publish.n == 0)
        return refuse(p->why, "mode=publish without a published port");
    if (p->record.xid[0] != 0 && p->record.xid[0] == p->record.xid[1])
        return refuse(p->why, "the same domain id twice in xid=");
    return 0;
}

static void parser_done(struct parser *p)
{
    record_done(&p->record);
}

int record_parse(struct str line, enum record_form form, struct record *ret,
                 char why[static RECORD_WHY_MAX])
{
    _cleanup_(parser_done) struct parser p = {.form = form, .record.edge = true, .why = why};
    struct str piece;
    unsigned seen = 0;
    int r;

    why[0] = '\0';
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.p[i] < 0x20 || (unsigned char)line.p[i] > 0x7e)
            return refuse(why, "a character that is not printable ASCII");
    }
    if (!str_next(&line, '|', &piece) || !str_is(piece, "v=1"))
        return refuse(why, "it does not begin with v=1, the only version known here");
    while (str_next(&line, '|', &piece)) {
        r = parse_field(&p, piece, &seen);
        if (r < 0)
            return r;
    }
    r = check_complete(&p, seen);
    if (r < 0)
        return r;
    *ret = p.record;
    p.record = (struct record){0};
    return 0;
}

void record_done(struct record *record)
{
    allow_done(&record->allow);
    publish_done(&record->publish);
    *record = (struct record){0};
}
