/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A wish as elements of our sets, and back. The kernel's sets are the only memory of the wish: a
 * successor reads them. Pure.
 */
#pragma once

#include "vpn/seal/model.h"

/* Which table and name; the layer that the set belongs to. */
struct nft_set elements_set(enum seal_set set);
enum seal_layer elements_layer(enum seal_set set);

/* Adds what should be there. uid: of the client. 0 or -ENOMEM. */
int elements_of_wish(const struct wish *w, uint32_t uid, const struct seal_model *m,
                     struct items *ret);
/* What the sets say; wrong elements are left out (the plan removes them). */
void elements_to_wish(const struct items *elements, struct wish *ret);

bool element_equal(const struct seal_element *a, const struct seal_element *b);
