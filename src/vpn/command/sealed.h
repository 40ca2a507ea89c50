/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this qube sealed? The seal's owner is asked by its socket (wish/wish.h); where it does not
 * run, or does not answer us, "qubes-vpn-forwarding check" reads it from the kernel, which needs
 * root.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

enum sealed { SEALED_YES, SEALED_NO, SEALED_UNKNOWN };

/* *ret_report: the seal's own account, or NULL; the caller's. why: a phrase unless SEALED_YES. */
enum sealed sealed_ask(const char *socket, json_t **ret_report, char *why, size_t size);
