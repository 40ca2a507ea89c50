/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dom0/expose/say.h"
#include "dom0/tree/reader.h"

#define QUBESD_SOCKET "/var/run/qubesd.sock"

static const char *socket_of(const struct options *o)
{
    const char *named = o->qubesd != NULL ? o->qubesd : getenv("QUBESD_SOCKET");

    return named != NULL && named[0] != '\0' ? named : QUBESD_SOCKET;
}

/* text: what the error is for people */
static void say_qubesd(const struct session *s, int error, const char *what, const char *text)
{
    const char *next = NULL;

    if (error == -ENOENT || error == -ECONNREFUSED)
        next = "This command is for dom0, where qubesd runs. See: systemctl status qubesd";
    else if (error == -EACCES || error == -EPERM)
        next = "One has to be in the group qubes for it, as for all qvm- commands.";
    say_failed(next, "%s: qubesd at %s: %s", what, socket_of(s->o), text);
}

/* ---- reading the tree ---- */

struct reading {
    const struct session *s;
    bool done;
    int error;
};

static void on_whole(int error, void *user)
{
    struct reading *r = user;

    r->done = true;
    r->error = error;
}

static void on_one(struct qube *q, struct str name, void *user)
{
    (void)q;
    (void)name;
    (void)user;
}

static void on_progress(size_t done, size_t all, void *user)
{
    const struct reading *r = user;

    say_progress(r->s->begin_us, "reading the qubes", done, all);
}

static int read_tree(struct session *s)
{
    struct reading reading = {.s = s};
    struct reader_config config = {
        .whole = on_whole, .one = on_one, .progress = on_progress, .user = &reading};
    _cleanup_(reader_freep) struct reader *reader = NULL;
    int r = reader_new(s->client, s->tree, &config, &reader);

    if (r == 0)
        r = reader_read_all(reader);
    while (r >= 0 && !reading.done)
        r = sd_event_run(s->event, UINT64_MAX);
    say_progress_end();
    if (r >= 0)
        r = reading.error;
    return r;
}

/* ---- QubesDB of those that matter ---- */

/* For a new address all of them: which one still runs with it? */
static bool matters(const struct session *s, const struct qube *q)
{
    bool all = s->o->ip[0].family != 0 || s->o->ip[1].family != 0;

    return (q->power == POWER_RUNNING || q->power == POWER_PAUSED) &&
           (all || q->provides_network || wish_is_asked(s->tree, q) ||
            (s->o->qube != NULL && strcmp(q->name, s->o->qube) == 0));
}

static int list_looks(struct session *s)
{
    s->looks = calloc(tree_count(s->tree) + 1, sizeof(*s->looks));
    if (s->looks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < tree_count(s->tree); i++) {
        const struct qube *q = tree_at(s->tree, i);

        if (matters(s, q))
            memcpy(s->looks[s->n_looks++].qube, q->name, sizeof(q->name));
    }
    return 0;
}

/* Until the daemon says otherwise a running qube is where its properties say, with what it has. */
static void attach_all(struct session *s)
{
    for (size_t i = 0; i < tree_count(s->tree); i++) {
        struct qube *q = tree_at(s->tree, i);
        const struct look *look;

        if (q->power != POWER_RUNNING && q->power != POWER_PAUSED)
            continue;
        qube_attach(q);
        look = session_look(s, q);
        for (unsigned f = 0; look != NULL && f < 2; f++) {
            if (look->ip[f].family != 0 && q->live.ip[f].family != 0)
                q->live.ip[f] = look->ip[f];
        }
    }
}

const struct look *session_look(const struct session *s, const struct qube *q)
{
    for (size_t i = 0; i < s->n_looks; i++) {
        if (strcmp(s->looks[i].qube, q->name) == 0)
            return &s->looks[i];
    }
    return NULL;
}

/* ---- the session ---- */

int session_wish(struct session *s)
{
    int r;

    wishes_done(&s->wishes);
    r = wish_compute(s->tree, s->now, &s->wishes);
    if (r < 0)
        say_failed(NULL, "%s", strerror(-r));
    return r;
}

