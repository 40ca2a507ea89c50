/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qubes as qubesd knows them, as far as exposure needs it: who is attached to whom, addresses,
 * whether they run, and the features about exposure. Shared by qubes-network-serverd and qvm-expose.
 * No I/O and no clock: readers fill it, the wish reads it. One thread. Names come from qubesd and
 * are checked on the way in (tree_valid_name()); values of features are any printable text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"
#include "exposure/record.h"

#define TREE_QUBES_MAX 10000

enum feature_id { /* the features that are read; everything else passes by */
    FEATURE_METHOD,     /* routing-method */
    FEATURE_ALLOW,      /* network-server.allow */
    FEATURE_PUBLISH,    /* network-server.publish */
    FEATURE_EXPIRES,    /* network-server.expires */
    FEATURE_LIMIT,      /* network-server.limit */
    FEATURE_LOG,        /* network-server.log */
    FEATURE_KEEP,       /* network-server.keep */
    FEATURE_CAPABLE,    /* supported-feature.network-server */
    FEATURE_VPN,        /* service.qubes-vpn */
    FEATURE_DEFERRED,   /* deferred-netvm-original (4.3): the vif is still there */
    FEATURES,
};

const char *feature_name(enum feature_id id);
/* FEATURES: none that is read. */
enum feature_id feature_by_name(struct str name);

enum power { /* what a qube's state means here; unknown states are POWER_OTHER */
    POWER_HALTED,
    POWER_STARTING, /* from domain-pre-spawn to domain-spawn, or Transient */
    POWER_RUNNING,
    POWER_PAUSED,
    POWER_OTHER, /* dying, crashed, unknown: not attached, nothing is exposed */
};

/* Where a qube is attached, as of its start or its last change of network: not what properties say. */
struct attachment {
    bool known;
    char netvm[QUBE_NAME_MAX]; /* "" none */
    struct addr ip[2];         /* [0] IPv4, [1] IPv6; family 0: none */
};

struct qube {
    char name[QUBE_NAME_MAX];
    char klass[24];
    char netvm[QUBE_NAME_MAX];    /* property; "" none */
    char template[QUBE_NAME_MAX]; /* "" none */
    struct addr ip[2];            /* properties ip and ip6 */
    bool provides_network;
    enum power power;
    uint16_t xid[2];              /* own and stub domain's; 0 not known or none */
    struct attachment live;
    char *feature[FEATURES];      /* owned; own values; NULL: not set */
    bool changing;                /* between property-pre-set:netvm and its end */
    bool doubted;                 /* its vif may have the address of the property, not live's */
    bool announced;               /* domain-pre-spawn was heard, nothing of this life since */
    bool complete;                /* everything was read; else nothing is wished of it */
    unsigned reading;             /* of the full reading that saw it last */
};

struct tree;
struct tree *tree_new(void);
struct tree *tree_free(struct tree *t);
void tree_freep(struct tree **t);

bool tree_valid_name(struct str name); /* letters, digits, - _ . and at most 31 characters */

struct qube *tree_find(const struct tree *t, struct str name);
/* Finds or makes it. NULL: not a name, too many, or no memory (*ret_error). */
struct qube *tree_get(struct tree *t, struct str name, int *ret_error);
void tree_remove(struct tree *t, struct qube *q);
size_t tree_count(const struct tree *t);
struct qube *tree_at(const struct tree *t, size_t i); /* sorted by name */

/* 0, -ENOMEM; value NULL: not set. */
int qube_set_feature(struct qube *q, enum feature_id id, const struct str *value);
/* Own value, else the template's, and so on up, as features.check_with_template of core-admin. NULL. */
const char *tree_feature(const struct tree *t, const struct qube *q, enum feature_id id);

/* One property as qubesd tells it (value unescaped); those not needed are passed over. -EINVAL: the
 * value makes no sense, the qube is left incomplete. */
int qube_set_property(struct qube *q, struct str name, struct str value);
/* "Running", "Halted", ...; one that is announced goes on starting while it is still "Halted". */
void qube_set_state(struct qube *q, struct str state);
/* Starting, running or paused: it has, or is about to have, a network. */
bool qube_is_alive(const struct qube *q);

/*
 * Takes what the properties say for the live attachment: at a start, or a change of network. Not
 * while it is paused, FEATURE_DEFERRED is set and an attachment is known: read that feature first.
 */
void qube_attach(struct qube *q);
void qube_detach(struct qube *q);
/* The net qube it is attached to (FEATURE_DEFERRED counts while it is paused); the property when it
 * is not alive or nothing is known. "" none. Borrowed. */
const char *qube_netvm(const struct qube *q);

/*
 * The net qubes on the way of a qube from the next one to the outermost, by live attachments (the
 * property where nothing is known of a hop that does not run). Returns how many; -ELOOP beyond
 * TREE_HOPS_MAX, -ENOENT when one is unknown (*ret_missing gets its name).
 */
#define TREE_HOPS_MAX 16
int tree_hops(const struct tree *t, const struct qube *q, struct qube *ret[static TREE_HOPS_MAX],
              const char **ret_missing);
