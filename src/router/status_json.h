/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The router's state and plans as JSON, and an operation in words. */
#pragma once

#include <jansson.h>

#include "router/manager.h"

/* The caller owns the result; NULL without memory. */
json_t *status_json(const struct manager *m);
/* The operations of a plan in words, appended to an array. */
void status_json_ops(json_t *array, const struct model *m, const struct plan *p);
