/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the reader of OpenVPN's file (openvpn.c, openvpn_take.c, openvpn_remote.c) and the writer
 * (openvpn_write.c) share. For this folder only.
 */
#pragma once

#include "vpn/profile/openvpn.h"
#include "vpn/profile/openvpn_directives.h"
#include "vpn/profile/openvpn_lines.h"
#include "vpn/profile/openvpn_text.h"

#define OPENVPN_CREDENTIAL_MAX 128 /* with the NUL; what OpenVPN takes (USER_PASS_LEN) */
#define OPENVPN_CIPHERS_MAX    512
#define OPENVPN_FILES_MAX      (2 * 1024 * 1024) /* bytes of all files that one profile names */

struct openvpn_file {
    char *kept; /* owned: directives and blocks as they are written again */
    size_t kept_len;
    char ciphers[OPENVPN_CIPHERS_MAX]; /* for data-ciphers */
    const char *fallback;              /* static; NULL: none */
    bool ask_user;                     /* auth-user-pass */
    char user[OPENVPN_CREDENTIAL_MAX]; /* "": not in the files */
    char password[OPENVPN_CREDENTIAL_MAX];
    bool compression; /* take compressed packets */
    uint32_t tun_mtu; /* 0: OpenVPN's default */
    uint32_t fragment, fragment_mtu; /* UDP only; 0: none */
    uint32_t exit_notify; /* UDP only; 0: none */
    uint32_t lport;
    uint32_t ping, ping_restart; /* seconds; 0: ours */
    unsigned contents;           /* enum openvpn_contents */
};

enum openvpn_transport { TRANSPORT_UNSET, TRANSPORT_UDP, TRANSPORT_TCP };

struct openvpn_proto {
    enum openvpn_transport transport;
    uint8_t family; /* 0: any */
};

/* A remote, or the settings of a <connection>; what is unset comes from the file as a whole. */
struct openvpn_remote {
    unsigned line;
    char host[PROFILE_HOST_MAX]; /* "": unset */
    uint32_t port;               /* 0: unset */
    struct openvpn_proto proto;
};

struct openvpn_reading {
    struct profile *profile;
    struct openvpn_file *file;
    struct findings *findings;
    size_t refused_before;
    const struct profile_files *files; /* may be NULL */
    size_t files_read;                 /* bytes */
    struct text kept;
    struct openvpn_remote remotes[PROFILE_ENDPOINTS_MAX];
    size_t n_remotes, more_remotes;
    struct openvpn_remote blocks[PROFILE_ENDPOINTS_MAX];
    size_t n_blocks, more_blocks;
    struct openvpn_remote common;          /* proto, port, rport */
    enum openvpn_transport only_transport; /* proto-force */
    bool has_user_password; /* a file or block with them was there */
    bool pull, client;
    bool forward_compatible; /* unknown directives are left out */
    char ignored[32][40];    /* names of ignore-unknown-option */
    size_t n_ignored;
    bool has_ca, has_cert, has_key, has_pkcs12, has_fingerprint, has_tls_key, has_check;
    const char *cipher; /* static; of the directive "cipher" */
    bool has_ciphers;
    bool dev_other; /* dev with a name that tells no type */
    bool dev_type;
};

/* A finding about the directive of a line. */
#define openvpn_refuse(r, line, ...)                                                               \
    findings_add((r)->findings, FINDING_REFUSED, (line)->number, (line)->arg[0], __VA_ARGS__)
#define openvpn_leave_out(r, line, ...)                                                            \
    findings_add((r)->findings, FINDING_LEFT_OUT, (line)->number, (line)->arg[0], __VA_ARGS__)
#define openvpn_note(r, line, ...)                                                                 \
    findings_add((r)->findings, FINDING_NOTE, (line)->number, (line)->arg[0], __VA_ARGS__)

/* openvpn_take.c: a directive with the verdict OPENVPN_TAKE; the number of its words is right. */
void openvpn_take_line(struct openvpn_reading *r, const struct openvpn_directive *d,
                       const struct openvpn_line *line);
/* Writes it as it is, when it fits into a line. */
void openvpn_keep(struct openvpn_reading *r, const struct openvpn_line *line);
/* A number within low..high. -EINVAL: refused; -ERANGE: left out; both have become findings. */
int openvpn_number(struct openvpn_reading *r, const struct openvpn_line *line, size_t arg,
                   uint32_t low, uint32_t high, uint32_t *ret);

/* openvpn_crypto.c */
void openvpn_take_cipher(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_ciphers(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_fallback(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_auth(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_tls_cipher(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_tls_min(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_settle_ciphers(struct openvpn_reading *r);

/* openvpn_secret.c */
void openvpn_take_blob(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_user_password(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_challenge(struct openvpn_reading *r, const struct openvpn_line *line);

/* openvpn_remote.c */
void openvpn_take_remote(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_connection(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_proto(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_proto_force(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_take_port(struct openvpn_reading *r, const struct openvpn_line *line);
void openvpn_settle_endpoints(struct openvpn_reading *r);
