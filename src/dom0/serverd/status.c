/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/status.h"

#include <string.h>

/* What a look at everything finds comes after the answer; what watches told is in it already. */
static json_t *check(struct manager *m)
{
    for (size_t i = 0; i < hops_count(m->hops); i++)
        hop_reread(hops_at(m->hops, i));
    if (m->connected)
        reads_mark_all(m->reads, true);
    return status_json(m);
}

static json_t *answer(const char *question, void *user)
{
    struct manager *m = user;

    if (strcmp(question, "status") == 0)
        return status_json(m);
    return strcmp(question, "check") == 0 ? check(m) : NULL;
}

int status_serve(struct manager *m, const char *path, struct control_server **ret)
{
    struct control_config config = {.path = path, .mode = 0660, .answer = answer, .user = m};

    return control_server_new(m->event, &config, ret);
}
