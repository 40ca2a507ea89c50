/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of the command: the event loop, qubesd, the tree as it is now, and what stands in the
 * QubesDB of the qubes that matter. Functions wait for their answers (with time limits), show
 * progress, and say themselves what failed. One thread.
 *
 * qubesd tells what the address of a running qube is going to be; what it is stands in the qube's
 * own QubesDB (/qubes-ip). The qube could write there too: it is shown and compared, never more.
 */
#pragma once

#include <systemd/sd-event.h>

#include "adminapi/client.h"
#include "dom0/expose/look.h"
#include "dom0/expose/options.h"
#include "dom0/tree/tree.h"
#include "dom0/tree/wish.h"

struct session {
    const struct options *o;
    sd_event *event;
    struct admin_client *client;
    struct tree *tree;
    struct wishes wishes;
    struct look *looks; /* owned; of running qubes that are asked for or give network, by name */
    size_t n_looks;
    int64_t now;       /* seconds since 1970 */
    uint64_t begin_us; /* monotonic */
};

/* Connects, reads everything, computes the wishes. -errno: said. session_close() is due anyway. */
int session_open(struct session *s, const struct options *o);
void session_close(struct session *s);

/* Computes the wishes anew, after the tree was changed. 0 or -ENOMEM (said). */
int session_wish(struct session *s);

/* NULL: nothing was read there. */
const struct look *session_look(const struct session *s, const struct qube *q);

/* The qube of the options. NULL: there is none of this name (said). */
struct qube *session_qube(const struct session *s);

/*
 * One call. 0: *ret (may be NULL) is the content, the caller's. -errno otherwise, and it is said
 * what could not be done ("set feature ... of web").
 */
int session_call(struct session *s, const struct admin_request *request, const char *what,
                 char **ret);
