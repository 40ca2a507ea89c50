/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the router knows: what is wished (claims from QubesDB) and what the kernel has, by address.
 * No I/O and no clock here: sources fill it in, the plan reads it. One thread.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/addr.h"
#include "base/str.h"
#include "exposure/record.h"
#include "router/access.h"
#include "router/limits.h"
#include "router/object.h"

/* ---- wishes ---------------------------------------------------------------------------- */

enum claim_source {
    CLAIM_RECORD,    /* /network-server/ADDR, by dom0's daemon */
    CLAIM_VM_CONFIG, /* /vm-config/expose.ADDR, by a stock dom0 */
    CLAIM_METHOD,    /* /qubes-routing-method/ADDR, as the older package had it */
};

#define CLAIM_PATH_MAX     64

struct claim {
    struct claim *next;
    enum claim_source source;
    char path[CLAIM_PATH_MAX];
    char *value; /* owned; as read, to see what changed */
    size_t value_len;
    bool valid;             /* record holds what the key says */
    bool off;               /* valid and says "not exposed" (masquerade) */
    struct record record;   /* owned; without the entries of allow, see model_claim_access() */
    char *why;              /* owned; why it is refused, NULL when valid */
    unsigned reading;       /* number of the full reading that saw it last */
    struct slot *slot;      /* whose claim it is */
    struct via *via;        /* what the record's via= names, or NULL */
    LIST_ENTRY(claim) same_via;
};

/* ---- kernel ---------------------------------------------------------------------------- */

struct model_link {
    uint32_t index;
    char name[IFNAMSIZ];
    uint8_t mac[6];
    bool carrier;
    bool vif;        /* group 2 and called vifN.M */
    bool uplink;     /* may face the LAN: see model_kernel_end() */
    uint32_t domid;  /* of a vif */
};

struct model_subnet { /* an address of this machine */
    uint32_t index;
    struct prefix prefix;
};

struct model_listener { /* a port that a program of this net qube has open */
    uint8_t family;     /* AF_INET6 may take IPv4 as well: it counts for both */
    uint8_t proto;      /* IPPROTO_TCP, IPPROTO_UDP */
    uint16_t port;
};

struct model_route {
    struct prefix dst;
    struct addr gateway;
    uint32_t oif;
    uint32_t metric;
};

/* ---- one address ------------------------------------------------------------------------ */

enum verdict {
    VERDICT_NONE,        /* nobody wishes it open */
    VERDICT_OPEN,        /* served */
    VERDICT_ADOPTED,     /* QubesDB cannot be read: left as it was found */
    VERDICT_REFUSED,     /* the key is malformed or contradictory */
    VERDICT_DUPLICATE,   /* more than one key claims it */
    VERDICT_SUPERSEDED,  /* the key is not looked at: dom0's daemon is in charge */
    VERDICT_UNUSABLE,    /* the address belongs to this net qube, a gateway, a broadcast ... */
    VERDICT_EXPIRED,
    VERDICT_PENDING,     /* the qube is starting */
    VERDICT_NO_VIF,      /* no attached qube has it */
    VERDICT_MISMATCH,    /* it leaves by another interface than the record's qube */
    VERDICT_CONFLICT,    /* another host on the LAN has it */
    VERDICT_PLATFORM,    /* the platform's rules are not there or not known */
    VERDICT_VPN_HERE,    /* this qube is a VPN qube */
    VERDICT_UNREADABLE,  /* QubesDB cannot be read: nothing new opens */
    VERDICT_FAILED,      /* the kernel refused it */
};

#define REASON_MAX 320

struct conflict {
    bool present;
    uint8_t mac[6];
    uint32_t uplink_index;
    uint64_t again_us; /* when to ask again, CLOCK_MONOTONIC; once it is resolved: till when it counts */
    uint64_t wait_us;  /* the last pause; 0: there was none */
};

/*
 * Another host has the address; and it is asked whether it still does. Each time that it does the
 * pause is twice as long. A conflict that is back soon after it was resolved goes on where it was: a
 * host that claims but never answers must not be fought for its address every second.
 */
void model_conflict_note(struct conflict *c, uint32_t uplink_index, const uint8_t mac[static 6],
                         uint64_t now_us);
