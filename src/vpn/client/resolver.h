/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Look-up of the endpoint's name by c-ares on sockets that carry SEAL_MARK, to the name servers
 * given (the platform's, from QubesDB or resolv.conf) and to nobody else: not by the resolver of
 * the qube, whose questions the seal drops. One question at a time; A and AAAA together.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/addr.h"

struct resolver;

#define RESOLVER_ADDRS_MAX 16

/* error: NULL, or why nothing was found. addrs are borrowed, without loopback, multicast etc. */
typedef void (*resolver_fn)(const struct addr *addrs, size_t n, const char *error, void *user);

int resolver_new(sd_event *loop, struct resolver **ret);
struct resolver *resolver_free(struct resolver *r);
void resolver_freep(struct resolver **r);
/* family: 0 both. At most 10 s. -EBUSY while one is running; resolver_cancel() ends it silently. */
int resolver_ask(struct resolver *r, const struct addr *servers, size_t n_servers, const char *name,
                 int family, resolver_fn fn, void *user);
void resolver_cancel(struct resolver *r);
