/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager from inside, for manager*.c only. Everything that happens becomes an event of the
 * machine by manager_post(); the machine's answer is carried out in manager.c, where alone the
 * wish, the client and the timers change. manager_post() may be called from anywhere in the loop:
 * an event that comes while another is carried out waits for its end.
 */
#pragma once

#include <systemd/sd-event.h>

#include "netlink/nl.h"
#include "netlink/rt.h"
#include "vpn/client/resolver.h"
#include "vpn/daemon/dns_addr.h"
#include "vpn/daemon/folder.h"
#include "vpn/daemon/manager.h"
#include "vpn/daemon/network.h"
#include "vpn/daemon/platform.h"
#include "vpn/daemon/seal_link.h"
#include "vpn/profile/openvpn.h"

#define EXACT 1       /* accuracy of a timer in microseconds; 0 would mean 250 ms to sd-event */
#define LAZY  1000000

#define MANAGER_RESET_US   60000000 /* a tunnel that held that long was a good one */
#define MANAGER_QUEUE_MAX   32
#define MANAGER_TARGETS_MAX 32 /* each may be two carriers: by user and by mark */

/* How far the seal is asked to open. */
enum door { DOOR_CLOSED, DOOR_RESOLVERS, DOOR_CARRIERS, DOOR_TUNNEL };

/* What a tunnel is told by: the flows of another one are forgotten. */
struct tunnel_id {
    struct addr addr4, addr6, server;
};

struct manager {
    struct manager_config config;
    sd_event *loop;
    struct manager_listener listener;
    struct vpn_status status;
    struct machine machine;
    enum machine_event queue[MANAGER_QUEUE_MAX];
    size_t n_queue;
    bool draining, stopping, begun, told_ready;

    /* the profile */
    struct folder *folder;
    struct folder_list list;
    struct folder_settings settings;
    bool down_unkept;          /* "down" is wished and could not be written: the file says "up" */
    struct profile *profile;   /* in use; borrowed by the client while there is one */
    struct profile *candidate; /* takes its place at the next look-up */
    uint64_t digest, candidate_digest;
    uint64_t secrets_digest;   /* of what the last try had */
    bool broken;               /* the chosen file cannot be used at present */
    char fail_over[PROFILE_NAME_MAX]; /* tried instead of the chosen one; "": none */
    unsigned tried;            /* profiles of the list since the last tunnel */
    bool was_up;               /* this profile, with these secrets */
    unsigned refusals;         /* since the last tunnel */
    char challenge[FOLDER_SECRET_MAX]; /* one answer, for one try */

    /* the way to the server */
    struct platform *platform;
    struct resolver *resolver;
    bool resolve_pending;      /* waits for the seal or for QubesDB */
    size_t resolve_order[PROFILE_ENDPOINTS_MAX], resolve_at;
    struct openvpn_target targets[MANAGER_TARGETS_MAX];
    size_t target_endpoint[MANAGER_TARGETS_MAX];
    size_t n_targets;
    /* The kernel's WireGuard has no user: it is told by its mark, every process by its user. */
    bool by_mark;
    struct network network;
    struct nl_sock *route, *netfilter;
    struct rt_monitor *rt_monitor;

    /* client and tunnel */
    struct client *client;
    bool start_pending; /* waits for the seal */
    bool adopting;      /* the predecessor's wish stands until its client has spoken */
    struct wish adopted_wish;
    struct tunnel_facts facts;
    struct addr server;
    struct tunnel_id tunnel_id; /* of the last tunnel that was opened */
    bool tunnel_open;           /* the seal has granted it */
    uint64_t polled_us;
    unsigned unanswered; /* ticks since the client was asked for its counters */
    struct dns_addr *dns_addr;

    /* the seal */
    struct seal_link *seal;
    enum door door, granted_door;

    /* time */
    uint64_t backoff_us, up_us; /* CLOCK_MONOTONIC: when the tunnel opened */
    uint64_t way_out;           /* of the uplink in use, the last that was there */
    bool way_lost;
    int64_t clock_offset_us, boot_offset_us; /* against CLOCK_MONOTONIC */
    bool proxy_wanted;
    uint32_t proxy_uid;
    bool router_here;
    sd_event_source *state_timer, *retry_timer, *uplink_timer, *adopt_timer, *stop_timer,
        *reset_timer, *resolve_timer, *tick, *publish_source, *clock_source, *services_source,
        *rt_source;
};

/* manager.c */
void manager_post(struct manager *m, enum machine_event event);
bool manager_wants_up(const struct manager *m);
void manager_arm(sd_event_source *timer, uint64_t delay_us);
void manager_disarm(sd_event_source *timer);
uint64_t manager_realtime_us(void);
uint32_t manager_random(void);
void manager_arm_state(struct manager *m); /* the time limit of the state, from now */

/* manager_tell.c */
__attribute__((format(printf, 2, 3))) void manager_phase(struct manager *m, const char *format,
                                                         ...);
__attribute__((format(printf, 2, 3))) void manager_error(struct manager *m, const char *format,
                                                         ...);
/* folder_write_settings(), and what was not kept is kept now. */
int manager_write_settings(struct manager *m, const struct folder_settings *s);
void manager_publish(struct manager *m); /* soon, once: manager_tell_status() */
void manager_tell_status(struct manager *m);
void manager_tell(struct manager *m, enum vpn_event event, const char *text);
void manager_tell_up(struct manager *m);
/* The state as others see it: up only when the seal has let the tunnel through. */
void manager_show_state(struct manager *m);
void manager_tell_state(struct manager *m, enum machine_state before);

/* manager_seal.c */
int manager_seal_new(struct manager *m);
void manager_send_wish(struct manager *m, enum door door);

/* manager_resolve.c */
int manager_resolve_new(struct manager *m);
void manager_resolve(struct manager *m);       /* ACTION_RESOLVE */
void manager_resolve_go_on(struct manager *m); /* the seal or QubesDB has answered */
void manager_resolve_cancel(struct manager *m);
void manager_remember(struct manager *m);      /* the server's address, it was good */

/* manager_client.c */
void manager_client_start(struct manager *m); /* the seal has granted it, or to adopt */
void manager_client_stop(struct manager *m);
void manager_configure(struct manager *m);    /* ACTION_CONFIGURE */
void manager_check_client(struct manager *m); /* on every tick */
void manager_check_device(struct manager *m); /* after m->network was read */
void manager_forget_flows(struct manager *m);
void manager_give_secrets(struct manager *m); /* those that were missing and are there now */

/* manager_folder.c */
void manager_look_at_folder(struct manager *m);
void manager_next_profile(struct manager *m); /* ACTION_NEXT_PROFILE */
int manager_load(struct manager *m, const char *name, struct findings *findings,
                 struct profile **ret, uint64_t *ret_digest);
uint64_t manager_secrets_digest(struct manager *m, const char *name);
void manager_folder_changed(struct folder *f, void *user);

/* manager_sources.c */
int manager_sources_new(struct manager *m);
void manager_sources_done(struct manager *m);
void manager_look_at_services(struct manager *m);
void manager_check_way_out(struct manager *m); /* reads m->network; may post EVENT_UPLINK */

/* manager_state.c: files of RUNTIME */
void manager_write_state(const struct manager *m);
struct session {
    char profile[PROFILE_NAME_MAX];
    uint64_t digest;
    struct addr server;
    struct wish wish;
};
void manager_write_session(const struct manager *m);
int manager_read_session(const struct manager *m, struct session *ret); /* -ENOENT, -EINVAL */
void manager_drop_session(const struct manager *m);
