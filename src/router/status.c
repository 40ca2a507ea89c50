/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/server.h"
#include "router/counters.h"
#include "router/sources.h"
#include "router/status_json.h"

struct status_server {
    struct manager *manager;
    struct control_server *control;
    json_t *differences; /* while a check runs */
};

/* Reads everything back as a restart would, and notes what had to be changed. */
static json_t *check(struct status_server *s)
{
    struct manager *m = s->manager;
    unsigned healed = m->healed;
    json_t *status, *differences = json_array();

    s->differences = differences;
    m->need_network = m->need_rules = m->need_unnotified = true;
    model_touch_all(m->model);
    (void)manager_reconcile(m);
    s->differences = NULL;
    if (m->healed != healed)
        (void)json_array_append_new(differences, json_string("our chains or sets were changed"));
    counters_read(m->kernel.nft, m->model);
    status = status_json(m);
    if (json_object_set_new(status, "differences", differences) < 0)
        return NULL;
    return status;
}

static json_t *answer(const char *question, void *user)
{
    struct status_server *s = user;

    if (strcmp(question, "status") == 0) {
        counters_read(s->manager->kernel.nft, s->manager->model);
        return status_json(s->manager);
    }
    return strcmp(question, "check") == 0 ? check(s) : NULL;
}

void status_capture(struct status_server *s, const struct plan *p)
{
    if (s != NULL && s->differences != NULL)
        status_json_ops(s->differences, s->manager->model, p);
}

struct status_server *status_free(struct status_server *s)
{
    if (s != NULL)
        s->control = control_server_free(s->control);
    free(s);
    return NULL;
}

int status_new(struct manager *m, const char *path, struct status_server **ret)
{
    _cleanup_(freep) struct status_server *s = calloc(1, sizeof(*s));
    struct control_config config = {.path = path, .mode = 0666, .answer = answer, .user = s};
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->manager = m;
    r = control_server_new(m->event, &config, &s->control);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}
