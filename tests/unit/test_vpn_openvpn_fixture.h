/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of OpenVPN's files: profiles from a folder, what became of them as a text that a person
 * can check, and the laws that every text written for the client keeps.
 */
#pragma once

#include "vpn/profile/openvpn.h"

/* malloc()ed, NUL-ended. -errno. */
int fixture_read_path(const char *path, char **ret, size_t *ret_len);

/* struct profile_files.read; user is the path of the profile: files are looked for beside it. */
int fixture_read_beside(const char *name, char **ret, size_t *ret_len, void *user);

/* "LINE: WORD: refused|left out|note: TEXT" for each finding, then what the profile holds. */
void fixture_describe(const struct findings *findings, const struct profile *p, char *buf,
                      size_t size);

/*
 * NULL, or what is wrong with a text of openvpn_write(): every line is one of the directives that
 * may be there, those that shut something are there once, nothing else is.
 */
const char *fixture_broken_law(const char *text, size_t len, const struct openvpn_setup *setup);
