/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Noticing changes. inotify only says that something happened; what is told is a difference of
 * signatures once nothing happens any more. The folder's parent is watched, too, for a folder that
 * comes, goes or gets another owner.
 */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "vpn/daemon/folder_private.h"

#define USEC_PER_MSEC 1000u
#define SETTLE_USEC   (100 * USEC_PER_MSEC)
#define UNCLOSED_USEC (2000 * USEC_PER_MSEC)  /* a writer that keeps its file open */
#define LONGEST_USEC  (10000 * USEC_PER_MSEC) /* a writer that never pauses */
#define UNCLOSED_MAX  16

#define PARENT_EVENTS                                                                              \
    (IN_CREATE | IN_ATTRIB | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)
#define FOLDER_EVENTS                                                                              \
    (PARENT_EVENTS | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF)

struct folder_watcher {
    struct folder *folder; /* the owner */
    folder_changed_fn fn;
    void *user;
    sd_event *loop;
    sd_event_source *parent, *self, *secrets, *timer;
    const char *name;   /* of the folder in its parent; borrowed from path */
    char *secrets_path;
    bool renew;         /* the folder or "secrets" is another one: watch that */
    uint64_t first;     /* CLOCK_MONOTONIC: of the events that have not settled; 0: none */
    uint64_t unclosed[UNCLOSED_MAX]; /* hashes of names */
    size_t n_unclosed;
};

struct folder_watcher *folder_watcher_free(struct folder_watcher *w)
{
    if (w == NULL)
        return NULL;
    (void)sd_event_source_disable_unref(w->parent);
    (void)sd_event_source_disable_unref(w->self);
    (void)sd_event_source_disable_unref(w->secrets);
    (void)sd_event_source_disable_unref(w->timer);
    (void)sd_event_unref(w->loop);
    free(w->secrets_path);
    free(w);
    return NULL;
}

static void settle_later(struct folder_watcher *w)
{
    uint64_t wait = w->n_unclosed > 0 ? UNCLOSED_USEC : SETTLE_USEC;
    uint64_t now;

    if (sd_event_now(w->loop, CLOCK_MONOTONIC, &now) < 0)
        return;
    if (w->first == 0)
        w->first = now;
    if (now + wait > w->first + LONGEST_USEC)
        wait = w->first + LONGEST_USEC > now ? w->first + LONGEST_USEC - now : 0;
    (void)sd_event_source_set_time(w->timer, now + wait);
    (void)sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static void note_unclosed(struct folder_watcher *w, const struct inotify_event *e)
{
    uint64_t h = hash_bytes(HASH_START, e->name, strlen(e->name));
    size_t at = 0;

    while (at < w->n_unclosed && w->unclosed[at] != h)
        at++;
    if ((e->mask & (IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM)) != 0) {
        if (at < w->n_unclosed)
            w->unclosed[at] = w->unclosed[--w->n_unclosed];
    } else if ((e->mask & (IN_CREATE | IN_MODIFY)) != 0 && at == w->n_unclosed &&
               at < UNCLOSED_MAX) {
        w->unclosed[w->n_unclosed++] = h;
    }
}

/* Of the folder and of "secrets". */
static int on_event(sd_event_source *s, const struct inotify_event *e, void *user)
{
    struct folder_watcher *w = user;
    bool named = e->len > 0 && e->name[0] != '\0';

    (void)s;
    if (named && e->name[0] == '.')
        return 0; /* half-written by us or by an editor */
    if ((e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0 ||
        (named && strcmp(e->name, "secrets") == 0))
        w->renew = true;
    if (named && (e->mask & IN_ISDIR) == 0)
        note_unclosed(w, e);
    settle_later(w);
    return 0;
}

static int on_parent(sd_event_source *s, const struct inotify_event *e, void *user)
{
    struct folder_watcher *w = user;

    (void)s;
    if (e->len > 0 && strcmp(e->name, w->name) != 0)
        return 0;
    w->renew = true;
    settle_later(w);
    return 0;
}

/* A missing or unreadable directory is not watched: its parent's events say when that changes. */
static void watch_again(struct folder_watcher *w)
{
    w->self = sd_event_source_disable_unref(w->self);
    w->secrets = sd_event_source_disable_unref(w->secrets);
    w->renew = false;
    if (sd_event_add_inotify(w->loop, &w->self, w->folder->path, FOLDER_EVENTS, on_event, w) < 0)
        w->self = NULL;
    if (sd_event_add_inotify(w->loop, &w->secrets, w->secrets_path, FOLDER_EVENTS, on_event, w) < 0)
        w->secrets = NULL;
}

static int on_settled(sd_event_source *s, uint64_t usec, void *user)
{
    struct folder_watcher *w = user;
    uint64_t signature;

    (void)s;
    (void)usec;
    w->first = 0;
    w->n_unclosed = 0;
    if (w->renew)
        watch_again(w);
    signature = folder_signature(w->folder);
    if (signature == w->folder->signature)
        return 0;
    w->folder->signature = signature;
    w->fn(w->folder, w->user); /* may close the folder: nothing behind */
    return 0;
}

static int add_parent(struct folder_watcher *w)
{
    _cleanup_(freep) char *parent = strdup(w->folder->path);
    char *slash;

    if (parent == NULL)
        return -ENOMEM;
    slash = strrchr(parent, '/');
    if (slash == NULL)
        return sd_event_add_inotify(w->loop, &w->parent, ".", PARENT_EVENTS, on_parent, w);
    slash[slash == parent] = '\0';
    return sd_event_add_inotify(w->loop, &w->parent, parent, PARENT_EVENTS, on_parent, w);
}

int folder_watch(struct folder *f, sd_event *loop, folder_changed_fn fn, void *user)
{
    struct folder_watcher *w = calloc(1, sizeof(*w));
    const char *slash = strrchr(f->path, '/');
    int r;

    if (w == NULL)
        return -ENOMEM;
    w->folder = f;
    w->fn = fn;
    w->user = user;
    w->loop = sd_event_ref(loop);
    w->name = slash != NULL ? slash + 1 : f->path;
    if (asprintf(&w->secrets_path, "%s/secrets", f->path) < 0) {
        w->secrets_path = NULL;
        (void)folder_watcher_free(w);
        return -ENOMEM;
    }
    r = add_parent(w);
    if (r >= 0) /* accuracy 1: 0 would mean 250 ms */
        r = sd_event_add_time(loop, &w->timer, CLOCK_MONOTONIC, 0, 1, on_settled, w);
    if (r >= 0)
        r = sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
    if (r < 0) {
        (void)folder_watcher_free(w);
        return r;
    }
    watch_again(w);
    (void)folder_watcher_free(f->watcher);
    f->watcher = w;
    f->signature = folder_signature(f);
    return 0;
}
