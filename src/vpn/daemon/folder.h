/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user's folder (/rw/config/qubes-vpn, mode 0700, of the supervisor's user), the one place
 * where profiles, choices and secrets are kept over restarts:
 *   NAME.conf, NAME.ovpn   profiles; the file's name with its suffix is the profile's name
 *   files/PROFILE/REF      what an imported profile refers to ('/' in REF as "%2F"); a profile that
 *                          was put here by hand has such files beside it: looked for there second
 *   settings, remembered   key=value lines; written whole
 *   secrets/PROFILE        key=value lines, mode 0600
 * Every file is opened beneath the folder without following a link, must be a regular file and is
 * read up to a bound. Files are written beside, synced and renamed: a reader sees the old or the
 * new one. Nothing is logged; what a person should know comes as findings or -errno.
 * Texts that may hold secrets are wiped before they are freed. One thread. A missing folder is an
 * empty one, and is noticed when it comes.
 */
#pragma once

#include <systemd/sd-event.h>

#include "vpn/profile/profile.h"

#define FOLDER_PROFILES_MAX   256
#define FOLDER_SECRET_MAX     512
#define FOLDER_REFERENCES_MAX 32
#define FOLDER_REMEMBERED_MAX 32

struct folder;

/* Makes the folder when it is missing and its parent lets us; -ENOENT is no error. */
int folder_open(const char *path, struct folder **ret);
struct folder *folder_close(struct folder *f);
void folder_closep(struct folder **f);

/* Owner and modes of the folder and of what must be private, as notes with what to do. */
void folder_check(struct folder *f, struct findings *findings);

/* A name that a profile may have: [A-Za-z0-9 _.@+-], no dot or blank first, .conf or .ovpn last. */
bool folder_name_ok(struct str name);

/*
 * The profiles, sorted by name. A file with the suffix that cannot be one (name, link, not regular,
 * not readable by us) is not in the list but a finding.
 */
struct folder_list {
    char names[FOLDER_PROFILES_MAX][PROFILE_NAME_MAX];
    size_t n;
    size_t more; /* beyond the maximum */
};
int folder_list(struct folder *f, struct folder_list *ret, struct findings *findings);
/* By name, or by the name without suffix when that is one profile only. NULL; borrowed from l. */
const char *folder_find(const struct folder_list *l, const char *name);

/* Reads and parses it. -ENOENT, -EINVAL: see findings, -ELOOP, -EFBIG, ... (findings say it). */
int folder_read_profile(struct folder *f, const char *name, struct findings *findings,
                        struct profile **ret);
/* malloc()ed and NUL-ended like profile_files.read; of the profile text itself. */
int folder_read_text(struct folder *f, const char *name, char **ret, size_t *ret_len);

struct folder_settings {
    char profile[PROFILE_NAME_MAX]; /* chosen; "": none */
    char order[FOLDER_PROFILES_MAX][PROFILE_NAME_MAX]; /* fail-over list */
    size_t n_order;
    bool random; /* the list is tried in random order */
    bool down;   /* wanted=down; the default is up */
};
/* No file: the defaults. A line that cannot be read is a finding and left out. */
int folder_read_settings(struct folder *f, struct folder_settings *ret, struct findings *findings);
int folder_write_settings(struct folder *f, const struct folder_settings *s);
/*
 * Which profile is used: the chosen one, else the only one, else the first of the fail-over list,
 * else qubes-vpn.conf. -ENOENT: there is none; -ENOTUNIQ: several and none chosen; -ESTALE: the
 * chosen one is gone. *ret is borrowed from l.
 */
int folder_choose(const struct folder_list *l, const struct folder_settings *s, const char **ret);

/* Last good address of an endpoint's name, for a start without a name server. */
int folder_recall(struct folder *f, const char *host, struct addr *ret); /* -ENOENT */
int folder_remember(struct folder *f, const char *host, const struct addr *a);

/* Strings; "" is not stored. Wipe it after use. */
struct folder_secrets {
    char user[FOLDER_SECRET_MAX];
    char password[FOLDER_SECRET_MAX];
    char key_password[FOLDER_SECRET_MAX];
};
/*
 * No file: all "" and 0. -EPERM: others may read or write the file; it is not used. -ESTALE: they
 * were given for another file of this name, or for other words in it: whose server would get them?
 */
int folder_read_secrets(struct folder *f, const char *profile, struct folder_secrets *ret);
int folder_write_secrets(struct folder *f, const char *profile, const struct folder_secrets *s);
void folder_secrets_wipe(struct folder_secrets *s);

/*
 * Takes a provider file in, after it was read by profile_read() without a refusal: the text as it
 * is and the files that its reader asked for. files->read() gives those (the caller reads them from
 * where the user has them); NULL: none. name may lack its suffix: ".conf" for WireGuard, ".ovpn"
 * for OpenVPN. -EINVAL: name or findings; -EEXIST: the name is taken (replace: it is overwritten).
 * The profile appears last, when all it refers to is there.
 */
int folder_import(struct folder *f, struct str name, const char *text, size_t len,
                  const struct profile_files *files, bool replace, struct findings *findings,
                  char ret_name[static PROFILE_NAME_MAX]);
/* With secrets and files; settings that name it follow. -ENOENT, -EEXIST, -EINVAL. */
int folder_rename(struct folder *f, const char *name, const char *new_name);
int folder_delete(struct folder *f, const char *name);

/*
 * Called when something that counts is another than before: the folder itself, a regular file in it
 * (also ca.crt and the like), the settings or a secret. Told by inotify, settled (100 ms without an
 * event; 2 s after a write whose writer has not closed the file), then compared by name, inode,
 * size and times: our own writing calls nobody. Read the folder after this call: what changes
 * between is noticed. The watch ends with the folder. -ENOENT: not even its parent is there.
 */
typedef void (*folder_changed_fn)(struct folder *f, void *user);
int folder_watch(struct folder *f, sd_event *loop, folder_changed_fn fn, void *user);
