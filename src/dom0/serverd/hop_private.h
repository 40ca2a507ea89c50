/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What hop.c (one connection) and hops.c (all of them, and the directory) share. */
#pragma once

#include "dom0/serverd/hop.h"

#define HOP_SOCKET_MAX 256

struct hops {
    sd_event *event;
    struct hops_config config;
    char *directory;
    struct hop **hops; /* sorted by name */
    size_t n, capacity;
    int fd, watch;
    bool watched; /* the directory tells what appears */
    sd_event_source *inotify;
};

/* -ENAMETOOLONG. */
int hop_socket(const struct hops *all, const char *name, char ret[static HOP_SOCKET_MAX]);

int hop_new(struct hops *all, const char *name, struct hop **ret);
void hop_free(struct hop *h);
