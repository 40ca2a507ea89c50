/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds for every plan, whatever the world: checked with REQUIRE, which aborts. Each law is a
 * function of its own in test_router_laws.c, with the sentence it stands for.
 */
#pragma once

#include "test_router_world.h"

/*
 * Plans everything, checks the laws, applies it to the world and plans again: nothing is left to
 * do. switches: kernel switches are planned too.
 */
void laws_check(struct world *w, bool switches);

/* Steps and checks until the bytes are used up, then stops the router and checks what it leaves. */
void laws_run(const uint8_t *bytes, size_t len);
