/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * import: reads a provider file and what it refers to with the rights of whoever calls
 * (vpn/object/offer.h), shows what of it has no effect here or is refused, and hands all of it over
 * as it is.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/object/offer.h"

/* ---- what was found ---- */

static json_t *findings_to_json(const struct findings *f)
{
    static const char *const kinds[] = {
        [FINDING_REFUSED] = "refused", [FINDING_LEFT_OUT] = "left-out", [FINDING_NOTE] = "note"};
    json_t *all = json_array();

    for (size_t i = 0; i < f->n; i++)
        (void)json_array_append_new(all, json_pack("[s,i,s,s]", kinds[f->list[i].kind],
                                                   (int)f->list[i].line, f->list[i].word,
                                                   f->list[i].text));
    return all;
}

static void show_findings(const struct findings *f)
{
    json_t *all = findings_to_json(f);

    (void)say_findings(all);
    if (f->more > 0)
        printf("... and %zu more\n", f->more);
    json_decref(all);
}

static int say_json_result(const char *name, const struct findings *f, bool imported)
{
    json_t *root = json_pack("{s:b, s:s, s:o}", "imported", (int)imported, "profile", name,
                             "findings", findings_to_json(f));
    int r = root != NULL ? say_json(root, false) : -ENOMEM;

    json_decref(root);
    return r;
}

/* ---- the way of a file ---- */

struct import {
    const char *path;
    char name[PROFILE_NAME_MAX];
    struct offer *offer; /* NULL: the file could not be read */
};

static int choose_name(struct import *i, const char *wanted)
{
    char copy[PATH_MAX];
    const char *base;
    int n;

    if (wanted == NULL) {
        (void)snprintf(copy, sizeof(copy), "%s", i->path);
        base = basename(copy);
    } else {
        base = wanted;
    }
    n = snprintf(i->name, sizeof(i->name), "%s", base);
    return n < 0 || (size_t)n >= sizeof(i->name) ? -ENAMETOOLONG : 0;
}

static int send_all(struct line *l, const struct import *i)
{
    sd_bus_message *m = NULL;
    int r = line_begin(l, "ImportWithFiles", &m);

    if (r >= 0)
        r = offer_append(i->offer, m, i->name);
    if (r < 0) {
        sd_bus_message_unref(m);
        return r;
    }
    return line_send(l, m, NULL);
}

/* A file with user and password may be missing: they are asked for. */
static const struct offer_file *first_missing(const struct import *i)
{
    return i->offer != NULL && i->offer->judged < 0 && i->offer->n_missing > 0
               ? &i->offer->missing[0]
               : NULL;
}

static int refuse(const struct import *i, int r, bool json)
{
    static const struct findings none;
    const struct findings *findings = i->offer != NULL ? &i->offer->findings : &none;
    const struct offer_file *missing = first_missing(i);
    char path[512], name[160];

    (void)str_escape(str_from(i->path), path, sizeof(path));
    if (json)
        (void)say_json_result(str_escape(str_from(i->name), name, sizeof(name)), findings, false);
    else
        show_findings(findings);
    if (missing != NULL)
        say_failed(SAY_UNCHANGED, "Next: put that file beside it, as the provider packed them",
                   "cannot import %s: it refers to %s: %s", path,
                   str_escape(str_from(missing->name), name, sizeof(name)),
                   missing->error == -ELOOP || missing->error == -EXDEV
                       ? "only files of its own folder are taken, and no links"
                       : strerror(-missing->error));
    else if (findings->refused > 0)
        say_failed(SAY_UNCHANGED,
                   "Next: remove those lines, or ask the provider for a plain client profile",
                   "cannot import %s: what is refused above would run something or open a way "
                   "around the tunnel, or is not understood",
                   path);
    else
        say_failed(SAY_UNCHANGED, NULL, "cannot import %s: %s", path,
                   r == -EFBIG   ? "it is bigger than 512 KiB"
                   : r == -EINVAL ? "it is no provider file"
                                  : strerror(-r));
    return COMMAND_FAILED;
}

static int hand_over(const struct command_options *o, const struct import *i)
{
    char path[512], name[160], failed[700];
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    (void)snprintf(failed, sizeof(failed), "cannot import %s",
                   str_escape(str_from(i->path), path, sizeof(path)));
    (void)str_escape(str_from(i->name), name, sizeof(name));
    r = send_all(&l, i);
    if (r < 0) {
        r = command_refused(&l, r, failed);
    } else if (o->json) {
        r = say_json_result(name, &i->offer->findings, true) < 0 ? COMMAND_FAILED : COMMAND_OK;
    } else {
        show_findings(&i->offer->findings);
        printf("Imported as %s%s. It is kept as it is; what is left out above has no effect here.\n"
               "Next: qubes-vpn use %s; qubes-vpn up\n",
               name, i->offer->n_files > 0 ? ", with the files it refers to" : "", name);
    }
    line_close(&l);
    return r;
}

int command_import(const struct command_options *o)
{
    struct import i = {.path = o->words[0]};
    const char *const paths[] = {i.path};
    const struct offer_source source = {.paths = paths, .n = 1};
    int r = choose_name(&i, o->name);

    if (r == 0)
        r = offer_read(&source, &i.offer);
    if (r == 0)
        r = i.offer->judged;
    r = r < 0 || i.offer->findings.refused > 0 ? refuse(&i, r, o->json) : hand_over(o, &i);
    i.offer = offer_free(i.offer);
    return r;
}
