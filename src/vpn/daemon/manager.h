/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor as D-Bus and the command see it: what it knows (struct vpn_status) and what may be
 * asked of it. Nothing here waits: a call notes what is wanted, does what can be done at once and
 * returns; what comes of it is told through the listener. No call can open anything by itself, a
 * tunnel is opened by the state machine only (daemon/machine.h).
 *
 * Calls give 0 or -errno, and then a phrase for a person in *ret_why (static, never a secret):
 * -ENOENT no such profile, -EEXIST the name is taken, -EINVAL not acceptable, -EBUSY not now,
 * -EACCES and other errors of the folder, -ENOTCONN the seal's owner does not answer.
 * One thread, the loop of the program. Strings in the status are printable ASCII.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "vpn/client/client.h"
#include "vpn/daemon/machine.h"
#include "vpn/profile/profile.h"
#include "vpn/profile/pushed.h"

#define VPN_TEXT_MAX     256
#define VPN_PROFILES_MAX 256

struct vpn_profile {
    char name[PROFILE_NAME_MAX];
    bool known; /* the file could be read and told: kind is valid */
    enum profile_kind kind;
    bool usable;          /* nothing in it was refused */
    bool chosen;          /* "use", or the only one */
    unsigned order;       /* place in the fail-over list from 1; 0: not in it */
    unsigned needs;       /* NEEDS_* bits */
    unsigned has;         /* NEEDS_* bits of secrets that are stored */
    char problem[VPN_TEXT_MAX]; /* first refusal, or "" */
};

enum vpn_seal { SEAL_ABSENT, SEAL_CLOSED, SEAL_CARRIER, SEAL_TUNNEL_OPEN };

struct vpn_status {
    enum machine_state state;
    bool wanted_up;
    char profile[PROFILE_NAME_MAX]; /* in use or next; "": none */
    enum profile_kind kind;
    char phase[VPN_TEXT_MAX];       /* what goes on, in words */
    uint64_t since_us;              /* CLOCK_REALTIME: of this state */
    uint64_t retry_us;              /* CLOCK_REALTIME: the next try; 0: none planned */

    /* UP and STALLED: the tunnel as the judge let it pass; else has_tunnel is false */
    bool has_tunnel;
    struct tunnel_facts tunnel;
    char device[16];
    struct addr server; /* the endpoint in use; family 0: not known */
    uint16_t server_port;
    uint8_t server_protocol; /* IPPROTO_* */
    char endpoint[PROFILE_HOST_MAX]; /* as the file names it */
    uint64_t bytes_in, bytes_out;    /* of this tunnel, as the client said last */
    uint32_t connects; /* tunnels since the start of the program */

    char error[VPN_TEXT_MAX]; /* the last one, stays until the next tunnel; "" none */
    uint64_t error_us;        /* CLOCK_REALTIME */
    unsigned missing;         /* NEEDS_* bits of secrets the client asked for and did not get */

    enum vpn_seal seal; /* what its owner has granted last */
    char seal_error[VPN_TEXT_MAX];
    bool proxy; /* the updates proxy may use the uplink */

    struct findings profile_findings; /* of the profile in use */
    struct findings pushed_findings;  /* what the server pushed and was not taken */

    struct vpn_profile profiles[VPN_PROFILES_MAX]; /* the folder, by name */
    size_t n_profiles;
    bool random_order;
};

enum vpn_event { /* also texts for the journal and for notifications */
    VPN_EVENT_CONNECTING,
    VPN_EVENT_UP,
    VPN_EVENT_STALLED,
    VPN_EVENT_DOWN,   /* by wish: sealed */
    VPN_EVENT_LOST,   /* not by wish: sealed */
    VPN_EVENT_FAILED, /* needs a person */
    VPN_EVENT_SECRET, /* needs a secret */
    VPN_EVENT_PROFILES, /* the folder changed */
};

