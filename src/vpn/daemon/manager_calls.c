/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be asked of the manager: daemon/manager.h. Everything here ends in the folder or in an
 * event of the machine. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "vpn/daemon/manager_private.h"

static int refuse(const char **ret_why, int error, const char *why)
{
    *ret_why = why;
    return error;
}

static int folder_error(int error, const char **ret_why)
{
    switch (-error) {
    case ENOENT:
        return refuse(ret_why, error, "there is no such profile");
    case EEXIST:
        return refuse(ret_why, error, "a profile of that name is there already");
    case EINVAL:
        return refuse(ret_why, error, "the file or its name cannot be used");
    case ENOSPC:
        return refuse(ret_why, error, "the disk is full");
    case EROFS:
    case EACCES:
    case EPERM:
        return refuse(ret_why, error, "the folder of profiles cannot be written");
    case EFBIG:
    case E2BIG:
        return refuse(ret_why, error, "it is too big");
    default:
        return refuse(ret_why, error, "the folder of profiles gives an error");
    }
}

/* ---- up, down, use ---- */

static int keep_settings(struct manager *m, const struct folder_settings *s, const char **ret_why)
{
    int r = manager_write_settings(m, s);

    if (r < 0)
        return folder_error(r, ret_why);
    m->settings = *s;
    m->status.wanted_up = !s->down;
    manager_publish(m);
    return 0;
}

/* A try now, from wherever it is. */
static int try_now(struct manager *m, const char **ret_why)
{
    if (platform_switched_off(m->platform))
        return refuse(ret_why, -EBUSY, "the service qubes-vpn of this qube is switched off");
    if (m->broken || m->machine.state == STATE_UNCONFIGURED) /* it may be another file by now */
        manager_look_at_folder(m);
    if (m->machine.state == STATE_UNCONFIGURED)
        return refuse(ret_why, -ENOENT, "there is no profile to use: import one, or choose one");
    if (m->broken && !machine_is_open(m->machine.state))
        return refuse(ret_why, -EINVAL, "the chosen profile cannot be used, see the status");
    m->backoff_us = 1000000;
    m->tried = 0;
    m->was_up = false; /* the user looks: a refusal is one */
    manager_post(m, EVENT_START);
    return 0;
}

int manager_up(struct manager *m, const char **ret_why)
{
    struct folder_settings s = m->settings;

    *ret_why = "";
    s.down = false;
    if (m->down_unkept) { /* the file says it already, which a full disk would not let us write */
        m->settings.down = m->down_unkept = false;
        m->status.wanted_up = true;
        manager_publish(m);
    }
    if (m->settings.down) {
        int r = keep_settings(m, &s, ret_why);

        if (r < 0)
            return r;
    }
    return try_now(m, ret_why);
}

/* Sealed first, then kept: a full disk must not leave a tunnel that nobody wants. */
int manager_down(struct manager *m, const char **ret_why)
{
    struct folder_settings s = m->settings;
    int r;

    *ret_why = "";
    m->settings.down = true;
    m->status.wanted_up = false;
    if (m->machine.state != STATE_UNCONFIGURED)
        manager_post(m, EVENT_DOWN);
    if (s.down && !m->down_unkept)
        return 0;
    s.down = true;
    r = manager_write_settings(m, &s);
    m->down_unkept = r < 0;
    manager_publish(m);
    if (r == -ENOSPC)
        return refuse(ret_why, MANAGER_UNKEPT,
                      "it is blocked now, but the disk is full, so this cannot be remembered: it "
                      "connects again when the service starts again");
    return r < 0 ? refuse(ret_why, MANAGER_UNKEPT,
                          "it is blocked now, but the folder of profiles cannot be written, so this "
                          "cannot be remembered: it connects again when the service starts again")
                 : 0;
}

static const char *find(struct manager *m, const char *name, const char **ret_why)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    const char *found;

    if (findings == NULL || folder_list(m->folder, &m->list, findings) < 0) {
        *ret_why = "the folder of profiles cannot be read";
        return NULL;
    }
    found = folder_find(&m->list, name);
    if (found == NULL)
        *ret_why = "there is no such profile";
    return found;
}

/* The profile's own checks, before anything changes because of it. */
static int check(struct manager *m, const char *name, const char **ret_why)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    struct profile *p = NULL;
    int r = findings == NULL ? -ENOMEM : folder_read_profile(m->folder, name, findings, &p);

    (void)profile_free(p);
    return r < 0 ? refuse(ret_why, -EINVAL, "that profile cannot be used: see qubes-vpn list") : 0;
}

