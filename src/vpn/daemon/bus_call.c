/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/daemon/bus_private.h"

#define CONTROL   "org.qubes_os.vpn1.control"
#define SECRET    "org.qubes_os.vpn1.secret"
#define CONFIGURE "org.qubes_os.vpn1.configure"

#define SECRET_MAX 4096
#define NAMES_MAX  VPN_PROFILES_MAX

/* Where the arguments of a method say which descriptors are to be read. */
enum files {
    FILES_NONE,
    FILES_ONE,         /* h */
    FILES_NAMED,       /* h s */
    FILES_OTHERS,      /* h a{sh} */
    FILES_NAMED_OTHERS, /* h s a{sh} */
    FILES_SECRET,      /* s s h */
};

/* Does it and answers; texts: what was read. 0, or -errno with *ret_why. */
typedef int (*method_fn)(struct bus_call *c, const struct bus_text *texts, size_t n,
                         const char **ret_why);

struct bus_method {
    const char *name, *action;
    enum files files;
    method_fn run;
};

/* ---- answers ---- */

static void call_free(struct bus_call *c)
{
    LIST_REMOVE(c, entry);
    c->slot = sd_bus_slot_unref(c->slot);
    c->reader = bus_reader_free(c->reader);
    c->message = sd_bus_message_unref(c->message);
    free(c);
}

void bus_call_refuse(struct bus_call *c, const char *error, const char *text)
{
    (void)sd_bus_reply_method_errorf(c->message, error, "%s", text);
    call_free(c);
}

static const char *error_name(int error)
{
    switch (error) {
    case -ENOENT:
        return BUS_ERROR "NotFound";
    case -EEXIST:
        return BUS_ERROR "Exists";
    case -EBUSY:
        return BUS_ERROR "Busy";
    case -EACCES:
    case -EPERM:
        return BUS_ERROR "Denied";
    case -ENOTCONN:
        return BUS_ERROR "NoSeal";
    case MANAGER_UNKEPT:
        return BUS_ERROR "Unkept";
    case -EINVAL:
    case -EBADF:
    case -E2BIG:
    case -EFBIG:
    case -EBADMSG:
    case -ENXIO:
        return BUS_ERROR "Invalid";
    case -ETIMEDOUT:
        return BUS_ERROR "TimedOut";
    default:
        return BUS_ERROR "Failed";
    }
}

static void refuse_errno(struct bus_call *c, int error, const char *why)
{
    bus_call_refuse(c, error_name(error), why != NULL ? why : strerror(-error));
}

static int answer(struct bus_call *c, int error)
{
    return error < 0 ? error : sd_bus_reply_method_return(c->message, NULL);
}

/* ---- methods ---- */

static int run_up(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    (void)t;
    (void)n;
    return answer(c, manager_up(c->bus->manager, ret_why));
}

static int run_down(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    (void)t;
    (void)n;
    return answer(c, manager_down(c->bus->manager, ret_why));
}

static int run_test(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    (void)t;
    (void)n;
    return answer(c, manager_test(c->bus->manager, ret_why));
}

static int run_use(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    const char *name;
    int r = sd_bus_message_read(c->message, "s", &name);

    (void)t;
    (void)n;
    return answer(c, r < 0 ? r : manager_use(c->bus->manager, name, ret_why));
}

static int run_delete(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    const char *name;
    int r = sd_bus_message_read(c->message, "s", &name);

    (void)t;
    (void)n;
    return answer(c, r < 0 ? r : manager_delete(c->bus->manager, name, ret_why));
}

static int run_rename(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    const char *name, *new_name;
    int r = sd_bus_message_read(c->message, "ss", &name, &new_name);

    (void)t;
    (void)n;
    return answer(c, r < 0 ? r : manager_rename(c->bus->manager, name, new_name, ret_why));
}

static int run_set_order(struct bus_call *c, const struct bus_text *t, size_t n,
                         const char **ret_why)
{
    bool random = strcmp(sd_bus_message_get_member(c->message), "SetRandomOrder") == 0;
    const char *names[NAMES_MAX], *name;
    size_t n_names = 0;
    int r = sd_bus_message_enter_container(c->message, 'a', "s");

    (void)t;
    (void)n;
    while (r >= 0 && (r = sd_bus_message_read(c->message, "s", &name)) > 0) {
        if (n_names == NAMES_MAX)
            return -E2BIG;
        names[n_names++] = name;
    }
    return answer(c,
                  r < 0 ? r : manager_set_order(c->bus->manager, names, n_names, random, ret_why));
}

