/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the user's folder to the profile in use: which one, whether it is another one than before,
 * which comes next in the fail-over list.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "vpn/daemon/manager_private.h"


/* What the client will see of it: the text it is given, with every file it refers to. */
static int digest_openvpn(const struct profile *p, uint64_t *ret)
{
    static const struct openvpn_target target = {{AF_INET, {192, 0, 2, 1}}, 1, IPPROTO_UDP};
    struct openvpn_setup setup = {&target, 1, SEAL_TUNNEL, "/"};
    char *text = NULL;
    size_t len = 0;
    int r = openvpn_write(p, &setup, &text, &len);

    if (r < 0)
        return r;
    *ret = hash_bytes(HASH_START, text, len);
    for (size_t i = 0; i < p->n_endpoints; i++) {
        const struct endpoint *e = &p->endpoints[i];

        *ret = hash_bytes(*ret, e->host, strlen(e->host) + 1);
        *ret = hash_bytes(*ret, &e->port, sizeof(e->port));
        *ret = hash_bytes(*ret, &e->protocol, sizeof(e->protocol));
        *ret = hash_bytes(*ret, &e->family, sizeof(e->family));
    }
    explicit_bzero(text, len);
    free(text);
    return 0;
}

static int digest_text(struct manager *m, const char *name, uint64_t *ret)
{
    char *text = NULL;
    size_t len = 0;
    int r = folder_read_text(m->folder, name, &text, &len);

    if (r < 0)
        return r;
    *ret = hash_bytes(HASH_START, text, len);
    explicit_bzero(text, len);
    free(text);
    return 0;
}

int manager_load(struct manager *m, const char *name, struct findings *findings,
                 struct profile **ret, uint64_t *ret_digest)
{
    struct profile *p = NULL;
    int r = folder_read_profile(m->folder, name, findings, &p);

    if (r < 0)
        return r;
    r = p->kind == PROFILE_OPENVPN ? digest_openvpn(p, ret_digest)
                                   : digest_text(m, name, ret_digest);
    if (r < 0) {
        (void)profile_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

uint64_t manager_secrets_digest(struct manager *m, const char *name)
{
    struct folder_secrets s = {0};
    uint64_t h = HASH_START;

    (void)folder_read_secrets(m->folder, name, &s);
    h = hash_bytes(h, s.user, strlen(s.user) + 1);
    h = hash_bytes(h, s.password, strlen(s.password) + 1);
    h = hash_bytes(h, s.key_password, strlen(s.key_password) + 1);
    h = hash_bytes(h, m->challenge, strlen(m->challenge));
    folder_secrets_wipe(&s);
    return h;
}

/* ---- the list, for those who look ---- */

static unsigned stored_secrets(struct manager *m, const char *name)
{
    struct folder_secrets s = {0};
    unsigned has = 0;

    if (folder_read_secrets(m->folder, name, &s) == 0) {
        has |= s.user[0] && s.password[0] ? NEEDS_USER_PASSWORD : 0;
        has |= s.key_password[0] ? NEEDS_KEY_PASSWORD : 0;
    }
    folder_secrets_wipe(&s);
    return has;
}

static unsigned place_in_order(const struct manager *m, const char *name)
{
    for (size_t i = 0; i < m->settings.n_order; i++)
        if (strcmp(m->settings.order[i], name) == 0)
            return (unsigned)i + 1;
    return 0;
}

static void first_refusal(const struct findings *f, int error, char *ret, size_t size)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *one = &f->list[i];

        if (one->kind != FINDING_REFUSED)
            continue;
        if (one->line > 0)
            (void)snprintf(ret, size, "line %u, %s: %s", one->line, one->word, one->text);
        else
            (void)snprintf(ret, size, "%s%s%s", one->word, one->word[0] ? ": " : "", one->text);
        return;
    }
    (void)snprintf(ret, size, "it cannot be read (%s)", strerror(-error));
}

static void describe_one(struct manager *m, const char *name, struct vpn_profile *ret)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    struct profile *p = NULL;
    int r = findings == NULL ? -ENOMEM : folder_read_profile(m->folder, name, findings, &p);

    *ret = (struct vpn_profile){.order = place_in_order(m, name), .has = stored_secrets(m, name)};
    (void)snprintf(ret->name, sizeof(ret->name), "%s", name);
    if (r < 0) {
        if (findings != NULL)
            first_refusal(findings, r, ret->problem, sizeof(ret->problem));
        return;
    }
    ret->known = ret->usable = true;
    ret->kind = p->kind;
    ret->needs = p->needs;
    (void)profile_free(p);
}

