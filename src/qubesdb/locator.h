/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the daemon's sockets are, with notice when they may have appeared (base/local_socket.h).
 */
#pragma once

#include "base/local_socket.h"

struct qdb_locator {
    char *socket;
    char *ro_socket; /* NULL when socket has no ".sock" to replace; need not exist */
    struct local_watch watch; /* of their directory; stopped at first */
};

/*
 * socket: NULL for $QUBESDB_SOCKET, else /run/qubes/qubesdb.sock. l is owned by the caller and
 * must stay where it is. noticed: as in struct local_watch. 0, -ENOMEM or -errno of the event loop;
 * qdb_locator_clear() is due anyway.
 */
int qdb_locator_init(struct qdb_locator *l, sd_event *event, const char *socket,
                     void (*noticed)(bool appeared, void *user), void *user);
void qdb_locator_clear(struct qdb_locator *l);
