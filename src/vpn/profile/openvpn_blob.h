/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates and keys of a profile, brought into one form: only the PEM parts that belong to the
 * directive, base64 (or hex) in lines of 64, everything between and around them dropped. So nothing
 * in them can be taken for a directive or a closing tag. What is in the base64 is not looked at.
 * Formats: RFC 7468, RFC 1421 4.6 (headers of encrypted keys), openvpn(8) "Inline file support".
 */
#pragma once

#include "vpn/profile/openvpn_text.h"

struct openvpn_blob {
    struct str name;    /* directive: ca, cert, extra-certs, key, crl-verify, tls-auth, tls-crypt,
                           tls-crypt-v2, pkcs12, peer-fingerprint */
    struct str content;
    bool from_file; /* pkcs12 is binary in a file and base64 in a block */
};

/*
 * Adds "<name>", the parts, "</name>". *ret_encrypted: a key is among them that has a password.
 * -EINVAL and *ret_why (static); then nothing was added. Errors of t stick in t.
 */
int openvpn_blob_add(struct text *t, const struct openvpn_blob *blob, bool *ret_encrypted,
                     const char **ret_why);
