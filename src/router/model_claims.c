/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wishes half of the model: a path of QubesDB decides which address and which kind of claim it
 * is; the value is parsed once, here, and only when it changed. A key that names no valid address
 * becomes a stray: it opens nothing, and the status shows it.
 */
#include "router/model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "router/model_strays.h"

#define MARKER_PATH   "/network-server"
#define IP6_PATH      "/qubes-netvm-gateway6"
#define METHOD_FORWARD "forward"
#define METHOD_NONE   "masquerade"

static const struct {
    const char *prefix;
    enum claim_source source;
    bool underscores; /* ':' of IPv6 is written '_', as names of features have to be */
} prefixes[] = {
    {"/network-server/", CLAIM_RECORD, false},
    {"/vm-config/expose.", CLAIM_VM_CONFIG, true},
    {"/qubes-routing-method/", CLAIM_METHOD, false},
};

static bool path_is_switch(const char *path)
{
    return strcmp(path, MARKER_PATH) == 0 || strcmp(path, IP6_PATH) == 0;
}

bool model_wants_path(const char *path)
{
    if (path_is_switch(path))
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        if (strncmp(path, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0)
            return true;
    }
    return false;
}

struct claim *model_claim_free(struct claim *c)
{
    if (c == NULL)
        return NULL;
    record_done(&c->record);
    free(c->value);
    free(c->why);
    free(c);
    return NULL;
}

/* 0, or -EINVAL with why when the rest of the path is no address that can be served. */
static int parse_path(const char *path, enum claim_source *ret_source, struct addr *ret_addr,
                      const char **ret_why)
{
    char text[CLAIM_PATH_MAX];
    const char *unusable;
    size_t i = 0;

    while (i < ARRAY_SIZE(prefixes) &&
           strncmp(path, prefixes[i].prefix, strlen(prefixes[i].prefix)) != 0)
        i++;
    if (i == ARRAY_SIZE(prefixes))
        return -ENOENT;
    *ret_source = prefixes[i].source;
    (void)snprintf(text, sizeof(text), "%s", path + strlen(prefixes[i].prefix));
    for (char *c = text; prefixes[i].underscores && *c != '\0'; c++) {
        if (*c == '_')
            *c = ':';
    }
    *ret_why = "names no IPv4 or IPv6 address";
    if (addr_parse(str_from(text), ret_addr) < 0)
        return -EINVAL;
    unusable = addr_why_unusable(ret_addr);
    if (unusable == NULL)
        return 0;
    *ret_why = unusable;
    return -EINVAL;
}

bool model_wants_value(const char *path, struct addr *ret_addr)
{
    enum claim_source source;
    const char *why;

    *ret_addr = (struct addr){0};
    return path_is_switch(path) || parse_path(path, &source, ret_addr, &why) == 0;
}

__attribute__((format(printf, 2, 3))) static int claim_refuse(struct claim *c, const char *format,
                                                              ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&c->why, format, args);
    va_end(args);
    if (n < 0)
        c->why = NULL;
    return n < 0 ? -ENOMEM : 0;
}

static int parse_method(struct claim *c, struct str value)
{
    char shown[32];

    c->valid = str_is(value, METHOD_FORWARD) || str_is(value, METHOD_NONE);
    c->off = str_is(value, METHOD_NONE);
    if (!c->valid)
        return claim_refuse(c, "\"%s\" is neither forward nor masquerade",
                            str_escape(value, shown, sizeof(shown)));
    c->record = (struct record){.edge = true, .forward = true};
    return 0;
}

static int parse_record(struct claim *c, int family, struct str value)
{
    enum record_form form = c->source == CLAIM_RECORD ? RECORD_FORM_DOM0 : RECORD_FORM_VM_CONFIG;
    char why[RECORD_WHY_MAX];
    int r = record_parse(value, form, &c->record, why);

    if (r == -EINVAL)
        return claim_refuse(c, "%s", why);
    if (r < 0)
        return r;
    /* up to 7 KiB that only an open address needs: the plan parses the text again */
    allow_done(&c->record.allow);
    if (c->record.via.family != 0 && c->record.via.family != family)
        return claim_refuse(c, "via= is of the other IP version");
    c->valid = true;
    return 0;
}

static int claim_parse(struct claim *c, int family, struct str value)
{
    record_done(&c->record);
    free(c->why);
    c->why = NULL;
    c->valid = c->off = false;
    switch (c->source) {
    case CLAIM_METHOD:
        return parse_method(c, value);
    case CLAIM_RECORD:
    case CLAIM_VM_CONFIG:
        return parse_record(c, family, value);
    }
    return 0;
}

