/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_dom0_laws.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"

#define LAW(holds, q)                                                                              \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            (void)fprintf(stderr, "%s:%d: broken for %s: %s\n", __func__, __LINE__, (q)->name,     \
                          #holds);                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

void laws_feature(struct qube *q, enum feature_id id, const char *value)
{
    struct str s = str_from(value != NULL ? value : "");

    if (qube_set_feature(q, id, value != NULL ? &s : NULL) < 0)
        abort();
}

struct qube *laws_qube(struct tree *t, const char *name, const char *netvm, const char *ip)
{
    int error = 0;
    struct qube *q = tree_get(t, str_from(name), &error);

    if (q == NULL || qube_set_property(q, STR_LITERAL("netvm"), str_from(netvm)) < 0 ||
        qube_set_property(q, STR_LITERAL("ip"), str_from(ip)) < 0 ||
        qube_set_property(q, STR_LITERAL("klass"), STR_LITERAL("AppVM")) < 0)
        abort();
    q->power = POWER_RUNNING;
    q->xid[0] = (uint16_t)(tree_count(t) + 10);
    q->complete = true;
    qube_attach(q);
    return q;
}

static const struct wish *find(const struct wishes *w, const struct qube *where, const char *path)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->wishes[i].where == where && strcmp(w->wishes[i].path, path) == 0)
            return &w->wishes[i];
    }
    return NULL;
}

static bool truthy(const char *value)
{
    return value != NULL && value[0] != '\0';
}

static void check_form(const struct wishes *w, size_t i)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "_/.:@-";
    const struct wish *x = &w->wishes[i];

    LAW(x->path[0] == '/' && strlen(x->path) <= 63, x->where);
    LAW(strspn(x->path, allowed) == strlen(x->path), x->where);
    LAW((x->value == NULL) == (x->kind == WISH_FIREWALL), x->where);
    LAW(x->value == NULL || strlen(x->value) <= 3071, x->where);
    for (const char *c = x->value; c != NULL && *c != '\0'; c++)
        LAW(*c >= 0x20 && *c <= 0x7e, x->where);
    LAW(i == 0 || strcmp(w->wishes[i - 1].where->name, x->where->name) < 0 ||
            (w->wishes[i - 1].where == x->where && strcmp(w->wishes[i - 1].path, x->path) < 0),
        x->where);
}

/* Nobody is exposed that is not allowed to be, whoever else there is. */
static void check_owner(const struct tree *t, const struct wish *x)
{
    const struct qube *q = x->whose;
    struct exposure e = {0};
    char why[WISH_WHY_MAX];

    LAW(q->complete && qube_is_alive(q) && q->live.known && !q->changing, q);
    LAW(wish_is_asked(t, q) && !truthy(tree_feature(t, q, FEATURE_VPN)), q);
    LAW(exposure_of(t, q, &e, why) == 0, q);
    LAW(e.expires == 0 || e.expires > LAWS_NOW, q);
    LAW(e.forward || e.publish.n > 0, q);
    exposure_done(&e);
    if (x->kind == WISH_INBOUND)
        return;
    LAW(addr_equal(&x->addr, &q->live.ip[x->addr.family == AF_INET6]), q);
    LAW(addr_why_unusable(&x->addr) == NULL, q);
    for (size_t i = 0; i < tree_count(t); i++) {
        const struct qube *o = tree_at(t, i);

        for (unsigned f = 0; f < 2 && o != q; f++) {
            LAW(!(qube_is_alive(o) && o->live.known && o->live.netvm[0] != '\0' &&
                  addr_equal(&o->live.ip[f], &x->addr)), q);
            LAW(!(o->provides_network && addr_equal(&o->ip[f], &x->addr)), q);
        }
    }
}

static bool knows(const char *line)
{
    struct record r = {0};
    char why[RECORD_WHY_MAX];
    bool ok = record_parse(str_from(line), RECORD_FORM_DOM0, &r, why) == 0;

    record_done(&r);
    return ok;
}

