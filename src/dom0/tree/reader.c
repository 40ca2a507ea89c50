/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/tree/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "dom0/tree/heard.h"

#define LIST_METHOD "admin.vm.List"
#define JOBS_MAX 8 /* qubes read at the same time: two calls each and more keep qubesd busy */

TAILQ_HEAD(jobs, job);

enum question {
    ASK_STATE,      /* its own line of the list */
    ASK_PROPERTIES,
    ASK_FEATURES,   /* the names */
    ASK_EXISTENCE,  /* the whole list, after another question was not answered */
    ASK_FEATURE,    /* + enum feature_id */
    QUESTIONS = ASK_FEATURE + FEATURES,
};

struct ask { /* user of a call */
    struct job *job;
    unsigned question;
};

/* One qube that has to be read, or is being read. */
struct job {
    TAILQ_ENTRY(job) entry;
    struct reader *reader;
    char name[QUBE_NAME_MAX];
    bool ask_state; /* the full list has not told it, or is older than an event */
    bool running;
    bool again; /* an event came meanwhile: nothing of this counts */
    unsigned calls; /* not answered */

    int error; /* qubesd could not be asked */
    bool verified; /* that it exists */
    struct heard heard;
    struct ask asks[QUESTIONS];
};

struct reader {
    struct admin_client *client;
    struct tree *tree;
    struct reader_config config;
    admin_answer_fn answer; /* of every call for a job */
    struct jobs jobs;
    size_t n_running;
    bool full;    /* a full reading is under way: all jobs are part of it */
    bool listing; /* its list has not come yet: jobs wait */
    unsigned reading;
    size_t done, all;
};

/* ---- jobs ---- */

static void job_clear(struct job *job)
{
    for (unsigned i = 0; i < QUESTIONS && job->calls > 0; i++)
        admin_cancel(job->reader->client, &job->asks[i]);
    heard_done(&job->heard);
    job->calls = 0;
    job->error = 0;
    job->again = job->verified = false;
    if (job->running)
        job->reader->n_running--;
    job->running = false;
}

static void job_drop(struct job *job)
{
    if (job->running)
        job_clear(job);
    TAILQ_REMOVE(&job->reader->jobs, job, entry);
    free(job);
}

static struct job *job_new(struct reader *r, struct str name)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->reader = r;
    memcpy(job->name, name.p, name.len); /* a valid name is shorter */
    for (unsigned i = 0; i < QUESTIONS; i++)
        job->asks[i] = (struct ask){.job = job, .question = i};
    TAILQ_INSERT_TAIL(&r->jobs, job, entry);
    return job;
}

static struct job *job_find(const struct reader *r, struct str name)
{
    struct job *job;

    TAILQ_FOREACH(job, &r->jobs, entry)
        if (str_is(name, job->name))
            return job;
    return NULL;
}

static void reader_clear(struct reader *r)
{
    while (!TAILQ_EMPTY(&r->jobs))
        job_drop(TAILQ_FIRST(&r->jobs));
    admin_cancel(r->client, r);
    r->full = r->listing = false;
    r->done = r->all = 0;
}

static void reader_fail(struct reader *r, int error)
{
    reader_clear(r);
    r->config.whole(error, r->config.user);
}

static void job_finish(struct job *job)
{
    struct reader *r = job->reader;
    char name[QUBE_NAME_MAX];
    int error;
    struct qube *q = heard_apply(&job->heard, r->tree, job->name, &error);

    if (q)
        q->reading = r->reading;
    memcpy(name, job->name, sizeof(name));
    job_drop(job); /* the callback may read again */
    if (r->full) {
        r->done++;
        if (error < 0)
            reader_fail(r, error);
        else if (r->config.progress)
            r->config.progress(r->done, r->all, r->config.user);
    } else if (error == 0) {
        r->config.one(q, str_from(name), r->config.user);
    } else if (r->config.failed) {
        r->config.failed(error, str_from(name), r->config.user);
    }
}

/* qubesd could not be asked about it. */
static void job_abandon(struct job *job, int error)
{
    struct reader *r = job->reader;
    char name[QUBE_NAME_MAX];

    if (r->full) {
        reader_fail(r, error);
        return;
    }
    memcpy(name, job->name, sizeof(name));
    job_drop(job);
    if (r->config.failed)
        r->config.failed(error, str_from(name), r->config.user);
}

/* ---- questions ---- */