int model_claim_access(const struct claim *c, int family, struct access *ret)
{
    enum record_form form = c->source == CLAIM_RECORD ? RECORD_FORM_DOM0 : RECORD_FORM_VM_CONFIG;
    _cleanup_(record_done) struct record record = {0};
    char why[RECORD_WHY_MAX];
    int r;

    if (!c->record.has_allow)
        return access_settle(&c->record, family, ret);
    r = record_parse((struct str){c->value, c->value_len}, form, &record, why);
    return r < 0 ? r : access_settle(&record, family, ret);
}

static void claim_remove(struct model *m, struct slot *slot, struct claim **at)
{
    struct claim *c = *at;

    *at = c->next;
    m->publish_changed = m->publish_changed || c->record.publish.n > 0;
    model_via_unset(m, c);
    (void)model_claim_free(c);
    model_touch(m, slot);
}

static int claim_set(struct model *m, struct slot *slot, enum claim_source source, const char *path,
                     struct str value)
{
    struct claim **at = &slot->claims;
    unsigned n = 0;
    char *copy;
    int r;

    for (; *at != NULL && strcmp((*at)->path, path) != 0; at = &(*at)->next)
        n++;
    if (*at == NULL && n >= ROUTER_MAX_SPELLINGS) {
        /* nobody gets it, also when all but one of the known ones go: the next full reading tells */
        slot->crowded = m->reading;
        m->n_over_limit++;
        model_touch(m, slot);
        return 0;
    }
    if (*at != NULL && (*at)->value_len == value.len &&
        memcmp((*at)->value, value.p, value.len) == 0) {
        (*at)->reading = m->reading;
        return 0;
    }
    copy = malloc(value.len + 1);
    if (copy == NULL)
        return -ENOMEM;
    if (value.len > 0)
        memcpy(copy, value.p, value.len);
    copy[value.len] = '\0';
    if (*at == NULL) {
        *at = calloc(1, sizeof(**at));
        if (*at == NULL) {
            free(copy);
            return -ENOMEM;
        }
        (*at)->source = source;
        (*at)->slot = slot;
        (void)snprintf((*at)->path, sizeof((*at)->path), "%s", path);
    }
    free((*at)->value);
    (*at)->value = copy;
    (*at)->value_len = value.len;
    (*at)->reading = m->reading;
    model_touch(m, slot);
    m->publish_changed = m->publish_changed || (*at)->record.publish.n > 0;
    model_via_unset(m, *at);
    r = claim_parse(*at, slot->addr.family, value);
    if (r == 0)
        r = model_via_set(m, *at);
    m->publish_changed = m->publish_changed || (*at)->record.publish.n > 0;
    if (r < 0) /* so that the next reading does not take it for known */
        claim_remove(m, slot, at);
    return r;
}

static void claim_unset(struct model *m, struct slot *slot, const char *path)
{
    for (struct claim **at = &slot->claims; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->path, path) == 0) {
            claim_remove(m, slot, at);
            return;
        }
    }
}

static void set_switch(struct model *m, const char *path, bool marker, bool wants_ip6)
{
    if (strcmp(path, IP6_PATH) == 0) {
        m->wants_ip6 = wants_ip6;
        m->ip6_reading = m->reading;
        return;
    }
    m->marker_reading = m->reading;
    if (m->marker != marker) {
        m->marker = marker;
        model_touch_all(m);
    }
}

int model_claim(struct model *m, const char *path, const struct str *value)
{
    enum claim_source source;
    const char *why = NULL;
    struct slot *slot;
    struct addr addr;
    int r;

    if (path_is_switch(path)) {
        set_switch(m, path, value != NULL, value != NULL && value->len > 0);
        return 0;
    }
    r = parse_path(path, &source, &addr, &why);
    if (r == -ENOENT)
        return 0;
    if (r < 0) {
        model_stray_set(m, path, why, value != NULL);
        return 0;
    }
    if (value == NULL) {
        slot = model_find(m, &addr);
        if (slot != NULL)
            claim_unset(m, slot, path);
        return 0;
    }
    slot = model_get(m, &addr, &r);
    if (slot == NULL && r == -E2BIG) {
        m->n_over_limit++;
        return 0;
    }
    return slot != NULL ? claim_set(m, slot, source, path, *value) : r;
}

void model_claims_begin(struct model *m)
{
    m->reading++;
    m->n_over_limit = 0;
}

static void sweep_slot(struct slot *slot, void *user)
{
    struct model *m = user;
    struct claim **at = &slot->claims;

    if (slot->crowded != 0 && slot->crowded != m->reading) {
        slot->crowded = 0;
        model_touch(m, slot);
    }
    while (*at != NULL) {
        if ((*at)->reading != m->reading)
            claim_remove(m, slot, at);
        else
            at = &(*at)->next;
    }
}

void model_claims_end(struct model *m)
{
    if (m->marker_reading != m->reading)
        set_switch(m, MARKER_PATH, false, false);
    if (m->ip6_reading != m->reading)
        set_switch(m, IP6_PATH, false, false);
    model_each(m, sweep_slot, m);
    model_strays_sweep(m);
}
