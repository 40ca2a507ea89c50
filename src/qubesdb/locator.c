/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qubesdb/locator.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define DEFAULT_SOCKET "/run/qubes/qubesdb.sock"
#define SUFFIX         ".sock"
#define RO_SUFFIX      ".ro.sock"

static int copy_paths(struct qdb_locator *l, const char *socket)
{
    size_t len = strlen(socket), suffix_len = strlen(SUFFIX);

    l->socket = strdup(socket);
    if (!l->socket)
        return -ENOMEM;
    if (len <= suffix_len || strcmp(socket + len - suffix_len, SUFFIX) != 0)
        return 0;
    if (asprintf(&l->ro_socket, "%.*s" RO_SUFFIX, (int)(len - suffix_len), socket) < 0) {
        l->ro_socket = NULL;
        return -ENOMEM;
    }
    return 0;
}

int qdb_locator_init(struct qdb_locator *l, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user)
{
    int r;

    *l = (struct qdb_locator){.watch = {.fd = -1, .watch = -1}};
    if (!socket)
        socket = secure_getenv("QUBESDB_SOCKET");
    r = copy_paths(l, socket && *socket ? socket : DEFAULT_SOCKET);
    return r < 0 ? r : local_watch_init(&l->watch, event, l->socket, noticed, user);
}

void qdb_locator_clear(struct qdb_locator *l)
{
    local_watch_done(&l->watch);
    free(l->socket);
    free(l->ro_socket);
    l->socket = l->ro_socket = NULL;
}
