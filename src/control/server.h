/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket of a daemon (AF_UNIX stream): a client sends one line, its question, and
 * gets one JSON object, then the connection ends. No answer, only the end: the question is none, or
 * there is no memory. Who may ask is decided by the mode of the socket's file; nobody is told who
 * asks, so an answer must not change what only some may change.
 *
 * Nothing here blocks. A line has CONTROL_QUESTION_MAX bytes at most, a connection ends after 5 s,
 * and of CONTROL_PEERS_MAX connections the one that has waited longest without a question makes
 * room for the next one. Errors of a connection concern nobody else and are not told. One thread.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define CONTROL_QUESTION_MAX 16 /* with the end of the line */
#define CONTROL_PEERS_MAX    8  /* connections at one time */

struct control_config {
    const char *path; /* what stands there as a socket is replaced */
    mode_t mode;      /* of the socket's file */
    /* Gives the answer, which the server owns then, or NULL. Must not free the server. */
    json_t *(*answer)(const char *question, void *user);
    void *user;
};

struct control_server;

/* 0, -ENOMEM, -ENAMETOOLONG, or -errno of the socket. config is copied, its path too. */
int control_server_new(sd_event *event, const struct control_config *config,
                       struct control_server **ret);
/* Takes the socket's file away. Returns NULL; NULL is fine. */
struct control_server *control_server_free(struct control_server *s);
