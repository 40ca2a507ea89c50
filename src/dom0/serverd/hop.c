/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "dom0/serverd/hop_private.h"

#define RETRY_FIRST_USEC  20000
#define RETRY_MAX_USEC    5000000
#define REREAD_PAUSE_USEC 50000
#define ACCURACY_USEC     1
#define QUEUE_MAX         (QDB_CONN_QUEUE_MAX - 2 * HOP_FETCHES_MAX)

static const char *const prefixes[] = {PRESENT_MARKER, PRESENT_FIREWALL, PRESENT_OLDER, PRESENT_IP,
                                       PRESENT_MAPPED};

static void timer_set(struct hop *h, uint64_t usec)
{
    (void)sd_event_source_set_time_relative(h->timer, usec);
    (void)sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
}

static void timer_stop(struct hop *h)
{
    (void)sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
}

static void forget(struct hop *h)
{
    h->conn = qdb_conn_free(h->conn);
    h->state = HOP_DOWN;
    present_done(&h->present);
    present_done(&h->incoming);
    h->n_fetches = h->unanswered = h->blocks_unanswered = 0;
    h->lists_left = 0;
    h->reread = false;
    h->echo[0] = '\0';
}

/* Nobody listens at a socket: the file is stale, or so new that the daemon is not there yet. */
static bool waits_for_directory(const struct hop *h, int error)
{
    if (!h->hops->watched)
        return false;
    return error == -ENOENT || (error == -ECONNREFUSED && h->retry_usec >= RETRY_MAX_USEC);
}

static void hop_fail(struct hop *h, int error)
{
    bool waits = waits_for_directory(h, error);
    bool tell = h->state == HOP_READY || !h->told || (waits && error == -ECONNREFUSED);

    forget(h);
    h->error = error;
    if (waits) {
        timer_stop(h);
    } else {
        timer_set(h, h->retry_usec);
        h->retry_usec = h->retry_usec < RETRY_MAX_USEC / 2 ? h->retry_usec * 2 : RETRY_MAX_USEC;
    }
    h->told = true;
    if (tell)
        h->hops->config.lost(h, error, h->hops->config.user);
}

static void on_failed(int error, void *user)
{
    hop_fail(user, error);
}

/* ---- single keys ---- */

static void reread_soon(struct hop *h)
{
    if (h->reread)
        return;
    h->reread = true;
    if (h->state == HOP_READY)
        timer_set(h, REREAD_PAUSE_USEC);
}

static struct hop_fetch *find_fetch(struct hop *h, const char *path)
{
    for (size_t i = 0; i < h->n_fetches; i++)
        if (strcmp(h->fetches[i].path, path) == 0)
            return &h->fetches[i];
    return NULL;
}

static void on_read(const struct qdb_message *answer, void *user);

static void fetch_send(struct hop *h, struct hop_fetch *f)
{
    struct qdb_request request = {
        .type = QDB_CMD_READ, .path = f->path, .answer = on_read, .user = h};

    if (qdb_conn_send(h->conn, &request) >= 0)
        return;
    *f = h->fetches[--h->n_fetches];
    reread_soon(h);
}

static void fetch(struct hop *h, const char *path)
{
    struct hop_fetch *f = find_fetch(h, path);

    if (f) {
        f->again = true;
        return;
    }
    if (h->n_fetches == HOP_FETCHES_MAX) {
        reread_soon(h);
        return;
    }
    f = &h->fetches[h->n_fetches++];
    *f = (struct hop_fetch){0};
    memcpy(f->path, path, strlen(path) + 1);
    fetch_send(h, f);
}

static void on_read(const struct qdb_message *answer, void *user)
{
    struct hop *h = user;
    struct hop_fetch *f = find_fetch(h, answer->path);
    int r;

    h->echo[0] = '\0';
    if (!f || answer->type == QDB_RESP_ERROR) {
        hop_fail(h, -EPROTO);
        return;
    }
    if (f->again) {
        f->again = false;
        fetch_send(h, f);
        return;
    }
    *f = h->fetches[--h->n_fetches];
    if (answer->type == QDB_RESP_READ)
        r = present_set(&h->present, answer->path, answer->value);
    else
        r = present_remove(&h->present, answer->path);
    if (r == -ENOMEM)
        hop_fail(h, r);
    else if (r > 0 && !present_is_qubesds(answer->path))
        h->hops->config.changed(h, h->hops->config.user);
}