static int job_ask(struct job *job, unsigned question)
{
    static const char *const methods[] = {
        [ASK_STATE] = LIST_METHOD,
        [ASK_PROPERTIES] = "admin.vm.property.GetAll",
        [ASK_FEATURES] = "admin.vm.feature.List",
        [ASK_EXISTENCE] = LIST_METHOD,
    };
    bool feature = question >= ASK_FEATURE;
    const struct admin_request request = {
        .method = feature ? "admin.vm.feature.Get" : methods[question],
        .arg = feature ? feature_name((enum feature_id)(question - ASK_FEATURE)) : NULL,
        .dest = question == ASK_EXISTENCE ? "dom0" : job->name,
    };
    int r = admin_call(job->reader->client, &request, job->reader->answer, &job->asks[question]);

    if (r >= 0)
        job->calls++;
    return r;
}

static int job_start(struct job *job)
{
    int r = 0;

    job->running = true;
    job->reader->n_running++;
    if (job->ask_state)
        r = job_ask(job, ASK_STATE);
    if (r >= 0)
        r = job_ask(job, ASK_PROPERTIES);
    if (r >= 0)
        r = job_ask(job, ASK_FEATURES);
    return r;
}

static struct job *job_next(const struct reader *r)
{
    struct job *job;

    if (r->listing || r->n_running >= JOBS_MAX)
        return NULL;
    TAILQ_FOREACH(job, &r->jobs, entry)
        if (!job->running)
            return job;
    return NULL;
}

/* Begins what waits, and tells the end of a full reading. */
static void reader_go_on(struct reader *r)
{
    struct job *job;

    while ((job = job_next(r))) {
        int error = job_start(job);

        if (error < 0)
            job_abandon(job, error);
    }
    if (!r->full || r->listing || !TAILQ_EMPTY(&r->jobs))
        return;
    r->full = false;
    r->config.whole(0, r->config.user);
}

/* ---- answers ---- */

static void take_features(struct job *job, const struct admin_answer *a)
{
    struct str rest = a->content, name;

    if (!heard_is_whole(rest))
        job->heard.failed = true;
    while (!job->heard.failed && str_next(&rest, '\n', &name)) {
        enum feature_id id = feature_by_name(name);

        if (id != FEATURES && job_ask(job, ASK_FEATURE + (unsigned)id) < 0)
            job->heard.failed = true;
    }
}

static void take_existence(struct job *job, const struct admin_answer *a)
{
    struct admin_vm vm;

    if (heard_is_whole(a->content) && a->content.len > 0)
        job->heard.gone = !heard_find(a->content, job->name, &vm);
}

static void job_take(struct job *job, unsigned question, const struct admin_answer *a)
{
    if (a->status == ADMIN_EXCEPTION && str_is(a->type, "QubesVMNotFoundError"))
        job->heard.gone = true;
    else if (a->status == ADMIN_EXCEPTION && question >= ASK_FEATURE &&
             str_is(a->type, "QubesFeatureNotFoundError"))
        return; /* removed since its name was told */
    else if (a->status != ADMIN_OK)
        job->heard.failed = true;
    else if (question == ASK_STATE)
        heard_state(&job->heard, job->name, a->content);
    else if (question == ASK_PROPERTIES)
        heard_properties(&job->heard, a->content);
    else if (question == ASK_FEATURES)
        take_features(job, a);
    else if (question == ASK_EXISTENCE)
        take_existence(job, a);
    else
        heard_feature(&job->heard, (enum feature_id)(question - ASK_FEATURE), a->content);
}

/* All questions are answered. */
static void job_conclude(struct job *job)
{
    int error = job->error;

    if (error < 0 && (error != -ETIMEDOUT || job->reader->full)) {
        job_abandon(job, error);
    } else if (error < 0 || job->again) {
        job_clear(job); /* begins again by reader_go_on() */
    } else if (job->heard.failed && !job->heard.gone && !job->verified) {
        /* 4.2 and 4.3 answer nothing at all when a qube does not exist any more. */
        job->verified = true;
        if (job_ask(job, ASK_EXISTENCE) < 0)
            job_finish(job);
    } else {
        job_finish(job);
    }
}