int manager_use(struct manager *m, const char *name, const char **ret_why)
{
    struct folder_settings s = m->settings;
    const char *found;
    int r;

    *ret_why = "";
    found = find(m, name, ret_why);
    if (found == NULL)
        return -ENOENT;
    r = check(m, found, ret_why);
    if (r < 0)
        return r;
    memset(s.profile, 0, sizeof(s.profile));
    memcpy(s.profile, found, strlen(found));
    s.down = false; /* who chooses one wants it */
    m->fail_over[0] = '\0';
    r = keep_settings(m, &s, ret_why);
    if (r < 0)
        return r;
    m->tried = 0;
    m->backoff_us = 1000000;
    manager_look_at_folder(m);
    return m->machine.state == STATE_SEALED || m->machine.state == STATE_FAILED
               ? try_now(m, ret_why)
               : 0;
}

/* ---- files ---- */

struct given {
    const struct manager_file *list;
    size_t n;
};

static int read_given(const char *name, char **ret, size_t *ret_len, void *user)
{
    const struct given *g = user;

    for (size_t i = 0; i < g->n; i++) {
        char *text;

        if (strcmp(g->list[i].name, name) != 0)
            continue;
        if (g->list[i].len > PROFILE_FILE_MAX)
            return -EFBIG;
        text = malloc(g->list[i].len + 1);
        if (text == NULL)
            return -ENOMEM;
        memcpy(text, g->list[i].text, g->list[i].len);
        text[g->list[i].len] = '\0';
        *ret = text;
        *ret_len = g->list[i].len;
        return 0;
    }
    return -ENOENT;
}

int manager_describe(struct manager *m, const struct manager_file *main_file,
                     const struct manager_file *others, size_t n_others, struct findings *findings,
                     struct profile **ret_profile, const char **ret_why)
{
    struct given g = {others, n_others};
    const struct profile_files files = {read_given, &g};
    int r;

    (void)m;
    *ret_why = "";
    r = profile_read(main_file->name, main_file->text, main_file->len, &files, findings,
                     ret_profile);
    return r < 0 ? refuse(ret_why, r, "the file cannot be used, see the findings") : 0;
}

int manager_describe_profile(struct manager *m, const char *name, struct findings *findings,
                             struct profile **ret_profile, const char **ret_why)
{
    const char *found;
    int r;

    *ret_why = "";
    found = find(m, name, ret_why);
    if (found == NULL)
        return -ENOENT;
    r = folder_read_profile(m->folder, found, findings, ret_profile);
    return r < 0 ? refuse(ret_why, r, "the profile cannot be used, see the findings") : 0;
}

int manager_import(struct manager *m, const struct manager_file *main_file,
                   const struct manager_file *others, size_t n_others, struct findings *findings,
                   const char **ret_why)
{
    struct given g = {others, n_others};
    const struct profile_files files = {read_given, &g};
    char name[PROFILE_NAME_MAX] = "";
    int r;

    *ret_why = "";
    r = folder_import(m->folder, str_from(main_file->name), main_file->text, main_file->len, &files,
                      false, findings, name);
    if (r == -EINVAL && findings->refused > 0)
        return refuse(ret_why, r, "the file cannot be used, see the findings");
    if (r < 0)
        return folder_error(r, ret_why);
    log_notice("Imported profile %s", name);
    manager_look_at_folder(m);
    manager_tell(m, VPN_EVENT_PROFILES, name);
    return 0;
}

int manager_rename(struct manager *m, const char *name, const char *new_name, const char **ret_why)
{
    const char *found;
    int r;

    *ret_why = "";
    found = find(m, name, ret_why);
    if (found == NULL)
        return -ENOENT;
    r = folder_rename(m->folder, found, new_name);
    if (r < 0)
        return folder_error(r, ret_why);
    manager_look_at_folder(m);
    return 0;
}

int manager_delete(struct manager *m, const char *name, const char **ret_why)
{
    const char *found;
    int r;

    *ret_why = "";
    found = find(m, name, ret_why);
    if (found == NULL)
        return -ENOENT;
    r = folder_delete(m->folder, found);
    if (r < 0)
        return folder_error(r, ret_why);
    log_notice("Deleted profile %s", name);
    manager_look_at_folder(m);
    return 0;
}

