/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/serverd/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct work {
    const struct present *present;
    const struct wish *wishes;
    size_t n_wishes;
    unsigned flags;
    struct plan *out;
    int error;
};

static struct op *add(struct work *w, enum op_kind kind, enum op_what what, const char *path)
{
    struct plan *p = w->out;
    struct op *op;

    if (w->error == 0 && p->n == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 16;
        struct op *grown = reallocarray(p->ops, capacity, sizeof(*grown));

        if (grown) {
            p->ops = grown;
            p->capacity = capacity;
        } else {
            w->error = -ENOMEM;
        }
    }
    if (w->error < 0)
        return NULL;
    op = &p->ops[p->n++];
    *op = (struct op){.kind = kind, .what = what};
    memcpy(op->path, path, strlen(path) + 1);
    return op;
}

static void add_remove(struct work *w, enum op_what what, const char *path)
{
    (void)add(w, OP_REMOVE, what, path);
}

static void add_write(struct work *w, enum op_what what, const char *path, struct str value,
                      const struct wish *wish)
{
    struct op *op = add(w, OP_WRITE, what, path);

    if (!op)
        return;
    op->value = value;
    op->wish = wish;
    op->replaces = present_find(w->present, path) != NULL;
}

static const struct wish *find_wish(const struct work *w, const char *path)
{
    size_t low = 0, high = w->n_wishes;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = strcmp(path, w->wishes[middle].path);

        if (c == 0)
            return &w->wishes[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Path of the block from that of its policy; false: it is another key. */
static bool block_of(const char *path, char ret[static WISH_PATH_MAX])
{
    size_t len = strlen(path), end = strlen(PRESENT_POLICY);

    if (!begins(path, PRESENT_FIREWALL) || len <= end || len >= WISH_PATH_MAX ||
        strcmp(path + len - end, PRESENT_POLICY) != 0)
        return false;
    memcpy(ret, path, len - end);
    ret[len - end] = '\0';
    return true;
}

static struct str value_of(const struct wish *wish)
{
    return str_from(wish->value ? wish->value : "");
}

/* Wished as it is; when nothing may open, what differs is not. */
static bool may_stay(const struct work *w, const struct present_key *k)
{
    const struct wish *wish = find_wish(w, k->path);

    if (!wish || wish->kind == WISH_FIREWALL)
        return false;
    return !(w->flags & PLAN_REMOVE_ONLY) || present_is(w->present, k->path, value_of(wish));
}

/* ---- blocks of upper hops ---- */

#define POLICY      (&PRESENT_POLICY[1]) /* its name below a block */
#define RULE_ACCEPT "action=accept"
#define RULE_DROP   "action=drop"
#define RULE_LAST   "9999" /* qubes-firewall takes four digits, and reads them in order */

struct rules { /* what is present below a block */
    char prefix[WISH_PATH_MAX];
    size_t from, n;
};

static struct rules rules_of(const struct work *w, const char *block)
{
    struct rules r = {.n = 0};
    int n = snprintf(r.prefix, sizeof(r.prefix), "%s/", block);

    if (n < 0 || (size_t)n >= sizeof(r.prefix))
        return r;
    r.from = present_from(w->present, r.prefix);
    while (r.from + r.n < w->present->n &&
           begins(w->present->keys[r.from + r.n].path, r.prefix))
        r.n++;
    return r;
}

static const char *rule_name(const struct rules *r, const struct present_key *k)
{
    return k->path + strlen(r->prefix);
}

static bool is_rule(const struct rules *r, const struct present_key *k)
{
    return strcmp(rule_name(r, k), POLICY) != 0;
}

static void remove_all_rules(struct work *w, const struct rules *r)
{
    for (size_t i = r->from; i < r->from + r->n; i++)
        if (is_rule(r, &w->present->keys[i]))
            add_remove(w, OP_RULE, w->present->keys[i].path);
}

static void give_up_block(struct work *w, const struct present_key *policy)
{
    char block[WISH_PATH_MAX];
    struct rules rules;

    if (!block_of(policy->path, block) ||
        !present_is(w->present, policy->path, STR_LITERAL("accept")) || find_wish(w, block))
        return;
    rules = rules_of(w, block);
    add_write(w, OP_POLICY, policy->path, STR_LITERAL("drop"), NULL);
    remove_all_rules(w, &rules);
    add_write(w, OP_COMMIT, block, STR_LITERAL(""), NULL);
}

static void take_back(struct work *w)
{
    const struct present *p = w->present;
    bool marker = false;

    /* From the last to the first: so is a table of many keys cheap to clear. */
    for (size_t i = p->n; i > 0; i--) {
        const struct present_key *k = &p->keys[i - 1];

        if (begins(k->path, PRESENT_FIREWALL))
            give_up_block(w, k);
        else if (begins(k->path, PRESENT_OLDER))
            add_remove(w, OP_OLDER, k->path);
        else if (may_stay(w, k) || present_is_qubesds(k->path))
            continue;
        else if (strcmp(k->path, PRESENT_MARKER) == 0)
            marker = true; /* last: without it an older key would be believed */
        else
            add_remove(w, strcmp(k->path, PRESENT_INBOUND) == 0 ? OP_INBOUND : OP_RECORD, k->path);
    }
    if (marker)
        add_remove(w, OP_MARKER, PRESENT_MARKER);
}

struct child { /* the net qube before this one, whose rules hold for what comes through it */
    struct rules rules; /* as qubesd wrote them */
    bool known;         /* they are complete, as far as can be told */
    bool open;          /* they accept everything */
};

static struct child child_of(const struct work *w, const struct wish *wish)
{
    char block[WISH_PATH_MAX], policy[2 * WISH_PATH_MAX], addr[ADDR_STR_MAX];
    struct child c = {.known = true, .open = true};
    const struct present_key *first;

    if (wish->child.family == 0)
        return c;
    (void)snprintf(block, sizeof(block), PRESENT_FIREWALL "%s", addr_format(&wish->child, addr));
    (void)snprintf(policy, sizeof(policy), "%s" PRESENT_POLICY, block);
    c.rules = rules_of(w, block);
    c.known = present_find(w->present, policy) != NULL;
    first = c.known ? &w->present->keys[c.rules.from] : NULL;
    c.open = first && first->len == strlen(RULE_ACCEPT) &&
             memcmp(first->value, RULE_ACCEPT, first->len) == 0;
    return c;
}

/* Wished in a block: what the child has under this name, and last of all to drop the rest. */
static bool rule_wished(const struct work *w, const struct child *child, const char *name,
                        struct str *ret)
{
    char path[2 * WISH_PATH_MAX];
    const struct present_key *k;

    if (child->open || strcmp(name, POLICY) == 0)
        return false;
    *ret = STR_LITERAL(RULE_DROP);
    if (strcmp(name, RULE_LAST) == 0)
        return true;
    (void)snprintf(path, sizeof(path), "%s%s", child->rules.prefix, name);
    k = present_find(w->present, path);
    if (k)
        *ret = (struct str){k->value, k->len};
    return k != NULL;
}

/* Rules of a time when qubesd wrote this block would come before our policy. */
static bool remove_rules(struct work *w, const struct rules *own, const struct child *child)
{
    bool found = false;
    struct str value;

    for (size_t i = own->from; i < own->from + own->n; i++) {
        const struct present_key *k = &w->present->keys[i];

        if (!is_rule(own, k) || rule_wished(w, child, rule_name(own, k), &value))
            continue;
        add_remove(w, OP_RULE, k->path);
        found = true;
    }
    return found;
}

static bool write_rule(struct work *w, const struct wish *wish, const struct child *child,
                       const char *name)
{
    char path[2 * WISH_PATH_MAX];
    struct str value;
    int n = snprintf(path, sizeof(path), "%s/%s", wish->path, name);

    if (n < 0 || (size_t)n >= WISH_PATH_MAX || !rule_wished(w, child, name, &value) ||
        present_is(w->present, path, value))
        return false;
    add_write(w, OP_RULE, path, value, wish);
    return true;
}

static bool write_rules(struct work *w, const struct wish *wish, const struct child *child)
{
    bool changed = false;

    const struct rules *rules = &child->rules;

    for (size_t i = rules->from; i < rules->from + rules->n; i++)
        changed = write_rule(w, wish, child, rule_name(rules, &w->present->keys[i])) || changed;
    return write_rule(w, wish, child, RULE_LAST) || changed;
}

static void write_block(struct work *w, const struct wish *wish)
{
    struct rules own = rules_of(w, wish->path);
    struct child child = child_of(w, wish);
    char policy[WISH_PATH_MAX];
    int n = snprintf(policy, sizeof(policy), "%s" PRESENT_POLICY, wish->path);
    bool stands, rules;

    if (n < 0 || (size_t)n >= sizeof(policy))
        return; /* no address is that long */
    stands = present_is(w->present, policy, STR_LITERAL("accept"));
    if (stands && !child.known)
        return; /* qubesd is about to write them */
    rules = remove_rules(w, &own, &child);
    rules = write_rules(w, wish, &child) || rules;
    if (stands && !rules && !(w->flags & PLAN_FRESH))
        return;
    if (!stands)
        add_write(w, OP_POLICY, policy, STR_LITERAL("accept"), wish);
    add_write(w, OP_COMMIT, wish->path, STR_LITERAL(""), wish);
}

static void write_kind(struct work *w, enum wish_kind kind, enum op_what what)
{
    for (size_t i = 0; i < w->n_wishes; i++) {
        const struct wish *wish = &w->wishes[i];

        if (wish->kind != kind)
            continue;
        if (kind == WISH_FIREWALL)
            write_block(w, wish);
        else if (!present_is(w->present, wish->path, value_of(wish)))
            add_write(w, what, wish->path, value_of(wish), wish);
    }
}

int plan_make(const struct present *present, const struct wish *wishes, size_t n_wishes,
              unsigned flags, struct plan *ret)
{
    _cleanup_(plan_done) struct plan out = {0};
    struct work w = {present, wishes, n_wishes, flags, &out, 0};

    take_back(&w);
    if (!(flags & PLAN_REMOVE_ONLY)) {
        write_kind(&w, WISH_MARKER, OP_MARKER);
        write_kind(&w, WISH_FIREWALL, OP_POLICY);
        write_kind(&w, WISH_INBOUND, OP_INBOUND);
        write_kind(&w, WISH_RECORD, OP_RECORD);
    }
    if (w.error < 0)
        return w.error;
    *ret = out;
    out = (struct plan){0};
    return 0;
}

void plan_done(struct plan *p)
{
    free(p->ops);
    *p = (struct plan){0};
}

const char *plan_format(const struct op *op, char buf[static PLAN_TEXT_MAX])
{
    if (op->kind == OP_REMOVE)
        (void)snprintf(buf, PLAN_TEXT_MAX, "remove %s", op->path);
    else if (op->value.len == 0)
        (void)snprintf(buf, PLAN_TEXT_MAX, "write %s (empty)", op->path);
    else
        (void)snprintf(buf, PLAN_TEXT_MAX, "write %s = %.*s", op->path, (int)op->value.len,
                       op->value.p);
    return buf;
}