static int open_all(struct session *s)
{
    struct admin_client_config config = {.socket = s->o->qubesd};
    int r = sd_event_new(&s->event);

    s->tree = tree_new();
    if (r >= 0)
        r = s->tree != NULL ? admin_client_new(s->event, &config, &s->client) : -ENOMEM;
    return r < 0 ? r : 0;
}

int session_open(struct session *s, const struct options *o)
{
    char text[ADMIN_ERROR_MAX];
    int r;

    *s = (struct session){.o = o, .now = (int64_t)time(NULL), .begin_us = clock_now_us()};
    r = open_all(s);
    if (r == 0)
        r = read_tree(s);
    if (r < 0) {
        say_qubesd(s, r, "the qubes cannot be read", reader_strerror(r, text));
        return r;
    }
    r = list_looks(s);
    if (r == 0)
        r = look_all(s->event, o->qubesdb, s->looks, s->n_looks, NULL, 0);
    if (r < 0) {
        say_failed(NULL, "QubesDB: %s", strerror(-r));
        return r;
    }
    attach_all(s);
    return session_wish(s);
}

void session_close(struct session *s)
{
    say_progress_end();
    for (size_t i = 0; i < s->n_looks; i++)
        look_done(&s->looks[i]);
    free(s->looks);
    wishes_done(&s->wishes);
    (void)admin_client_free(s->client);
    (void)sd_event_unref(s->event);
    (void)tree_free(s->tree);
    *s = (struct session){0};
}

struct qube *session_qube(const struct session *s)
{
    struct qube *q = tree_find(s->tree, str_from(s->o->qube));

    if (q == NULL)
        say_failed("Names are told by: qvm-ls", "there is no qube %s", s->o->qube);
    return q;
}

/* ---- calls ---- */

struct call {
    bool done;
    int error;
    enum admin_status status;
    char *content, message[512];
};

static void on_answer(int error, const struct admin_answer *a, void *user)
{
    struct call *c = user;

    c->done = true;
    c->error = error;
    if (a == NULL)
        return;
    c->status = a->status;
    (void)str_escape(a->message, c->message, sizeof(c->message));
    c->content = strndup(a->content.p != NULL ? a->content.p : "", a->content.len);
    if (c->content == NULL)
        c->error = -ENOMEM;
}

/* qubesd has answered, and not with what was wanted. */
static int say_refusal(const struct call *c, const char *what)
{
    switch (c->status) {
    case ADMIN_OK:
        return 0;
    case ADMIN_EXCEPTION:
        say_failed(NULL, "%s: qubesd refuses: %s", what, c->message);
        return -EPERM;
    case ADMIN_EMPTY:
        say_failed("Its journal tells more: journalctl -u qubesd",
                   "%s: qubesd does not permit it, or failed inside", what);
        return -EPERM;
    case ADMIN_BROKEN:
        say_failed(NULL, "%s: qubesd's answer makes no sense", what);
        return -EPROTO;
    }
    return -EPROTO;
}

int session_call(struct session *s, const struct admin_request *request, const char *what,
                 char **ret)
{
    struct call call = {0};
    char text[ADMIN_ERROR_MAX];
    uint64_t begin = clock_now_us();
    int r = admin_call(s->client, request, on_answer, &call);

    if (r == -E2BIG)
        r = -EMSGSIZE; /* the request, not its answer */
    while (r >= 0 && !call.done) {
        r = sd_event_run(s->event, 500000);
        say_progress(begin, what, 0, 0);
    }
    say_progress_end();
    if (r >= 0)
        r = call.error;
    if (r < 0) {
        admin_cancel(s->client, &call);
        say_qubesd(s, r, what, admin_strerror(r, request->method, text));
    } else {
        r = say_refusal(&call, what);
    }
    if (r == 0 && ret != NULL)
        *ret = TAKE_PTR(call.content);
    free(call.content);
    return r;
}