static void check_record(const struct wish *x, const struct qube *child, bool last)
{
    const struct qube *q = x->whose;
    struct record r = {0};
    char why[RECORD_WHY_MAX];

    if ((strstr(x->value, "|limit=") != NULL || strstr(x->value, "|log=") != NULL) &&
        !knows("v=1|vm=a|xid=1|via=direct|edge=1|mode=forward|limit=1|log=1"))
        return; /* a reader from before these fields */
    if (record_parse(str_from(x->value), RECORD_FORM_DOM0, &r, why) < 0) {
        (void)fprintf(stderr, "%s\n%s\n", x->value, why);
        abort();
    }
    LAW(strcmp(r.vm, q->name) == 0, q);
    LAW(r.edge == last, q);
    LAW(r.pending || (child->power != POWER_STARTING && child->xid[0] != 0), q);
    LAW(r.pending || (q->power != POWER_STARTING && q->xid[0] != 0), q);
    LAW(r.pending || r.xid[0] == child->xid[0], q);
    LAW(child == q ? r.via.family == 0
                   : addr_equal(&r.via, &child->live.ip[x->addr.family == AF_INET6]), q);
    record_done(&r);
}

/* All hops have the record, and each can do it. */
static void check_way(const struct tree *t, const struct wishes *w, const struct wish *x)
{
    const struct qube *q = x->whose, *child = q;
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing;
    bool on_the_way = false;
    int n = tree_hops(t, q, hops, &missing);

    LAW(n > 0, q);
    for (int k = 0; k < n; k++) {
        const struct wish *there = find(w, hops[k], x->path);

        LAW(there != NULL && there->whose == q && there->kind == WISH_RECORD, q);
        LAW(hops[k]->complete && qube_is_alive(hops[k]) && !hops[k]->changing, q);
        LAW(!truthy(tree_feature(t, hops[k], FEATURE_VPN)), q);
        LAW(strcmp(tree_feature(t, hops[k], FEATURE_CAPABLE), "1") == 0, q);
        LAW(find(w, hops[k], "/network-server") != NULL, q);
        check_record(there, child, k == n - 1);
        on_the_way = on_the_way || hops[k] == x->where;
        child = hops[k];
    }
    LAW(on_the_way, q);
    LAW(qube_netvm(hops[n - 1])[0] == '\0', q);
    LAW((find(w, q, "/network-server-inbound") != NULL) == (q->power != POWER_STARTING), q);
}

static void check_firewall(const struct wishes *w, const struct wish *x)
{
    char path[WISH_PATH_MAX], addr[ADDR_STR_MAX];
    const struct wish *record;

    (void)snprintf(path, sizeof(path), "/network-server/%s", addr_format(&x->addr, addr));
    record = find(w, x->where, path);
    LAW(record != NULL && record->whose == x->whose, x->whose);
    LAW(strstr(record->value, "|mode=forward") != NULL, x->whose);
    LAW(strstr(record->value, "|via=direct") == NULL, x->whose);
    LAW(strcmp(x->whose->netvm, x->where->name) != 0, x->whose);
}

static void check_inbound(const struct wish *x)
{
    struct str rest = str_from(x->value), piece;
    size_t n = 0;

    LAW(x->where == x->whose, x->whose);
    LAW(str_next(&rest, '|', &piece) && str_is(piece, "v=1"), x->whose);
    while (str_next(&rest, '|', &piece)) {
        static const char word[] = " allow=";
        const char *at = strstr(piece.p, word);
        struct allow allow = {0};
        char why[ALLOW_WHY_MAX];
        struct addr a;

        LAW(at != NULL && at < piece.p + piece.len, x->whose);
        LAW(addr_parse((struct str){piece.p, (size_t)(at - piece.p)}, &a) == 0, x->whose);
        at += sizeof(word) - 1;
        LAW(allow_parse((struct str){at, (size_t)(piece.p + piece.len - at)}, &allow, why) == 0,
            x->whose);
        allow_done(&allow);
        n++;
    }
    LAW(n == 1 || n == 2, x->whose);
}

static void check_wish(const struct tree *t, const struct wishes *w, const struct wish *x)
{
    switch (x->kind) {
    case WISH_MARKER:
        LAW(x->where->complete && qube_is_alive(x->where), x->where);
        LAW(strcmp(tree_feature(t, x->where, FEATURE_CAPABLE), "1") == 0, x->where);
        return;
    case WISH_RECORD:
        check_owner(t, x);
        check_way(t, w, x);
        return;
    case WISH_FIREWALL:
        check_owner(t, x);
        check_firewall(w, x);
        return;
    case WISH_INBOUND:
        check_owner(t, x);
        check_inbound(x);
        return;
    }
}

