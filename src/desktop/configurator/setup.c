/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory_file.h"
#include "desktop/configurator/setup_private.h"

#define SECRET_MAX 512

static uint64_t realtime_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void go(struct setup *s, enum setup_step step)
{
    s->view.step = step;
    if (s->ops->changed != NULL)
        s->ops->changed(s->data, &s->view);
}

static void forget_error(struct setup *s)
{
    s->error[0] = '\0';
}

static void forget_paths(struct setup *s)
{
    for (size_t i = 0; i < s->n_paths; i++)
        free(s->paths[i]);
    free(s->paths);
    s->paths = NULL;
    s->n_paths = 0;
}

/* A call could not even be made. */
static int not_sent(struct setup *s, int error, enum setup_step step)
{
    s->view.busy = false;
    if (error == -ENOTCONN)
        setup_say(
            s, _("The VPN service does not answer."),
            _("It runs only where dom0 has switched the service qubes-vpn on for this qube."));
    else
        setup_say_refused(s, "", strerror(-error));
    go(s, step);
    return error;
}

/* ---- what a file is ---- */

static void on_described(void *data, const json_t *results, const char *error_name,
                         const char *error)
{
    struct setup *s = data;

    s->view.busy = false;
    if (error != NULL) {
        setup_say_refused(s, error_name, error);
        go(s, SETUP_FAILED);
        return;
    }
    setup_show_answer(s, json_array_get(results, 0), json_array_get(results, 1));
    go(s, SETUP_FOUND);
}

static int describe(struct setup *s)
{
    sd_bus_message *m = NULL;
    int r = vpn_follow_begin(s->follow, "DescribeWithFiles", &m);

    if (r >= 0) {
        r = offer_append(s->offer, m, NULL);
        if (r < 0)
            sd_bus_message_unref(m);
    }
    if (r >= 0)
        r = vpn_follow_send(s->follow, m, on_described, s);
    if (r < 0)
        return not_sent(s, r, SETUP_FAILED);
    s->view.busy = true;
    go(s, SETUP_LOOKING);
    return 0;
}

static bool has_name(const json_t *status, const char *name)
{
    size_t i;
    json_t *one;

    json_array_foreach(json_object_get(status, "profiles"), i, one)
    {
        const char *other = json_string_value(json_object_get(one, "name"));

        if (other != NULL && strcmp(other, name) == 0)
            return true;
    }
    return false;
}

static const char *suffix_of(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL ? dot : "";
}

/* One that is free, where the profiles are known. */
static void propose_name(struct setup *s)
{
    const json_t *status = vpn_follow_status(s->follow);
    const char *suffix = suffix_of(s->offer->name);
    int stem = (int)(strlen(s->offer->name) - strlen(suffix));

    (void)snprintf(s->name, sizeof(s->name), "%s", s->offer->name);
    for (unsigned i = 2; has_name(status, s->name) && i < 100; i++)
        (void)snprintf(s->name, sizeof(s->name), "%.*s-%u%s",
                       stem < PROFILE_NAME_MAX - 9 ? stem : PROFILE_NAME_MAX - 9, s->offer->name, i,
                       suffix);
}

static int take_offer(struct setup *s, const struct offer_source *source, bool pasted)
{
    struct offer *o = NULL;
    int r = offer_read(source, &o);

    forget_error(s);
    if (r < 0) {
        setup_say_read_error(s, r);
        go(s, SETUP_FAILED);
        return r;
    }
    (void)offer_free(s->offer);
    s->offer = o;
    s->pasted = pasted;
    propose_name(s);
    return describe(s);
}

static int add_paths(struct setup *s, const char *const *paths, size_t n)
{
    char **list = reallocarray(s->paths, s->n_paths + n, sizeof(*list));

    if (list == NULL)
        return -ENOMEM;
    s->paths = list;
    for (size_t i = 0; i < n; i++) {
        list[s->n_paths] = strdup(paths[i]);
        if (list[s->n_paths] == NULL)
            return -ENOMEM;
        s->n_paths++;
    }
    return 0;
}