static void fill_profiles(struct manager *m, const char *chosen)
{
    struct vpn_status *st = &m->status;

    st->n_profiles = 0;
    for (size_t i = 0; i < m->list.n && i < VPN_PROFILES_MAX; i++) {
        struct vpn_profile *p = &st->profiles[st->n_profiles++];

        describe_one(m, m->list.names[i], p);
        p->chosen = chosen != NULL && strcmp(chosen, p->name) == 0;
    }
    st->random_order = m->settings.random;
    st->wanted_up = !m->settings.down;
}

/* ---- the profile in use ---- */

static bool is_listed(const struct manager *m, const char *name)
{
    for (size_t i = 0; i < m->list.n; i++)
        if (strcmp(m->list.names[i], name) == 0)
            return true;
    return false;
}

static void no_profile(struct manager *m, int error)
{
    manager_phase(m, "%s",
                  error == -ENOENT     ? "no profile yet: qubes-vpn import FILE"
                  : error == -ESTALE   ? "the chosen profile is gone: qubes-vpn use NAME"
                  : error == -ENOTUNIQ ? "several profiles and none chosen: qubes-vpn use NAME"
                                       : strerror(-error));
    m->status.profile[0] = '\0';
    m->candidate = profile_free(m->candidate);
    m->broken = false;
    if (m->machine.state != STATE_UNCONFIGURED || !m->told_ready)
        manager_post(m, EVENT_NO_PROFILE);
}

static void report_findings(const char *name, const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *one = &f->list[i];
        int level = one->kind == FINDING_REFUSED    ? LOG_ERR
                    : one->kind == FINDING_LEFT_OUT ? LOG_NOTICE
                                                    : LOG_INFO;

        log_event(level, NULL, "%s:%u: %s: %s", name, one->line, one->word, one->text);
    }
}

static void broken_profile(struct manager *m, const char *name, const struct findings *f, int error)
{
    char why[VPN_TEXT_MAX];
    bool at_work = m->machine.state == STATE_RESOLVING || m->machine.state == STATE_CONNECTING ||
                   machine_is_open(m->machine.state);

    first_refusal(f, error, why, sizeof(why));
    report_findings(name, f);
    manager_error(m, "%s: %s", name, why);
    if (at_work) {
        log_error("Profile %s cannot be used (%s): what runs goes on", name, why);
    } else {
        m->status.profile_findings = *f;
        (void)snprintf(m->status.profile, sizeof(m->status.profile), "%s", name);
    }
    m->broken = true;
    manager_post(m, EVENT_PROFILE_BROKEN);
}

/* What was said about another profile and its server is no news of this one. */
static void forget_last(struct manager *m)
{
    struct vpn_status *st = &m->status;

    st->error[0] = '\0';
    memset(&st->server, 0, sizeof(st->server));
    memset(&st->pushed_findings, 0, sizeof(st->pushed_findings));
}

static void new_profile(struct manager *m, struct profile *p, uint64_t digest,
                        const struct findings *f)
{
    report_findings(p->name, f);
    forget_last(m);
    m->status.profile_findings = *f;
    (void)profile_free(m->candidate);
    m->candidate = p;
    m->candidate_digest = digest;
    memcpy(m->status.profile, p->name, sizeof(m->status.profile));
    m->status.kind = p->kind;
    if (manager_wants_up(m))
        manager_post(m, EVENT_PROFILE_CHANGED);
    else if (m->machine.state != STATE_SEALED)
        manager_post(m, EVENT_DOWN);
}

/* The same file as before: is there anything that gives another try a chance? */
static void same_profile(struct manager *m, const struct profile *current)
{
    uint64_t secrets = manager_secrets_digest(m, current->name);
    bool was_broken = m->broken;

    m->broken = false;
    if (m->status.missing != 0)
        manager_give_secrets(m);
    if (m->machine.state == STATE_UNCONFIGURED || was_broken ||
        (m->machine.state == STATE_FAILED && secrets != m->secrets_digest)) {
        memcpy(m->status.profile, current->name, sizeof(m->status.profile));
        manager_post(m, manager_wants_up(m) ? EVENT_START : EVENT_DOWN);
    }
}

static void look_at_profile(struct manager *m, const char *name)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    const struct profile *current = m->candidate != NULL ? m->candidate : m->profile;
    uint64_t digest = 0, known = m->candidate != NULL ? m->candidate_digest : m->digest;
    struct profile *p = NULL;
    int r = findings == NULL ? -ENOMEM : manager_load(m, name, findings, &p, &digest);

    if (r < 0) {
        if (findings != NULL)
            broken_profile(m, name, findings, r);
        return;
    }
    if (current != NULL && digest == known && strcmp(current->name, name) == 0) {
        (void)profile_free(p);
        same_profile(m, current);
        return;
    }
    m->broken = false;
    new_profile(m, p, digest, findings);
}