static int secret_of(const char *word, enum client_secret *ret)
{
    static const char *const words[] = {
        [SECRET_USER_PASSWORD] = "user-password",
        [SECRET_KEY_PASSWORD] = "key-password",
        [SECRET_CHALLENGE] = "challenge",
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            *ret = (enum client_secret)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int run_set_secret(struct bus_call *c, const struct bus_text *t, size_t n,
                          const char **ret_why)
{
    const char *name, *word;
    enum client_secret kind;
    struct str text = {t[0].p, t[0].len};
    int r = sd_bus_message_read(c->message, "ss", &name, &word);

    (void)n;
    if (r >= 0 && (r = secret_of(word, &kind)) < 0)
        *ret_why = "There is no secret of that kind";
    if (r >= 0 && text.len > SECRET_MAX)
        r = -EFBIG;
    if (r < 0)
        return r;
    if (text.len > 0 && text.p[text.len - 1] == '\n')
        text.len--;
    return answer(c, manager_set_secret(c->bus->manager, name, kind, text, ret_why));
}

static size_t others_of(const struct bus_call *c, const struct bus_text *t, size_t n,
                        struct manager_file *others)
{
    for (size_t i = 1; i < n; i++)
        others[i - 1] = (struct manager_file){c->names[i], t[i].p, t[i].len};
    return n - 1;
}

/* The first refusal, as part of an error: who was refused has no answer that lists them. */
static const char *first_refusal(const struct findings *f, char *buf, size_t size)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *one = &f->list[i];

        if (one->kind != FINDING_REFUSED)
            continue;
        if (one->line > 0)
            (void)snprintf(buf, size, "line %u: %s: %s", one->line, one->word, one->text);
        else
            (void)snprintf(buf, size, "%s: %s", one->word, one->text);
        return buf;
    }
    return NULL;
}

static int run_import(struct bus_call *c, const struct bus_text *t, size_t n, const char **ret_why)
{
    static char refusal[320]; /* lives until the answer was written */
    struct manager_file main_file = {c->names[0], t[0].p, t[0].len}, others[BUS_FILES_MAX];
    size_t n_others = others_of(c, t, n, others);
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    sd_bus_message *m = NULL;
    int r = findings == NULL
                ? -ENOMEM
                : manager_import(c->bus->manager, &main_file, others, n_others, findings, ret_why);

    if (r == -EINVAL && first_refusal(findings, refusal, sizeof(refusal)) != NULL)
        *ret_why = refusal;
    if (r >= 0)
        r = sd_bus_message_new_method_return(c->message, &m);
    if (r >= 0)
        r = bus_object_append_findings(m, findings);
    if (r >= 0)
        r = sd_bus_send(NULL, m, NULL);
    sd_bus_message_unref(m);
    return r;
}

static int append_endpoints(sd_bus_message *m, const struct profile *p)
{
    static char texts[PROFILE_ENDPOINTS_MAX][PROFILE_HOST_MAX + 16];
    const char *list[PROFILE_ENDPOINTS_MAX];

    for (size_t i = 0; i < p->n_endpoints; i++) {
        const struct endpoint *e = &p->endpoints[i];

        (void)snprintf(texts[i], sizeof(texts[i]), strchr(e->host, ':') ? "[%s]:%u/%s" : "%s:%u/%s",
                       e->host, (unsigned)e->port, e->protocol == IPPROTO_TCP ? "tcp" : "udp");
        list[i] = texts[i];
    }
    return bus_object_append_strings(m, list, p->n_endpoints);
}

static int open_fact(sd_bus_message *m, const char *key, const char *type)
{
    int r = sd_bus_message_open_container(m, 'e', "sv");

    if (r >= 0)
        r = sd_bus_message_append(m, "s", key);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'v', type);
    return r;
}

