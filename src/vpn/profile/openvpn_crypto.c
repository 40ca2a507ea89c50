/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which encryption. A cipher is taken when it is known to be good: what leaves by the uplink must
 * not be readable because a file (or what changed it on its way) says "none".
 */
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_private.h"

/* optional: not in every build of OpenVPN, so it is written with '?' (2.6: "if you have it"). */
static const struct {
    const char *name;
    bool optional;
} ciphers[] = {
    {"AES-256-GCM", false},      {"AES-128-GCM", false},      {"AES-192-GCM", false},
    {"CHACHA20-POLY1305", true}, {"AES-256-CBC", false},      {"AES-128-CBC", false},
    {"AES-192-CBC", false},      {"CAMELLIA-256-CBC", true},  {"CAMELLIA-192-CBC", true},
    {"CAMELLIA-128-CBC", true},  {"ARIA-256-GCM", true},      {"ARIA-192-GCM", true},
    {"ARIA-128-GCM", true},      {"ARIA-256-CBC", true},      {"ARIA-192-CBC", true},
    {"ARIA-128-CBC", true},
};

static const char *const digests[] = {
    "SHA1",      "SHA224",      "SHA256",     "SHA384",     "SHA512",    "SHA512-224",
    "SHA512-256", "SHA3-224",   "SHA3-256",   "SHA3-384",   "SHA3-512",  "BLAKE2b512",
    "BLAKE2s256",
};

static bool equal(struct str s, const char *name)
{
    return s.len == strlen(name) && strncasecmp(s.p, name, s.len) == 0;
}

static const char *find_cipher(struct str name, bool *ret_optional)
{
    for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
        if (equal(name, ciphers[i].name)) {
            *ret_optional = ciphers[i].optional;
            return ciphers[i].name;
        }
    }
    return NULL;
}

/* Is the cipher in the list, with or without '?'? */
static bool listed(const char *list, const char *name)
{
    struct str rest = str_from(list), one;

    while (str_next(&rest, ':', &one)) {
        if (one.len > 0 && one.p[0] == '?') {
            one.p++;
            one.len--;
        }
        if (str_is(one, name))
            return true;
    }
    return false;
}

static void add_cipher(struct openvpn_file *f, const char *name, bool optional)
{
    size_t used = strlen(f->ciphers);

    if (!listed(f->ciphers, name) && used + strlen(name) + 3 < sizeof(f->ciphers))
        (void)snprintf(f->ciphers + used, sizeof(f->ciphers) - used, "%s%s%s", used > 0 ? ":" : "",
                       optional ? "?" : "", name);
}

static void add_defaults(struct openvpn_file *f)
{
    add_cipher(f, "AES-256-GCM", false);
    add_cipher(f, "AES-128-GCM", false);
    add_cipher(f, "CHACHA20-POLY1305", true);
}

static const char *read_cipher(struct openvpn_reading *r, const struct openvpn_line *line)
{
    const char *name;
    char shown[40];
    bool optional;

    name = find_cipher(line->arg[1], &optional);
    if (equal(line->arg[1], "none"))
        openvpn_refuse(r, line, "would send everything unencrypted");
    else if (name == NULL)
        openvpn_refuse(r, line, "%s is not a cipher that can be trusted",
                       str_escape(line->arg[1], shown, sizeof(shown)));
    return name;
}

void openvpn_take_cipher(struct openvpn_reading *r, const struct openvpn_line *line)
{
    const char *name = read_cipher(r, line);

    if (name != NULL)
        r->cipher = name;
}

void openvpn_take_fallback(struct openvpn_reading *r, const struct openvpn_line *line)
{
    const char *name = read_cipher(r, line);

    if (name != NULL)
        r->file->fallback = name;
}

void openvpn_take_ciphers(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct str rest = line->arg[1], one;

    r->file->ciphers[0] = '\0'; /* the last directive counts */
    while (str_next(&rest, ':', &one)) {
        bool optional, wanted_optional = one.len > 0 && one.p[0] == '?';
        const char *name;
        char shown[40];

        if (wanted_optional) {
            one.p++;
            one.len--;
        }
        name = find_cipher(one, &optional);
        if (name != NULL)
            add_cipher(r->file, name, optional || wanted_optional);
        else if (str_is(one, "DEFAULT"))
            add_defaults(r->file);
        else
            openvpn_leave_out(r, line, "%s is not a cipher that can be trusted",
                              str_escape(one, shown, sizeof(shown)));
    }
    r->has_ciphers = r->file->ciphers[0] != '\0';
    if (!r->has_ciphers)
        openvpn_refuse(r, line, "no cipher is left that can be trusted");
}

/* As OpenVPN up to 2.5 did: what "cipher" names may be negotiated, and is used where nothing is. */
void openvpn_settle_ciphers(struct openvpn_reading *r)
{
    bool optional;

    if (!r->has_ciphers)
        add_defaults(r->file);
    if (r->cipher != NULL) {
        (void)find_cipher(str_from(r->cipher), &optional);
        add_cipher(r->file, r->cipher, optional);
        if (r->file->fallback == NULL)
            r->file->fallback = r->cipher;
    }
}

void openvpn_take_auth(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct str name = line->arg[1];
    char shown[40];

    if (equal(name, "none")) {
        openvpn_leave_out(r, line, "packets are always authenticated");
        return;
    }
    if (name.len > 4 && strncasecmp(name.p, "RSA-", 4) == 0) {
        name.p += 4;
        name.len -= 4;
    }
    for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
        if (equal(name, digests[i])) {
            text_format(&r->kept, "auth %s\n", digests[i]);
            return;
        }
    }
    openvpn_refuse(r, line, "%s is not a digest that can be trusted",
                   str_escape(line->arg[1], shown, sizeof(shown)));
}

static bool contains(struct str s, const char *what)
{
    size_t n = strlen(what);

    for (size_t i = 0; i + n <= s.len; i++) {
        if (strncasecmp(s.p + i, what, n) == 0)
            return true;
    }
    return false;
}

/* Of the control channel, which carries the keys. Names that only take away ("!aNULL") are fine. */
void openvpn_take_tls_cipher(struct openvpn_reading *r, const struct openvpn_line *line)
{
    static const char *const weak[] = {"NULL", "anon", "ADH",  "AECDH", "EXP", "LOW",
                                       "RC4",  "DES",  "MD5",  "PSK",   "SRP", "ALL",
                                       "SECLEVEL=0"};
    static const char plain[] = "_+=@!-";
    struct str rest = line->arg[1], one;
    char shown[40];

    while (str_next(&rest, ':', &one)) {
        bool bad = one.len == 0;

        for (size_t i = 0; i < one.len; i++) {
            char c = one.p[i];

            bad = bad || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || (c != '\0' && strchr(plain, c)));
        }
        for (size_t i = 0; i < ARRAY_SIZE(weak) && !bad && one.p[0] != '!' && one.p[0] != '-'; i++)
            bad = contains(one, weak[i]);
        if (bad) {
            openvpn_leave_out(r, line, "%s is not safe; the client's own list is used",
                              str_escape(one, shown, sizeof(shown)));
            return;
        }
    }
    openvpn_keep(r, line);
}

void openvpn_take_tls_min(struct openvpn_reading *r, const struct openvpn_line *line)
{
    if (str_is(line->arg[1], "1.2") || str_is(line->arg[1], "1.3"))
        openvpn_keep(r, line);
    else
        openvpn_leave_out(r, line, "TLS older than 1.2 is not used");
}
