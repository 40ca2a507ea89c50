/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A profile is one file of a provider: OpenVPN (*.conf, *.ovpn with "remote") or WireGuard in the
 * format of wg-quick (*.conf with "[Interface]"). It is read as data: what is known to be harmless
 * is taken, what would run something or move routes is refused or left out by name and line.
 * Pure: no file is opened here but through struct profile_files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define PROFILE_NAME_MAX     64
#define PROFILE_FILE_MAX     (512 * 1024) /* bytes of a file, and of one it refers to */
#define PROFILE_ENDPOINTS_MAX 64
#define PROFILE_FINDINGS_MAX 64
#define PROFILE_HOST_MAX     254

enum profile_kind { PROFILE_OPENVPN, PROFILE_WIREGUARD };

enum finding_kind {
    FINDING_REFUSED,  /* the profile is not used */
    FINDING_LEFT_OUT, /* the directive has no effect here; the profile works without it */
    FINDING_NOTE,
};

/* Plain words for a person. word and text are printable ASCII, escaped where they quote. */
struct finding {
    enum finding_kind kind;
    unsigned line; /* 0: the file as a whole */
    char word[40]; /* directive, key or field */
    char text[200];
};

struct findings {
    struct finding list[PROFILE_FINDINGS_MAX];
    size_t n;
    size_t more;     /* that many did not fit */
    size_t refused;  /* of all */
};

__attribute__((format(printf, 5, 6))) void findings_add(struct findings *f, enum finding_kind kind,
                                                        unsigned line, struct str word,
                                                        const char *format, ...);

struct endpoint {
    char host[PROFILE_HOST_MAX]; /* name or address as text; checked: RFC 1123 name or address */
    uint16_t port;
    uint8_t protocol; /* IPPROTO_UDP, IPPROTO_TCP */
    uint8_t family;   /* AF_INET, AF_INET6 where the file insists, else 0 */
};

enum profile_needs { /* bits: what the user has to give */
    NEEDS_USER_PASSWORD = 1,
    NEEDS_KEY_PASSWORD = 2,
    NEEDS_CHALLENGE = 4, /* a one-time code asked with the password ("static-challenge") */
};

struct openvpn_file;   /* profile/openvpn.h */
struct wireguard_file; /* profile/wireguard.h */

struct profile {
    enum profile_kind kind;
    char name[PROFILE_NAME_MAX];
    struct endpoint endpoints[PROFILE_ENDPOINTS_MAX];
    size_t n_endpoints;
    bool random; /* try endpoints in random order */
    unsigned needs;
    char challenge[128]; /* text of a static challenge, escaped */
    bool challenge_echo;
    struct openvpn_file *openvpn;     /* owned; one of the two */
    struct wireguard_file *wireguard; /* owned */
};

/*
 * How a reader gets a file that the profile refers to ("ca ca.crt"). name is as written in the
 * file; the reader has refused absolute and climbing names already. *ret is malloc()ed, ends in a
 * NUL that *ret_len does not count, and may hold secrets (wipe it). -ENOENT, -EFBIG, ...
 */
struct profile_files {
    int (*read)(const char *name, char **ret, size_t *ret_len, void *user);
    void *user;
};

/* Tells the kind by the text, and reads it. files may be NULL. -EINVAL: see findings; -errno. */
int profile_read(const char *name, const char *text, size_t len, const struct profile_files *files,
                 struct findings *findings, struct profile **ret);
struct profile *profile_free(struct profile *p); /* wipes secrets; NULL is fine; returns NULL */
void profile_freep(struct profile **p);