struct manager_listener {
    /* Something in the status is another one; sent once after a series of changes. */
    void (*changed)(void *user);
    void (*event)(enum vpn_event event, const char *text, void *user);
    /* Answer to manager_test(): json is the seal's own report, or NULL when it gave none. */
    void (*test_result)(bool sealed, const char *json, void *user);
    void *user;
};

struct manager_config {
    const char *folder;  /* /rw/config/qubes-vpn */
    const char *runtime; /* /run/qubes-vpn */
    const char *seal;    /* socket of the seal's owner */
    const char *services; /* /run/qubes-service */
    const char *qubesdb;  /* NULL: the usual place */
    const char *resolv_conf; /* where there is no QubesDB */
    const char *openvpn, *wireguard_go; /* programs; NULL: the default */
    const char *proxy_user; /* of the updates proxy: "tinyproxy" */
    uid_t client_uid;
    gid_t client_gid;
};

struct manager;

/* Strings of config are borrowed. Nothing happens before manager_begin(). */
int manager_new(sd_event *loop, const struct manager_config *config, struct manager **ret);
int manager_begin(struct manager *m); /* adopts what runs, else seals; then looks at the folder */
/* Ends the client and closes the seal, then sd_event_exit(), after 2 s at the latest. */
void manager_stop(struct manager *m);
/* Looks at everything again, e.g. on SIGHUP. */
void manager_reload(struct manager *m);
/* handover: leaves client and wish to a successor; else the client is ended. NULL is fine. */
struct manager *manager_free(struct manager *m, bool handover);

/* Copied; one listener. NULL: none. */
void manager_listen(struct manager *m, const struct manager_listener *listener);
/* Valid until the loop goes on. */
const struct vpn_status *manager_status(const struct manager *m);
/* Asks the client for its counters; they come by changed(). For whoever is about to show them. */
void manager_poll(struct manager *m);

/* up is also "try now" while a back-off runs or after FAILED. The wish is kept over restarts. */
int manager_up(struct manager *m, const char **ret_why);
/* MANAGER_UNKEPT: it is down and sealed, but the wish could not be written. Repeated, it is tried again. */
#define MANAGER_UNKEPT (-EUCLEAN)
int manager_down(struct manager *m, const char **ret_why);
int manager_use(struct manager *m, const char *name, const char **ret_why);

/*
 * A provider file and the files it refers to, as texts (borrowed; wiped by the caller). Checked
 * before anything is written: with a refusal nothing is. findings may hold more than refusals.
 */
struct manager_file {
    const char *name; /* as the main file names it; of the main file: the profile's name */
    const char *text;
    size_t len;
};
int manager_import(struct manager *m, const struct manager_file *main_file,
                   const struct manager_file *others, size_t n_others, struct findings *findings,
                   const char **ret_why);
/* The same check without writing; *ret_profile is the caller's (profile_free). */
int manager_describe(struct manager *m, const struct manager_file *main_file,
                     const struct manager_file *others, size_t n_others, struct findings *findings,
                     struct profile **ret_profile, const char **ret_why);
/* The same of a profile that is kept. */
int manager_describe_profile(struct manager *m, const char *name, struct findings *findings,
                             struct profile **ret_profile, const char **ret_why);
/*
 * text: for SECRET_USER_PASSWORD two lines, name and password; else one. Kept in the folder (mode
 * 0600) but for SECRET_CHALLENGE, which is good for one try. The caller wipes text.
 */
int manager_set_secret(struct manager *m, const char *name, enum client_secret kind,
                       struct str text, const char **ret_why);
int manager_rename(struct manager *m, const char *name, const char *new_name,
                   const char **ret_why);
int manager_delete(struct manager *m, const char *name, const char **ret_why);
/* The fail-over list, n 0: none, only the profile in use is tried. */
int manager_set_order(struct manager *m, const char *const *names, size_t n, bool random,
                      const char **ret_why);
/* Asks the seal to read itself back; the answer comes by test_result(). */
int manager_test(struct manager *m, const char **ret_why);

const char *vpn_event_name(enum vpn_event event);
