/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inbound/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "inbound/kernel.h"
#include "inbound/manager.h"
#include "qubesdb/mirror.h"

#define READING_US UINT64_C(3000000)

struct reading {
    sd_event *event;
    struct keys keys;
    int error; /* 1: not yet */
};

struct status {
    struct reading reading;
    struct door door;
    struct door_element *wished;
    size_t n_wished;
    struct kernel kernel;
    struct kernel_changes changes;
    const char *path, *value; /* the key that counts, or NULL; borrowed from the reading */
    char why[DOOR_WHY_MAX];
    int refused, unread; /* the value; the kernel: -errno */
};

static void finish(struct reading *r, int error)
{
    r->error = error;
    (void)sd_event_exit(r->event, 0);
}

static void on_begin(void *user)
{
    keys_done(&((struct reading *)user)->keys);
}

static void on_entry(const char *path, struct str value, void *user)
{
    struct reading *r = user;

    if (keys_set(&r->keys, path, &value) < 0)
        finish(r, -ENOMEM);
}

static void on_end(void *user)
{
    struct reading *r = user;

    finish(r, r->error == 1 ? 0 : r->error);
}

static void on_changed(const char *path, const struct str *value, void *user)
{
    (void)path;
    (void)value;
    (void)user;
}

static void on_lost(int error, void *user)
{
    finish(user, error);
}

static int on_time(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    finish(user, -ETIMEDOUT);
    return 0;
}

static void unref_event(sd_event **event)
{
    *event = sd_event_unref(*event);
}

static int read_keys(const char *socket, struct reading *reading)
{
    _cleanup_(unref_event) sd_event *event = NULL;
    _cleanup_(qdb_mirror_freep) struct qdb_mirror *mirror = NULL;
    struct qdb_mirror_config config = {.socket = socket, .prefixes = keys_prefixes,
                                       .wants = keys_want, .begin = on_begin, .entry = on_entry,
                                       .end = on_end, .changed = on_changed, .lost = on_lost,
                                       .user = reading};
    int r = sd_event_new(&event);

    reading->error = 1;
    if (r < 0)
        return r;
    reading->event = event;
    r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, clock_now_us() + READING_US, 1, on_time,
                          reading);
    if (r >= 0)
        r = qdb_mirror_new(event, &config, &mirror);
    if (r >= 0)
        r = sd_event_loop(event);
    return r < 0 ? r : reading->error;
}

/* 0, or -errno of QubesDB: then nothing is known. */
static int look(const char *qubesdb, struct status *s)
{
    int r = read_keys(qubesdb, &s->reading);

    if (r < 0)
        return r;
    s->path = keys_choose(&s->reading.keys, &s->value);
    if (s->path != NULL)
        s->refused = door_parse(str_from(s->value), &s->door, s->why);
    if (s->refused == 0)
        s->refused = door_elements(&s->door, &s->wished, &s->n_wished);
    if (s->refused < 0 && s->why[0] == '\0')
        (void)snprintf(s->why, sizeof(s->why), "%s", strerror(-s->refused));
    s->unread = kernel_open(&s->kernel, NULL);
    for (unsigned i = 0; i < 8 && (i == 0 || s->unread == -ERESTART); i++)
        s->unread = s->unread == 0 || s->unread == -ERESTART
                        ? kernel_pass(&s->kernel, s->wished, s->n_wished, &s->changes)
                        : s->unread;
    return 0;
}

static void status_done(struct status *s)
{
    keys_done(&s->reading.keys);
    door_done(&s->door);
    free(s->wished);
    kernel_done(&s->kernel);
    kernel_changes_done(&s->changes);
}

static const char *change_text(const struct kernel_change *c, char *buf, size_t size)
{
    char text[DOOR_ELEMENT_STR_MAX];

    (void)snprintf(buf, size, "%s %s", c->add ? "open" : "close",
                   c->jump ? "the way from custom-input" : door_format(&c->element, text));
    return buf;
}

