/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/client.h"

#include <errno.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/client/client_private.h"
#include "vpn/client/device.h"
#include "vpn/client/runtime.h"

#define END_GRACE_MS 500 /* between SIGTERM and SIGKILL */
#define KILL_WAIT_MS 500 /* for the kernel to take a killed process away */

static const struct client_ops *ops_for(enum profile_kind kind)
{
    switch (kind) {
    case PROFILE_OPENVPN:
        return &client_openvpn_ops;
    case PROFILE_WIREGUARD:
        return &client_wireguard_ops;
    }
    return NULL;
}

bool client_emit(struct client *c, const struct client_event *e)
{
    bool freed = false, *outer = c->ret_freed;

    c->ret_freed = &freed;
    c->fn(c, e, c->user);
    if (freed) {
        if (outer != NULL)
            *outer = true;
        return false;
    }
    c->ret_freed = outer;
    return true;
}

bool client_say(struct client *c, enum client_event_kind kind, const char *format, ...)
{
    char raw[CLIENT_TEXT_MAX] = "", text[CLIENT_TEXT_MAX];
    struct client_event e = {.kind = kind, .text = text};
    va_list args;

    if (format != NULL) {
        va_start(args, format);
        (void)vsnprintf(raw, sizeof(raw), format, args);
        va_end(args);
    }
    (void)str_escape(str_from(raw), text, sizeof(text));
    return client_emit(c, &e);
}

static int client_on_later(sd_event_source *source, void *user)
{
    struct client *c = user;
    struct client_event e = {
        .kind = c->later_kind, .secret = c->later_secret, .text = c->later_text};

    (void)source;
    (void)client_emit(c, &e);
    return 0;
}

__attribute__((format(printf, 4, 0)))
static int client_post_text(struct client *c, enum client_event_kind kind,
                            enum client_secret secret, const char *format, va_list args)
{
    char raw[CLIENT_TEXT_MAX] = "";

    if (format != NULL)
        (void)vsnprintf(raw, sizeof(raw), format, args);
    (void)str_escape(str_from(raw), c->later_text, sizeof(c->later_text));
    c->later_kind = kind;
    c->later_secret = secret;
    if (c->later == NULL)
        return sd_event_add_defer(c->loop, &c->later, client_on_later, c);
    return sd_event_source_set_enabled(c->later, SD_EVENT_ONESHOT);
}

int client_post(struct client *c, enum client_event_kind kind, const char *format, ...)
{
    va_list args;
    int r;

    va_start(args, format);
    r = client_post_text(c, kind, SECRET_USER_PASSWORD, format, args);
    va_end(args);
    return r;
}

int client_post_secret(struct client *c, enum client_secret secret, const char *format, ...)
{
    va_list args;
    int r;

    va_start(args, format);
    r = client_post_text(c, CLIENT_SECRET, secret, format, args);
    va_end(args);
    return r;
}

/* Releases what client.c itself holds; process and driver are settled already. */
static struct client *client_drop(struct client *c)
{
    if (c->ret_freed != NULL)
        *c->ret_freed = true;
    (void)sd_event_source_disable_unref(c->later);
    process_forget(&c->process);
    (void)nl_free(c->nl);
    (void)sd_event_unref(c->loop);
    free(c->targets);
    free(c->folder);
    free(c->sockets);
    free(c->program);
    free(c);
    return NULL;
}

static void client_dropp(struct client **c)
{
    if (*c != NULL)
        *c = client_drop(*c);
}

/* The client's process, and what it may have left beside it. */
static void client_end_processes(struct client *c)
{
    struct process *p = &c->process;

    (void)process_signal(p, SIGTERM);
    if (!process_wait(p, END_GRACE_MS)) {
        (void)process_signal(p, SIGKILL);
        (void)process_wait(p, KILL_WAIT_MS);
    }
    process_forget(p);
    (void)process_end_all_of(c->uid); /* fails again at the next start, which then is none */
}

/* Where the program is: an absolute path as given, else the first in the usual folders. */
static int program_find(const char *name, char **ret)
{
    static const char *const folders[] = {"/usr/sbin", "/usr/bin", "/usr/local/sbin",
                                          "/usr/local/bin"};

    for (size_t i = 0; name[0] != '/' && i < ARRAY_SIZE(folders); i++) {
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s/%s", folders[i], name) < 0) {
            path = NULL;
            return -ENOMEM;
        }
        if (access(path, X_OK) == 0) {
            *ret = TAKE_PTR(path);
            return 0;
        }
    }
    *ret = name[0] == '/' ? strdup(name) : NULL;
    if (*ret == NULL)
        return name[0] == '/' ? -ENOMEM : -ENOENT;
    return 0;
}

