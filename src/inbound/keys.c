/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "inbound/manager.h"

const char *const keys_prefixes[] = {DOOR_PATH, DOOR_VM_CONFIG_PATH, NULL};

bool keys_want(const char *path, void *user)
{
    (void)user;
    return strcmp(path, keys_prefixes[0]) == 0 || strcmp(path, keys_prefixes[1]) == 0;
}

int keys_set(struct keys *k, const char *path, const struct str *value)
{
    unsigned which = strcmp(path, keys_prefixes[0]) == 0 ? 0 : 1;
    char *copy = NULL;

    if (!keys_want(path, NULL))
        return 0;
    if (value != NULL) {
        copy = strndup(value->len > 0 ? value->p : "", value->len);
        if (copy == NULL)
            return -ENOMEM;
    }
    free(k->value[which]);
    k->value[which] = copy;
    return 0;
}

void keys_done(struct keys *k)
{
    free(k->value[0]);
    free(k->value[1]);
    *k = (struct keys){{NULL, NULL}};
}

const char *keys_choose(const struct keys *k, const char **ret_value)
{
    unsigned which = k->value[0] != NULL ? 0 : 1;

    *ret_value = k->value[which];
    return k->value[which] != NULL ? keys_prefixes[which] : NULL;
}