void model_conflict_ask(struct conflict *c, uint64_t now_us);
/* The network is another one, or somebody says that all is well: ask now, and often at first. */
void model_conflict_restart(struct conflict *c);

struct counters {
    bool known;           /* the kernel counts for it, and was read */
    bool offloaded;       /* packets of it passed by uncounted */
    uint64_t connections; /* that were let in */
    uint64_t packets, bytes;
};

struct slot {
    struct addr addr;
    struct claim *claims; /* owned */
    struct object *actual; /* owned, sorted; what the kernel has of ours */
    size_t n_actual;
    struct conflict conflict;
    bool keep; /* the last open record said: flows survive a withdrawal */
    bool lent; /* was open, by us or a predecessor, and its flows were not ended since */
    bool owes; /* ending flows failed: has to be done again */
    unsigned crowded; /* number of the full reading in which too many keys claimed it; 0: none */
    enum verdict verdict; /* of the last plan */
    char *reason;         /* owned; NULL when there is nothing to say */
    char *qube;           /* owned; name by the last record, or NULL */
    bool attached;        /* the platform lists it as a source of some vif, by itself */
    int64_t changed;      /* seconds since 1970: verdict, reason or what the kernel has; 0: never */
    struct counters counters; /* as of the last counters_read() */
    bool dirty;
    struct slot *next_dirty;
};

/* ---- sysctls ----------------------------------------------------------------------------- */

enum sysctl_id { /* the numbers are stored in the kernel (put-back set): never renumber */
    SYSCTL_IP6_FORWARDING = 1,
    SYSCTL_IP6_PROXY_NDP = 2,
    SYSCTL_IP6_ACCEPT_RA = 3,
    SYSCTL_IP4_PROXY_DELAY = 4,
    SYSCTL_IP6_PROXY_DELAY = 5,
};

struct sysctl_value { /* of one interface, "all" or "default" */
    enum sysctl_id id;
    char scope[IFNAMSIZ];
    uint32_t value;
};

/* A list of them, sorted by (scope, id). */
struct sysctl_list {
    struct sysctl_value *values; /* owned */
    size_t n;
};

/* ---- all of it --------------------------------------------------------------------------- */

enum family_index {
    FAMILY_IP4,
    FAMILY_IP6,
};
#define FAMILIES 2

struct stray {
    char path[CLAIM_PATH_MAX];
    const char *why;  /* static text */
    unsigned reading; /* number of the full reading that saw it last */
    bool said;        /* in the log */
};

struct model {
    void *slots;      /* tree of struct slot, by address (tsearch) */
    size_t n_slots;
    unsigned reading; /* number of the full reading of QubesDB */
    struct slot *dirty;
    bool marker;      /* /network-server: dom0's daemon is in charge */
    unsigned marker_reading, ip6_reading; /* the full readings that saw the two keys last */
    bool wants_ip6;   /* the platform set this net qube up for IPv6 (/qubes-netvm-gateway6) */
    bool readable;    /* QubesDB answered and still does */
    bool adopting;    /* never read yet: leave alone what is there */
    bool vpn_here;    /* /run/qubes-service/qubes-vpn exists */
    bool sealed;      /* the seal of a VPN qube is in place */
    bool stopping;    /* withdraw everything */
    int64_t now;      /* seconds since 1970, set before each plan */

    struct model_link *links; /* sorted by index */
    size_t n_links;
    struct model_subnet *subnets;
    size_t n_subnets;
    struct model_route *hosts; /* full-length routes, sorted by (address, metric) */
    size_t n_hosts;
    struct model_route *wide; /* all others */
    size_t n_wide;
    void *vias;       /* tree of struct via, by address */
    struct model_listener *listeners; /* read while something is published */
    size_t n_listeners;
    bool has_publish;     /* some claim publishes ports */
    bool publish_changed; /* which ports are wanted, or used here: all that publish are planned */
    uint32_t *ever_uplink; /* indexes that held a default route or a subnet once */
    size_t n_ever_uplink;

    bool platform[FAMILIES];      /* rules recognised and our skeleton in place */
    const char *missing[FAMILIES]; /* what was looked for and not found; static text */
    struct sysctl_list sysctls;   /* as read back, for uplinks and what was changed */
    struct sysctl_list put_back;  /* values from before us, as stored in the kernel */