/* Files without a profile among them belong to the one that lacks some. */
static bool completes(const struct setup *s, const char *const *paths, size_t n)
{
    if (s->view.step != SETUP_FOUND || s->missing.n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (offer_is_profile(paths[i]))
            return false;
    }
    return true;
}

int setup_files(struct setup *s, const char *const *paths, size_t n)
{
    bool more = completes(s, paths, n);
    struct offer_source source;
    _cleanup_(offer_freep) struct offer *before = NULL;
    int r;

    if (s->view.busy)
        return -EBUSY;
    if (n == 0)
        return -EINVAL;
    if (!more) {
        forget_paths(s);
        setup_clear_view(s);
        s->first = n == 1;
    }
    r = add_paths(s, paths, n);
    if (r < 0)
        return r;
    if (more && s->pasted) {
        before = TAKE_PTR(s->offer); /* its text is read again */
        source = (struct offer_source){.paths = (const char *const *)s->paths,
                                       .n = s->n_paths,
                                       .text = before->text,
                                       .size = before->len};
        return take_offer(s, &source, true);
    }
    source = (struct offer_source){
        .paths = (const char *const *)s->paths, .n = s->n_paths, .first = s->first};
    return take_offer(s, &source, false);
}

int setup_text(struct setup *s, const char *text, size_t size)
{
    struct offer_source source = {.text = text, .size = size};

    if (s->view.busy)
        return -EBUSY;
    forget_paths(s);
    setup_clear_view(s);
    return take_offer(s, &source, true);
}

/* ---- its name ---- */

/* folder_name_ok() of the supervisor; it judges again. */
static bool is_name(const char *name)
{
    if (name[0] == '\0' || name[0] == '.' || name[0] == ' ')
        return false;
    for (const char *p = name; *p != '\0'; p++) {
        if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9') &&
            strchr(" _.@+-", *p) == NULL)
            return false;
    }
    return true;
}

int setup_name(struct setup *s, const char *name)
{
    bool has_suffix = offer_is_profile(name);
    char full[PROFILE_NAME_MAX];
    int n, r = 0;

    if (s->view.step != SETUP_FOUND || s->view.busy)
        return -EBUSY;
    n = snprintf(full, sizeof(full), "%s%s", name, has_suffix ? "" : suffix_of(s->name));
    forget_error(s);
    if (!is_name(name) || n < 0 || (size_t)n >= sizeof(full)) {
        setup_say(s,
                  _("A name has letters without accents, digits, blanks and _ . @ + - and at most "
                    "58 of them; the first is neither a dot nor a blank."),
                  "");
        r = -EINVAL;
    } else if (has_name(vpn_follow_status(s->follow), full)) {
        setup_say(s, _("A profile of that name is there already."),
                  _("Choose another name, or delete the other profile first."));
        r = -EINVAL;
    } else {
        memcpy(s->name, full, sizeof(full));
    }
    go(s, SETUP_FOUND);
    return r;
}

/* ---- the import ---- */

static void after_import(struct setup *s)
{
    forget_error(s);
    s->offer = offer_free(s->offer); /* keys are in it, and nobody needs them any more */
    forget_paths(s);
    go(s, s->needs.n > 0 ? SETUP_SECRETS : SETUP_READY);
}

static void on_imported(void *data, const json_t *results, const char *error_name,
                        const char *error)
{
    struct setup *s = data;

    (void)results;
    s->view.busy = false;
    if (error != NULL) {
        setup_say_refused(s, error_name, error);
        go(s, SETUP_FOUND);
        return;
    }
    after_import(s);
}

int setup_import(struct setup *s)
{
    sd_bus_message *m = NULL;
    int r;

    if (s->view.step != SETUP_FOUND || s->view.busy)
        return -EBUSY;
    if (!s->view.usable)
        return -EINVAL;
    forget_error(s);
    r = vpn_follow_begin(s->follow, "ImportWithFiles", &m);
    if (r >= 0) {
        r = offer_append(s->offer, m, s->name);
        if (r < 0)
            sd_bus_message_unref(m);
    }
    if (r >= 0)
        r = vpn_follow_send(s->follow, m, on_imported, s);
    if (r < 0)
        return not_sent(s, r, SETUP_FOUND);
    s->view.busy = true;
    go(s, SETUP_IMPORTING);
    return 0;
}