static void on_answer(int error, const struct admin_answer *a, void *user)
{
    struct ask *ask = user;
    struct job *job = ask->job;
    struct reader *r = job->reader;

    job->calls--;
    if (error == -E2BIG)
        job->heard.failed = true; /* it would be again */
    else if (error < 0)
        job->error = error;
    else if (!job->again)
        job_take(job, ask->question, a);
    if (job->calls > 0)
        return;
    job_conclude(job);
    reader_go_on(r);
}

/* ---- the whole ---- */

static bool has_network(struct str klass)
{
    return !str_is(klass, "AdminVM") && !str_is(klass, "RemoteVM");
}

/* One line of the list. A job that is there already is for an event that is newer than the list. */
static int take_vm(struct reader *r, const struct admin_vm *vm, bool look)
{
    struct qube *q;
    int error = 0;

    if (!tree_valid_name(vm->name))
        return 0; /* nothing can be said of it */
    q = tree_get(r->tree, vm->name, &error);
    if (!q)
        return error;
    if (q->reading == r->reading)
        return 0; /* told twice */
    q->reading = r->reading;
    if (look && job_find(r, vm->name))
        return 0;
    heard_apply_vm(q, vm);
    if (!has_network(vm->klass))
        q->complete = true; /* no more is needed */
    else if (!job_new(r, vm->name))
        return -ENOMEM;
    return 0;
}

static void remove_unseen(struct reader *r)
{
    for (size_t i = tree_count(r->tree); i > 0; i--) {
        struct qube *q = tree_at(r->tree, i - 1);

        if (q->reading != r->reading && !job_find(r, str_from(q->name)))
            tree_remove(r->tree, q);
    }
}

static int take_list(struct reader *r, const struct admin_answer *a)
{
    struct str rest = a->content, line;
    bool look = !TAILQ_EMPTY(&r->jobs);
    struct job *job;
    int error = 0;

    if (a->status != ADMIN_OK || a->content.len == 0 || !heard_is_whole(a->content))
        return -EPROTO;
    while (error >= 0 && str_next(&rest, '\n', &line)) {
        struct admin_vm vm;

        if (line.len > 0 && admin_parse_vm(line, &vm) >= 0)
            error = take_vm(r, &vm, look);
    }
    if (error < 0)
        return error;
    remove_unseen(r);
    r->all = 0;
    TAILQ_FOREACH(job, &r->jobs, entry)
        r->all++;
    return 0;
}

static void on_list(int error, const struct admin_answer *a, void *user)
{
    struct reader *r = user;

    if (error == 0)
        error = take_list(r, a);
    if (error < 0) {
        reader_fail(r, error);
        return;
    }
    r->listing = false;
    if (r->config.progress)
        r->config.progress(0, r->all, r->config.user);
    reader_go_on(r);
}

int reader_new(struct admin_client *c, struct tree *t, const struct reader_config *config,
               struct reader **ret)
{
    struct reader *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->client = c;
    r->tree = t;
    r->config = *config;
    r->answer = on_answer;
    TAILQ_INIT(&r->jobs);
    *ret = r;
    return 0;
}

struct reader *reader_free(struct reader *r)
{
    if (r)
        reader_clear(r);
    free(r);
    return NULL;
}

void reader_freep(struct reader **r)
{
    *r = reader_free(*r);
}

const char *reader_strerror(int error, char buf[static ADMIN_ERROR_MAX])
{
    if (error != -ENOSPC)
        return admin_strerror(error, LIST_METHOD, buf);
    (void)snprintf(buf, ADMIN_ERROR_MAX, "there are more than %d qubes", TREE_QUBES_MAX);
    return buf;
}

int reader_read_all(struct reader *r)
{
    const struct admin_request request = {.method = LIST_METHOD, .dest = "dom0"};
    int error;

    reader_clear(r); /* jobs are covered by the list to come */
    error = admin_call(r->client, &request, on_list, r);
    if (error < 0)
        return error;
    r->reading++;
    r->full = r->listing = true;
    return 0;
}

int reader_read_one(struct reader *r, struct str name)
{
    struct job *job;
    int error;

    if (!tree_valid_name(name))
        return -EINVAL;
    job = job_find(r, name);
    if (job) {
        job->ask_state = true;
        job->again = job->running;
        return 0;
    }
    job = job_new(r, name);
    if (!job)
        return -ENOMEM;
    job->ask_state = true;
    r->all++;
    if (r->listing || r->n_running >= JOBS_MAX)
        return 0;
    error = job_start(job);
    if (error < 0)
        job_drop(job);
    return error;
}
