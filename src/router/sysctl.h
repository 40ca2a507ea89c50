/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel switches of struct sysctl_value by /proc/sys/net, which a process with CAP_NET_ADMIN
 * may write in its own network namespace. Interface names cannot hold '/' (dev_valid_name()).
 */
#pragma once

#include "router/model.h"

/* -ENOENT: no such interface, or the kernel has no IPv6. */
int sysctl_read(enum sysctl_id id, const char *scope, uint32_t *ret);
int sysctl_write(const struct sysctl_value *value);
const char *sysctl_name(enum sysctl_id id); /* "ipv6 forwarding" ... */
/* Path below /proc/sys/net, for messages and --dry-run. Returns buf. */
#define SYSCTL_PATH_MAX 64
const char *sysctl_path(enum sysctl_id id, const char *scope, char buf[static SYSCTL_PATH_MAX]);