/* ---- secrets ---- */

static void drop_need(struct setup *s, const char *kind)
{
    struct lines *l = &s->needs;
    size_t kept = 0;

    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->list[i], kind) == 0)
            free(l->list[i]);
        else
            l->list[kept++] = l->list[i];
    }
    while (l->n > kept)
        l->list[--l->n] = NULL;
}

static void on_secret_kept(void *data, const json_t *results, const char *error_name,
                           const char *error)
{
    struct setup *s = data;

    (void)results;
    s->view.busy = false;
    if (error != NULL) {
        setup_say_refused(s, error_name, error);
        go(s, SETUP_SECRETS);
        return;
    }
    drop_need(s, s->secret);
    go(s, s->needs.n > 0 ? SETUP_SECRETS : SETUP_READY);
}

static bool is_secret(const char *text)
{
    return text != NULL && text[0] != '\0' && strlen(text) < SECRET_MAX &&
           strchr(text, '\n') == NULL;
}

static int write_secret(const char *kind, const char *user, const char *password, int *ret_fd)
{
    bool with_user = strcmp(kind, "user-password") == 0;
    char text[2 * SECRET_MAX + 2];
    int n, r;

    if (!is_secret(password) || (with_user && !is_secret(user)))
        return -EINVAL;
    n = snprintf(text, sizeof(text), "%s%s%s", with_user ? user : "", with_user ? "\n" : "",
                 password);
    r = n < 0 || (size_t)n >= sizeof(text) ? -EINVAL
                                           : memory_file("secret", text, (size_t)n, ret_fd);
    explicit_bzero(text, sizeof(text));
    return r;
}

static void wipe(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
}

int setup_secret(struct setup *s, const char *kind, char *user, char *password)
{
    _cleanup_(closep) int fd = -1;
    bool ready = s->view.step == SETUP_SECRETS && !s->view.busy;
    int r = ready ? write_secret(kind, user, password, &fd) : -EBUSY;

    wipe(user);
    wipe(password);
    if (!ready)
        return r;
    forget_error(s);
    if (r == -EINVAL) {
        setup_say(s, _("Nothing can be empty, longer than 500 characters, or of several lines."),
                  "");
        go(s, SETUP_SECRETS);
        return r;
    }
    if (r >= 0)
        r = vpn_follow_call(s->follow, on_secret_kept, s, "SetSecret", "ssh", s->name, kind, fd);
    if (r < 0)
        return not_sent(s, r, SETUP_SECRETS);
    (void)snprintf(s->secret, sizeof(s->secret), "%s", kind);
    s->view.busy = true;
    go(s, SETUP_SECRETS);
    return 0;
}

int setup_resume(struct setup *s, const char *profile, const json_t *needs)
{
    int n;

    if (s->view.busy)
        return -EBUSY;
    s->offer = offer_free(s->offer);
    forget_paths(s);
    setup_clear_view(s);
    forget_error(s);
    n = snprintf(s->name, sizeof(s->name), "%s", profile);
    if (n < 0 || (size_t)n >= sizeof(s->name))
        return -EINVAL;
    setup_show_needs(s, needs);
    go(s, s->needs.n > 0 ? SETUP_SECRETS : SETUP_READY);
    return 0;
}

int setup_skip(struct setup *s)
{
    if (s->view.step != SETUP_SECRETS || s->view.busy)
        return -EBUSY;
    forget_error(s);
    go(s, SETUP_READY);
    return 0;
}

/* ---- the connection ---- */

static void on_used(void *data, const json_t *results, const char *error_name, const char *error)
{
    struct setup *s = data;

    (void)results;
    s->view.busy = false;
    if (error != NULL) {
        setup_say_refused(s, error_name, error);
        go(s, SETUP_READY);
        return;
    }
    setup_status(s, vpn_follow_status(s->follow));
}

