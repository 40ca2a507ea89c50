/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/reads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/reader.h"

#define ACCURACY_USEC 1
#define SINGLES_MAX   64 /* more at once are read with everything else */

struct single {
    char name[QUBE_NAME_MAX];
    bool due, under_way;
};

struct reads {
    struct admin_client *client;
    struct tree *tree;
    struct reads_config config;
    struct reader *reader;
    sd_event_source *timer;
    bool timer_on;
    struct single singles[SINGLES_MAX];
    size_t n_singles;
    bool whole_due, whole_under_way;
};

static void timer_set(struct reads *r, uint64_t usec)
{
    if (r->timer_on && usec > 0)
        return;
    r->timer_on = sd_event_source_set_time_relative(r->timer, usec) >= 0 &&
                  sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT) >= 0;
}

static struct single *find(struct reads *r, const char *name)
{
    for (size_t i = 0; i < r->n_singles; i++)
        if (strcmp(r->singles[i].name, name) == 0)
            return &r->singles[i];
    return NULL;
}

static void ask_one(struct reads *r, struct single *s)
{
    s->due = false;
    s->under_way = true;
    if (reader_read_one(r->reader, str_from(s->name)) < 0)
        reads_mark_all(r, false); /* no memory: another time */
}

static void ask_all(struct reads *r)
{
    r->whole_due = false;
    r->whole_under_way = true;
    r->n_singles = 0; /* part of it */
    if (reader_read_all(r->reader) < 0)
        reads_mark_all(r, false);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct reads *r = user;

    (void)source;
    (void)usec;
    r->timer_on = false;
    if (r->whole_due)
        ask_all(r);
    for (size_t i = 0; i < r->n_singles; i++)
        if (r->singles[i].due)
            ask_one(r, &r->singles[i]);
    return 0;
}

void reads_mark(struct reads *r, const char *name, bool now)
{
    struct single *s = find(r, name);

    if (!s && r->n_singles == SINGLES_MAX) {
        reads_mark_all(r, now);
        return;
    }
    if (!s) {
        s = &r->singles[r->n_singles++];
        *s = (struct single){0};
        (void)stpncpy(s->name, name, sizeof(s->name) - 1);
    }
    s->due = true;
    timer_set(r, now ? 0 : READS_PAUSE_USEC);
}

void reads_mark_all(struct reads *r, bool now)
{
    r->whole_due = true;
    timer_set(r, now ? 0 : READS_PAUSE_USEC);
}

void reads_heard(struct reads *r, const char *name)
{
    const struct single *s = find(r, name);

    if ((r->whole_under_way || (s && s->under_way)) &&
        reader_read_one(r->reader, str_from(name)) == -ENOMEM)
        reads_mark_all(r, false);
}

bool reads_whole_under_way(const struct reads *r)
{
    return r->whole_under_way;
}

/* ---- answers ---- */

static void drop(struct reads *r, struct str name)
{
    for (size_t i = 0; i < r->n_singles; i++) {
        struct single *s = &r->singles[i];

        if (!str_is(name, s->name))
            continue;
        s->under_way = false;
        if (!s->due)
            *s = r->singles[--r->n_singles];
        return;
    }
}

static void on_one(struct qube *q, struct str name, void *user)
{
    struct reads *r = user;
    char text[QUBE_NAME_MAX] = "";

    if (!tree_valid_name(name))
        return;
    memcpy(text, name.p, name.len);
    drop(r, name);
    r->config.one(q, text, r->config.user);
}

/* The stream has ended too then, and everything is read again after it. */
static void on_failed(int error, struct str name, void *user)
{
    (void)error;
    drop(user, name);
}

static void on_whole(int error, void *user)
{
    struct reads *r = user;

    r->whole_under_way = false;
    r->config.whole(error, r->config.user);
}

/* ---- life ---- */

static int make_reader(struct reads *r)
{
    struct reader_config config = {
        .whole = on_whole, .one = on_one, .failed = on_failed, .user = r};

    return reader_new(r->client, r->tree, &config, &r->reader);
}

void reads_stop(struct reads *r)
{
    r->n_singles = 0;
    r->whole_due = r->whole_under_way = r->timer_on = false;
    (void)sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
}

int reads_new(sd_event *event, struct admin_client *c, struct tree *t,
              const struct reads_config *config, struct reads **ret)
{
    _cleanup_(reads_freep) struct reads *r = calloc(1, sizeof(*r));
    int e;

    if (!r)
        return -ENOMEM;
    r->client = c;
    r->tree = t;
    r->config = *config;
    e = sd_event_add_time_relative(event, &r->timer, CLOCK_MONOTONIC, 0, ACCURACY_USEC, on_timer, r);
    if (e >= 0)
        e = sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
    if (e >= 0)
        e = make_reader(r);
    if (e < 0)
        return e;
    *ret = TAKE_PTR(r);
    return 0;
}

struct reads *reads_free(struct reads *r)
{
    if (!r)
        return NULL;
    r->reader = reader_free(r->reader);
    r->timer = sd_event_source_disable_unref(r->timer);
    free(r);
    return NULL;
}

void reads_freep(struct reads **r)
{
    *r = reads_free(*r);
}
