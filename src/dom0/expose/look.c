/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/look.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dom0/expose/say.h"
#include "qubesdb/conn.h"

#define PLACE "/var/run/qubes"

struct look_job {
    struct look *look;
    struct qdb_conn *conn;
    size_t waiting; /* answers */
    bool failed;
};

void look_done(struct look *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->keys[i].value);
    free(l->keys);
    *l = (struct look){0};
}

const char *look_value(const struct look *l, const char *path)
{
    for (size_t i = 0; l != NULL && i < l->n; i++) {
        if (strcmp(l->keys[i].path, path) == 0)
            return l->keys[i].value;
    }
    return NULL;
}

static int look_add(struct look *l, const char *path, struct str value)
{
    struct look_key *key;

    if (l->n == LOOK_KEYS_MAX || strlen(path) >= WISH_PATH_MAX)
        return 0;
    if (l->n == l->capacity) {
        size_t capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        struct look_key *grown = reallocarray(l->keys, capacity, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        l->keys = grown;
        l->capacity = capacity;
    }
    key = &l->keys[l->n];
    key->value = strndup(value.p, value.len);
    if (key->value == NULL)
        return -ENOMEM;
    key->len = value.len;
    (void)snprintf(key->path, sizeof(key->path), "%s", path);
    l->n++;
    return 0;
}

static void on_failed(int error, void *user)
{
    struct look_job *job = user;

    job->look->error = error;
    job->failed = true;
}

static void take(struct look *l, const char *path, struct str value)
{
    struct addr a;
    int r;

    if (strcmp(path, "/qubes-ip") == 0 || strcmp(path, "/qubes-ip6") == 0) {
        if (addr_parse(value, &a) == 0)
            l->ip[a.family == AF_INET6] = a;
        return;
    }
    r = look_add(l, path, value);
    if (r < 0)
        l->error = r;
}

static void on_read(const struct qdb_message *m, void *user)
{
    struct look_job *job = user;

    job->waiting--;
    if (m->type == QDB_RESP_READ)
        take(job->look, m->path, m->value);
}

static void on_multiread(const struct qdb_message *m, void *user)
{
    struct look_job *job = user;

    if (m->type == QDB_RESP_MULTIREAD && m->path[0] != '\0')
        take(job->look, m->path, m->value);
    else
        job->waiting--; /* the last one, or a refusal */
}

static int ask(struct look_job *job, enum qdb_type type, const char *path)
{
    struct qdb_request request = {.type = type,
                                  .path = path,
                                  .value = {"", 0},
                                  .answer = type == QDB_CMD_READ ? on_read : on_multiread,
                                  .user = job};
    int r = qdb_conn_send(job->conn, &request);

    job->waiting += r == 0;
    return r;
}

static int begin(sd_event *event, const char *directory, struct look *l, struct look_job *job,
                 const struct addr *policies, size_t n_policies)
{
    char path[256], address[ADDR_STR_MAX];
    struct qdb_conn_config config = {.socket = path, .failed = on_failed, .user = job};
    int r = snprintf(path, sizeof(path), "%s/qubesdb.%s.sock", directory, l->qube);

    if (r < 0 || (size_t)r >= sizeof(path))
        return -ENAMETOOLONG;
    r = qdb_conn_new(event, &config, &job->conn);
    if (r == 0)
        r = ask(job, QDB_CMD_READ, "/qubes-ip");
    if (r == 0)
        r = ask(job, QDB_CMD_READ, "/qubes-ip6");
    if (r == 0)
        r = ask(job, QDB_CMD_MULTIREAD, "/network-server");
    for (size_t i = 0; i < n_policies && r == 0; i++) {
        (void)snprintf(path, sizeof(path), "/qubes-firewall/%s/policy",
                       addr_format(&policies[i], address));
        r = ask(job, QDB_CMD_READ, path);
    }
    return r;
}

static bool all_done(const struct look_job *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!jobs[i].failed && jobs[i].waiting > 0)
            return false;
    }
    return true;
}

int look_all(sd_event *event, const char *directory, struct look *looks, size_t n,
             const struct addr *policies, size_t n_policies)
{
    _cleanup_(freep) struct look_job *jobs = calloc(n > 0 ? n : 1, sizeof(*jobs));
    uint64_t begin_us = clock_now_us();
    int r = 0;

    if (directory == NULL)
        directory = getenv("QUBESDB_DIRECTORY");
    if (directory == NULL || directory[0] == '\0')
        directory = PLACE;
    if (jobs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        jobs[i].look = &looks[i];
        looks[i].error = begin(event, directory, &looks[i], &jobs[i], policies, n_policies);
        jobs[i].failed = looks[i].error < 0;
    }
    while (r >= 0 && !all_done(jobs, n)) { /* connections have a time limit */
        r = sd_event_run(event, 500000);
        say_progress(begin_us, "reading QubesDB", 0, 0);
    }
    say_progress_end();
    for (size_t i = 0; i < n; i++)
        (void)qdb_conn_free(jobs[i].conn);
    return r < 0 ? r : 0;
}
