/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the QubesDB of each qube should hold, computed from the tree; and why an exposure that
 * somebody asked for is not there. Pure. The same result is written by the daemon, printed by
 * qvm-expose, and tested without qubesd.
 *
 * For an exposed qube A with hops H0 (its net qube) ... Hn (faces the LAN):
 *   each H   /network-server = marker, /network-server/ADDR = record
 *   H1...Hn  /qubes-firewall/ADDR/policy = accept, then /qubes-firewall/ADDR = "" (only when the
 *            qube keeps its address outward): agent release4.2 and later builds the chain from it.
 *            Rules of the net qube before it, as qubesd wrote them there, go into it as well: they
 *            held for all that came through it, and an address of its own is no way round them
 *   A        /network-server-inbound
 * Whatever cannot be done for one hop is done for none: a way that ends half way is no exposure.
 */
#pragma once

#include "dom0/tree/tree.h"

#define WISH_PATH_MAX  64   /* QubesDB: 63 bytes and NUL */
#define WISH_VALUE_MAX 3072 /* QubesDB: with NUL */
#define WISH_WHY_MAX   400

enum wish_kind {
    WISH_MARKER,
    WISH_RECORD,
    WISH_FIREWALL, /* the address of an upper hop's firewall block: path is /qubes-firewall/ADDR */
    WISH_INBOUND,
};

struct wish {
    enum wish_kind kind;
    const struct qube *where; /* whose QubesDB */
    const struct qube *whose; /* the exposed qube; NULL for the marker */
    struct addr addr;         /* RECORD, FIREWALL */
    struct addr child;        /* FIREWALL: of the net qube before this one, whose rules hold here too */
    char path[WISH_PATH_MAX];
    char *value; /* owned; NULL for FIREWALL */
};

/*
 * Choices, where more than one would be possible:
 * - A moment in `expires` that has passed: no record at all. The marker stands at each hop, so
 *   nothing else opens in its place, and the router ends by its own clock anyway.
 * - Each family stands alone: a problem of the IPv4 address leaves IPv6 open. Only a published port
 *   that is wanted twice closes both families of both qubes.
 * - An empty feature is an unset one (so says a qube that its template's does not count), but for
 *   `allow`, where it opens nothing.
 * - Templates are not exposed: their features are for the qubes that are based on them.
 */
enum problem_kind { /* for --json and exit statuses; the text says it to people */
    PROBLEM_GRAMMAR,    /* a feature does not parse: names it */
    PROBLEM_ADDRESS,    /* no, or an unusable address */
    PROBLEM_DUPLICATE,  /* another qube has the address: both are named */
    PROBLEM_PORT,       /* an outside port wanted twice at one edge: both are named */
    PROBLEM_NO_NETVM,
    PROBLEM_HOP_HALTED,
    PROBLEM_HOP_LACKS,  /* no supported-feature.network-server: Mirage, Windows, not installed */
    PROBLEM_HOP_VPN,    /* a VPN qube is on the way, or the qube is one */
    PROBLEM_HOP_CHANGING,
    PROBLEM_TOO_LONG,   /* the record does not fit QubesDB, or the chain is too long */
    PROBLEM_EXPIRED,
    PROBLEM_HALTED,     /* not an error: it is exposed when it runs */
    PROBLEM_INCOMPLETE, /* qubesd has not told (or nonsense) about the qube or the hop */
};

/* "hop-halted", for --json and the journal. */
const char *problem_name(enum problem_kind kind);

struct problem {
    enum problem_kind kind;
    const struct qube *whose; /* the qube that somebody asked to expose */
    const struct qube *hop;   /* or NULL */
    int family;               /* AF_INET, AF_INET6; 0 both */
    char why[WISH_WHY_MAX];   /* what, of whom, and what to do */
};

struct wishes {
    struct wish *wishes; /* owned; sorted by (where, path) */
    size_t n, capacity;
    struct problem *problems; /* owned; sorted by (whose, kind, hop, family) */
    size_t n_problems, problems_capacity;
    int64_t next_expiry; /* when to compute again at the latest; 0: no need by the clock */
};

/*
 * Does somebody ask for this qube to be exposed? (routing-method forward, or anything published; an
 * unknown routing-method asks too, to be told of as a PROBLEM_GRAMMAR)
 */
bool wish_is_asked(const struct tree *t, const struct qube *q);

/* now: seconds since 1970. 0 or -ENOMEM. */
int wish_compute(const struct tree *t, int64_t now, struct wishes *ret);
void wishes_done(struct wishes *w);

/* What the features of a qube say, parsed; for qvm-expose --dry-run too. */
struct exposure {
    bool forward;
    bool has_allow;
    struct allow allow;     /* owned */
    struct publish publish; /* owned */
    int64_t expires; /* 0: never */
    unsigned limit;  /* 0: none */
    bool log, keep;
};
#define EXPOSURE_LIMIT_MAX 1000000
/* 0, -EINVAL (why names the feature), -ENOMEM. */
int exposure_of(const struct tree *t, const struct qube *q, struct exposure *ret,
                char why[static WISH_WHY_MAX]);
void exposure_done(struct exposure *e);