static int close_fact(sd_bus_message *m)
{
    int r = sd_bus_message_close_container(m);

    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* p may be NULL: refused. */
static int append_facts(sd_bus_message *m, const struct profile *p, bool usable)
{
    int r = sd_bus_message_open_container(m, 'a', "{sv}");

    if (r >= 0)
        r = sd_bus_message_append(m, "{sv}", "Usable", "b", (int)usable);
    if (r >= 0 && p != NULL) {
        r = sd_bus_message_append(m, "{sv}", "Kind", "s",
                                  p->kind == PROFILE_OPENVPN ? "openvpn" : "wireguard");
        if (r >= 0)
            r = open_fact(m, "Endpoints", "as");
        if (r >= 0)
            r = append_endpoints(m, p);
        if (r >= 0)
            r = close_fact(m);
        if (r >= 0)
            r = open_fact(m, "Needs", "as");
        if (r >= 0)
            r = bus_object_append_needs(m, p->needs);
        if (r >= 0)
            r = close_fact(m);
    }
    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* r: what the check said; what is in a file is no error of the call. */
static int answer_description(struct bus_call *c, int r, const struct profile *p,
                              const struct findings *findings)
{
    sd_bus_message *m = NULL;
    bool usable = r >= 0;

    if (r < 0 && (r != -EINVAL || findings->n == 0))
        return r;
    r = sd_bus_message_new_method_return(c->message, &m);
    if (r >= 0)
        r = append_facts(m, p, usable);
    if (r >= 0)
        r = bus_object_append_findings(m, findings);
    if (r >= 0)
        r = sd_bus_send(NULL, m, NULL);
    sd_bus_message_unref(m);
    return r;
}

static int run_describe(struct bus_call *c, const struct bus_text *t, size_t n,
                        const char **ret_why)
{
    struct manager_file main_file = {"described", t[0].p, t[0].len}, others[BUS_FILES_MAX];
    size_t n_others = others_of(c, t, n, others);
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    _cleanup_(profile_freep) struct profile *profile = NULL;
    int r = findings == NULL ? -ENOMEM
                             : manager_describe(c->bus->manager, &main_file, others, n_others,
                                                findings, &profile, ret_why);

    return findings == NULL ? r : answer_description(c, r, profile, findings);
}

static int run_describe_profile(struct bus_call *c, const struct bus_text *t, size_t n,
                                const char **ret_why)
{
    _cleanup_(freep) struct findings *findings = calloc(1, sizeof(*findings));
    _cleanup_(profile_freep) struct profile *profile = NULL;
    const char *name;
    int r = findings == NULL ? -ENOMEM : sd_bus_message_read(c->message, "s", &name);

    (void)t;
    (void)n;
    if (r < 0)
        return r;
    r = manager_describe_profile(c->bus->manager, name, findings, &profile, ret_why);
    return answer_description(c, r, profile, findings);
}

static const struct bus_method methods[] = {
    {"Up", CONTROL, FILES_NONE, run_up},
    {"Down", CONTROL, FILES_NONE, run_down},
    {"Use", CONTROL, FILES_NONE, run_use},
    {"Test", CONTROL, FILES_NONE, run_test},
    {"Import", CONFIGURE, FILES_NAMED, run_import},
    {"ImportWithFiles", CONFIGURE, FILES_NAMED_OTHERS, run_import},
    {"Describe", CONTROL, FILES_ONE, run_describe},
    {"DescribeWithFiles", CONTROL, FILES_OTHERS, run_describe},
    {"DescribeProfile", CONTROL, FILES_NONE, run_describe_profile},
    {"SetSecret", SECRET, FILES_SECRET, run_set_secret},
    {"Rename", CONFIGURE, FILES_NONE, run_rename},
    {"Delete", CONFIGURE, FILES_NONE, run_delete},
    {"SetOrder", CONFIGURE, FILES_NONE, run_set_order},
    {"SetRandomOrder", CONFIGURE, FILES_NONE, run_set_order},
};

/* ---- the way of a call ---- */

static void finish(struct bus_call *c, const struct bus_text *texts, size_t n)
{
    const char *why = NULL;
    int r = sd_bus_message_rewind(c->message, true);

    if (r >= 0)
        r = c->method->run(c, texts, n, &why);
    if (r < 0)
        refuse_errno(c, r, why);
    else
        call_free(c);
}

static void on_read(int error, const struct bus_text *texts, size_t n, void *user)
{
    struct bus_call *c = user;

    switch (error) {
    case 0:
        finish(c, texts, n);
        break;
    case -EFBIG:
        refuse_errno(c, error, "A file is bigger than 512 KiB, or all together than 2 MiB");
        break;
    case -EBADF:
        refuse_errno(c, error, "A descriptor is neither a pipe nor a file of a local file system");
        break;
    case -ETIMEDOUT:
        refuse_errno(c, error, "A file did not end within 5 seconds");
        break;
    default:
        refuse_errno(c, error, NULL);
        break;
    }
}

static int take_others(struct bus_call *c, int *fds, size_t *n)
{
    int r = sd_bus_message_enter_container(c->message, 'a', "{sh}");

    while (r > 0 && (r = sd_bus_message_enter_container(c->message, 'e', "sh")) > 0) {
        if (*n == BUS_FILES_MAX)
            return -E2BIG;
        r = sd_bus_message_read(c->message, "sh", &c->names[*n], &fds[*n]);
        (*n)++;
        if (r >= 0)
            r = sd_bus_message_exit_container(c->message);
    }
    return r < 0 ? r : sd_bus_message_exit_container(c->message);
}

/* Which descriptors the message has; they stay its. */
static int take_files(struct bus_call *c, int *fds, size_t *ret_n)
{
    size_t n = 1;
    int r = 0;

    switch (c->method->files) {
    case FILES_NONE:
        *ret_n = 0;
        return 0;
    case FILES_ONE:
        r = sd_bus_message_read(c->message, "h", &fds[0]);
        break;
    case FILES_NAMED:
        r = sd_bus_message_read(c->message, "hs", &fds[0], &c->names[0]);
        break;
    case FILES_OTHERS:
        r = sd_bus_message_read(c->message, "h", &fds[0]);
        if (r >= 0)
            r = take_others(c, fds, &n);
        break;
    case FILES_NAMED_OTHERS:
        r = sd_bus_message_read(c->message, "hs", &fds[0], &c->names[0]);
        if (r >= 0)
            r = take_others(c, fds, &n);
        break;
    case FILES_SECRET:
        r = sd_bus_message_skip(c->message, "ss");
        if (r >= 0)
            r = sd_bus_message_read(c->message, "h", &fds[0]);
        break;
    }
    if (r < 0)
        return r;
    *ret_n = n;
    return 0;
}

void bus_call_permitted(struct bus_call *c)
{
    int fds[BUS_FILES_MAX];
    size_t n;
    int r = take_files(c, fds, &n);

    if (r >= 0 && n == 0) {
        finish(c, NULL, 0);
        return;
    }
    if (r >= 0)
        r = bus_reader_new(c->bus->loop, fds, n, on_read, c, &c->reader);
    if (r < 0)
        refuse_errno(c, r, NULL);
}

static const struct bus_method *method_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    }
    return NULL;
}

