/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A provider's file and what it refers to, read with the rights of whoever runs this, on its way to
 * the supervisor. Files that the profile names are taken from those that the person gave, by the
 * last part of their names, else from the profile's own folder, without following a link out of it
 * or into it. Everything is judged here once (vpn/profile) to learn what is needed; the supervisor
 * judges again. Texts hold keys: they are wiped, and the descriptors are sealed memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

#include "vpn/profile/profile.h"

#define OFFER_FILES_MAX 32
#define OFFER_NAME_MAX  256

struct offer_file {
    char name[OFFER_NAME_MAX]; /* as the profile writes it, not cleaned */
    int fd;                    /* sealed; -1 where it is missing */
    int error;                 /* why it is missing: -ENOENT, -ELOOP, -EXDEV, -EFBIG ... */
};

struct offer {
    char name[PROFILE_NAME_MAX]; /* proposed: valid, with the suffix of its kind when that is known
                                  */
    char *text;
    size_t len;
    struct findings findings;
    int judged;              /* what profile_read() said */
    struct profile *profile; /* NULL unless judged is 0 */
    struct offer_file files[OFFER_FILES_MAX], missing[OFFER_FILES_MAX];
    size_t n_files, n_missing;
};

struct offer_source {
    const char *const *paths; /* the profile, unless there is text, and files it names; any order */
    size_t n;
    const char *text; /* pasted; NULL */
    size_t size;
    bool first; /* the first path is the profile, whatever it is called */
};

/*
 * 0 says that the profile was read, not that it is good. -ENOMSG: none of several files is called
 * like a profile (.ovpn, .conf); -ENOTUNIQ: more than one is; -EINVAL: no regular file; -EFBIG;
 * errno of open().
 */
int offer_read(const struct offer_source *s, struct offer **ret);
struct offer *offer_free(struct offer *o);
void offer_freep(struct offer **o);

/* Whether a path is called like a profile. */
bool offer_is_profile(const char *path);
/* The profile's descriptor "h", name "s" unless it is NULL, and "a{sh}". */
int offer_append(const struct offer *o, sd_bus_message *m, const char *name);
