/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text protocol of userspace WireGuard (wireguard.com/xplatform, "configuration protocol", and
 * wireguard-go device/uapi.go): requests as text, replies read into the structure that the
 * kernel's netlink uses too. Pure. A reply is foreign input: lines "key=value", an empty line at
 * its end, at most UAPI_REPLY_MAX bytes.
 * Texts with keys are the caller's to wipe (explicit_bzero). No fwmark is ever set: a client
 * without capability could not mark its sockets, its carrier is known by its user.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "netlink/wireguard.h"

#define UAPI_REQUEST_MAX (128 * 1024) /* 16 peers with 128 allowed prefixes each, and room */
#define UAPI_REPLY_MAX   (256 * 1024)

#define UAPI_GET "get=1\n\n"

/* Bytes written (no NUL follows), or -ENOSPC. */
ssize_t uapi_format_set(const struct wg_device *d, enum wg_set what, char *buf, size_t size);

/* How long the reply at the beginning of text is, its empty line included; 0: not whole yet. */
size_t uapi_reply_size(const char *text, size_t len);

/*
 * A whole reply. 0; -EBADMSG; else what the other side says ("errno="), as -errno. ret is written
 * only on success; after a set it stays empty. Keys that are not known are skipped: the protocol
 * may grow. allowed prefixes are not read back.
 */
int uapi_parse_reply(const char *text, size_t len, struct wg_device *ret);
