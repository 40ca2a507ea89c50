/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream of events (admin.Events of dom0: everything), opened again and again. Part of the
 * client, see client.h for what the callbacks mean. Nothing is ever written after the request, and
 * whatever comes is read at once: qubesd keeps what is not read in memory without limit.
 *
 * One event is at most ADMIN_EVENT_MAX bytes (qubesd's requests are limited to 64 KiB, so a feature
 * with its old value fits); more ends the stream with -E2BIG. No timer runs while it stands.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "adminapi/wire.h"

#define ADMIN_EVENT_MAX (256 * 1024)

/* Before everything of default priority, so that nothing else keeps the stream waiting. */
#define ADMIN_STREAM_PRIORITY (SD_EVENT_PRIORITY_NORMAL - 10)

struct admin_stream;

struct admin_stream_config {
    const char *socket;    /* copied */
    uint64_t timeout_usec; /* from connecting to connection-established */
    void (*event)(const struct admin_event *e, void *user);
    void (*connected)(void *user); /* or NULL */
    void (*lost)(int error, void *user); /* or NULL */
    void *user;
};

/* 0, -ENOMEM or -errno of the event loop. The first attempt is made by the event loop. */
int admin_stream_new(sd_event *event, const struct admin_stream_config *config,
                     struct admin_stream **ret);
struct admin_stream *admin_stream_free(struct admin_stream *s); /* not from a callback of it */
void admin_stream_freep(struct admin_stream **s);
