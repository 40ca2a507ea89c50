/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes make a net qube and what happens to it; each plan is held to its laws (aborts). */
#include <stddef.h>
#include <stdint.h>

#include "../unit/test_router_laws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= 2048)
        laws_run(data, size);
    return 0;
}
