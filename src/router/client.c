/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/client.h"

#include <errno.h>
#include <jansson.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "control/client.h"
#include "router/sources.h"
#include "router/status_json.h"

#define READING_US UINT64_C(3000000)

/* ---- asking ---- */

static json_t *ask(const char *control, const char *question)
{
    json_t *root = NULL;
    int r = control_ask(control, question, &root);

    if (r < 0)
        (void)fprintf(stderr,
                      "qubes-routing-manager: no answer from the running program at %s: %s.\n"
                      "Nothing is known about the exposures; see: systemctl status "
                      "qubes-routing-manager\n",
                      control, strerror(-r));
    return root;
}

/* ---- showing ---- */

static const char *get(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s != NULL ? s : "";
}

static void join(const json_t *array, char *buf, size_t size)
{
    size_t i, used = 0;
    json_t *v;

    buf[0] = '\0';
    json_array_foreach((json_t *)array, i, v) {
        int n = snprintf(buf + used, size - used, "%s%s", i > 0 ? "," : "", json_string_value(v));

        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
}

/* "3 connections, 12.3 kB"; "" where nothing is counted. */
static void format_counters(const json_t *counters, char *buf, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    long long connections = json_integer_value(json_object_get(counters, "connections"));
    double bytes = (double)json_integer_value(json_object_get(counters, "bytes"));
    size_t unit = 0;

    buf[0] = '\0';
    if (counters == NULL)
        return;
    for (; bytes >= 1000 && unit + 1 < ARRAY_SIZE(units); unit++)
        bytes /= 1000;
    if (json_is_true(json_object_get(counters, "offloaded")))
        (void)snprintf(buf, size, "%lld, not counted (offloaded)", connections);
    else
        (void)snprintf(buf, size, "%lld, %.*f %s", connections, unit > 0 ? 1 : 0, bytes,
                       units[unit]);
}

static int add_row(struct libscols_table *table, const json_t *o)
{
    struct libscols_line *line = scols_table_new_line(table, NULL);
    char vifs[256], uplinks[256], counters[64];
    const char *cells[7];
    int r = 0;

    if (line == NULL)
        return -ENOMEM;
    join(json_object_get(o, "vifs"), vifs, sizeof(vifs));
    join(json_object_get(o, "answered_on"), uplinks, sizeof(uplinks));
    cells[0] = get(o, "address");
    cells[1] = get(o, "qube");
    cells[2] = get(o, "state");
    cells[3] = vifs;
    cells[4] = uplinks;
    format_counters(json_object_get(o, "counters"), counters, sizeof(counters));
    cells[5] = counters;
    cells[6] = get(o, "reason");
    for (size_t i = 0; i < ARRAY_SIZE(cells) && r == 0; i++)
        r = scols_line_set_data(line, i, cells[i]);
    return r;
}

static int print_table(const json_t *addresses)
{
    static const char *const columns[] = {"ADDRESS", "QUBE", "STATE", "VIF", "ANSWERED ON",
                                          "CONNECTIONS", "WHY"};
    struct libscols_table *table = scols_new_table();
    size_t i;
    json_t *o;
    int r = 0;

    if (table == NULL)
        return -ENOMEM;
    for (i = 0; i < ARRAY_SIZE(columns) && r == 0; i++)
        r = scols_table_new_column(table, columns[i], 0, i == 6 ? SCOLS_FL_WRAP : 0) == NULL ? -ENOMEM
                                                                                         : 0;
    json_array_foreach((json_t *)addresses, i, o) {
        if (r == 0)
            r = add_row(table, o);
    }
    if (r == 0)
        r = scols_print_table(table);
    scols_unref_table(table);
    return r;
}

static void print_summary(const json_t *root)
{
    const json_t *platform = json_object_get(root, "platform"), *one;
    const char *family;
    char uplinks[256] = "";
    json_t *names = json_array(), *v;
    size_t i;

    json_array_foreach(json_object_get(root, "uplinks"), i, v)
        (void)json_array_append(names, json_object_get(v, "name"));
    join(names, uplinks, sizeof(uplinks));
    json_decref(names);
    printf("qubes-routing-manager %s: %lld of %zu addresses are served; uplinks: %s\n",
           get(root, "version"), json_integer_value(json_object_get(root, "open")),
           json_array_size(json_object_get(root, "addresses")), uplinks[0] != '\0' ? uplinks : "none");
    if (!json_is_true(json_object_get(json_object_get(root, "qubesdb"), "readable")))
        printf("QubesDB cannot be read (%s): what is open stays, nothing new opens\n",
               get(json_object_get(root, "qubesdb"), "error"));
    if (json_is_true(json_object_get(root, "vpn_qube")))
        printf("This is a VPN qube: nothing is exposed through it\n");
    json_object_foreach((json_t *)platform, family, one) {
        if (!json_is_true(json_object_get(one, "recognised")))
            printf("%s: %s\n", family, get(one, "missing"));
    }
}

static void print_refused(const json_t *root)
{
    size_t i, total = (size_t)json_integer_value(json_object_get(root, "refused_keys_total"));
    json_t *o;

    json_array_foreach(json_object_get(root, "refused_keys"), i, o)
        printf("refused: key %s %s\n", get(o, "key"), get(o, "reason"));
    if (total > i)
        printf("refused: %zu more keys\n", total - i);
}

static int print_json(const json_t *root)
{
    return json_dumpf(root, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF ? -EIO : 0;
}

static size_t compact_size(const json_t *o)
{
    return json_dumpb(o, NULL, 0, JSON_COMPACT);
}

/* What a key says is the longest part, and dom0, which wrote it, knows it. */
static bool drop_values(json_t *addresses)
{
    size_t i, k;
    json_t *o, *key;
    bool any = false;

    json_array_foreach(addresses, i, o) {
        json_array_foreach(json_object_get(o, "keys"), k, key)
            any = json_object_del(key, "value") == 0 || any;
    }
    return any;
}

/*
 * Not more than max bytes, on one line: where it is too much, first without what the keys say and
 * without the LAN's hosts, then without the last addresses. "cut" says so.
 */
static int print_cut(json_t *root, size_t max)
{
    json_t *addresses = json_object_get(root, "addresses"), *cut = json_object(),
           *neighbours = json_object_get(root, "neighbours");
    size_t n = json_array_size(addresses), size = compact_size(root) + 1; /* the end of the line */
    bool values;

    if (size > max) {
        values = drop_values(addresses);
        (void)json_object_set(root, "cut", cut);
        (void)json_object_set_new(cut, "neighbours_left_out",
                                  json_integer((json_int_t)json_array_size(neighbours)));
        (void)json_array_clear(neighbours);
        (void)json_object_set_new(cut, "values_left_out", json_boolean(values));
        (void)json_object_set_new(cut, "addresses_left_out", json_integer(0));
        size = compact_size(root) + 24; /* and the digits of the number */
        while (size > max && json_array_size(addresses) > 0) {
            size_t last = json_array_size(addresses) - 1;

            size -= compact_size(json_array_get(addresses, last)) + (last > 0);
            (void)json_array_remove(addresses, last);
        }
        (void)json_object_set_new(cut, "addresses_left_out",
                                  json_integer((json_int_t)(n - json_array_size(addresses))));
    }
    json_decref(cut);
    return json_dumpf(root, stdout, JSON_COMPACT) < 0 || putchar('\n') == EOF ? -EIO : 0;
}

int client_status(const char *control, bool json, size_t max_size)
{
    json_t *root = ask(control, "status\n");
    const json_t *addresses = json_object_get(root, "addresses");
    int r = 0;

    if (root == NULL)
        return 1;
    if (json && max_size > 0) {
        r = print_cut(root, max_size);
    } else if (json) {
        r = print_json(root);
    } else {
        print_summary(root);
        if (json_array_size(addresses) > 0)
            r = print_table(addresses);
        print_refused(root);
    }
    json_decref(root);
    return r < 0 ? 1 : 0;
}

int client_check(const char *control, bool json)
{
    json_t *root = ask(control, "check\n"), *o;
    const json_t *differences = json_object_get(root, "differences");
    bool differs;
    size_t i;

    if (root == NULL)
        return 1;
    differs = json_array_size(differences) > 0;
    if (json) {
        (void)print_json(root);
    } else {
        print_summary(root);
        json_array_foreach((json_t *)differences, i, o)
            printf("differed, now put right: %s\n", json_string_value(o));
        if (!differs)
            printf("The kernel has exactly what it should have.\n");
    }
    json_decref(root);
    return differs ? 1 : 0;
}

/* ---- dry run ---- */

struct reading {
    sd_event *event;
    int error; /* 1: not yet */
};

static void on_read(void *user)
{
    struct reading *r = user;

    r->error = 0;
    (void)sd_event_exit(r->event, 0);
}

static void on_lost(int error, void *user)
{
    struct reading *r = user;

    r->error = error;
    (void)sd_event_exit(r->event, 0);
}

static int on_time(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    on_lost(-ETIMEDOUT, user);
    return 0;
}

static void unref_event(sd_event **event)
{
    *event = sd_event_unref(*event);
}

static int read_wishes(const char *socket, struct model *m)
{
    _cleanup_(unref_event) sd_event *event = NULL;
    _cleanup_(wishes_freep) struct wishes *wishes = NULL;
    struct reading reading = {.error = 1};
    struct wishes_ops ops = {on_read, on_lost, &reading};
    struct timespec now;
    int r = sd_event_new(&event);

    if (r < 0)
        return r;
    reading.event = event;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC,
                          (uint64_t)now.tv_sec * 1000000 + READING_US, 1, on_time, &reading);
    if (r >= 0)
        r = wishes_new(event, socket, m, &ops, &wishes);
    if (r >= 0)
        r = sd_event_loop(event);
    return r < 0 ? r : reading.error;
}

static int make_plan(const struct manager_config *config, struct model *m, struct plan *p)
{
    struct kernel kernel;
    int r = kernel_open(&kernel, NULL);

    if (r < 0)
        return r;
    r = read_wishes(config->qubesdb, m);
    m->readable = r == 0;
    if (r == 0)
        r = kernel_read_network(&kernel, m);
    if (r == 0)
        r = kernel_read_rules(&kernel, m);
    if (r == 0)
        r = kernel_read_unnotified(&kernel, m);
    if (r == 0)
        r = kernel_read_listeners(&kernel, m);
    m->vpn_here = sources_is_vpn_qube(config->service_dir);
    m->now = (int64_t)time(NULL);
    model_touch_all(m);
    if (r == 0)
        r = plan_slots(m, model_take_dirty(m), p);
    if (r == 0)
        r = plan_sysctls(m, p);
    kernel_done(&kernel);
    return r;
}

static void print_verdicts(const struct plan *p)
{
    char addr[ADDR_STR_MAX];

    for (size_t i = 0; i < p->n_planned; i++) {
        const struct planned *one = &p->planned[i];

        printf("%s: %s%s%s\n", addr_format(&one->slot->addr, addr), plan_verdict_name(one->verdict),
               one->reason[0] != '\0' ? ": " : "", one->reason);
    }
}

int client_dry_run(const struct manager_config *config, bool json)
{
    _cleanup_(model_freep) struct model *m = model_new();
    _cleanup_(plan_done) struct plan plan = {0};
    json_t *ops = json_array(), *o;
    size_t i;
    int r = m != NULL && ops != NULL ? make_plan(config, m, &plan) : -ENOMEM;

    if (r < 0) {
        (void)fprintf(stderr, "qubes-routing-manager: cannot make a plan: %s. Nothing was changed.\n",
                      strerror(-r));
    } else {
        status_json_ops(ops, m, &plan);
        if (json) {
            (void)print_json(ops);
        } else {
            print_verdicts(&plan);
            json_array_foreach(ops, i, o)
                printf("would %s\n", json_string_value(o));
            if (json_array_size(ops) == 0)
                printf("nothing to do\n");
        }
    }
    json_decref(ops);
    return r < 0 ? 1 : 0;
}
