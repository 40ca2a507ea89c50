/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any events in any state, one byte each, also such as are none. What is open was opened by a client
 * that said it is up, and what leaves an open state takes the tunnel out of the wish.
 */
#include <stdint.h>
#include <stdlib.h>

#include "vpn/daemon/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine m = {STATE_SEALED};
    bool tunnel = false, client = false;

    if (size > 0)
        m.state = (enum machine_state)data[0];
    for (size_t i = 0; i < size; i++) {
        unsigned actions = machine_step(&m, (enum machine_event)data[i]);

        if (actions & (ACTION_CLOSE | ACTION_ADMIT))
            tunnel = false;
        if (actions & ACTION_STOP_CLIENT)
            client = false;
        if (actions & ACTION_START_CLIENT)
            client = true;
        if (actions & ACTION_CONFIGURE) {
            require(data[i] == EVENT_CLIENT_UP);
            tunnel = true;
        }
        require(m.state < MACHINE_STATES);
        require(i == 0 || !tunnel || machine_is_open(m.state));
        require(i == 0 || data[0] < MACHINE_STATES || !client || m.state == STATE_CONNECTING ||
                machine_is_open(m.state));
        require(machine_state_name(m.state)[0] != '?');
    }
    return 0;
}
