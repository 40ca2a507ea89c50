/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An answer of qubesd: as a frame, as each list it may hold, and as a feature's value, read into a
 * tree of qubes. What is taken over keeps the tree's promises.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/tree/heard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_within(struct str part, struct str whole)
{
    require(part.len == 0 || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void check_lines(struct str content)
{
    struct str rest = content, line;

    while (str_next(&rest, '\n', &line)) {
        struct admin_property property;
        struct admin_vm vm;

        if (admin_parse_vm(line, &vm) == 0) {
            require(vm.name.len > 0 && vm.klass.len > 0 && vm.state.len > 0);
            check_within(vm.name, line);
            check_within(vm.klass, line);
            check_within(vm.state, line);
        }
        if (admin_parse_property(line, &property) == 0) {
            require(property.name.len > 0);
            check_within(property.name, line);
            check_within(property.type, line);
            check_within(property.value, line);
        }
    }
}

static void check_name(const char *name)
{
    require(memchr(name, '\0', QUBE_NAME_MAX) != NULL);
    require(name[0] == '\0' || tree_valid_name(str_from(name)));
}

static void check_tree(struct str content)
{
    _cleanup_(tree_freep) struct tree *t = tree_new();
    struct heard h = {.gone = false};
    struct qube *q;
    int error;

    if (!t)
        return;
    heard_state(&h, "web", content);
    h.failed = false;
    heard_properties(&h, content);
    for (unsigned i = 0; i < FEATURES; i++)
        heard_feature(&h, (enum feature_id)i, content);
    q = heard_apply(&h, t, "web", &error);
    if (q) {
        check_name(q->netvm);
        check_name(q->template);
        require(q->ip[0].family == 0 || q->ip[0].family == AF_INET);
        require(q->ip[1].family == 0 || q->ip[1].family == AF_INET6);
        require(memchr(q->klass, '\0', sizeof(q->klass)) != NULL);
        for (unsigned i = 0; q->complete && i < FEATURES; i++)
            require(strlen(q->feature[i]) == content.len);
        require(!q->complete || (content.len > 0 && content.p[content.len - 1] == '\n'));
    }
    heard_done(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = {(const char *)data, size};
    struct admin_answer a;

    admin_parse_answer(bytes, &a);
    require((a.status == ADMIN_EMPTY) == (size == 0));
    require(a.status == ADMIN_OK || a.content.len == 0);
    require(a.status == ADMIN_EXCEPTION || a.type.len + a.message.len == 0);
    check_within(a.content, bytes);
    check_within(a.type, bytes);
    check_within(a.message, bytes);
    if (a.status == ADMIN_OK) {
        check_lines(a.content);
        check_tree(a.content);
    }
    return 0;
}
