/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dom0/expose/attach.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dom0/expose/say.h"
#include "dom0/expose/words.h"

#define ATTEMPTS 6 /* with pauses of 1, 2, 4 ... seconds: half a minute without qubesd */

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

/* ---- attaching anew ---- */

struct netvm { /* how it is: the default, or this name; "": none */
    bool by_default;
    char name[QUBE_NAME_MAX];
};

static int set_netvm(struct session *s, const struct qube *q, const char *netvm)
{
    struct admin_request request = {.method = "admin.vm.property.Set",
                                    .arg = "netvm",
                                    .dest = q->name,
                                    .payload = str_from(netvm)};

    return session_call(s, &request, netvm[0] != '\0' ? "attaching the network"
                                                      : "detaching the network", NULL);
}

static int get_netvm(struct session *s, const struct qube *q, struct netvm *ret)
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
    rest = str_from(answer);
    for (unsigned i = 0; i < 3 && str_next(&rest, ' ', &word); i++)
        ;
    if (word.len > 0 && !tree_valid_name(word)) {
        say_failed(NULL, "qubesd does not tell the net qube of %s in a way that is known", q->name);
        return -EBADMSG;
    }
    *ret = (struct netvm){.by_default = strncmp(answer, "default=True ", 13) == 0};
    memcpy(ret->name, word.p, word.len);
    return 0;
}

static int attach_to(struct session *s, const struct qube *q, const struct netvm *to)
{
    struct admin_request reset = {.method = "admin.vm.property.Reset",
                                  .arg = "netvm",
                                  .dest = q->name,
                                  .payload = {"", 0}};

    return to->by_default ? session_call(s, &reset, "attaching the network", NULL)
                          : set_netvm(s, q, to->name);
}

/* A detaching that nobody waits for any more may come after the attaching, so it is read back. */
static bool is_attached_to(struct session *s, const struct qube *q, const struct netvm *to)
{
    struct netvm now;

    return get_netvm(s, q, &now) == 0 && now.by_default == to->by_default &&
           strcmp(now.name, to->name) == 0;
}

/* Nobody could be asked: qubesd may be about to start again. */
static bool is_away(int error)
{
    return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -EPIPE;
}

static int attach_again(struct session *s, const struct qube *q, const struct netvm *to)
{
    int r = -EAGAIN;

    for (unsigned i = 0; i < ATTEMPTS; i++) {
        r = attach_to(s, q, to);
        if (r == 0 && is_attached_to(s, q, to))
            return 0;
        if (r < 0 && !is_away(r))
            return r;
        if (i + 1 < ATTEMPTS)
            (void)sleep(1u << i);
    }
    return r < 0 ? r : -EAGAIN;
}

/* Whatever becomes of the detaching: whether it failed before or after the fact is not known. */
static int detach_and_attach(struct session *s, const struct qube *q, const struct netvm *to)
{
    int detached = set_netvm(s, q, ""), r;

    if (detached < 0)
        (void)fprintf(stderr,
                      "It is not known whether %s still has a network: attaching it again ...\n",
                      q->name);
    r = attach_again(s, q, to);
    if (r < 0)
        say_failed(NULL,
                   "%s %s WITHOUT A NETWORK NOW. To attach it again: qvm-prefs %s%s netvm%s%s",
                   q->name, detached < 0 ? "MAY BE" : "IS", to->by_default ? "--default " : "",
                   q->name, to->by_default ? "" : " ", to->by_default ? "" : to->name);
    else if (detached < 0)
        (void)fprintf(stderr,
                      "%s has its network again, from %s as before. Which address it has now: "
                      "qvm-expose %s\n",
                      q->name, to->name, q->name);
    return detached < 0 ? detached : r;
}

/* Nothing may end or stop it half way: the qube would be left without a network. */
static int attach_anew(struct session *s, const struct qube *q)
{
    static const int signals[] = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT,
                                  SIGTSTP, SIGTTIN, SIGTTOU};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old[ARRAY_SIZE(signals)];
    struct netvm netvm;
    int r = get_netvm(s, q, &netvm);

    if (r < 0)
        return r;
    if (netvm.name[0] == '\0') {
        say_failed(NULL, "%s has no net qube any more", q->name);
        return -ENOENT;
    }
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        (void)sigaction(signals[i], &ignore, &old[i]);
    r = detach_and_attach(s, q, &netvm);
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