static int client_new(sd_event *loop, const struct client_setup *setup, client_event_fn fn,
                      void *user, struct client **ret)
{
    _cleanup_(client_dropp) struct client *c = calloc(1, sizeof(*c));
    const char *program;
    int r;

    if (c == NULL)
        return -ENOMEM;
    c->process.pidfd = -1;
    c->ops = ops_for(setup->profile->kind);
    if (c->ops == NULL || setup->n_targets > PROFILE_ENDPOINTS_MAX)
        return -EINVAL;
    c->loop = sd_event_ref(loop);
    c->profile = setup->profile;
    c->uid = setup->uid;
    c->gid = setup->gid;
    c->fn = fn;
    c->user = user;
    if (setup->n_targets > 0) {
        c->targets = calloc(setup->n_targets, sizeof(*c->targets));
        if (c->targets == NULL)
            return -ENOMEM;
        memcpy(c->targets, setup->targets, setup->n_targets * sizeof(*c->targets));
        c->n_targets = setup->n_targets;
    }
    program = setup->program != NULL ? setup->program : c->ops->program;
    if (program != NULL) {
        r = program_find(program, &c->program);
        if (r < 0 && (r != -ENOENT || setup->program != NULL))
            return r; /* a default that is not there is the driver's to miss */
    }
    r = nl_open(NETLINK_ROUTE, &c->nl);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

int client_start(sd_event *loop, const struct client_setup *setup, client_event_fn fn, void *user,
                 struct client **ret)
{
    _cleanup_(client_dropp) struct client *c = NULL;
    int r = client_new(loop, setup, fn, user, &c);

    if (r < 0)
        return r;
    r = client_sweep(setup->runtime, setup->uid);
    if (r == 0)
        r = runtime_make(setup->runtime, setup->gid, &c->folder, &c->sockets);
    if (r == 0)
        r = c->ops->start(c);
    if (r < 0) {
        c->ops->release(c, true);
        client_end_processes(c);
        (void)device_remove(c->nl);
        return r;
    }
    *ret = TAKE_PTR(c);
    return 0;
}

int client_adopt(sd_event *loop, const struct client_setup *setup, client_event_fn fn, void *user,
                 struct client **ret)
{
    _cleanup_(client_dropp) struct client *c = NULL;
    int r = client_new(loop, setup, fn, user, &c);

    if (r < 0)
        return r;
    r = runtime_paths(setup->runtime, &c->folder, &c->sockets);
    if (r == 0)
        r = c->ops->adopt(c);
    if (r < 0) {
        c->ops->release(c, false);
        return r;
    }
    *ret = TAKE_PTR(c);
    return 0;
}

int client_give_secret(struct client *c, enum client_secret kind, const char *name,
                       const char *value)
{
    return c->ops->give_secret(c, kind, name, value);
}

void client_restart(struct client *c)
{
    c->ops->restart(c);
}

int client_poll(struct client *c)
{
    return c->ops->poll != NULL ? c->ops->poll(c) : -EOPNOTSUPP;
}

struct client *client_free(struct client *c)
{
    if (c == NULL)
        return NULL;
    c->ops->release(c, true);
    client_end_processes(c);
    (void)device_remove(c->nl);
    return client_drop(c);
}

struct client *client_leave(struct client *c)
{
    if (c == NULL)
        return NULL;
    c->ops->release(c, false);
    return client_drop(c);
}

int client_sweep(const char *runtime, uid_t uid)
{
    _cleanup_(nl_freep) struct nl_sock *nl = NULL;
    _cleanup_(freep) char *folder = NULL;
    _cleanup_(freep) char *sockets = NULL;
    struct process p = {.pidfd = -1};
    uint64_t digest;
    int r = runtime_paths(runtime, &folder, &sockets);

    if (r == 0)
        r = nl_open(NETLINK_ROUTE, &nl);
    if (r < 0)
        return r;
    if (runtime_recall(folder, uid, &p, &digest) == 0) {
        (void)process_signal(&p, SIGKILL);
        if (!process_wait(&p, KILL_WAIT_MS))
            r = -EBUSY; /* stuck in the kernel: its device may come back to life */
        process_forget(&p);
    }
    if (r == 0)
        r = process_end_all_of(uid);
    if (r == 0)
        r = device_remove(nl);
    return r < 0 ? r : runtime_clean(runtime);
}
