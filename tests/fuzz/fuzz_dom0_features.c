/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whatever may stand in the features of a qube, one line for each in the order of enum feature_id:
 * a qube with a name, net qubes and addresses as long as they can be. After an empty line the rest
 * of the bytes make a tree of their own. All laws hold for both.
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/test_dom0_laws.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONG31(c) c "-34567890.234567890_234567890A"
#define LONG6(c)  "fd09:24ef:4179:aaaa:bbbb:cccc:dddd:" c

static struct qube *make(struct tree *t, const char *name, const char *netvm, const char *ip,
                         const char *ip6)
{
    struct qube *q = laws_qube(t, name, netvm, ip);

    if (qube_set_property(q, STR_LITERAL("ip6"), str_from(ip6)) < 0)
        abort();
    qube_attach(q);
    return q;
}

static void make_hop(struct tree *t, const char *name, const char *netvm, const char *ip,
                     const char *ip6)
{
    struct qube *q = make(t, name, netvm, ip, ip6);

    q->provides_network = true;
    q->xid[0] = XID_MAX;
    q->xid[1] = XID_MAX - 1;
    laws_feature(q, FEATURE_CAPABLE, "1");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {size > 0 ? (const char *)data : "", size}, line;
    _cleanup_(tree_freep) struct tree *t = tree_new(), *other = NULL;
    _cleanup_(freep) char *text = NULL, *back_text = NULL;
    _cleanup_(tree_freep) struct tree *back = NULL;
    struct qube *q;

    if (t == NULL)
        abort();
    make_hop(t, LONG31("n"), "", "10.137.111.112", LONG6("1111"));
    make_hop(t, LONG31("m"), LONG31("n"), "10.137.111.113", LONG6("2222"));
    make_hop(t, LONG31("l"), LONG31("m"), "10.137.111.114", LONG6("3333"));
    q = make(t, LONG31("q"), LONG31("l"), "192.168.111.115", LONG6("4444"));
    for (unsigned i = 0; i < FEATURES && str_next(&rest, '\n', &line) && line.len > 0; i++) {
        /* "-" stands for no feature; a NUL ends a text, as in the answers of qubesd */
        bool unset = str_is(line, "-");

        if (qube_set_feature(q, (enum feature_id)i, unset ? NULL : &line) < 0)
            abort();
    }
    laws_check(t);
    other = laws_make_tree((const uint8_t *)rest.p, rest.p != NULL ? rest.len : 0, false);
    laws_check(other);
    back = laws_make_tree((const uint8_t *)rest.p, rest.p != NULL ? rest.len : 0, true);
    text = laws_print(other);
    back_text = laws_print(back);
    if (strcmp(text, back_text) != 0)
        abort();
    return 0;
}
