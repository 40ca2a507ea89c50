/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/openvpn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_private.h"

#define DIRECTIVES_MAX 4096
#define DIRECTIVE_MAX  32
#define REFUSALS_MAX   32 /* each may have cost the reading of a file */

static void openvpn_freep(struct openvpn_file **f)
{
    *f = openvpn_free(*f);
}

/* As directives are written, or a tag. What else stands first in a line may be a piece of a key. */
static bool may_be_directive(struct str word)
{
    if (word.len > 0 && word.p[0] == '<')
        return word.len <= DIRECTIVE_MAX;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return word.len <= DIRECTIVE_MAX;
}

/*
 * Unknown: refused, unless the file says itself that one may do without it. Findings are for
 * everybody in the qube.
 */
static void take_unknown(struct openvpn_reading *r, const struct openvpn_line *unknown, bool optional)
{
    bool ignore = optional || r->forward_compatible;
    struct openvpn_line shown = *unknown, *line = &shown;

    for (size_t i = 0; i < r->n_ignored && !ignore; i++)
        ignore = str_is(line->arg[0], r->ignored[i]);
    if (!may_be_directive(line->arg[0]))
        line->arg[0] = STR_LITERAL("");
    if (ignore)
        openvpn_leave_out(r, line, "is not known, and the profile says it may be ignored");
    else
        openvpn_refuse(r, line, "is not a directive of OpenVPN 2.6 or 2.7");
}

static bool may_be_block(enum openvpn_take take)
{
    return take == TAKE_BLOB || take == TAKE_CONNECTION || take == TAKE_USER_PASSWORD;
}

static void take_line(struct openvpn_reading *r, const struct openvpn_line *line, bool optional)
{
    const struct openvpn_directive *d = openvpn_directive_find(line->arg[0]);

    if (d == NULL) {
        take_unknown(r, line, optional);
        return;
    }
    switch (d->verdict) {
    case OPENVPN_OURS:
        break;
    case OPENVPN_LEFT_OUT:
        openvpn_leave_out(r, line, "%s", d->why);
        break;
    case OPENVPN_REFUSED:
        openvpn_refuse(r, line, "%s", d->why);
        break;
    case OPENVPN_TAKE:
        if (line->has_block && !may_be_block(d->take))
            openvpn_refuse(r, line, "cannot be written as a block");
        else if (!line->has_block && (line->n - 1 < d->min || line->n - 1 > d->max))
            openvpn_refuse(r, line, "has %s words behind it",
                           line->n - 1 < d->min ? "too few" : "too many");
        else
            openvpn_take_line(r, d, line);
        break;
    }
}

/* "setenv opt DIRECTIVE ...": the rest is a directive that older versions may ignore. */
static void take_whole_line(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct openvpn_line rest = {.number = line->number};

    if (line->n < 2 || !str_is(line->arg[0], "setenv") || !str_is(line->arg[1], "opt")) {
        take_line(r, line, false);
        return;
    }
    for (size_t i = 2; i < line->n; i++)
        rest.arg[rest.n++] = line->arg[i]; /* still in line->store */
    if (rest.n > 0)
        take_line(r, &rest, true);
}

static void refuse_file(struct openvpn_reading *r, const char *word, const char *text)
{
    findings_add(r->findings, FINDING_REFUSED, 0, str_from(word), "%s", text);
}

static bool is_hopeless(const struct openvpn_reading *r)
{
    return r->findings->refused - r->refused_before >= REFUSALS_MAX;
}

/* What must be there together, or must not. */
static void check_whole(struct openvpn_reading *r)
{
    const struct openvpn_file *f = r->file;

    if (!r->pull)
        refuse_file(r, "client", "is missing: the server has to tell the address of the tunnel");
    if (r->dev_other && !r->dev_type)
        refuse_file(r, "dev", "the name tells no kind of device, and dev-type is missing");
    if (!r->has_ca && !r->has_fingerprint && !r->has_pkcs12)
        refuse_file(r, "ca", "is missing: nothing says which server is the right one");
    if (r->has_pkcs12 && (r->has_cert || r->has_key))
        refuse_file(r, "pkcs12", "holds certificate and key already; leave cert and key out");
    else if (r->has_cert != r->has_key)
        refuse_file(r, r->has_cert ? "key" : "cert", "is missing");
    else if (!r->has_cert && !r->has_pkcs12 && !f->ask_user)
        refuse_file(r, "cert", "is missing, and auth-user-pass as well");
    if (!r->has_check && !r->has_fingerprint)
        findings_add(r->findings, FINDING_NOTE, 0, STR_LITERAL("remote-cert-tls"),
                     "is missing: whoever has a certificate of the same provider could pose as "
                     "the server");
}

