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
    allow_done(&c->permitted);
    allow_done(&c->outside);
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

static struct stray *stray_find(struct model *m, const char *path)
{
    for (size_t i = 0; i < m->n_known_strays; i++) {
        if (strcmp(m->strays[i].path, path) == 0)
            return &m->strays[i];
    }
    return NULL;
}

static void stray_set(struct model *m, const char *path, const char *why, bool present)
{
    struct stray *s = stray_find(m, path);

    if (present && s == NULL) {
        if (m->n_known_strays < MODEL_KNOWN_STRAYS) {
            s = &m->strays[m->n_known_strays++];
            (void)snprintf(s->path, sizeof(s->path), "%s", path);
            (void)snprintf(s->why, sizeof(s->why), "%s", why);
        }
        m->n_strays++;
    } else if (!present && s != NULL) {
        *s = m->strays[--m->n_known_strays];
        memset(&m->strays[m->n_known_strays], 0, sizeof(*s));
        m->n_strays--;
    } else if (!present && m->n_strays > m->n_known_strays) {
        m->n_strays--; /* one of those that are only counted */
    }
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
    c->everything = true;
    return 0;
}

/* Published ports as rules: by the ports outside, or by those inside. */
static int publish_as_allow(const struct publish *publish, bool outside, struct allow *ret)
{
    ret->entries = calloc(publish->n, sizeof(*ret->entries));
    if (ret->entries == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < publish->n; i++) {
        const struct publish_entry *e = &publish->entries[i];
        uint16_t lo = outside ? e->outside_lo : e->inside_lo;

        ret->entries[ret->n++] = (struct allow_entry){
            .proto = e->proto,
            .port_lo = lo,
            .port_hi = (uint16_t)(lo + (e->outside_hi - e->outside_lo)),
            .from = e->from,
        };
    }
    return 0;
}

/*
 * At the edge, published ports are let in only when they came to the port outside. At an inner hop
 * they arrive with the address and port inside: there they are rules like any other.
 */
static int settle_access(struct claim *c, int family)
{
    _cleanup_(allow_done) struct allow ports = {0}, both = {0};
    int r = 0;

    c->everything = c->record.forward && !c->record.has_allow;
    if (c->record.publish.n > 0)
        r = publish_as_allow(&c->record.publish, c->record.edge, &ports);
    if (r == 0 && c->record.edge && ports.n > 0)
        r = allow_disjoint(&ports, family, &c->outside);
    if (r < 0 || c->everything)
        return r;
    if (c->record.edge || ports.n == 0)
        return allow_disjoint(&c->record.allow, family, &c->permitted);
    r = allow_join(&c->record.allow, &ports, &both);
    return r < 0 ? r : allow_disjoint(&both, family, &c->permitted);
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
    if (c->record.via.family != 0 && c->record.via.family != family)
        return claim_refuse(c, "via= is of the other IP version");
    r = settle_access(c, family);
    if (r == -E2BIG)
        return claim_refuse(c, "allow: too many combinations of ports and networks");
    c->valid = r == 0;
    return r;
}

static int claim_parse(struct claim *c, int family, struct str value)
{
    record_done(&c->record);
    allow_done(&c->permitted);
    allow_done(&c->outside);
    free(c->why);
    c->why = NULL;
    c->valid = c->off = c->everything = false;
    switch (c->source) {
    case CLAIM_METHOD:
        return parse_method(c, value);
    case CLAIM_RECORD:
    case CLAIM_VM_CONFIG:
        return parse_record(c, family, value);
    }
    return 0;
}

static void claim_remove(struct model *m, struct slot *slot, struct claim **at)
{
    struct claim *c = *at;

    *at = c->next;
    m->publish_changed = m->publish_changed || c->record.publish.n > 0;
    (void)model_claim_free(c);
    model_touch(m, slot);
}

static int claim_set(struct model *m, struct slot *slot, enum claim_source source, const char *path,
                     struct str value)
{
    struct claim **at = &slot->claims;
    char *copy;
    int r;

    while (*at != NULL && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
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
        (void)snprintf((*at)->path, sizeof((*at)->path), "%s", path);
    }
    free((*at)->value);
    (*at)->value = copy;
    (*at)->value_len = value.len;
    (*at)->reading = m->reading;
    model_touch(m, slot);
    m->publish_changed = m->publish_changed || (*at)->record.publish.n > 0;
    r = claim_parse(*at, slot->addr.family, value);
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
        stray_set(m, path, why, value != NULL);
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
    memset(m->strays, 0, sizeof(m->strays));
    m->n_strays = m->n_known_strays = 0;
    m->n_over_limit = 0;
}

static void sweep_slot(struct slot *slot, void *user)
{
    struct model *m = user;
    struct claim **at = &slot->claims;

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
}
