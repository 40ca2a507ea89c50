/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A manager (vpn/daemon/manager.h) that only notes what it was asked, for tests of the D-Bus object
 * and of the command. "up" is up at once, "down" is sealed; the profile "missing" does not exist; a
 * file whose text begins with "bad" is refused. Texts that came are kept for looking at.
 */
#pragma once

#include "vpn/daemon/bus.h"
#include "vpn/daemon/manager.h"

struct fake {
    struct vpn_status status;
    struct bus *bus; /* told of changes; may be NULL */
    char last[256];  /* the last call and its arguments in words */
    char text[128];  /* the beginning of the last file or secret */
    size_t len, n_others;
    char other[64]; /* name of the last of the other files */
};

extern struct fake fake;
