/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenVPN's file: reader and writer. The client never sees the provider's file: it gets a text that
 * we write from what was taken, with our own directives last, through its standard input.
 * Every directive of OpenVPN 2.6 and 2.7 is in one table (openvpn_directives.c): taken, taken with
 * checks, left out (why) or refused (why); an unknown one is refused. Quoting and inline blocks as
 * in OpenVPN's options.c (parse_line, check_inline_file).
 */
#pragma once

#include "vpn/profile/profile.h"

int openvpn_read(const char *text, size_t len, const struct profile_files *files,
                 struct findings *findings, struct profile *p);
struct openvpn_file *openvpn_free(struct openvpn_file *f);

/* User and password that the profile's own files hold (the password may be ""); borrowed. */
bool openvpn_credentials(const struct profile *p, const char **ret_user, const char **ret_password);

/* What the file brings along, for whoever shows it. */
enum openvpn_contents {
    OPENVPN_HAS_CA = 1,
    OPENVPN_HAS_FINGERPRINT = 2,
    OPENVPN_HAS_CERTIFICATE = 4, /* with its key */
    OPENVPN_HAS_TLS_KEY = 8,     /* tls-auth, tls-crypt, tls-crypt-v2 */
};
unsigned openvpn_contents(const struct profile *p);

/* What the supervisor adds: numeric endpoints, device, management socket. */
struct openvpn_target {
    struct addr addr;
    uint16_t port;
    uint8_t protocol;
};
struct openvpn_setup {
    const struct openvpn_target *targets; /* in the order to try, instead of the file's remotes */
    size_t n_targets;
    const char *device;     /* made already: dev NAME, dev-type tun */
    const char *management; /* path of the unix socket the client listens on */
};
/* The text for "openvpn --config stdin"; malloc()ed, may hold keys: wipe it. 0, -E2BIG, -ENOMEM. */
int openvpn_write(const struct profile *p, const struct openvpn_setup *setup, char **ret,
                  size_t *ret_len);
