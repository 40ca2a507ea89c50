/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VPN client at work, whichever it is: openvpn as a process, WireGuard in the kernel, or
 * wireguard-go as a process. It reports what happens; it decides nothing, sets no route and opens
 * nothing: the seal is asked by the supervisor before a client starts.
 *
 * Processes run as setup.uid/gid with no capability, no_new_privs, an empty environment but PATH,
 * only descriptors 0-2 and what they need, and get no secret in argv or environment. They make no
 * further processes. They live on when the supervisor dies; client_adopt() finds them again.
 * The user is for clients alone: at a client's start and end whatever runs as it is killed (not
 * when it is root or the supervisor's own user).
 * Everything runs in one sd-event loop; callbacks are called from there, never from inside a call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "vpn/profile/pushed.h"

struct client;

enum client_event_kind {
    CLIENT_CONNECTING, /* text: phase in words */
    CLIENT_SECRET,     /* a secret is asked for, secret says which: client_give_secret() */
    CLIENT_UP,         /* pushed is what the server said; the device may be set up now */
    CLIENT_ALIVE,      /* counters and handshake times (also bytes) */
    CLIENT_STALLED,    /* up, but the server is silent: keep the device, let nothing else through */
    CLIENT_RECONNECTING, /* the client tries again by itself; text: why */
    CLIENT_REFUSED,    /* wrong password or certificate: trying again does not help; text */
    CLIENT_ENDED,      /* process or device is gone; text: why */
};

enum client_secret { SECRET_USER_PASSWORD, SECRET_KEY_PASSWORD, SECRET_CHALLENGE };

struct client_event {
    enum client_event_kind kind;
    enum client_secret secret;
    const char *text;              /* printable, or "" */
    const struct pushed *pushed;   /* CLIENT_UP; borrowed */
    const struct findings *findings; /* CLIENT_UP: values that could not be read; may be NULL */
    struct addr server;            /* CLIENT_UP: the endpoint in use; family 0: not known */
    uint64_t bytes_in, bytes_out;  /* CLIENT_ALIVE */
};

typedef void (*client_event_fn)(struct client *c, const struct client_event *e, void *user);

struct client_setup {
    const struct profile *profile; /* borrowed for the client's life */
    const struct openvpn_target *targets; /* numeric endpoints in the order to try; copied */
    size_t n_targets;
    const char *runtime; /* the supervisor's folder; ours is client/ in it, see runtime.h */
    const char *program; /* openvpn or wireguard-go; NULL: the default */
    uid_t uid;
    gid_t gid;
};

int client_start(sd_event *loop, const struct client_setup *setup, client_event_fn fn, void *user,
                 struct client **ret);
/* A client left by an earlier supervisor, of the same profile and still running. -ENOENT: none. */
int client_adopt(sd_event *loop, const struct client_setup *setup, client_event_fn fn, void *user,
                 struct client **ret);
/* Values are copied and wiped after use. */
int client_give_secret(struct client *c, enum client_secret kind, const char *name,
                       const char *value);
void client_restart(struct client *c); /* another try now: after resume, with another uplink */
/* Asks for the counters; CLIENT_ALIVE answers. None come unasked: an idle tunnel wakes nobody. */
int client_poll(struct client *c);
/*
 * Ends it (SIGTERM, SIGKILL after half a second, waited for) and removes its device. Returns NULL.
 * CLIENT_ENDED is not sent. May be called from the callback.
 */
struct client *client_free(struct client *c);
/* Forgets it without ending it: for a handover to the next supervisor. */
struct client *client_leave(struct client *c);
/* Removes whatever an earlier life left: processes, device, sockets. Idempotent. */
int client_sweep(const char *runtime, uid_t uid);