/* Who chooses a profile wants it: the supervisor connects. */
int setup_connect(struct setup *s)
{
    int r;

    if (s->view.step != SETUP_READY || s->view.busy)
        return -EBUSY;
    forget_error(s);
    s->asked_us = realtime_us();
    r = vpn_follow_call(s->follow, on_used, s, "Use", "s", s->name);
    if (r < 0)
        return not_sent(s, r, SETUP_READY);
    s->view.busy = true;
    go(s, SETUP_CONNECTING);
    return 0;
}

static const char *member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

/* An error of the supervisor that is newer than the wish to connect. */
static bool say_last_error(struct setup *s, const json_t *status)
{
    char cleaned[WORDS_LONG / 2], text[WORDS_LONG];
    json_int_t at = json_integer_value(json_object_get(status, "last_error_time"));

    if (at < 0 || (uint64_t)at < s->asked_us || member(status, "last_error")[0] == '\0')
        return false;
    (void)snprintf(text, sizeof(text), _("Not connected yet: %s."),
                   words_said(member(status, "last_error"), cleaned, sizeof(cleaned)));
    setup_say(s, text, "");
    return true;
}

static const json_t *needs_of(const json_t *status, const char *name)
{
    size_t i;
    json_t *one;

    json_array_foreach(json_object_get(status, "profiles"), i, one)
    {
        if (strcmp(member(one, "name"), name) == 0)
            return json_object_get(one, "needs");
    }
    return NULL;
}

void setup_status(struct setup *s, const json_t *status)
{
    const char *state = member(status, "state");
    const json_t *missing = json_object_get(status, "missing_secrets");
    bool fresh = (uint64_t)json_integer_value(json_object_get(status, "since")) >= s->asked_us;

    if (s->view.step != SETUP_CONNECTING || s->view.busy || status == NULL ||
        strcmp(member(status, "profile"), s->name) != 0)
        return;
    if (strcmp(state, "up") == 0) {
        forget_error(s);
        go(s, SETUP_DONE);
        return;
    }
    (void)say_last_error(s, status);
    if (json_array_size(missing) > 0 && strcmp(state, "connecting") == 0) {
        setup_show_needs(s, missing);
        go(s, SETUP_SECRETS);
    } else if (strcmp(state, "failed") == 0 && fresh) {
        setup_show_needs(s, needs_of(status, s->name));
        go(s, s->needs.n > 0 ? SETUP_SECRETS : SETUP_READY);
    } else if (strcmp(state, "sealed") == 0 &&
               !json_is_true(json_object_get(status, "wanted_up"))) {
        go(s, SETUP_READY);
    } else {
        go(s, SETUP_CONNECTING);
    }
}

/* ---- the whole ---- */

void setup_back(struct setup *s)
{
    vpn_follow_forget(s->follow, s);
    s->view.busy = false;
    s->offer = offer_free(s->offer);
    forget_paths(s);
    setup_clear_view(s);
    forget_error(s);
    s->name[0] = '\0';
    go(s, SETUP_CHOOSE);
}

int setup_new(struct setup **ret, struct vpn_follow *f, const struct setup_ops *ops, void *data)
{
    struct setup *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return -ENOMEM;
    s->follow = f;
    s->ops = ops;
    s->data = data;
    s->view = (struct setup_view){
        .step = SETUP_CHOOSE,
        .kind = "",
        .name = s->name,
        .servers = (const char *const *)s->servers.list,
        .found = (const char *const *)s->found.list,
        .left_out = (const char *const *)s->left_out.list,
        .refused = (const char *const *)s->refused.list,
        .missing = (const char *const *)s->missing.list,
        .needs = (const char *const *)s->needs.list,
        .error = s->error,
    };
    *ret = s;
    return 0;
}

struct setup *setup_free(struct setup *s)
{
    if (s == NULL)
        return NULL;
    vpn_follow_forget(s->follow, s);
    (void)offer_free(s->offer);
    forget_paths(s);
    setup_clear_view(s);
    free(s);
    return NULL;
}

const struct setup_view *setup_look(const struct setup *s)
{
    return &s->view;
}