int manager_set_order(struct manager *m, const char *const *names, size_t n, bool random,
                      const char **ret_why)
{
    _cleanup_(freep) struct folder_settings *s = malloc(sizeof(*s));
    int r;

    *ret_why = "";
    if (s == NULL)
        return refuse(ret_why, -ENOMEM, "no memory");
    if (n > FOLDER_PROFILES_MAX)
        return refuse(ret_why, -EINVAL, "too many profiles");
    *s = m->settings;
    memset(s->order, 0, sizeof(s->order));
    s->n_order = n;
    s->random = random;
    for (size_t i = 0; i < n; i++) {
        const char *found = find(m, names[i], ret_why);

        if (found == NULL)
            return -ENOENT;
        for (size_t j = 0; j < i; j++)
            if (strcmp(s->order[j], found) == 0)
                return refuse(ret_why, -EINVAL, "a profile is named twice");
        memcpy(s->order[i], found, strlen(found) + 1);
    }
    r = keep_settings(m, s, ret_why);
    if (r == 0)
        manager_look_at_folder(m);
    return r;
}

/* ---- secrets ---- */

static int copy_secret(struct str value, char *ret)
{
    if (value.len == 0 || value.len >= FOLDER_SECRET_MAX ||
        memchr(value.p, '\0', value.len) != NULL || memchr(value.p, '\n', value.len) != NULL)
        return -EINVAL;
    memset(ret, 0, FOLDER_SECRET_MAX);
    memcpy(ret, value.p, value.len);
    return 0;
}

static struct str without_newline(struct str text)
{
    if (text.len > 0 && text.p[text.len - 1] == '\n')
        text.len--;
    if (text.len > 0 && text.p[text.len - 1] == '\r')
        text.len--;
    return text;
}

static int take_secret(struct manager *m, enum client_secret kind, struct str text,
                       struct folder_secrets *s)
{
    struct str first;
    int r;

    text = without_newline(text);
    switch (kind) {
    case SECRET_USER_PASSWORD:
        if (text.p == NULL || !str_next(&text, '\n', &first) || text.p == NULL)
            return -EINVAL;
        r = copy_secret(without_newline(first), s->user);
        return r < 0 ? r : copy_secret(text, s->password);
    case SECRET_KEY_PASSWORD:
        return copy_secret(text, s->key_password);
    case SECRET_CHALLENGE:
        return copy_secret(text, m->challenge);
    }
    return -EINVAL;
}

int manager_set_secret(struct manager *m, const char *name, enum client_secret kind,
                       struct str text, const char **ret_why)
{
    struct folder_secrets s = {0};
    const char *found;
    int r;

    *ret_why = "";
    found = find(m, name, ret_why);
    if (found == NULL)
        return -ENOENT;
    r = folder_read_secrets(m->folder, found, &s);
    if (r < 0)
        folder_secrets_wipe(&s); /* what cannot be used is written anew */
    r = take_secret(m, kind, text, &s);
    if (r == 0 && kind != SECRET_CHALLENGE)
        r = folder_write_secrets(m->folder, found, &s);
    folder_secrets_wipe(&s);
    if (r == -EINVAL)
        return refuse(ret_why, r, "empty, too long, or not of the right number of lines");
    if (r < 0)
        return folder_error(r, ret_why);
    if (m->profile != NULL && strcmp(found, m->profile->name) == 0)
        m->was_up = false;
    manager_look_at_folder(m); /* gives it to a client that waits, or tries again */
    return 0;
}

/* ---- test ---- */

/* The report says "sealed": true where every layer was read back whole. */
static void on_report(const char *text, void *user)
{
    struct manager *m = user;
    json_t *report = text == NULL ? NULL : json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool sealed = json_is_true(json_object_get(report, "sealed"));

    json_decref(report);
    if (m->listener.test_result != NULL)
        m->listener.test_result(sealed, text, m->listener.user);
}

int manager_test(struct manager *m, const char **ret_why)
{
    int r;

    *ret_why = "";
    r = seal_link_check(m->seal, on_report, m);
    if (r == -EBUSY)
        return refuse(ret_why, r, "a test is running");
    if (r < 0)
        return refuse(ret_why, r, "the seal's owner does not answer");
    return 0;
}

const char *vpn_event_name(enum vpn_event event)
{
    switch (event) {
    case VPN_EVENT_CONNECTING:
        return "connecting";
    case VPN_EVENT_UP:
        return "up";
    case VPN_EVENT_STALLED:
        return "stalled";
    case VPN_EVENT_DOWN:
        return "down";
    case VPN_EVENT_LOST:
        return "lost";
    case VPN_EVENT_FAILED:
        return "failed";
    case VPN_EVENT_SECRET:
        return "secret";
    case VPN_EVENT_PROFILES:
        return "profiles";
    }
    return "?";
}
