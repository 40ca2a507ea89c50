/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QubesDB server without Xen: for the lab and where no QubesDB runs. A client sees what Qubes'
 * daemon (4.1 to 4.3.3) would answer, close or fire, but nobody can stop it: nothing blocks, half
 * messages wait in their own connection, a watcher that does not read is dropped when more than
 * 64 MiB wait for it, and the 1001st client is turned away instead of ending the server.
 * Further bounds the daemon does not have: 100,000 keys and 10,000 watches a client, beyond which
 * a request is refused (RESP_ERROR).
 *
 * Runs in the caller's event loop, which it references; one thread. Blocks no signal, logs nothing.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

struct qdb_server;

struct qdb_server_config {
    const char *socket;    /* path; a socket that is already there is replaced */
    const char *ro_socket; /* NULL: none. Its clients can neither write nor remove; mode 0666 */
    mode_t mode;           /* of socket; 0: 0666, as the daemon's */
};

/* Listens when it returns 0. -errno of what failed, -ENAMETOOLONG, -EEXIST: not a socket there. */
int qdb_server_new(sd_event *event, const struct qdb_server_config *config,
                   struct qdb_server **ret);

/* Closes every client; removes its sockets, but not those of a successor. NULL is fine. */
struct qdb_server *qdb_server_free(struct qdb_server *s);
void qdb_server_freep(struct qdb_server **s);
