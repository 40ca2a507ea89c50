/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading "HOST[:PORT]" for explain. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct destination {
    struct addr addr; /* family 0: a name, which nobody looks up here */
    uint16_t port;    /* 0: none given */
};

/* "192.0.2.1", "192.0.2.1:443", "2001:db8::1", "[2001:db8::1]:443", "name", "name:443". -EINVAL. */
int destination_parse(const char *text, struct destination *ret);
/* The platform's virtual name servers. */
bool destination_is_dns(const struct destination *d);
