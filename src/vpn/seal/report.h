/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What check says: for people, and as JSON with the same content. */
#pragma once

#include <jansson.h>

#include "vpn/seal/seal.h"

/* After seal_look(): the caller owns the result; NULL when memory is short. */
json_t *report_json(const struct seal *s, const struct items *ops, const char *wrong_switch);
/* Prints it to stdout. Returns the exit status: 0 sealed, 1 not. */
int report_print(const json_t *report, bool json);
