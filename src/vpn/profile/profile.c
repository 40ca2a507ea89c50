/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/profile/profile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn.h"
#include "vpn/profile/wireguard.h"

/* A refusal is never lost for the sake of notes that came before it. */
static struct finding *findings_place(struct findings *f, enum finding_kind kind)
{
    if (f->n < PROFILE_FINDINGS_MAX)
        return &f->list[f->n++];
    f->more++;
    for (size_t i = f->n; i-- > 0 && kind == FINDING_REFUSED;) {
        if (f->list[i].kind == FINDING_REFUSED)
            continue;
        memmove(&f->list[i], &f->list[i + 1], (f->n - i - 1) * sizeof(f->list[0]));
        return &f->list[f->n - 1];
    }
    return NULL;
}

void findings_add(struct findings *f, enum finding_kind kind, unsigned line, struct str word,
                  const char *format, ...)
{
    struct finding *place = findings_place(f, kind);
    va_list args;

    if (kind == FINDING_REFUSED)
        f->refused++;
    if (!place)
        return;
    *place = (struct finding){.kind = kind, .line = line};
    str_escape(word, place->word, sizeof(place->word));
    va_start(args, format);
    if (vsnprintf(place->text, sizeof(place->text), format, args) < 0)
        place->text[0] = '\0';
    va_end(args);
    /* Callers escape what they quote; this is for the one who forgets. */
    for (char *c = place->text; *c; c++) {
        if (*c < 0x20 || *c >= 0x7f)
            *c = '?';
    }
}

/* wg-quick's file has a line "[Interface]"; OpenVPN's has no line that begins with a bracket. */
static enum profile_kind tell_kind(struct str text)
{
    static const char section[] = "[Interface]";
    struct str line;

    while (text.p && str_next(&text, '\n', &line)) {
        while (line.len > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
            line = (struct str){line.p + 1, line.len - 1};
        if (line.len >= strlen(section) && strncasecmp(line.p, section, strlen(section)) == 0)
            return PROFILE_WIREGUARD;
    }
    return PROFILE_OPENVPN;
}

int profile_read(const char *name, const char *text, size_t len, const struct profile_files *files,
                 struct findings *findings, struct profile **ret)
{
    _cleanup_(profile_freep) struct profile *p = calloc(1, sizeof(*p));
    int r;

    if (!p)
        return -ENOMEM;
    if (strlen(name) >= sizeof(p->name))
        return -ENAMETOOLONG;
    memcpy(p->name, name, strlen(name) + 1);
    if (len > PROFILE_FILE_MAX) {
        findings_add(findings, FINDING_REFUSED, 0, STR_LITERAL(""), "is larger than %d bytes",
                     PROFILE_FILE_MAX);
        return -EINVAL;
    }
    p->kind = tell_kind((struct str){text, len});
    r = p->kind == PROFILE_WIREGUARD ? wireguard_read(text, len, findings, p)
                                     : openvpn_read(text, len, files, findings, p);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(p);
    return 0;
}

struct profile *profile_free(struct profile *p)
{
    if (p) {
        openvpn_free(p->openvpn);
        wireguard_free(p->wireguard);
        explicit_bzero(p, sizeof(*p));
    }
    free(p);
    return NULL;
}

void profile_freep(struct profile **p)
{
    *p = profile_free(*p);
}