/* A directory was removed: of its keys, those that are known. */
static void fetch_below(struct hop *h, const char *directory)
{
    size_t len = strlen(directory);

    for (size_t i = present_from(&h->present, directory);
         i < h->present.n && strncmp(h->present.keys[i].path, directory, len) == 0 && !h->reread;
         i++)
        fetch(h, h->present.keys[i].path);
}

static void on_event(const char *path, void *user)
{
    struct hop *h = user;
    size_t len = strlen(path);

    bool directory = len > 0 && path[len - 1] == '/';
    bool ours = len > 0 && strcmp(h->echo, path) == 0;

    h->echo[0] = '\0';
    if (ours)
        return;
    /* A key is asked for after the lists under way; what a directory held is not known yet. */
    if (directory && h->state == HOP_READING)
        h->reread = true;
    else if (directory)
        fetch_below(h, path);
    else if (present_wants(path))
        fetch(h, path);
}

/* ---- everything ---- */

static void reading_end(struct hop *h)
{
    present_done(&h->present);
    h->present = h->incoming;
    h->incoming = (struct present){0};
    h->state = HOP_READY;
    h->error = 0;
    h->told = false;
    h->retry_usec = RETRY_FIRST_USEC;
    if (h->reread)
        timer_set(h, REREAD_PAUSE_USEC);
    h->hops->config.ready(h, h->hops->config.user);
}

static void on_multiread(const struct qdb_message *answer, void *user)
{
    struct hop *h = user;
    int r = 0;

    h->echo[0] = '\0';
    if (answer->type != QDB_RESP_MULTIREAD) {
        hop_fail(h, -EPROTO);
        return;
    }
    if (answer->path[0] == '\0') {
        if (--h->lists_left == 0)
            reading_end(h);
        return;
    }
    if (present_wants(answer->path))
        r = present_set(&h->incoming, answer->path, answer->value);
    if (r == -ENOMEM)
        hop_fail(h, r);
}

static int start_reading(struct hop *h)
{
    int r = 0;

    timer_stop(h);
    present_done(&h->incoming);
    h->state = HOP_READING;
    h->reread = false;
    h->lists_left = ARRAY_SIZE(prefixes);
    for (size_t i = 0; i < ARRAY_SIZE(prefixes) && r >= 0; i++) {
        struct qdb_request request = {
            .type = QDB_CMD_MULTIREAD, .path = prefixes[i], .answer = on_multiread, .user = h};

        r = qdb_conn_send(h->conn, &request);
    }
    return r;
}

static void on_watch(const struct qdb_message *answer, void *user)
{
    struct hop *h = user;
    int r = answer->type == QDB_RESP_OK ? start_reading(h) : -EPROTO;

    if (r < 0)
        hop_fail(h, r);
}

/* ---- the connection ---- */

static bool look(const struct hop *h, struct stat *ret)
{
    char path[HOP_SOCKET_MAX];

    return hop_socket(h->hops, h->name, path) == 0 && stat(path, ret) == 0;
}

static int connect_hop(struct hop *h)
{
    struct qdb_request watch = {.type = QDB_CMD_WATCH, .path = "/", .answer = on_watch, .user = h};
    char path[HOP_SOCKET_MAX];
    struct qdb_conn_config config = {
        .socket = path, .event = on_event, .failed = on_failed, .user = h};
    struct stat st;
    int r = hop_socket(h->hops, h->name, path);

    if (r < 0)
        return r;
    if (stat(path, &st) < 0)
        return -errno;
    h->device = st.st_dev;
    h->inode = st.st_ino;
    h->made = st.st_ctim;
    r = qdb_conn_new(h->hops->event, &config, &h->conn);
    if (r >= 0)
        r = qdb_conn_send(h->conn, &watch);
    if (r >= 0)
        h->state = HOP_READING;
    return r;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct hop *h = user;
    int r = 0;

    (void)source;
    (void)usec;
    switch (h->state) {
    case HOP_DOWN:
        r = connect_hop(h);
        break;
    case HOP_READY:
        r = start_reading(h);
        break;
    case HOP_READING:
        break;
    }
    if (r < 0)
        hop_fail(h, r);
    return 0;
}

