/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whatever a local user can write under the key of the qube's own door. What is accepted gives
 * elements that are in order, within keys of the kernel's size, and can be shown.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "inbound/door.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str line = {size > 0 ? (const char *)data : "", size};
    _cleanup_(freep) struct door_element *elements = NULL;
    _cleanup_(door_done) struct door door = {.n = 0};
    char why[DOOR_WHY_MAX], buf[DOOR_ELEMENT_STR_MAX];
    size_t n = 0;
    int r = door_parse(line, &door, why);

    require(memchr(why, '\0', sizeof(why)) != NULL);
    require(r == 0 || (door.n == 0 && why[0] != '\0'));
    if (r < 0 || door_elements(&door, &elements, &n) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        require(i == 0 || door_compare(&elements[i - 1], &elements[i]) < 0);
        require(elements[i].key.has_end && elements[i].key.len <= 40);
        require(memcmp(elements[i].key.data, elements[i].key.end, 4) <= 0);
        require(strstr(door_format(&elements[i], buf), "not ours") == NULL);
    }
    return 0;
}
