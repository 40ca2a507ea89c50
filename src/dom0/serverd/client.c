/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/client.h"

#include <errno.h>
#include <jansson.h>
#include <libsmartcols/libsmartcols.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/client.h"
#include "dom0/serverd/status.h"

#define PROGRAM       "qubes-network-serverd"
#define WITHDRAW_USEC UINT64_C(10000000)

/* ---- asking ---- */

static int control_path(const char *runtime, char path[static PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/control.sock", runtime);

    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static json_t *ask(const char *runtime, const char *question)
{
    char path[PATH_MAX];
    json_t *root = NULL;
    int r = control_path(runtime, path);

    if (r == 0)
        r = control_ask(path, question, &root);
    if (r < 0)
        (void)fprintf(stderr,
                      PROGRAM ": nobody answers in %s (%s). What stands in QubesDB stays as it is; "
                      "see: systemctl status " PROGRAM "\n",
                      runtime, strerror(-r));
    return root;
}

/* ---- showing ---- */

static const char *get(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static int add_row(struct libscols_table *table, const char *const *cells, size_t n)
{
    struct libscols_line *line = scols_table_new_line(table, NULL);
    int r = line ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && r == 0; i++)
        r = scols_line_set_data(line, i, cells[i]);
    return r;
}

static int print_wishes(const json_t *wishes)
{
    static const char *const columns[] = {"QUBE", "ADDRESS", "TOLD TO", "IN PLACE", "RECORD"};
    struct libscols_table *table = scols_new_table();
    size_t i;
    json_t *o;
    int r = table ? 0 : -ENOMEM;

    for (i = 0; i < ARRAY_SIZE(columns) && r == 0; i++)
        r = scols_table_new_column(table, columns[i], 0, i == 4 ? SCOLS_FL_WRAP : 0) ? 0 : -ENOMEM;
    json_array_foreach((json_t *)wishes, i, o) {
        const char *cells[] = {get(o, "qube"), get(o, "address"), get(o, "where"),
                               json_is_true(json_object_get(o, "in_place")) ? "yes" : "no",
                               get(o, "value")};

        if (r == 0 && strcmp(get(o, "what"), "record") == 0)
            r = add_row(table, cells, ARRAY_SIZE(cells));
    }
    if (r == 0 && !scols_table_is_empty(table))
        r = scols_print_table(table);
    scols_unref_table(table);
    return r;
}

static bool is_fault(const json_t *problem)
{
    const char *kind = get(problem, "kind");

    return strcmp(kind, "halted") != 0 && strcmp(kind, "expired") != 0;
}

/* Returns how many things are not as they should be. */
static size_t print_faults(const json_t *root, bool quiet)
{
    const json_t *qubesd = json_object_get(root, "qubesd");
    size_t i, faults = 0;
    json_t *o;

    if (!json_is_true(json_object_get(qubesd, "read"))) {
        faults++;
        if (!quiet)
            printf("qubesd does not answer (%s): what is exposed stays, nothing new opens\n",
                   get(qubesd, "error"));
    }
    json_array_foreach(json_object_get(root, "problems"), i, o) {
        faults += is_fault(o);
        if (!quiet)
            printf("%s: %s\n", get(o, "qube"), get(o, "why"));
    }
    json_array_foreach(json_object_get(root, "wishes"), i, o) {
        if (json_is_true(json_object_get(o, "in_place")))
            continue;
        faults++;
        if (!quiet)
            printf("not in the QubesDB of %s yet: %s\n", get(o, "where"), get(o, "path"));
    }
    json_array_foreach(json_object_get(root, "qubesdb"), i, o) {
        if (strcmp(get(o, "state"), "unreachable") == 0 && !quiet)
            printf("the QubesDB of %s cannot be reached: %s\n", get(o, "qube"), get(o, "error"));
    }
    return faults;
}

static int print_json(const json_t *root)
{
    return json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF ? -EIO : 0;
}

int client_status(const char *runtime, bool json)
{
    json_t *root = ask(runtime, "status\n");
    int r = 0;

    if (!root)
        return 1;
    if (json) {
        r = print_json(root);
    } else {
        r = print_wishes(json_object_get(root, "wishes"));
        (void)print_faults(root, false);
    }
    json_decref(root);
    return r < 0 ? 1 : 0;
}

int client_check(const char *runtime, bool json)
{
    json_t *root = ask(runtime, "check\n");
    size_t faults;

    if (!root)
        return 1;
    if (json)
        (void)print_json(root);
    faults = print_faults(root, json);
    if (faults == 0 && !json)
        printf("Every net qube has been told exactly what it should know.\n");
    json_decref(root);
    return faults > 0 ? 1 : 0;
}

/* ---- dry run ---- */

int client_dry_run(const struct manager_config *config)
{
    _cleanup_(manager_freep) struct manager *m = NULL;
    json_t *ops, *o;
    size_t i;
    int r = manager_new(config, &m);

    if (r >= 0)
        r = manager_run(m);
    if (r < 0) {
        (void)fprintf(stderr, PROGRAM ": cannot make a plan: %s. Nothing was changed.\n",
                      strerror(-r));
        return 1;
    }
    ops = status_json_ops(m);
    if (config->json) {
        (void)print_json(ops);
    } else {
        for (i = 0; i < m->wished.n_problems; i++)
            printf("%s: %s\n", m->wished.problems[i].whose, m->wished.problems[i].why);
        json_array_foreach(ops, i, o)
            printf("%s: would %s\n", get(o, "where"), get(o, "op"));
        if (json_array_size(ops) == 0)
            printf("nothing to do\n");
    }
    json_decref(ops);
    return 0;
}

/* ---- taking everything back ---- */

struct withdrawal {
    sd_event *event;
    struct hops *hops;
    size_t ops, failed;
};

static void finish_if_done(struct withdrawal *w)
{
    for (size_t i = 0; i < hops_count(w->hops); i++) {
        const struct hop *h = hops_at(w->hops, i);

        if (!h->swept && !h->dirty)
            return;
    }
    (void)sd_event_exit(w->event, 0);
}

static void on_ready(struct hop *h, void *user)
{
    struct withdrawal *w = user;
    struct plan plan = {0};
    size_t done = 0;
    int r = plan_make(&h->present, NULL, 0, 0, &plan);

    for (; r >= 0 && done < plan.n; done++) {
        const struct op *op = &plan.ops[done];

        r = op->kind == OP_REMOVE ? hop_remove(h, op->path) : hop_write(h, op->path, op->value);
    }
    w->ops += done;
    h->swept = r >= 0 && plan.n == 0 && h->unanswered == 0 && !h->present.overflow;
    plan_done(&plan);
    finish_if_done(w);
}

static void on_settled(struct hop *h, void *user)
{
    (void)user;
    hop_reread(h); /* what was refused, or did not fit, shows */
}

static void on_lost(struct hop *h, int error, void *user)
{
    struct withdrawal *w = user;

    h->dirty = true; /* no longer there, or nobody there to take anything back from */
    if (error != -ENOENT && error != -ECONNREFUSED && error != -ECONNRESET) {
        w->failed++;
        (void)fprintf(stderr, PROGRAM ": the QubesDB of %s cannot be reached: %s\n", h->name,
                      strerror(-error));
    }
    finish_if_done(w);
}

static void on_nothing(struct hop *h, void *user)
{
    (void)h;
    (void)user;
}

static int on_late(sd_event_source *s, uint64_t usec, void *user)
{
    struct withdrawal *w = user;

    (void)s;
    (void)usec;
    return sd_event_exit(w->event, -ETIMEDOUT);
}

static void open_one(const char *name, void *user)
{
    struct withdrawal *w = user;
    struct hop *h;

    if (hops_open(w->hops, name, &h) < 0)
        w->failed++;
}

static int withdraw(struct withdrawal *w, const char *directory)
{
    struct hops_config config = {
        .directory = directory,
        .ready = on_ready,
        .changed = on_nothing,
        .settled = on_settled,
        .lost = on_lost,
        .vanished = on_nothing,
        .user = w,
    };
    int r = sd_event_default(&w->event);

    if (r >= 0)
        r = hops_new(w->event, &config, &w->hops);
    if (r >= 0)
        r = sd_event_add_time_relative(w->event, NULL, CLOCK_MONOTONIC, WITHDRAW_USEC, 1000, on_late,
                                       w);
    if (r >= 0)
        r = hops_each_socket(w->hops, open_one, w);
    if (r >= 0 && hops_count(w->hops) > 0)
        r = sd_event_loop(w->event);
    w->hops = hops_free(w->hops);
    w->event = sd_event_unref(w->event);
    return r;
}

int client_withdraw(const struct manager_config *config)
{
    struct withdrawal w = {0};
    _cleanup_(closep) int fd = -1;
    char path[PATH_MAX];
    int r = control_path(config->runtime, path);

    if (r == 0 && control_connect(path, &fd) == 0) {
        (void)fprintf(stderr, PROGRAM ": the daemon runs and would write everything again: "
                                      "systemctl stop " PROGRAM " first\n");
        return 1;
    }
    r = withdraw(&w, config->qubesdb_directory);
    if (r < 0)
        (void)fprintf(stderr, PROGRAM ": not everything could be taken back: %s. Net qubes that "
                                      "are restarted forget it\n", strerror(-r));
    else
        printf("%zu keys were taken back\n", w.ops);
    return r < 0 || w.failed > 0 ? 1 : 0;
}