static unsigned contents_of(const struct openvpn_reading *r)
{
    return (r->has_ca || r->has_pkcs12 ? OPENVPN_HAS_CA : 0U) |
           (r->has_fingerprint ? OPENVPN_HAS_FINGERPRINT : 0U) |
           (r->has_cert || r->has_pkcs12 ? OPENVPN_HAS_CERTIFICATE : 0U) |
           (r->has_tls_key ? OPENVPN_HAS_TLS_KEY : 0U);
}

static void settle(struct openvpn_reading *r)
{
    struct openvpn_file *f = r->file;
    struct profile *p = r->profile;
    int e;

    check_whole(r);
    f->contents = contents_of(r);
    openvpn_settle_ciphers(r);
    openvpn_settle_endpoints(r);
    if (f->ask_user && (f->user[0] == '\0' || f->password[0] == '\0'))
        p->needs |= NEEDS_USER_PASSWORD;
    if (!f->ask_user)
        p->needs &= ~(unsigned)NEEDS_CHALLENGE;
    e = text_end(&r->kept, &f->kept, &f->kept_len);
    if (e < 0)
        refuse_file(r, "", e == -E2BIG ? "the profile with its keys is too large" : "no memory");
}

int openvpn_read(const char *text, size_t len, const struct profile_files *files,
                 struct findings *findings, struct profile *p)
{
    _cleanup_(openvpn_freep) struct openvpn_file *file = calloc(1, sizeof(*file));
    struct openvpn_reading r = {
        .profile = p, .file = file, .findings = findings, .files = files,
        .refused_before = findings->refused};
    struct openvpn_lines lines = openvpn_lines_from((struct str){text, len}, 1);
    struct openvpn_line line;
    size_t n = 0;
    const char *why;
    int got;

    if (!file)
        return -ENOMEM;
    if (len > 0 && memchr(text, '\0', len)) {
        refuse_file(&r, "", "has NUL bytes in it: this is not a text");
        return -EINVAL;
    }
    while ((got = openvpn_lines_next(&lines, &line, &why)) != 0) {
        if (got < 0) {
            findings_add(findings, FINDING_REFUSED, line.number,
                         line.n > 0 ? line.arg[0] : STR_LITERAL(""), "%s", why);
        } else if (++n > DIRECTIVES_MAX) {
            refuse_file(&r, "", "has too many lines");
            break;
        } else {
            take_whole_line(&r, &line);
        }
        if (is_hopeless(&r)) {
            refuse_file(&r, "", "too much is wrong with it; the rest was not read");
            break;
        }
    }
    explicit_bzero(&line, sizeof(line));
    if (is_hopeless(&r)) {
        text_free(&r.kept); /* what is missing from half a file says nothing */
        return -EINVAL;
    }
    settle(&r);
    if (findings->refused > r.refused_before)
        return -EINVAL;
    p->openvpn = TAKE_PTR(file);
    return 0;
}

unsigned openvpn_contents(const struct profile *p)
{
    return p->openvpn != NULL ? p->openvpn->contents : 0;
}

struct openvpn_file *openvpn_free(struct openvpn_file *f)
{
    if (f) {
        text_wipe(f->kept, f->kept_len);
        explicit_bzero(f, sizeof(*f));
    }
    free(f);
    return NULL;
}

bool openvpn_credentials(const struct profile *p, const char **ret_user, const char **ret_password)
{
    const struct openvpn_file *f = p->openvpn;

    if (!f || f->user[0] == '\0')
        return false;
    *ret_user = f->user;
    *ret_password = f->password;
    return true;
}
