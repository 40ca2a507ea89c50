/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A net qube made up from bytes: links, routes, keys, conflicts, what the kernel has, and its
 * switches. The bytes are random in the unit test and the fuzzer's in fuzz_plan.c; both then hold
 * the plan to the same laws (test_router_laws.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "router/model.h"
#include "router/plan.h"

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define WORLD_LINKS 6

struct switches { /* of one interface, as the kernel has them; by enum sysctl_id */
    uint32_t of[SYSCTL_IP6_PROXY_DELAY + 1];
    bool present; /* there is such an interface */
};

struct world {
    const uint8_t *bytes; /* borrowed; when they are used up, every choice is the first one */
    size_t left;
    struct model *m;
    struct switches links[WORLD_LINKS];  /* as world_links[] */
    struct switches before[WORLD_LINKS]; /* as the platform sets an interface up */
    uint32_t all_forwarding, default_forwarding;
    bool ra_lost; /* an uplink's routes from router advertisements were thrown away */
};

struct world_link {
    uint32_t index;
    const char *name;
    bool candidate; /* may be an uplink */
};
extern const struct world_link world_links[WORLD_LINKS];

struct world *world_new(const uint8_t *bytes, size_t len);
struct world *world_free(struct world *w);

/* 0 to below - 1, by the next byte. */
unsigned world_draw(struct world *w, unsigned below);
/* Changes some of everything: keys, network, what is in the kernel, conflicts, circumstances. */
void world_step(struct world *w);

/* Kernel switches as the kernel does it: all.forwarding overwrites every interface's own. */
void world_write_switch(struct world *w, const struct sysctl_value *value);
/* What a reading would find. */
void world_read_switches(struct world *w);
