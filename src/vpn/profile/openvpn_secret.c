/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates, keys and credentials, from a block or from a file beside the profile. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_blob.h"
#include "vpn/profile/openvpn_private.h"

#define NAME_MAX_HERE 200

struct content { /* wiped with content_free() */
    char *owned;
    size_t owned_len;
    struct str text;
    bool from_file;
};

static void content_free(struct content *c)
{
    c->owned = text_wipe(c->owned, c->owned_len);
}

/* What may be asked of the folder: a name below it, nothing that climbs or hides. */
static bool is_file_name(struct str name)
{
    struct str rest = name, part;

    if (name.len == 0 || name.len > NAME_MAX_HERE || name.p[0] == '/' || name.p[0] == '~')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.p[i];

        if (c < 0x20 || c == 0x7f || c == '\\')
            return false;
    }
    while (str_next(&rest, '/', &part)) {
        if (part.len == 0 || str_is(part, ".."))
            return false;
    }
    return name.len < 2 || name.p[1] != ':'; /* C:... */
}

static int read_file(struct openvpn_reading *r, const struct openvpn_line *line,
                     struct content *ret)
{
    struct str name = line->arg[1];
    char path[NAME_MAX_HERE + 1], shown[100];
    int e;

    str_escape(name, shown, sizeof(shown));
    if (!is_file_name(name)) {
        openvpn_refuse(r, line, "%s: name a file beside the profile, without its folder", shown);
        return -EINVAL;
    }
    if (r->files_read > OPENVPN_FILES_MAX) {
        openvpn_refuse(r, line, "%s: the files of the profile are too large in all", shown);
        return -EFBIG;
    }
    memcpy(path, name.p, name.len);
    path[name.len] = '\0';
    e = r->files ? r->files->read(path, &ret->owned, &ret->owned_len, r->files->user) : -ENOENT;
    if (e < 0) {
        if (!str_is(line->arg[0], "auth-user-pass")) /* which can be asked for */
            openvpn_refuse(r, line, "%s %s", shown,
                           e == -ENOENT  ? "is missing; it belongs beside the profile"
                           : e == -EFBIG ? "is too large"
                                         : strerrordesc_np(-e));
        return e;
    }
    r->files_read += ret->owned_len;
    ret->text = (struct str){ret->owned, ret->owned_len};
    ret->from_file = true;
    return 0;
}

static int read_content(struct openvpn_reading *r, const struct openvpn_line *line,
                        struct content *ret)
{
    if (line->has_block) {
        ret->text = line->block;
        return 0;
    }
    return read_file(r, line, ret);
}

/* Of what OpenVPN would take the last one, one is enough: two are a mistake or a trick. */
static bool is_there_already(const struct openvpn_reading *r, struct str name)
{
    bool tls_key = name.len > 4 && memcmp(name.p, "tls-", 4) == 0;
    char tag[48];
    int n = snprintf(tag, sizeof(tag), "</%.*s>\n", (int)name.len, name.p);

    return (tls_key && r->has_tls_key) ||
           (r->kept.p && memmem(r->kept.p, r->kept.len, tag, (size_t)n) != NULL);
}

/* "tls-auth ta.key 1", "crl-verify DIR dir". */
static bool take_second(struct openvpn_reading *r, const struct openvpn_line *line)
{
    if (line->n < 3)
        return true;
    if (str_is(line->arg[0], "tls-auth") &&
        (str_is(line->arg[2], "0") || str_is(line->arg[2], "1"))) {
        text_format(&r->kept, "key-direction %c\n", line->arg[2].p[0]);
        return true;
    }
    if (str_is(line->arg[0], "crl-verify"))
        openvpn_refuse(r, line, "a folder is not supported");
    else
        openvpn_refuse(r, line, "the direction is 0 or 1");
    return false;
}

static void remember_blob(struct openvpn_reading *r, struct str name)
{
    r->has_ca = r->has_ca || str_is(name, "ca");
    r->has_cert = r->has_cert || str_is(name, "cert");
    r->has_key = r->has_key || str_is(name, "key");
    r->has_pkcs12 = r->has_pkcs12 || str_is(name, "pkcs12");
    r->has_fingerprint = r->has_fingerprint || str_is(name, "peer-fingerprint");
    r->has_tls_key = r->has_tls_key || (name.len > 4 && memcmp(name.p, "tls-", 4) == 0);
}

