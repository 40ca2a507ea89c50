/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/mirror.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "qubesdb/conn.h"
#include "qubesdb/locator.h"

#define PENDING_MAX       64
#define RETRY_FIRST_USEC  100000
#define RETRY_FOUND_USEC  10000 /* a new socket exists before it listens */
#define RETRY_MAX_USEC    5000000
#define REREAD_PAUSE_USEC 50000 /* between the starts of complete readings that events asked for */
#define ACCURACY_USEC     1

enum state {
    STATE_DOWN,     /* no connection; timer or inotify brings the next attempt */
    STATE_WATCHING, /* connected, the watch is not answered yet */
    STATE_READING,  /* a complete reading is under way */
    STATE_READY,
    STATE_TOO_BIG, /* the watch goes on; the next event starts a reading */
};

/* A key that has to be read, or is being read. */
struct pending {
    char path[QDB_PATH_SIZE];
    bool sent;
    bool again; /* an event came after it was sent */
};

struct qdb_mirror {
    sd_event *event;
    struct qdb_mirror_config config;
    struct qdb_locator locator;
    const char *used; /* the socket that is connected */
    char **prefixes;
    size_t prefix_count;

    enum state state;
    bool readable;
    int told_error; /* 0: lost() was not called since the last end() */
    bool begun;      /* begin() was called for this reading */
    bool read_again; /* another complete reading is due after this one or the pause */
    size_t lists_left, keys;
    uint64_t read_at; /* start of the last complete reading */
    struct qdb_conn *watch, *command;
    struct pending pending[PENDING_MAX];
    size_t pending_count;

    sd_event_source *timer;
    bool timer_on;
    uint64_t retry_usec;
};

static bool begins_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void timer_set(struct qdb_mirror *m, uint64_t usec)
{
    m->timer_on = sd_event_source_set_time_relative(m->timer, usec) >= 0 &&
                  sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT) >= 0;
}

static void timer_stop(struct qdb_mirror *m)
{
    m->timer_on = false;
    (void)sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
}

static uint64_t retry_next(struct qdb_mirror *m)
{
    uint64_t usec = m->retry_usec;

    m->retry_usec = usec < RETRY_MAX_USEC / 2 ? usec * 2 : RETRY_MAX_USEC;
    return usec;
}

static void go_unreadable(struct qdb_mirror *m, int error)
{
    bool told = m->told_error != 0 && (m->told_error == -E2BIG) == (error == -E2BIG);

    m->readable = false;
    if (told)
        return;
    m->told_error = error;
    m->config.lost(error, m->config.user);
}

static void mirror_fail(struct qdb_mirror *m, int error)
{
    m->state = STATE_DOWN;
    m->watch = qdb_conn_free(m->watch);
    m->command = qdb_conn_free(m->command);
    m->pending_count = 0;
    m->read_again = false;
    /* An absent socket needs no polling when its directory is watched. */
    if (local_watch_start(&m->locator.watch) && error == -ENOENT)
        timer_stop(m);
    else
        timer_set(m, retry_next(m));
    go_unreadable(m, error);
}

static void on_failed(int error, void *user)
{
    mirror_fail(user, error);
}

/* Forgets keys that a complete reading from now on covers; those in flight still get answers. */
static void pending_drop_unsent(struct qdb_mirror *m)
{
    size_t kept = 0;

    for (size_t i = 0; i < m->pending_count; i++)
        if (m->pending[i].sent) {
            m->pending[kept] = m->pending[i];
            m->pending[kept++].again = false;
        }
    m->pending_count = kept;
}

static struct pending *pending_find(struct qdb_mirror *m, const char *path)
{
    for (size_t i = 0; i < m->pending_count; i++)
        if (strcmp(m->pending[i].path, path) == 0)
            return &m->pending[i];
    return NULL;
}

static int pending_send(struct qdb_mirror *m, struct pending *p,
                        void (*answer)(const struct qdb_message *m, void *user))
{
    struct qdb_request request = {
        .type = QDB_CMD_READ, .path = p->path, .answer = answer, .user = m};
    int r = qdb_conn_send(m->command, &request);

    if (r >= 0)
        p->sent = true;
    return r;
}

static void on_read(const struct qdb_message *answer, void *user)
{
    struct qdb_mirror *m = user;
    struct pending *p = pending_find(m, answer->path);
    int r = 0;

    if (!p || answer->type == QDB_RESP_ERROR) {
        mirror_fail(m, -EPROTO);
        return;
    }
    if (p->again) {
        p->again = p->sent = false;
        if (m->state == STATE_READY)
            r = pending_send(m, p, on_read);
    } else {
        *p = m->pending[--m->pending_count];
    }
    if (r < 0)
        mirror_fail(m, r);
    else
        m->config.changed(answer->path,
                          answer->type == QDB_RESP_READ ? &answer->value : NULL,
                          m->config.user);
}

