/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The model's own: what happens to keys that name no valid address. Others use model_each_stray(). */
#pragma once

#include "router/model.h"

/* why: static text. */
void model_stray_set(struct model *m, const char *path, const char *why, bool present);
/* Drops those that the full reading under way did not see. */
void model_strays_sweep(struct model *m);
void model_strays_done(struct model *m);