    void *strays;    /* tree of struct stray, by path: keys that name no valid address */
    size_t n_strays;
    size_t n_over_limit;
};

struct model *model_new(void);
struct model *model_free(struct model *m);
void model_freep(struct model **m);

enum family_index model_family(const struct addr *addr);

/* NULL when there is none. */
struct slot *model_find(const struct model *m, const struct addr *addr);
/* Finds or makes it. NULL with *ret_error -ENOMEM or -E2BIG. */
struct slot *model_get(struct model *m, const struct addr *addr, int *ret_error);
void model_touch(struct model *m, struct slot *slot); /* to be planned */
void model_touch_all(struct model *m);
/* Takes the list of slots to plan; the caller clears slot->dirty. */
struct slot *model_take_dirty(struct model *m);
/* Frees the slot when nothing is known about it any more. true: it is gone. */
bool model_drop_idle(struct model *m, struct slot *slot);
typedef void (*model_visit_fn)(struct slot *slot, void *user);
void model_each(const struct model *m, model_visit_fn fn, void *user); /* in order of address */

/* --- claims: path decides what it is. Each returns 0 or -ENOMEM. --- */

bool model_wants_path(const char *path);
/* Does the value of this key matter? Not where its path names no address. */
bool model_wants_value(const char *path, struct addr *ret_addr);
struct claim *model_claim_free(struct claim *c);
/* Who gets in by a valid claim; the text is parsed again. As access_settle(). */
int model_claim_access(const struct claim *c, int family, struct access *ret);
/* A value of a path; NULL: gone. Logs nothing: what is refused is in claim->why and strays. */
int model_claim(struct model *m, const char *path, const struct str *value);
/* A full reading: what is not claimed between the two calls is gone. */
void model_claims_begin(struct model *m);
void model_claims_end(struct model *m);

typedef void (*model_stray_fn)(struct stray *stray, void *user);
void model_each_stray(const struct model *m, model_stray_fn fn, void *user); /* by path */

/* --- kernel facts: begin, add what the dumps gave, end. end touches what changed. --- */

struct model_kernel { /* staging; free with model_kernel_done() */
    struct model_link *links;
    size_t n_links;
    struct model_subnet *subnets;
    size_t n_subnets;
    struct model_route *routes;
    size_t n_routes;
    struct model_route *own; /* host routes that the router made */
    size_t n_own;
};
void model_kernel_done(struct model_kernel *k);
int model_kernel_take(struct model *m, struct model_kernel *k);

const struct model_link *model_link_by_index(const struct model *m, uint32_t index);
const struct model_link *model_link_by_name(const struct model *m, const char *name);
/* All host routes of addr, best first; their number in *ret_n. */
const struct model_route *model_host_routes(const struct model *m, const struct addr *addr,
                                            size_t *ret_n);

/* The addresses that are reached by this one (records with via=) are to be planned (model_vias.c). */
void model_touch_via(struct model *m, const struct addr *via);
int model_via_set(struct model *m, struct claim *c); /* by its record; 0 or -ENOMEM */
void model_via_unset(struct model *m, struct claim *c);
void model_vias_done(struct model *m);

/* Parses "vif<domid>.<devid>". */
bool model_parse_vif(const char *name, uint32_t *ret_domid);

/* --- what the kernel has of ours --- */

int model_set_actual(struct model *m, struct slot *slot, const struct object *objects, size_t n);
int model_add_actual(struct model *m, const struct addr *addr, const struct object *object);
/*
 * An element of a set that the platform fills too: it is ours when OBJECT_LENT, written in the same
 * transaction and read before, says so. What is not is noted in slot->attached.
 */
int model_add_shared(struct model *m, const struct addr *addr, const struct object *object);
void model_remove_actual(struct slot *slot, const struct object *object);
/*
 * Reading back objects of these kinds (bits): between the two, model_add_actual() tells what is
 * there. What is not told is gone; only addresses where something came or went are touched.
 */
void model_read_begin(struct model *m, unsigned kinds, int family);
void model_read_end(struct model *m, unsigned kinds, int family);

void model_sysctl_list_done(struct sysctl_list *list);
int model_sysctl_set(struct sysctl_list *list, const struct sysctl_value *value);
bool model_sysctl_get(const struct sysctl_list *list, const char *scope, enum sysctl_id id,
                      uint32_t *ret);