/* Somebody asked: then an address is either exposed or there is a reason why not, never both. */
static void check_told(const struct wishes *w, const struct qube *q)
{
    size_t said = 0;

    for (unsigned f = 0; f < 2; f++) {
        int family = f == 0 ? AF_INET : AF_INET6;
        bool wished = false, problem = false;

        for (size_t i = 0; i < w->n; i++)
            wished = wished || (w->wishes[i].whose == q && w->wishes[i].kind == WISH_RECORD &&
                                w->wishes[i].addr.family == family);
        for (size_t i = 0; i < w->n_problems; i++) {
            const struct problem *p = &w->problems[i];

            /* a port closes both families, and is told once */
            if (p->whose == q && (p->family == 0 || p->family == family || p->kind == PROBLEM_PORT))
                problem = true;
        }
        LAW(!(wished && problem), q);
        LAW(wished || problem || q->live.ip[f].family == 0, q);
        said += wished || problem;
    }
    LAW(said > 0, q);
}

static const struct qube *edge_of(const struct tree *t, const struct qube *q)
{
    struct qube *hops[TREE_HOPS_MAX];
    const char *missing;
    int n = tree_hops(t, q, hops, &missing);

    return n > 0 ? hops[n - 1] : NULL;
}

static void check_ports(const struct tree *t, const struct wish *x, const struct wish *y)
{
    _cleanup_(exposure_done) struct exposure a = {0}, b = {0};
    char why[WISH_WHY_MAX];

    if (x->whose == y->whose || x->addr.family != y->addr.family ||
        edge_of(t, x->whose) != edge_of(t, y->whose))
        return;
    LAW(exposure_of(t, x->whose, &a, why) == 0 && exposure_of(t, y->whose, &b, why) == 0, x->whose);
    for (size_t i = 0; i < a.publish.n; i++) {
        for (size_t k = 0; k < b.publish.n; k++) {
            const struct publish_entry *e = &a.publish.entries[i], *o = &b.publish.entries[k];

            LAW(e->proto != o->proto || e->outside_hi < o->outside_lo ||
                    o->outside_hi < e->outside_lo, x->whose);
        }
    }
}

void laws_check(const struct tree *t)
{
    _cleanup_(wishes_done) struct wishes w = {0};

    if (wish_compute(t, LAWS_NOW, &w) < 0)
        abort();
    for (size_t i = 0; i < w.n; i++) {
        check_form(&w, i);
        check_wish(t, &w, &w.wishes[i]);
        for (size_t k = 0; k < i; k++) {
            if (w.wishes[i].kind == WISH_RECORD && w.wishes[k].kind == WISH_RECORD)
                check_ports(t, &w.wishes[i], &w.wishes[k]);
        }
    }
    for (size_t i = 0; i < w.n_problems; i++) {
        LAW(wish_is_asked(t, w.problems[i].whose), w.problems[i].whose);
        LAW(strstr(w.problems[i].why, w.problems[i].whose->name) != NULL, w.problems[i].whose);
    }
    for (size_t i = 0; i < tree_count(t); i++) {
        if (wish_is_asked(t, tree_at(t, i)))
            check_told(&w, tree_at(t, i));
    }
}

char *laws_print(const struct tree *t)
{
    _cleanup_(wishes_done) struct wishes w = {0};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (f == NULL || wish_compute(t, LAWS_NOW, &w) < 0)
        abort();
    for (size_t i = 0; i < w.n; i++)
        (void)fprintf(f, "%s %s %s\n", w.wishes[i].where->name, w.wishes[i].path,
                      w.wishes[i].value != NULL ? w.wishes[i].value : "-");
    for (size_t i = 0; i < w.n_problems; i++)
        (void)fprintf(f, "%s %d %s\n", w.problems[i].whose->name, (int)w.problems[i].kind,
                      w.problems[i].why);
    (void)fclose(f);
    return text;
}

static const char *pick(struct cursor *c, const char *const *texts, unsigned n)
{
    unsigned b = cursor_u8(c);

    return texts[b % n];
}

#define PICK(c, ...)                                                                               \
    ({                                                                                             \
        static const char *const texts_[] = {__VA_ARGS__};                                         \
        pick(c, texts_, (unsigned)ARRAY_SIZE(texts_));                                             \
    })