static bool is_of_same(const struct bus_call *c, sd_bus_message *m)
{
    const char *sender = sd_bus_message_get_sender(m),
               *other = sd_bus_message_get_sender(c->message);

    return sd_bus_message_get_bus(c->message) == sd_bus_message_get_bus(m) &&
           (sender == NULL || other == NULL || strcmp(sender, other) == 0);
}

/*
 * Everybody together and each sender alone have only so many calls at work. Who fills the room with
 * questions to a person must not keep root out, who is never among them: the oldest makes way.
 */
static bool has_room(struct bus *b, sd_bus_message *m)
{
    struct bus_call *c, *oldest = NULL;
    size_t all = 0, own = 0;

    LIST_FOREACH(c, &b->calls, entry) { /* the newest first */
        all++;
        own += is_of_same(c, m);
        if (c->with_polkit)
            oldest = c;
    }
    if (own >= BUS_CALLS_OF_ONE)
        return false;
    if (all < BUS_CALLS_MAX)
        return true;
    if (oldest == NULL)
        return false;
    bus_call_refuse(oldest, BUS_ERROR "Busy", "Too many calls wait for somebody's password");
    return true;
}

int bus_call_begin(sd_bus_message *m, void *user, sd_bus_error *error)
{
    struct bus *b = user;
    const struct bus_method *method = method_of(sd_bus_message_get_member(m));
    struct bus_call *c;
    int r;

    if (method == NULL)
        return 0;
    if (!has_room(b, m))
        return sd_bus_error_setf(error, BUS_ERROR "Busy", "%s", "Too many calls are at work");
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->bus = b;
    c->method = method;
    c->message = sd_bus_message_ref(m);
    LIST_INSERT_HEAD(&b->calls, c, entry);
    r = bus_access_ask(c, method->action);
    if (r < 0)
        refuse_errno(c, r, NULL);
    else if (r > 0)
        bus_call_permitted(c);
    return 1;
}

void bus_call_end_all(struct bus *b, const sd_bus *connection)
{
    struct bus_call *c = LIST_FIRST(&b->calls);

    while (c != NULL) {
        struct bus_call *next = LIST_NEXT(c, entry);

        if (connection == NULL || sd_bus_message_get_bus(c->message) == connection)
            call_free(c);
        c = next;
    }
}
