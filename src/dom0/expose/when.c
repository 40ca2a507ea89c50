/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "exposure/record.h"

static const struct unit {
    char letter;
    int64_t seconds;
} units[] = {
    {'w', 7 * 24 * 3600}, {'d', 24 * 3600}, {'h', 3600}, {'m', 60}, {'s', 1},
};

int when_parse_span(struct str text, int64_t *ret)
{
    size_t at = 0, next = 0; /* units come from large to small, each once at most */
    int64_t sum = 0;

    while (at < text.len) {
        struct str digits = {text.p + at, 0};
        uint32_t n;

        while (at < text.len && text.p[at] >= '0' && text.p[at] <= '9')
            at++;
        digits.len = (size_t)(text.p + at - digits.p);
        if (at == text.len || str_to_u32(digits, UINT32_MAX, &n) < 0)
            return -EINVAL;
        while (next < ARRAY_SIZE(units) && units[next].letter != text.p[at])
            next++;
        if (next == ARRAY_SIZE(units))
            return -EINVAL;
        sum += n * units[next++].seconds;
        at++;
    }
    if (text.len == 0)
        return -EINVAL;
    if (sum <= 0 || sum > WHEN_MAX_S)
        return -ERANGE;
    *ret = sum;
    return 0;
}

/* Exactly this many digits at text[at]. */
static bool number_at(struct str text, size_t at, size_t digits, int *ret)
{
    if (at + digits > text.len)
        return false;
    *ret = 0;
    for (size_t i = at; i < at + digits; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        *ret = *ret * 10 + (text.p[i] - '0');
    }
    return true;
}

/* "HH:MM" or "HH:MM:SS" */
static bool parse_clock(struct str text, struct tm *tm)
{
    tm->tm_sec = 0;
    if ((text.len != 5 && text.len != 8) || !number_at(text, 0, 2, &tm->tm_hour) ||
        text.p[2] != ':' || !number_at(text, 3, 2, &tm->tm_min))
        return false;
    if (text.len == 8 && (text.p[5] != ':' || !number_at(text, 6, 2, &tm->tm_sec)))
        return false;
    return tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec < 60;
}

static bool parse_date(struct str text, struct tm *tm)
{
    if (text.len < 10 || !number_at(text, 0, 4, &tm->tm_year) || text.p[4] != '-' ||
        !number_at(text, 5, 2, &tm->tm_mon) || text.p[7] != '-' ||
        !number_at(text, 8, 2, &tm->tm_mday))
        return false;
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    return true;
}

/* mktime() puts February 30th and hours that a clock change leaves out right silently. */
static int64_t local_time(const struct tm *wanted)
{
    struct tm tm = *wanted;
    time_t t;

    tm.tm_isdst = -1;
    t = mktime(&tm);
    if (tm.tm_mon != wanted->tm_mon || tm.tm_mday != wanted->tm_mday ||
        tm.tm_hour != wanted->tm_hour || tm.tm_min != wanted->tm_min)
        return 0;
    return (int64_t)t;
}

static int next_clock(struct str text, int64_t now, int64_t *ret)
{
    time_t t = (time_t)now;
    struct tm tm, clock = {0};
    int64_t at;

    if (!parse_clock(text, &clock) || localtime_r(&t, &tm) == NULL)
        return -EINVAL;
    tm.tm_hour = clock.tm_hour;
    tm.tm_min = clock.tm_min;
    tm.tm_sec = clock.tm_sec;
    at = local_time(&tm);
    if (at <= now) { /* tomorrow: mktime() knows how long this month is */
        tm.tm_mday++;
        tm.tm_isdst = -1;
        at = (int64_t)mktime(&tm);
    }
    *ret = at;
    return at > now ? 0 : -ERANGE;
}

int when_parse_time(struct str text, int64_t now, int64_t *ret)
{
    struct tm tm = {0};
    int64_t t;

    if (record_parse_time(text, &t) < 0) {
        if (text.len < 10)
            return next_clock(text, now, ret);
        if (!parse_date(text, &tm) || (text.len > 10 && text.p[10] != 'T' && text.p[10] != ' ') ||
            text.len == 10 || !parse_clock((struct str){text.p + 11, text.len - 11}, &tm))
            return -EINVAL;
        t = local_time(&tm);
        if (t <= 0)
            return -EINVAL;
    }
    if (t <= now || t - now > WHEN_MAX_S)
        return -ERANGE;
    *ret = t;
    return 0;
}

const char *when_format_utc(int64_t t, char buf[static WHEN_STR_MAX])
{
    time_t time = (time_t)t;
    struct tm tm;

    if (gmtime_r(&time, &tm) == NULL ||
        strftime(buf, WHEN_STR_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        buf[0] = '\0';
    return buf;
}

/* The two largest units, rounded down: "2 h 5 min", "3 d", "40 s". */
static void format_span(int64_t s, char *buf, size_t size)
{
    if (s < 60)
        (void)snprintf(buf, size, "%" PRId64 " s", s);
    else if (s < 3600)
        (void)snprintf(buf, size, "%" PRId64 " min", s / 60);
    else if (s < 24 * 3600 && s / 60 % 60 != 0)
        (void)snprintf(buf, size, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else if (s < 24 * 3600)
        (void)snprintf(buf, size, "%" PRId64 " h", s / 3600);
    else if (s / 3600 % 24 != 0 && s < 7 * 24 * 3600)
        (void)snprintf(buf, size, "%" PRId64 " d %" PRId64 " h", s / (24 * 3600), s / 3600 % 24);
    else
        (void)snprintf(buf, size, "%" PRId64 " d", s / (24 * 3600));
}

const char *when_format(int64_t t, int64_t now, char buf[static WHEN_STR_MAX])
{
    char clock[40] = "?", span[32];
    time_t time = (time_t)t;
    struct tm tm;

    if (localtime_r(&time, &tm) == NULL ||
        strftime(clock, sizeof(clock), "%Y-%m-%d %H:%M %Z", &tm) == 0)
        clock[0] = '\0';
    format_span(t >= now ? t - now : now - t, span, sizeof(span));
    (void)snprintf(buf, WHEN_STR_MAX, t >= now ? "%s (in %s)" : "%s (%s ago)", clock, span);
    return buf;
}