bool hop_has_socket(const struct hop *h)
{
    struct stat st;

    return look(h, &st);
}

void hop_reopen(struct hop *h)
{
    forget(h);
    h->retry_usec = RETRY_FIRST_USEC;
    h->told = false;
    h->swept = false;
    h->error = -ENOENT;
    timer_set(h, 0);
}

void hop_check(struct hop *h)
{
    struct stat st;
    bool there = look(h, &st);

    if (h->conn && there && st.st_dev == h->device && st.st_ino == h->inode &&
        st.st_ctim.tv_sec == h->made.tv_sec && st.st_ctim.tv_nsec == h->made.tv_nsec)
        return;
    if (h->conn && !there)
        return; /* its end will be told */
    hop_reopen(h);
}

void hop_reread(struct hop *h)
{
    if (h->state != HOP_READING)
        timer_set(h, 0);
    h->reread = h->state != HOP_DOWN;
}

/* ---- writing ---- */

static bool is_block(const char *path)
{
    return strncmp(path, PRESENT_FIREWALL, strlen(PRESENT_FIREWALL)) == 0;
}

static void on_written(const struct qdb_message *answer, void *user)
{
    struct hop *h = user;

    h->unanswered--;
    h->blocks_unanswered -= is_block(answer->path);
    /* The daemon tells us of our own change right after its answer, before anything else. */
    if (answer->type == QDB_RESP_OK)
        memcpy(h->echo, answer->path, sizeof(h->echo));
    /* Refused, or gone before it could be removed: see what is there. */
    if (answer->type == QDB_RESP_ERROR)
        reread_soon(h);
    if (h->unanswered == 0)
        h->hops->config.settled(h, h->hops->config.user);
}

size_t hop_room(const struct hop *h)
{
    return h->state == HOP_READY && h->unanswered < QUEUE_MAX ? QUEUE_MAX - h->unanswered : 0;
}

static int queue(struct hop *h, enum qdb_type type, const char *path, struct str value)
{
    struct qdb_request request = {
        .type = type, .path = path, .value = value, .answer = on_written, .user = h};
    struct hop_fetch *f;
    int r;

    if (h->state != HOP_READY)
        return -ENOTCONN;
    if (hop_room(h) == 0)
        return -ENOBUFS;
    r = qdb_conn_send(h->conn, &request);
    if (r < 0)
        return r;
    h->unanswered++;
    h->blocks_unanswered += is_block(path);
    f = find_fetch(h, path);
    if (f)
        f->again = true;
    return 0;
}

int hop_write(struct hop *h, const char *path, struct str value)
{
    int r = queue(h, QDB_CMD_WRITE, path, value);

    if (r < 0 || !present_wants(path))
        return r;
    r = present_set(&h->present, path, value);
    if (r == -ENOMEM)
        reread_soon(h);
    return 0;
}

int hop_remove(struct hop *h, const char *path)
{
    int r = queue(h, QDB_CMD_RM, path, (struct str){0});

    if (r >= 0)
        (void)present_remove(&h->present, path);
    return r;
}

/* ---- life, for hops.c ---- */

int hop_new(struct hops *all, const char *name, struct hop **ret)
{
    struct hop *h = calloc(1, sizeof(*h));
    int r;

    if (!h)
        return -ENOMEM;
    h->hops = all;
    h->retry_usec = RETRY_FIRST_USEC;
    h->error = -ENOENT;
    memcpy(h->name, name, strlen(name) + 1);
    r = sd_event_add_time_relative(all->event, &h->timer, CLOCK_MONOTONIC, 0, ACCURACY_USEC,
                                   on_timer, h);
    if (r < 0) {
        free(h);
        return r;
    }
    *ret = h;
    return 0;
}

void hop_free(struct hop *h)
{
    forget(h);
    h->timer = sd_event_source_disable_unref(h->timer);
    free(h);
}
