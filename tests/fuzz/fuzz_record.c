/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whatever a local user can write into QubesDB: a path and a value, cut at the first line end.
 * Each goes through the grammars and, as a claim, through the model. What is accepted must be
 * within its own promises; what is refused says why.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "exposure/record.h"
#include "router/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_why(int r, const char *why, size_t size)
{
    require(memchr(why, '\0', size) != NULL);
    require(r == 0 || why[0] != '\0');
    for (; *why != '\0'; why++)
        require(*why >= 0x20 && *why < 0x7f);
}

static void check_entry(const struct allow_entry *e)
{
    bool ports = e->proto == ALLOW_PROTO_TCP || e->proto == ALLOW_PROTO_UDP;
    bool every = e->port_lo == 0 && e->port_hi == UINT16_MAX;

    require(e->port_lo <= e->port_hi && (every || (ports && e->port_lo > 0)));
    require(e->from.addr.family == 0 || e->from.len <= addr_bits(e->from.addr.family));
}

/* The list without overlaps lets through what the other does, at every edge of every entry. */
static void check_disjoint(const struct allow *allow, int family)
{
    _cleanup_(allow_done) struct allow d = {0};

    if (allow_disjoint(allow, family, &d) < 0)
        return;
    for (size_t i = 0; i < allow->n && i < 16; i++) {
        const struct allow_entry *e = &allow->entries[i];
        const uint16_t ports[] = {e->port_lo, e->port_hi, (uint16_t)(e->port_lo - 1),
                                  (uint16_t)(e->port_hi + 1)};
        struct addr at[2] = {{.family = (uint8_t)family}, {.family = (uint8_t)family}};

        if (e->from.addr.family == family)
            prefix_range(&e->from, &at[0], &at[1]);
        for (size_t k = 0; k < 8; k++)
            require(allow_accepts(allow, family, IPPROTO_TCP, ports[k / 2], &at[k % 2]) ==
                    allow_accepts(&d, family, IPPROTO_TCP, ports[k / 2], &at[k % 2]));
    }
}

static void check_allow(struct str text)
{
    _cleanup_(allow_done) struct allow allow = {0};
    char why[ALLOW_WHY_MAX];
    int r = allow_parse(text, &allow, why);

    check_why(r, why, sizeof(why));
    require(allow.n <= ALLOW_MAX_ENTRIES && (r == 0 || allow.n == 0));
    for (size_t i = 0; i < allow.n; i++)
        check_entry(&allow.entries[i]);
    check_disjoint(&allow, AF_INET);
    check_disjoint(&allow, AF_INET6);
}

static void check_publish(struct str text)
{
    _cleanup_(publish_done) struct publish publish = {0};
    char why[ALLOW_WHY_MAX];
    int r = publish_parse(text, &publish, why);

    check_why(r, why, sizeof(why));
    require(publish.n <= PUBLISH_MAX_ENTRIES && (r == 0 || publish.n == 0));
    for (size_t i = 0; i < publish.n; i++) {
        const struct publish_entry *e = &publish.entries[i];

        require(e->outside_lo > 0 && e->outside_lo <= e->outside_hi && e->inside_lo > 0);
        require(e->inside_lo + (e->outside_hi - e->outside_lo) <= UINT16_MAX);
    }
}

static void check_record(struct str text, enum record_form form)
{
    _cleanup_(record_done) struct record record = {0};
    char why[RECORD_WHY_MAX];
    int r = record_parse(text, form, &record, why);

    check_why(r, why, sizeof(why));
    if (r < 0)
        return;
    require(memchr(record.vm, '\0', sizeof(record.vm)) != NULL);
    require(record.expires >= 0 && record.xid[0] <= XID_MAX && record.xid[1] <= XID_MAX);
    require(form == RECORD_FORM_VM_CONFIG || record.pending || record.xid[0] != 0);
    require(record.forward || record.publish.n > 0);
    require(record.has_allow || record.allow.n == 0);
    require(record.limit <= RECORD_LIMIT_MAX);
}

/* Set, set again, gone: nothing is left, whatever the path is. */
static void check_claim(const char *path, const struct str *value)
{
    _cleanup_(model_freep) struct model *m = model_new();
    struct slot *list;

    if (m == NULL)
        return;
    require(model_claim(m, path, value) == 0 && model_claim(m, path, value) == 0);
    require(m->n_slots + m->n_strays + m->marker + m->wants_ip6 <= 1);
    require(model_wants_path(path) || m->n_slots + m->n_strays == 0);
    require(model_claim(m, path, NULL) == 0);
    require(m->n_strays + m->marker + m->wants_ip6 == 0);
    for (list = model_take_dirty(m); list != NULL;) {
        struct slot *next = list->next_dirty;

        require(list->claims == NULL);
        list->dirty = false;
        require(model_drop_idle(m, list));
        list = next;
    }
    require(m->n_slots == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t len = end != NULL ? (size_t)(end - data) : 0;
    _cleanup_(freep) char *value = malloc(size + 1); /* of its exact size */
    char path[CLAIM_PATH_MAX + 8] = "";
    struct str text;
    int64_t t;

    if (value == NULL || size > 4096)
        return 0;
    if (end != NULL) {
        memcpy(path, data, len < sizeof(path) - 1 ? len : sizeof(path) - 1);
        data += len + 1;
        size -= len + 1;
    }
    free(value);
    value = malloc(size > 0 ? size : 1);
    if (value == NULL)
        return 0;
    if (size > 0)
        memcpy(value, data, size);
    text = (struct str){value, size};
    check_allow(text);
    check_publish(text);
    check_record(text, RECORD_FORM_DOM0);
    check_record(text, RECORD_FORM_VM_CONFIG);
    if (record_parse_time(text, &t) == 0)
        require(t > 0);
    if (strlen(path) < CLAIM_PATH_MAX)
        check_claim(path, &text);
    return 0;
}