static void pending_send_all(struct qdb_mirror *m)
{
    for (size_t i = 0; i < m->pending_count; i++) {
        int r = m->pending[i].sent ? 0 : pending_send(m, &m->pending[i], on_read);

        if (r < 0) {
            mirror_fail(m, r);
            return;
        }
    }
}

/* A complete reading is due: soon, but not in a storm of them. */
static void request_reading(struct qdb_mirror *m)
{
    uint64_t now = clock_now_us(), due = m->read_at + REREAD_PAUSE_USEC;

    pending_drop_unsent(m);
    m->read_again = true;
    if (m->state == STATE_READY)
        timer_set(m, due > now ? due - now : 0);
    else if (m->state == STATE_TOO_BIG && !m->timer_on)
        timer_set(m, retry_next(m));
}

static void reading_too_big(struct qdb_mirror *m)
{
    bool changed = m->read_again || m->pending_count > 0;

    m->state = STATE_TOO_BIG;
    m->command = qdb_conn_free(m->command);
    m->pending_count = 0;
    m->read_again = false;
    local_watch_stop(&m->locator.watch);
    if (changed)
        request_reading(m);
    go_unreadable(m, -E2BIG);
}

static void reading_end(struct qdb_mirror *m)
{
    m->state = STATE_READY;
    m->readable = true;
    m->told_error = 0;
    m->retry_usec = RETRY_FIRST_USEC;
    local_watch_stop(&m->locator.watch);
    if (m->read_again)
        request_reading(m);
    else
        pending_send_all(m);
    if (m->state == STATE_READY)
        m->config.end(m->config.user);
}

static void on_multiread(const struct qdb_message *answer, void *user)
{
    struct qdb_mirror *m = user;

    if (answer->type != QDB_RESP_MULTIREAD) {
        mirror_fail(m, -EPROTO);
        return;
    }
    if (!m->begun) {
        m->begun = true;
        m->config.begin(m->config.user);
    }
    if (answer->path[0] == '\0') {
        if (--m->lists_left == 0)
            reading_end(m);
        return;
    }
    if (m->config.wants && !m->config.wants(answer->path, m->config.user))
        return;
    if (++m->keys > QDB_MIRROR_KEYS_MAX)
        reading_too_big(m);
    else
        m->config.entry(answer->path, answer->value, m->config.user);
}

static int connect_command(struct qdb_mirror *m)
{
    struct qdb_conn_config config = {
        .socket = m->used,
        .timeout_usec = m->config.timeout_usec,
        .failed = on_failed,
        .user = m,
    };

    return m->command ? 0 : qdb_conn_new(m->event, &config, &m->command);
}

static void start_reading(struct qdb_mirror *m)
{
    int r = connect_command(m);

    timer_stop(m);
    pending_drop_unsent(m);
    m->state = STATE_READING;
    m->begun = m->read_again = false;
    m->keys = 0;
    m->lists_left = m->prefix_count;
    m->read_at = clock_now_us();
    for (size_t i = 0; r >= 0 && i < m->prefix_count; i++) {
        struct qdb_request request = {.type = QDB_CMD_MULTIREAD,
                                      .path = m->prefixes[i],
                                      .answer = on_multiread,
                                      .user = m};

        r = qdb_conn_send(m->command, &request);
    }
    if (r < 0)
        mirror_fail(m, r);
}

/* A removed directory concerns us when it holds a prefix or lies within one. */
static bool event_concerns(const struct qdb_mirror *m, const char *path, bool directory)
{
    for (size_t i = 0; i < m->prefix_count; i++) {
        if (directory && begins_with(m->prefixes[i], path))
            return true;
        if (begins_with(path, m->prefixes[i]))
            return directory || !m->config.wants || m->config.wants(path, m->config.user);
    }
    return false;
}

static void on_event(const char *path, void *user)
{
    struct qdb_mirror *m = user;
    size_t len = strlen(path);
    bool directory = len > 0 && path[len - 1] == '/';
    struct pending *p;

    /* Before a reading, or before one more, everything is going to be read anyway. */
    if (m->state == STATE_WATCHING || m->read_again || !event_concerns(m, path, directory))
        return;
    p = directory ? NULL : pending_find(m, path);
    if (p) {
        p->again = p->sent;
        return;
    }
    if (directory || m->state == STATE_TOO_BIG || m->pending_count == PENDING_MAX) {
        request_reading(m);
        return;
    }
    p = &m->pending[m->pending_count++];
    *p = (struct pending){.sent = false};
    memcpy(p->path, path, len);
    if (m->state == STATE_READY) {
        int r = pending_send(m, p, on_read);

        if (r < 0)
            mirror_fail(m, r);
    }
}

static void on_watch(const struct qdb_message *answer, void *user)
{
    struct qdb_mirror *m = user;

    if (answer->type == QDB_RESP_OK)
        start_reading(m);
    else
        mirror_fail(m, -EPROTO);
}

