/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The management protocol of OpenVPN (its doc/management-notes.txt; 2.6 and 2.7), client side, as
 * text: cutting what came into lines, understanding a line, writing a command. Pure, and made for a
 * peer that lies: lines are bounded, numbers and addresses are checked, what is not understood is
 * MANAGEMENT_OTHER. Texts in a message are borrowed from the line and not escaped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"

#define MANAGEMENT_LINE_MAX    4096 /* of a line from OpenVPN; longer ones are dropped whole */
#define MANAGEMENT_COMMAND_MAX 1000 /* OpenVPN's own buffer for a command holds 1024 */
#define MANAGEMENT_SECRET_MAX  512

/* Bytes in, lines out. Zeroed is empty. */
struct management_reader {
    char line[MANAGEMENT_LINE_MAX];
    size_t len;
    bool dropping; /* the line is too long: its rest is passed over */
};

/*
 * Takes bytes from *bytes up to the end of a line. true: *ret is a whole line without its end,
 * valid until the next call. false: all is used up.
 */
bool management_read(struct management_reader *r, struct str *bytes, struct str *ret);

enum management_kind {
    MANAGEMENT_OTHER,
    MANAGEMENT_HOLD,
    MANAGEMENT_STATE,     /* a notification */
    MANAGEMENT_STATE_WAS, /* the answer to "state": the same fields */
    MANAGEMENT_NEED_USER_PASSWORD, /* challenge: set when the profile has a static one */
    MANAGEMENT_NEED_KEY_PASSWORD,
    MANAGEMENT_NEED_OTHER, /* any other thing a person would have to do; text: what */
    MANAGEMENT_FAILED,     /* failed: which secret; challenge, state_id, user: of CRV1 */
    MANAGEMENT_TEXT_CHALLENGE, /* CR_TEXT while the log-in is pending */
    MANAGEMENT_WEB_LOGIN,
    MANAGEMENT_UP,
    MANAGEMENT_DOWN,
    MANAGEMENT_ENV, /* text: "name=value" */
    MANAGEMENT_ENV_END,
    MANAGEMENT_BYTES,
    MANAGEMENT_FATAL,
    MANAGEMENT_SUCCESS,
    MANAGEMENT_ERROR,
    MANAGEMENT_END,
};

enum management_state {
    OPENVPN_OTHER, /* one that is not known */
    OPENVPN_STARTING,
    OPENVPN_WAIT,
    OPENVPN_AUTH,
    OPENVPN_GET_CONFIG,
    OPENVPN_ASSIGN_IP,
    OPENVPN_ADD_ROUTES,
    OPENVPN_CONNECTED,
    OPENVPN_RECONNECTING,
    OPENVPN_EXITING,
    OPENVPN_RESOLVE,
    OPENVPN_TCP_CONNECT,
    OPENVPN_AUTH_PENDING,
};

enum management_failed { FAILED_USER_PASSWORD, FAILED_KEY_PASSWORD };

struct management_message {
    enum management_kind kind;
    struct str text; /* the rest of the line, or what the kind says */
    struct str challenge; /* p NULL: none */
    bool challenge_echo;
    struct str state_id, user; /* of CRV1; user is in base64 */
    enum management_failed failed;

    enum management_state state;
    uint64_t time;       /* STATE: seconds of the real-time clock */
    struct addr local, local6, server; /* family 0: not told */
    uint16_t port;
    uint64_t bytes_in, bytes_out; /* BYTES */
};

void management_parse(struct str line, struct management_message *ret);

/*
 * "VERB\n", or "VERB "NAME" "VALUE"\n" with both quoted. Returns the length. -EINVAL: a byte that
 * cannot be sent (a control character would begin another command), -E2BIG.
 */
int management_write(char buf[static MANAGEMENT_COMMAND_MAX], const char *verb, const char *name,
                     const char *value);

/* Base64 (RFC 4648) with padding. -E2BIG, -EINVAL. Results end in NUL. */
int base64_write(const void *bytes, size_t len, char *ret, size_t size);
int base64_read(struct str text, char *ret, size_t size, size_t *ret_len);
/* What goes to the server as password: static challenge, or the answer to CRV1. -E2BIG. */
int management_static_response(const char *password, const char *response, char *ret, size_t size);
int management_dynamic_response(struct str state_id, const char *response, char *ret, size_t size);

/* Words for a person about a state and its detail ("ping-restart"). */
const char *management_state_words(enum management_state state);
const char *management_reason_words(struct str reason);