void openvpn_take_blob(struct openvpn_reading *r, const struct openvpn_line *line)
{
    _cleanup_(content_free) struct content content = {0};
    struct openvpn_blob blob = {.name = line->arg[0]};
    bool encrypted = false;
    const char *why;

    if (!line->has_block) {
        if (line->n < 2) {
            openvpn_refuse(r, line, "needs a file or a block");
            return;
        }
        if (str_is(line->arg[1], "[inline]"))
            return; /* older files say so; the block follows */
    }
    if (is_there_already(r, blob.name)) {
        openvpn_refuse(r, line, "is given twice, or beside another that excludes it");
        return;
    }
    if (str_is(blob.name, "peer-fingerprint") && !line->has_block)
        content.text = line->arg[1];
    else if (!take_second(r, line) || read_content(r, line, &content) < 0)
        return;
    blob.content = content.text;
    blob.from_file = content.from_file;
    if (openvpn_blob_add(&r->kept, &blob, &encrypted, &why) < 0) {
        openvpn_refuse(r, line, "%s", why);
        return;
    }
    if (encrypted)
        r->profile->needs |= NEEDS_KEY_PASSWORD;
    remember_blob(r, blob.name);
}

/* The next line as a credential; empty where there is none. */
static bool next_credential(struct str *rest, char ret[static OPENVPN_CREDENTIAL_MAX])
{
    struct str line = {"", 0};

    if (rest->p && !str_next(rest, '\n', &line))
        line = (struct str){"", 0};
    while (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;
    if (line.len >= OPENVPN_CREDENTIAL_MAX)
        return false;
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.p[i] < 0x20 || line.p[i] == 0x7f)
            return false;
    }
    memset(ret, 0, OPENVPN_CREDENTIAL_MAX);
    memcpy(ret, line.p, line.len);
    return true;
}

/*
 * What this file holds goes to the server as it is, so it must be made for nothing else: not a key,
 * not another profile, not the settings of a program. A provider writes the name of the file.
 */
static bool is_only_credentials(struct str text)
{
    struct str line;
    size_t n = 0;

    while (str_next(&text, '\n', &line)) {
        if (line.len > 0 && line.p[line.len - 1] == '\r')
            line.len--;
        if (str_trim(line).len == 0)
            continue;
        if (++n > 2 || line.p[0] == '[' || (line.len > 4 && memcmp(line.p, "-----", 5) == 0) ||
            memmem(line.p, line.len, " = ", 3) != NULL)
            return false;
    }
    return true;
}

static bool may_hold_credentials(struct str name)
{
    return name.len > 0 && name.p[0] != '.' && memchr(name.p, '/', name.len) == NULL;
}

void openvpn_take_user_password(struct openvpn_reading *r, const struct openvpn_line *line)
{
    _cleanup_(content_free) struct content content = {0};
    struct openvpn_file *f = r->file;

    f->ask_user = true;
    if (line->n > 2 || (line->n == 2 && str_is(line->arg[1], "username-only"))) {
        openvpn_refuse(r, line, "a user without password is not supported");
        return;
    }
    if (!line->has_block && (line->n < 2 || str_is(line->arg[1], "[inline]")))
        return;
    if (r->has_user_password) {
        openvpn_refuse(r, line, "user and password are given twice");
        return;
    }
    r->has_user_password = true;
    if (!line->has_block && !may_hold_credentials(line->arg[1])) {
        openvpn_refuse(r, line, "the file with user and password belongs beside the profile");
        return;
    }
    if (read_content(r, line, &content) < 0) {
        openvpn_note(r, line, "the file with user and password is not there; they are asked for");
        return;
    }
    if (content.from_file && !is_only_credentials(content.text)) {
        openvpn_refuse(r, line,
                       "the file must hold a user and a password, a line each, and nothing else");
        return;
    }
    if (!next_credential(&content.text, f->user) || !next_credential(&content.text, f->password)) {
        explicit_bzero(f->user, sizeof(f->user));
        openvpn_refuse(r, line, "holds no user and password in its first two lines");
    }
}

void openvpn_take_challenge(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct profile *p = r->profile;

    if (!str_is(line->arg[2], "0") && !str_is(line->arg[2], "1")) {
        openvpn_refuse(r, line, "whether the code is shown is 0 or 1");
        return;
    }
    if (line->n > 3 && !str_is(line->arg[3], "scrv1")) { /* 2.7: how it is sent; the default */
        openvpn_refuse(r, line, "this way of sending the code is not supported");
        return;
    }
    str_escape(line->arg[1], p->challenge, sizeof(p->challenge));
    p->challenge_echo = str_is(line->arg[2], "1");
    p->needs |= NEEDS_CHALLENGE;
    openvpn_keep(r, line);
}
