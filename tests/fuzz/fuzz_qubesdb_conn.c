/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection with a few requests of every kind, answered by the input and the end of the stream.
 * Whatever comes: the failure is told exactly once and last, and no request is answered twice.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "qubesdb/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    sd_event *event;
    char directory[32];
    char socket[64];
    int fd;
} peer;

static struct {
    struct qdb_conn *conn;
    bool answered[5];
    unsigned failures;
    bool free_early;
} run;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void peer_remove(void)
{
    (void)unlink(peer.socket);
    (void)rmdir(peer.directory);
}

static void peer_open(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    check(sd_event_new(&peer.event) >= 0);
    snprintf(peer.directory, sizeof(peer.directory), "/tmp/qdb-fuzz.XXXXXX");
    check(mkdtemp(peer.directory) != NULL);
    snprintf(peer.socket, sizeof(peer.socket), "%s/s", peer.directory);
    memcpy(address.sun_path, peer.socket, strlen(peer.socket) + 1);
    peer.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(peer.fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    check(listen(peer.fd, 5) == 0);
    check(atexit(peer_remove) == 0);
}

static void on_event(const char *path, void *user)
{
    (void)user;
    check(run.failures == 0 && qdb_path_is_valid(str_from(path)));
}

static void on_failed(int error, void *user)
{
    (void)user;
    check(error < 0 && run.failures == 0);
    run.failures++;
}

static void on_answer(const struct qdb_message *m, void *user)
{
    bool *answered = user;
    bool part = (m->type == QDB_RESP_LIST || m->type == QDB_RESP_MULTIREAD) && m->path[0] != '\0';

    check(run.failures == 0 && !*answered);
    *answered = !part;
    if (run.free_early)
        run.conn = qdb_conn_free(run.conn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum qdb_type types[] = {QDB_CMD_WATCH, QDB_CMD_READ, QDB_CMD_MULTIREAD,
                                          QDB_CMD_LIST, QDB_CMD_RM};
    static const char *const paths[] = {"/", "/a", "/", "/a/", "/a"};
    struct qdb_conn_config config = {.timeout_usec = 1000000, .event = on_event,
                                     .failed = on_failed};
    int fd;

    if (!peer.event)
        peer_open();
    if (size < 1 || size > 65536)
        return 0;
    memset(&run, 0, sizeof(run));
    run.free_early = data[0] & 1;
    config.socket = peer.socket;
    check(qdb_conn_new(peer.event, &config, &run.conn) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct qdb_request request = {
            .type = types[i], .path = paths[i], .answer = on_answer, .user = &run.answered[i]};

        check(qdb_conn_send(run.conn, &request) == 0);
    }
    fd = accept4(peer.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(fd >= 0);
    check(sd_event_run(peer.event, 0) >= 0); /* the requests go out */
    (void)!send(fd, data + 1, size - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR);
    while (run.conn && run.failures == 0)
        check(sd_event_run(peer.event, 2000000) > 0);
    run.conn = qdb_conn_free(run.conn);
    close_fd(fd);
    return 0;
}