/*
 * A file that comes beside the one in use changes nothing, whatever its name: the one in use was
 * the only one and counts as chosen from now on.
 */
static void keep_in_use(struct manager *m, const char **chosen)
{
    const struct profile *current = m->candidate != NULL ? m->candidate : m->profile;
    const char *name = NULL;
    int r;

    if (current == NULL || m->settings.profile[0] != '\0' || m->settings.n_order > 0)
        return;
    for (size_t i = 0; i < m->list.n; i++)
        if (strcmp(m->list.names[i], current->name) == 0)
            name = m->list.names[i];
    if (name == NULL || (*chosen != NULL && strcmp(*chosen, name) == 0))
        return;
    *chosen = name;
    (void)snprintf(m->settings.profile, sizeof(m->settings.profile), "%s", name);
    r = manager_write_settings(m, &m->settings);
    log_notice("Several profiles now: %s stays in use%s. Another one: qubes-vpn use NAME", name,
               r < 0 ? ", until the next start (the choice cannot be written)" : "");
}

int manager_write_settings(struct manager *m, const struct folder_settings *s)
{
    int r = folder_write_settings(m->folder, s);

    if (r >= 0)
        m->down_unkept = false;
    return r;
}

void manager_look_at_folder(struct manager *m)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    const char *chosen = NULL;
    bool wanted = manager_wants_up(m);
    int r;

    if (findings == NULL)
        return;
    r = folder_list(m->folder, &m->list, findings);
    if (r >= 0)
        r = folder_read_settings(m->folder, &m->settings, findings);
    m->settings.down |= m->down_unkept;
    for (size_t i = 0; i < findings->n; i++)
        log_warning("%s: %s: %s", m->config.folder, findings->list[i].word, findings->list[i].text);
    if (r >= 0)
        r = folder_choose(&m->list, &m->settings, &chosen);
    if (m->list.n > 1)
        keep_in_use(m, &chosen);
    fill_profiles(m, chosen);
    if (m->fail_over[0] != '\0' && is_listed(m, m->fail_over) &&
        place_in_order(m, m->fail_over) > 0)
        chosen = m->fail_over;
    else
        m->fail_over[0] = '\0';
    manager_publish(m);
    if (wanted && !manager_wants_up(m))
        manager_post(m, EVENT_DOWN);
    if (chosen == NULL)
        no_profile(m, r);
    else
        look_at_profile(m, chosen);
    if (!wanted && manager_wants_up(m) && m->machine.state == STATE_SEALED)
        manager_post(m, EVENT_START);
}

void manager_folder_changed(struct folder *f, void *user)
{
    struct manager *m = user;

    (void)f;
    log_debug("The folder changed");
    manager_look_at_folder(m);
    manager_tell(m, VPN_EVENT_PROFILES, "the folder changed");
}

/* ---- fail-over ---- */

static const char *pick_next(const struct manager *m, const char *current)
{
    size_t n = m->settings.n_order, from = place_in_order(m, current);

    if (m->settings.random && n > 2)
        from += manager_random() % (n - 1);
    for (size_t i = 0; i < n; i++) { /* from counts from 1: it is the place behind */
        const char *name = m->settings.order[(from + i) % n];

        if (strcmp(name, current) != 0 && is_listed(m, name))
            return name;
    }
    return NULL;
}

void manager_next_profile(struct manager *m)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    char name[PROFILE_NAME_MAX];
    struct profile *p = NULL;
    uint64_t digest = 0;

    memcpy(name, m->status.profile, sizeof(name));
    if (m->settings.n_order < 2 || !manager_wants_up(m) || findings == NULL)
        return;
    for (size_t i = 0; i < m->settings.n_order; i++) { /* those that cannot be read are passed by */
        const char *next = pick_next(m, name);

        if (next == NULL)
            return;
        (void)snprintf(name, sizeof(name), "%s", next);
        memset(findings, 0, sizeof(*findings));
        if (manager_load(m, name, findings, &p, &digest) == 0)
            break;
    }
    if (p == NULL)
        return;
    m->tried++;
    memcpy(m->fail_over, name, sizeof(m->fail_over));
    (void)profile_free(m->candidate);
    m->candidate = p;
    m->candidate_digest = digest;
    m->status.profile_findings = *findings;
    memcpy(m->status.profile, name, sizeof(m->status.profile));
    log_notice("Next in the list: profile %s", name);
    if (m->tried >= m->settings.n_order) /* once round: the back-off rules, a refusal stays */
        return;
    if (m->machine.state == STATE_FAILED)
        manager_post(m, EVENT_START);
    else
        manager_arm(m->retry_timer, 1000000);
}
