/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/attach.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dom0/expose/say.h"
#include "dom0/expose/words.h"

static bool differs(const struct qube *q, unsigned f)
{
    return q->live.ip[f].family != 0 && q->ip[f].family != 0 &&
           !addr_equal(&q->live.ip[f], &q->ip[f]);
}

bool attach_is_due(const struct qube *q)
{
    bool runs = q->power == POWER_RUNNING || q->power == POWER_PAUSED;

    return runs && q->live.known && (differs(q, 0) || differs(q, 1));
}

static bool may_attach(const struct qube *q)
{
    return q->power == POWER_RUNNING && q->xid[1] == 0 && q->live.netvm[0] != '\0';
}

void attach_note(const struct qube *q)
{
    char now[ADDR_STR_MAX], then[ADDR_STR_MAX], text[600];
    unsigned f = differs(q, 0) ? 0 : 1;

    (void)addr_format(&q->live.ip[f], now);
    (void)addr_format(&q->ip[f], then);
    (void)snprintf(text, sizeof(text),
                   "Note: %s runs with the address %s and gets %s %s. Until then it is exposed under "
                   "the address that it has.",
                   q->name, now, then,
                   may_attach(q) ? "when it is restarted, or when its network is attached anew"
                                 : "when it is restarted");
    say_wrapped(text, 2);
}

static int set_netvm(struct session *s, const struct qube *q, const char *netvm)
{
    struct admin_request request = {.method = "admin.vm.property.Set",
                                    .arg = "netvm",
                                    .dest = q->name,
                                    .payload = str_from(netvm)};

    return session_call(s, &request, netvm[0] != '\0' ? "attaching the network"
                                                      : "detaching the network", NULL);
}

/* How it was: the default, or this name. */
static int get_netvm(struct session *s, const struct qube *q, bool *ret_default,
                     char netvm[static QUBE_NAME_MAX])
{
    struct admin_request request = {.method = "admin.vm.property.Get",
                                    .arg = "netvm",
                                    .dest = q->name,
                                    .payload = {"", 0}};
    _cleanup_(freep) char *answer = NULL;
    struct str rest, word = {"", 0};
    int r = session_call(s, &request, "reading the net qube", &answer);

    if (r < 0)
        return r;
    *ret_default = strncmp(answer, "default=True ", 13) == 0;
    rest = str_from(answer);
    for (unsigned i = 0; i < 3 && str_next(&rest, ' ', &word); i++)
        ;
    if (!tree_valid_name(word)) {
        say_failed(NULL, "qubesd does not tell the net qube of %s in a way that is known", q->name);
        return -EBADMSG;
    }
    memcpy(netvm, word.p, word.len);
    netvm[word.len] = '\0';
    return 0;
}

static int attach_again(struct session *s, const struct qube *q, bool by_default, const char *netvm)
{
    struct admin_request reset = {.method = "admin.vm.property.Reset",
                                  .arg = "netvm",
                                  .dest = q->name,
                                  .payload = {"", 0}};

    return by_default ? session_call(s, &reset, "attaching the network", NULL)
                      : set_netvm(s, q, netvm);
}

/* Nothing may interrupt it half way: the qube would be left without a network. */
static int attach_anew(struct session *s, struct qube *q)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old[3];
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    char netvm[QUBE_NAME_MAX] = "";
    bool by_default = false;
    int r = get_netvm(s, q, &by_default, netvm);

    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        (void)sigaction(signals[i], &ignore, &old[i]);
    r = set_netvm(s, q, "");
    if (r == 0) {
        r = attach_again(s, q, by_default, netvm);
        if (r < 0)
            say_failed(NULL, "%s IS WITHOUT A NETWORK NOW. To attach it again: qvm-prefs %s%s netvm %s",
                       q->name, by_default ? "--default " : "", q->name, by_default ? "" : netvm);
    }
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        (void)sigaction(signals[i], &old[i], NULL);
    return r;
}

/* What it has now stands in its QubesDB; the tree follows. */
static int look_at_it(struct session *s, struct qube *q)
{
    struct look look = {0};
    int r;

    memcpy(look.qube, q->name, sizeof(look.qube));
    r = look_all(s->event, s->o->qubesdb, &look, 1, NULL, 0);
    qube_attach(q);
    for (unsigned f = 0; f < 2; f++) {
        if (look.ip[f].family != 0 && q->live.ip[f].family != 0)
            q->live.ip[f] = look.ip[f];
    }
    look_done(&look);
    return r;
}

int attach_offer(struct session *s, struct qube *q)
{
    char question[200];
    int r;

    if (!attach_is_due(q))
        return 0;
    attach_note(q);
    if (!may_attach(q)) {
        printf("  Restart it: qvm-shutdown --wait %s && qvm-start %s\n", q->name, q->name);
        return 0;
    }
    (void)snprintf(question, sizeof(question),
                   "Attach its network anew now? Its connections are cut. (%s)", q->name);
    if (s->o->no || (!s->o->yes && !say_ask(question))) {
        printf("  Restart it: qvm-shutdown --wait %s && qvm-start %s\n"
               "  Or attach its network anew: the same command again with --yes\n",
               q->name, q->name);
        return 0;
    }
    r = attach_anew(s, q);
    if (r == 0)
        r = look_at_it(s, q);
    if (r == 0 && attach_is_due(q))
        attach_note(q);
    else if (r == 0)
        printf("  The network of %s was attached anew.\n", q->name);
    return r;
}