static int connect_watch(struct qdb_mirror *m)
{
    struct qdb_conn_config config = {
        .timeout_usec = m->config.timeout_usec,
        .event = on_event,
        .failed = on_failed,
        .user = m,
    };
    int r = -ENOENT;

    if (m->locator.ro_socket) {
        config.socket = m->used = m->locator.ro_socket;
        r = qdb_conn_new(m->event, &config, &m->watch);
    }
    if (r < 0) {
        config.socket = m->used = m->locator.socket;
        r = qdb_conn_new(m->event, &config, &m->watch);
    }
    return r;
}

static void attempt(struct qdb_mirror *m)
{
    struct qdb_request request = {
        .type = QDB_CMD_WATCH, .path = "/", .answer = on_watch, .user = m};
    int r;

    (void)local_watch_start(&m->locator.watch); /* before looking, so that no appearance is missed */
    m->state = STATE_WATCHING;
    r = connect_watch(m);
    if (r >= 0)
        r = qdb_conn_send(m->watch, &request);
    if (r < 0)
        mirror_fail(m, r);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
    struct qdb_mirror *m = user;

    (void)source;
    (void)usec;
    m->timer_on = false;
    switch (m->state) {
    case STATE_DOWN:
        attempt(m);
        break;
    case STATE_READY:
    case STATE_TOO_BIG:
        start_reading(m);
        break;
    case STATE_WATCHING:
    case STATE_READING:
        break;
    }
    return 0;
}

static void on_noticed(bool appeared, void *user)
{
    struct qdb_mirror *m = user;

    if (m->state != STATE_DOWN)
        return;
    if (appeared) {
        m->retry_usec = RETRY_FOUND_USEC;
        timer_set(m, 0);
    } else if (!m->timer_on) {
        timer_set(m, retry_next(m));
    }
}

/* A prefix within another one would only bring its keys twice. */
static bool prefix_is_covered(const char *const *prefixes, size_t i)
{
    for (size_t j = 0; prefixes[j]; j++)
        if (j != i && begins_with(prefixes[i], prefixes[j]) &&
            (j < i || strcmp(prefixes[i], prefixes[j]) != 0))
            return true;
    return false;
}

static int copy_prefixes(struct qdb_mirror *m, const char *const *prefixes)
{
    size_t count = 0;

    while (prefixes && prefixes[count])
        if (!qdb_path_is_valid(str_from(prefixes[count++])))
            return -EINVAL;
    if (count == 0 || count > QDB_CONN_OUTSTANDING_MAX)
        return -EINVAL;
    m->prefixes = calloc(count, sizeof(*m->prefixes));
    if (!m->prefixes)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (prefix_is_covered(prefixes, i))
            continue;
        m->prefixes[m->prefix_count] = strdup(prefixes[i]);
        if (!m->prefixes[m->prefix_count++])
            return -ENOMEM;
    }
    return 0;
}

int qdb_mirror_new(sd_event *event, const struct qdb_mirror_config *config,
                   struct qdb_mirror **ret)
{
    _cleanup_(qdb_mirror_freep) struct qdb_mirror *m = calloc(1, sizeof(*m));
    int r;

    if (!m)
        return -ENOMEM;
    m->event = sd_event_ref(event);
    m->config = *config;
    m->config.socket = NULL;
    m->config.prefixes = NULL;
    m->retry_usec = RETRY_FIRST_USEC;
    r = qdb_locator_init(&m->locator, event, config->socket, on_noticed, m);
    if (r >= 0)
        r = copy_prefixes(m, config->prefixes);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &m->timer, CLOCK_MONOTONIC, 0, ACCURACY_USEC,
                                       on_timer, m);
    if (r < 0)
        return r;
    m->timer_on = true;
    *ret = TAKE_PTR(m);
    return 0;
}

struct qdb_mirror *qdb_mirror_free(struct qdb_mirror *m)
{
    if (!m)
        return NULL;
    m->watch = qdb_conn_free(m->watch);
    m->command = qdb_conn_free(m->command);
    sd_event_source_disable_unref(m->timer);
    for (size_t i = 0; i < m->prefix_count; i++)
        free(m->prefixes[i]);
    free(m->prefixes);
    qdb_locator_clear(&m->locator);
    sd_event_unref(m->event);
    free(m);
    return NULL;
}

void qdb_mirror_freep(struct qdb_mirror **m)
{
    *m = qdb_mirror_free(*m);
}

bool qdb_mirror_is_readable(const struct qdb_mirror *m)
{
    return m->readable;
}

int qdb_mirror_reread(struct qdb_mirror *m)
{
    switch (m->state) {
    case STATE_READING:
        m->read_again = true;
        break;
    case STATE_READY:
    case STATE_TOO_BIG:
        m->read_again = true;
        timer_set(m, 0);
        break;
    case STATE_DOWN:
        timer_set(m, 0);
        break;
    case STATE_WATCHING:
        break;
    }
    return 0;
}
