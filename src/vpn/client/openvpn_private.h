/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The OpenVPN driver's own state; for openvpn*.c of this folder only. openvpn.c starts, adopts and
 * ends; openvpn_talk.c listens to the management socket and tells the supervisor; openvpn_pushed.c
 * keeps what the server pushed, also over our own restart.
 */
#pragma once

#include "vpn/client/client_private.h"
#include "vpn/client/management_link.h"

#define OPENVPN_TOLD_MAX (64 * 1024)
#define OPENVPN_LOG_MAX  (256 * 1024)

enum openvpn_asked { /* what the client waits for us to say */
    ASKED_NOTHING,
    ASKED_USER_PASSWORD,
    ASKED_STATIC, /* the challenge of the profile; name and password are here already */
    ASKED_DYNAMIC,
    ASKED_TEXT,
    ASKED_KEY_PASSWORD,
};

struct openvpn_secrets { /* wiped with it */
    bool have_user_password, have_key_password, have_response;
    char user[MANAGEMENT_SECRET_MAX], password[MANAGEMENT_SECRET_MAX];
    char key_password[MANAGEMENT_SECRET_MAX], response[MANAGEMENT_SECRET_MAX];
    char dynamic_id[MANAGEMENT_SECRET_MAX], dynamic_user[MANAGEMENT_SECRET_MAX];
};

/* What one UPDOWN block said. text: its lines that matter, to be read again by a successor. */
struct openvpn_told {
    struct pushed pushed;
    struct findings findings;
    char *text; /* owned, OPENVPN_TOLD_MAX */
    size_t len;
    bool whole; /* all of it is in text */
};

struct openvpn_driver {
    struct client *client;
    struct management_link *link;
    sd_event_source *exit;
    sd_event_source *kill; /* the process is given a moment after it closed the connection */
    enum openvpn_asked asked;
    struct openvpn_secrets secrets;
    struct openvpn_told told;
    bool collecting; /* inside an UPDOWN:UP block */
    bool up, refused;
    bool profile_refused; /* the name and password of the file itself: not again */
    bool looping; /* in OpenVPN's main loop: a signal starts the connection over, see openvpn.c */
    char challenge[CLIENT_TEXT_MAX]; /* of the question asked */
    bool has_static;
    char fatal[CLIENT_TEXT_MAX];     /* last words */
    char phase[CLIENT_TEXT_MAX];     /* told last by CLIENT_CONNECTING */
    uint64_t events, events_us;      /* allowance, see openvpn_talk.c */

    bool adopting; /* until "state" has been answered as it has to be */
    struct management_message adopt; /* what it has to say; no texts in it */
};

/* management_link_ops of the driver. */
extern const struct management_link_ops openvpn_link_ops;
int openvpn_give_secret(struct client *c, enum client_secret kind, const char *name,
                        const char *value);
/* CLIENT_UP for what was told last. false: freed. */
bool openvpn_say_up(struct openvpn_driver *d, const struct management_message *state);
/* CLIENT_ENDED after the process has gone, or had to. false: freed. */
bool openvpn_say_ended(struct openvpn_driver *d, const char *fallback);

void openvpn_told_begin(struct openvpn_told *t);
void openvpn_told_add(struct openvpn_told *t, struct str line);
/* Keeps it for a successor, with the state that it belongs to. */
int openvpn_told_write(const struct openvpn_told *t, const char *folder,
                       const struct management_message *state);
int openvpn_told_read(struct openvpn_told *t, const char *folder, struct management_message *ret);
