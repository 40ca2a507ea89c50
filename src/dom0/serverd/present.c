/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/present.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void present_done(struct present *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->keys[i].value);
    free(p->keys);
    *p = (struct present){0};
}

static bool begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* A rule or the policy: /qubes-firewall/ADDR/NAME. Without ADDR its block could not be written. */
static const char *firewall_name(const char *path)
{
    const char *slash;

    if (!begins(path, PRESENT_FIREWALL))
        return NULL;
    slash = strchr(path + strlen(PRESENT_FIREWALL), '/');
    return slash && slash[1] && slash > path + strlen(PRESENT_FIREWALL) ? slash : NULL;
}

bool present_is_qubesds(const char *path)
{
    size_t len = strlen(path), end = strlen(PRESENT_VISIBLE);

    return strcmp(path, PRESENT_IP) == 0 ||
           (begins(path, PRESENT_MAPPED) && len > strlen(PRESENT_MAPPED) + end &&
            strcmp(path + len - end, PRESENT_VISIBLE) == 0);
}

bool present_wants(const char *path)
{
    return strcmp(path, PRESENT_MARKER) == 0 || strcmp(path, PRESENT_INBOUND) == 0 ||
           begins(path, PRESENT_RECORDS) || begins(path, PRESENT_OLDER) ||
           present_is_qubesds(path) || firewall_name(path) != NULL;
}

size_t present_from(const struct present *p, const char *path)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(p->keys[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct present *p, size_t i, const char *path)
{
    return i < p->n && strcmp(p->keys[i].path, path) == 0;
}

const struct present_key *present_find(const struct present *p, const char *path)
{
    size_t i = present_from(p, path);

    return is_at(p, i, path) ? &p->keys[i] : NULL;
}

bool present_is(const struct present *p, const char *path, struct str value)
{
    const struct present_key *k = present_find(p, path);

    return k && k->len == value.len && (value.len == 0 || memcmp(k->value, value.p, value.len) == 0);
}

static int make_room(struct present *p)
{
    size_t capacity = p->capacity ? p->capacity * 2 : 8;
    struct present_key *grown;

    if (p->n < p->capacity)
        return 0;
    grown = reallocarray(p->keys, capacity, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    p->keys = grown;
    p->capacity = capacity;
    return 0;
}

static char *copy(struct str value)
{
    char *s = malloc(value.len + 1);

    if (!s)
        return NULL;
    if (value.len > 0)
        memcpy(s, value.p, value.len);
    s[value.len] = '\0';
    return s;
}

int present_set(struct present *p, const char *path, struct str value)
{
    size_t i = present_from(p, path);
    struct present_key *k;
    char *text;

    if (is_at(p, i, path)) {
        k = &p->keys[i];
        if (k->len == value.len && (value.len == 0 || memcmp(k->value, value.p, value.len) == 0))
            return 0;
        text = copy(value);
        if (!text)
            return -ENOMEM;
        p->bytes = p->bytes - k->len + value.len;
        free(k->value);
        k->value = text;
        k->len = value.len;
        return 1;
    }
    if (p->n >= PRESENT_KEYS_MAX || p->bytes + value.len > PRESENT_BYTES_MAX) {
        p->overflow = true;
        return -E2BIG;
    }
    text = strlen(path) < sizeof(k->path) ? copy(value) : NULL;
    if (!text || make_room(p) < 0) {
        free(text);
        return -ENOMEM;
    }
    memmove(&p->keys[i + 1], &p->keys[i], (p->n - i) * sizeof(*p->keys));
    k = &p->keys[i];
    *k = (struct present_key){.value = text, .len = value.len};
    memcpy(k->path, path, strlen(path) + 1);
    p->n++;
    p->bytes += value.len;
    return 1;
}

bool present_remove(struct present *p, const char *path)
{
    size_t i = present_from(p, path);

    if (!is_at(p, i, path))
        return false;
    p->bytes -= p->keys[i].len;
    free(p->keys[i].value);
    p->n--;
    memmove(&p->keys[i], &p->keys[i + 1], (p->n - i) * sizeof(*p->keys));
    return true;
}
