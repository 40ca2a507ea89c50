/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/tree/heard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void copy_word(char *out, size_t size, struct str word)
{
    size_t len = word.len < size ? word.len : 0;

    memcpy(out, len > 0 ? word.p : "", len);
    out[len] = '\0';
}

/* In place: \\ and \n, as qubesd writes them. */
static struct str unescape(char *text, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        bool escape = text[i] == '\\' && i + 1 < len;

        if (escape && (text[i + 1] == '\\' || text[i + 1] == 'n'))
            text[out++] = text[++i] == 'n' ? '\n' : '\\';
        else
            text[out++] = text[i];
    }
    return (struct str){text, out};
}

static bool apply_properties(struct qube *q, char *text, size_t len)
{
    struct str rest = {text, len}, line;
    bool ok = len > 0;

    while (str_next(&rest, '\n', &line)) {
        struct admin_property property;
        struct str value = {"", 0};

        if (line.len == 0)
            continue; /* behind the last one */
        if (admin_parse_property(line, &property) < 0) {
            ok = false;
            continue;
        }
        if (property.value.len > 0)
            value = unescape(text + (property.value.p - text), property.value.len);
        ok = qube_set_property(q, property.name, value) >= 0 && ok;
    }
    return ok;
}

static bool apply_features(struct qube *q, char *const feature[static FEATURES])
{
    bool ok = true;

    for (unsigned i = 0; i < FEATURES; i++) {
        struct str value = str_from(feature[i] ? feature[i] : "");

        ok = qube_set_feature(q, (enum feature_id)i, feature[i] ? &value : NULL) >= 0 && ok;
    }
    return ok;
}

static void apply_state(struct qube *q, const char *klass, const char *state)
{
    (void)qube_set_property(q, STR_LITERAL("klass"), str_from(klass));
    qube_set_state(q, str_from(state));
}

void heard_done(struct heard *h)
{
    for (unsigned i = 0; i < FEATURES; i++)
        free(h->feature[i]);
    free(h->properties);
    *h = (struct heard){.gone = false};
}

bool heard_is_whole(struct str list)
{
    return list.len == 0 || list.p[list.len - 1] == '\n';
}

bool heard_find(struct str list, const char *name, struct admin_vm *ret)
{
    struct admin_vm vm;
    struct str line;

    while (str_next(&list, '\n', &line))
        if (line.len > 0 && admin_parse_vm(line, &vm) >= 0 && str_is(vm.name, name)) {
            *ret = vm;
            return true;
        }
    return false;
}

void heard_state(struct heard *h, const char *name, struct str list)
{
    struct admin_vm vm;

    if (!heard_is_whole(list) || !heard_find(list, name, &vm)) {
        h->failed = true;
        return;
    }
    copy_word(h->klass, sizeof(h->klass), vm.klass);
    copy_word(h->state, sizeof(h->state), vm.state);
}

void heard_properties(struct heard *h, struct str list)
{
    char *copy = heard_is_whole(list) ? malloc(list.len + 1) : NULL;

    if (!copy) {
        h->failed = true;
        return;
    }
    memcpy(copy, list.len > 0 ? list.p : "", list.len);
    free(h->properties);
    h->properties = copy;
    h->properties_len = list.len;
}

void heard_feature(struct heard *h, enum feature_id id, struct str value)
{
    char *copy = malloc(value.len + 1);

    if (!copy) {
        h->failed = true;
        return;
    }
    /* A NUL must not cut off what says that this is no text. */
    for (size_t i = 0; i < value.len; i++)
        copy[i] = (char)(value.p[i] != '\0' ? value.p[i] : '\1');
    copy[value.len] = '\0';
    free(h->feature[id]);
    h->feature[id] = copy;
}

void heard_apply_vm(struct qube *q, const struct admin_vm *vm)
{
    struct heard h = {.gone = false};

    copy_word(h.klass, sizeof(h.klass), vm->klass);
    copy_word(h.state, sizeof(h.state), vm->state);
    q->announced = false; /* of everything at once: whatever was missed, this is how it is */
    apply_state(q, h.klass, h.state);
}

struct qube *heard_apply(struct heard *h, struct tree *t, const char *name, int *ret_error)
{
    struct qube *q = h->gone ? tree_find(t, str_from(name)) : NULL;

    *ret_error = 0;
    if (q)
        tree_remove(t, q);
    if (h->gone)
        return NULL;
    q = tree_get(t, str_from(name), ret_error);
    if (!q)
        return NULL;
    *ret_error = 0;
    if (h->state[0])
        apply_state(q, h->klass, h->state);
    if (!h->failed)
        h->failed = !apply_properties(q, h->properties, h->properties_len);
    if (!h->failed)
        h->failed = !apply_features(q, h->feature);
    q->complete = !h->failed;
    return q;
}
