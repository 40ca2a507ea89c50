/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/openvpn_blob.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

#define PARTS_MAX 256 /* certificates in one file */
#define WIDTH     64

static const struct {
    const char *name;
    const char *labels[4];
} kinds[] = {
    {"ca", {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}},
    {"cert", {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}},
    {"extra-certs", {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}},
    {"key", {"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}},
    {"crl-verify", {"X509 CRL"}},
    {"tls-auth", {"OpenVPN Static key V1"}},
    {"tls-crypt", {"OpenVPN Static key V1"}},
    {"tls-crypt-v2", {"OpenVPN tls-crypt-v2 client key"}},
};

static bool is_base64(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '/' || c == '=';
}

static struct str trim(struct str s)
{
    s = str_trim(s);
    while (s.len > 0 && (s.p[s.len - 1] == '\r' || s.p[s.len - 1] == ' '))
        s.len--;
    return s;
}

static bool begins_with(struct str s, const char *with)
{
    return s.len >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* "-----BEGIN LABEL-----" with word "BEGIN" or "END". */
static bool is_border(struct str line, const char *word, struct str *ret_label)
{
    char head[16];
    size_t n = (size_t)snprintf(head, sizeof(head), "-----%s ", word);

    if (!begins_with(line, head) || line.len < n + 5 ||
        memcmp(line.p + line.len - 5, "-----", 5) != 0)
        return false;
    *ret_label = (struct str){line.p + n, line.len - n - 5};
    return true;
}

/* The label of the table that equals the one of the file: what is written is ours. */
static const char *known_label(struct str name, struct str label)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!str_is(name, kinds[i].name))
            continue;
        for (size_t k = 0; k < ARRAY_SIZE(kinds[i].labels) && kinds[i].labels[k]; k++) {
            if (str_is(label, kinds[i].labels[k]))
                return kinds[i].labels[k];
        }
    }
    return NULL;
}

struct wrap {
    struct text *t;
    size_t column;
    size_t total;
};

static bool wrap_add(struct wrap *w, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_base64(s.p[i]))
            return false;
        text_add(w->t, (struct str){s.p + i, 1});
        w->total++;
        if (++w->column == WIDTH) {
            text_add(w->t, STR_LITERAL("\n"));
            w->column = 0;
        }
    }
    return true;
}

static void wrap_end(struct wrap *w)
{
    if (w->column > 0)
        text_add(w->t, STR_LITERAL("\n"));
    w->column = 0;
}

/* "Proc-Type: 4,ENCRYPTED" and "DEK-Info: AES-256-CBC,0123..." before the key. */
static bool is_header(struct str line)
{
    if (!begins_with(line, "Proc-Type: ") && !begins_with(line, "DEK-Info: "))
        return false;
    for (size_t i = 0; i < line.len; i++) {
        char c = line.p[i];

        if (!is_base64(c) && c != ' ' && c != ':' && c != ',' && c != '-')
            return false;
    }
    return line.len <= 100;
}

static const char broken[] = "is damaged: no complete PEM part";

/* One part behind its first border, up to and with its last. */
static const char *copy_part(struct text *t, struct str *rest, const char *label,
                             bool *ret_encrypted)
{
    struct wrap w = {.t = t};
    struct str line, end;
    bool headers = false;

    text_format(t, "-----BEGIN %s-----\n", label);
    while (str_next(rest, '\n', &line)) {
        line = trim(line);
        if (is_border(line, "END", &end)) {
            wrap_end(&w);
            text_format(t, "-----END %s-----\n", label);
            return str_is(end, label) && w.total > 0 ? NULL : broken;
        }
        if (line.len == 0 || line.p[0] == '#')
            continue;
        if (w.total == 0 && is_header(line)) {
            text_add(t, line);
            text_add(t, STR_LITERAL("\n"));
            headers = true;
            *ret_encrypted = true;
            continue;
        }
        if (headers) {
            text_add(t, STR_LITERAL("\n"));
            headers = false;
        }
        if (!wrap_add(&w, line))
            return broken;
    }
    return broken;
}

static const char *copy_pem(struct text *t, const struct openvpn_blob *blob, bool *ret_encrypted)
{
    bool single = str_is(blob->name, "key") || begins_with(blob->name, "tls-");
    struct str rest = blob->content, line, found;
    size_t parts = 0;

    while (rest.p && str_next(&rest, '\n', &line)) {
        const char *label, *why;

        if (!is_border(trim(line), "BEGIN", &found))
            continue;
        label = known_label(blob->name, found);
        if (label == NULL)
            continue; /* a key beside a certificate, parameters of a curve */
        if (++parts > (single ? 1 : PARTS_MAX))
            return "has too many parts";
        if (strcmp(label, "ENCRYPTED PRIVATE KEY") == 0)
            *ret_encrypted = true;
        why = copy_part(t, &rest, label, ret_encrypted);
        if (why != NULL)
            return why;
    }
    return parts > 0 ? NULL : "holds nothing of the kind this directive wants";
}

static void encode_base64(struct wrap *w, struct str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = 0;
        char out[4];

        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (k < n ? (uint8_t)s.p[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            out[k] = k <= n ? digits[v >> (18 - 6 * k) & 63] : '=';
        (void)wrap_add(w, (struct str){out, 4});
        explicit_bzero(out, sizeof(out));
    }
}

static const char *copy_pkcs12(struct text *t, const struct openvpn_blob *blob)
{
    struct str rest = blob->content, line;
    struct wrap w = {.t = t};

    if (blob->from_file) {
        encode_base64(&w, rest);
    } else {
        while (rest.p && str_next(&rest, '\n', &line)) {
            line = trim(line);
            if (line.len > 0 && !wrap_add(&w, line))
                return "is not base64";
        }
    }
    wrap_end(&w);
    return w.total > 0 ? NULL : "is empty";
}

/* Of SHA-256: 32 pairs of hex digits with colons between. */
static bool is_fingerprint(struct str s)
{
    if (s.len != 32 * 3 - 1)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (i % 3 == 2 ? s.p[i] != ':' : strchr("0123456789abcdefABCDEF", s.p[i]) == NULL)
            return false;
    }
    return memchr(s.p, '\0', s.len) == NULL;
}

static const char *copy_fingerprints(struct text *t, const struct openvpn_blob *blob)
{
    struct str rest = blob->content, line;
    size_t n = 0;

    while (rest.p && str_next(&rest, '\n', &line)) {
        line = trim(line);
        if (line.len == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        if (!is_fingerprint(line) || ++n > PARTS_MAX)
            return "is not a list of SHA-256 fingerprints";
        text_add(t, line);
        text_add(t, STR_LITERAL("\n"));
    }
    return n > 0 ? NULL : "is empty";
}

int openvpn_blob_add(struct text *t, const struct openvpn_blob *blob, bool *ret_encrypted,
                     const char **ret_why)
{
    size_t before = t->len;
    bool encrypted = false;
    const char *why;

    text_format(t, "<%.*s>\n", (int)blob->name.len, blob->name.p);
    if (str_is(blob->name, "pkcs12"))
        why = copy_pkcs12(t, blob);
    else if (str_is(blob->name, "peer-fingerprint"))
        why = copy_fingerprints(t, blob);
    else
        why = copy_pem(t, blob, &encrypted);
    if (why != NULL) {
        if (t->p) {
            explicit_bzero(t->p + before, t->len - before);
            t->len = before;
        }
        *ret_why = why;
        return -EINVAL;
    }
    text_format(t, "</%.*s>\n", (int)blob->name.len, blob->name.p);
    *ret_encrypted = encrypted;
    return 0;
}