static void make_features(struct cursor *c, struct qube *q)
{
    laws_feature(q, FEATURE_METHOD, PICK(c, NULL, "forward", "forward", "forward", "masquerade", "",
                                         "frward"));
    laws_feature(q, FEATURE_ALLOW, PICK(c, NULL, NULL, "tcp/22,443 from 192.168.16.0/24", "any", "",
                                        "icmp; udp/1-9 from fd00::/8", "tcp/0", "x|y"));
    laws_feature(q, FEATURE_PUBLISH, PICK(c, NULL, NULL, NULL, "tcp/8443:443", "tcp/8000-8443",
                                          "udp/53; tcp/8444 from 10.0.0.0/8", "tcp/1-3",
                                          "tcp/3-5:33-35", "tcp"));
    laws_feature(q, FEATURE_EXPIRES, PICK(c, NULL, NULL, NULL, "2030-01-01T00:00:00Z",
                                          "2020-01-01T00:00:00Z", "soon"));
    laws_feature(q, FEATURE_LIMIT, PICK(c, NULL, NULL, NULL, "5", "0", "1000000", "1000001"));
    laws_feature(q, FEATURE_LOG, PICK(c, NULL, NULL, "1", "0", "2"));
    laws_feature(q, FEATURE_KEEP, PICK(c, NULL, NULL, "1", "0"));
}

static void make_state(struct cursor *c, struct tree *t, struct qube *q)
{
    unsigned b = cursor_u8(c);

    q->power = b % 16 == 0 ? POWER_HALTED : b % 16 == 1 ? POWER_STARTING
               : b % 16 == 2 ? POWER_PAUSED : b % 32 == 3 ? POWER_OTHER : POWER_RUNNING;
    q->xid[1] = b % 16 == 4 ? 900 : 0;
    if (b % 16 == 5)
        q->xid[0] = 0;
    q->complete = cursor_u8(c) % 64 != 1;
    q->changing = cursor_u8(c) % 64 == 1;
    b = cursor_u8(c);
    if (b % 64 == 1)
        qube_detach(q);
    if (b % 32 == 2)
        laws_feature(q, FEATURE_DEFERRED, "n1");
    if (b % 32 == 3)
        (void)qube_set_property(q, STR_LITERAL("netvm"), STR_LITERAL("n2"));
    if (b % 32 == 4)
        laws_feature(q, FEATURE_VPN, "1");
    if (b % 32 == 5 && tree_find(t, STR_LITERAL("base")) != NULL)
        (void)qube_set_property(q, STR_LITERAL("template"), STR_LITERAL("base"));
}

static void make_qube(struct tree *t, unsigned which, const uint8_t *bytes, size_t n)
{
    struct cursor c = cursor_from(bytes, n);
    bool net = which < 4;
    char name[QUBE_NAME_MAX], ip[ADDR_STR_MAX], ip6[ADDR_STR_MAX];
    unsigned b = cursor_u8(&c);
    struct qube *q;

    (void)snprintf(name, sizeof(name), "%s%u", net ? "n" : "q", which);
    (void)snprintf(ip, sizeof(ip), b % 16 == 1 ? "10.137.0.5" : b % 16 == 2 ? "10.139.1.1"
                   : b % 16 == 3 ? "127.0.0.%u" : "10.137.0.%u", which + 1);
    (void)snprintf(ip6, sizeof(ip6), b % 16 == 4 ? "fd09::5" : "fd09::%u", which + 1);
    q = laws_qube(t, name, net ? PICK(&c, "", "", "n0", "n0", "n1", "n2")
                               : PICK(&c, "n0", "n1", "n2", "n3", "n3", "", "lost"), ip);
    if (b & 64 && qube_set_property(q, STR_LITERAL("ip6"), str_from(ip6)) < 0)
        abort();
    qube_attach(q);
    q->xid[0] = (uint16_t)(which + 10);
    q->provides_network = net && b % 16 != 5;
    laws_feature(q, FEATURE_CAPABLE, net && b % 16 != 6 ? "1" : NULL);
    make_state(&c, t, q);
    if (!net || b % 16 == 7)
        make_features(&c, q);
}

#define QUBES 12

struct tree *laws_make_tree(const uint8_t *bytes, size_t n, bool backwards)
{
    struct tree *t = tree_new();
    size_t each = n / QUBES;
    struct qube *base;

    if (t == NULL)
        abort();
    base = laws_qube(t, "base", "", "");
    base->power = POWER_HALTED;
    laws_feature(base, FEATURE_METHOD, "forward");
    (void)qube_set_property(base, STR_LITERAL("klass"), STR_LITERAL("TemplateVM"));
    for (unsigned i = 0; i < QUBES; i++) {
        unsigned which = backwards ? QUBES - 1 - i : i;

        make_qube(t, which, each > 0 ? bytes + which * each : NULL, each);
    }
    return t;
}