static bool is_missing(const struct status *s, const struct addr *addr)
{
    return s->kernel.missing[addr->family == AF_INET6] != NULL;
}

static const char *rules_of(const struct status *s, size_t i, char *buf, size_t size)
{
    struct str rest = str_from(s->value), piece = {"", 0};

    for (size_t k = 0; k <= i + 1; k++)
        (void)str_next(&rest, '|', &piece);
    (void)str_next(&piece, '=', &rest);
    return str_escape(piece, buf, size);
}

static json_t *to_json(const struct status *s)
{
    json_t *addresses = json_array(), *differences = json_array();
    char buf[4096], addr[ADDR_STR_MAX];

    for (size_t i = 0; i < s->door.n; i++)
        (void)json_array_append_new(addresses,
            json_pack("{ss ss ss?}", "address", addr_format(&s->door.at[i].addr, addr), "allow",
                      rules_of(s, i, buf, sizeof(buf)), "missing",
                      s->kernel.missing[s->door.at[i].addr.family == AF_INET6]));
    for (size_t i = 0; i < s->changes.n; i++)
        (void)json_array_append_new(differences,
            json_string(change_text(&s->changes.items[i], buf, sizeof(buf))));
    return json_pack("{ss ss? ss? ss? so so}", "version", SLUICE_VERSION, "key", s->path, "refused",
                     s->refused < 0 ? s->why : NULL, "kernel",
                     s->unread < 0 ? strerror(-s->unread) : NULL, "addresses", addresses,
                     "differences", differences);
}

static int print_json(const struct status *s)
{
    json_t *root = to_json(s);
    int r = root == NULL || json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF;

    json_decref(root);
    return r;
}

static void print_state(const struct status *s)
{
    char buf[4096], addr[ADDR_STR_MAX];

    if (s->path == NULL)
        printf("Nothing is exposed: QubesDB has neither %s nor %s\n", DOOR_PATH,
               DOOR_VM_CONFIG_PATH);
    else if (s->refused < 0)
        printf("%s is refused, nothing is open: %s\n", s->path, s->why);
    for (size_t i = 0; i < s->door.n; i++)
        printf("%s: %s%s\n", addr_format(&s->door.at[i].addr, addr),
               rules_of(s, i, buf, sizeof(buf)),
               is_missing(s, &s->door.at[i].addr) ? " (cannot be opened, see below)" : "");
    for (unsigned f = 0; f < DOOR_FAMILIES; f++) {
        if (s->kernel.missing[f] != NULL)
            printf("%s\n", s->kernel.missing[f]);
    }
    if (s->unread < 0)
        printf("The kernel's rules cannot be read (%s); root may\n", strerror(-s->unread));
    else if (s->changes.n == 0)
        printf("The kernel has exactly what it should have.\n");
}

static void print_differences(const struct status *s, const char *word)
{
    char buf[256];

    for (size_t i = 0; i < s->changes.n; i++)
        printf("%s%s\n", word, change_text(&s->changes.items[i], buf, sizeof(buf)));
}

int status_print(const char *qubesdb, bool dry_run, bool json)
{
    _cleanup_(status_done) struct status s = {.refused = 0};
    int r = look(qubesdb, &s);

    if (r < 0) {
        (void)fprintf(stderr, "qubes-inbound: QubesDB cannot be read: %s. Nothing is known.\n",
                      strerror(-r));
        return 1;
    }
    if (json) {
        if (print_json(&s) != 0)
            return 1;
    } else if (dry_run) {
        print_differences(&s, "would ");
        if (s.changes.n == 0 && s.unread == 0)
            printf("nothing to do\n");
    } else {
        print_state(&s);
        print_differences(&s, "differs: would ");
    }
    if (dry_run)
        return s.unread < 0;
    return s.refused < 0 || s.unread < 0 || s.changes.n > 0;
}
