/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window: what its pages share. A head with the state in words and what can be done about it is
 * seen on every page. A page is built when it is first looked at (the window is there sooner),
 * told of each change, and owned by its widget. The window owns the follower of the supervisor and
 * the setup, and lives until the application ends. Main thread only.
 *
 * Nothing here has rights: each button is a call to the supervisor, which asks polkit. Errors of a
 * call are told below the head in the supervisor's own sentence.
 */
#pragma once

#include <gtk/gtk.h>

#include "desktop/configurator/setup.h"
#include "desktop/configurator/ui.h"
#include "vpn/object/follow.h"

#define WINDOW_EVENTS 30 /* the last ones that are kept */

enum window_page { PAGE_STATE, PAGE_PROFILES, PAGE_ADD, PAGE_TEST, PAGE_GUIDE, WINDOW_PAGES };

struct window_event {
    uint64_t at_us; /* CLOCK_REALTIME */
    char text[WORDS_LONG + 64];
};

struct window {
    GtkApplication *app;
    GtkWidget *top, *stack, *nav[WINDOW_PAGES], *pages[WINDOW_PAGES];
    GtkWidget *icon, *title, *summary, *next, *connect, *block, *bar, *bar_text;
    struct vpn_follow *follow;
    struct setup *setup;
    struct window_event events[WINDOW_EVENTS]; /* the newest is 0 */
    size_t n_events;
    guint late;   /* shows the window without an answer */
    char **files; /* that wait for the first answer; NULL */
    bool known;   /* the first status came, or that there is none */
    bool chosen;  /* a page was asked for: none is chosen for the person */
};

/* The page of a name ("state", "profiles", "add", "test", "guide"), or WINDOW_PAGES. */
enum window_page window_page_of(const char *name);
/* socket: NULL for the system bus; page: WINDOW_PAGES for what fits. -errno. */
int window_new(struct window **ret, GtkApplication *app, sd_event *event, const char *socket,
               enum window_page page);
struct window *window_free(struct window *w);
void window_page(struct window *w, enum window_page page);
/* A provider's files, as soon as the supervisor answers. */
void window_files(struct window *w, const char *const *paths, size_t n);
/* Shows the window in front of others. */
void window_front(struct window *w);
/* A call without result whose error is told. types as of vpn_follow_call(). */
void window_call(struct window *w, const char *method, const char *types, ...);
/* Its end, for calls that are made otherwise; data: the window. */
void window_called(void *data, const json_t *results, const char *error_name, const char *error);
/* Tells something that went wrong, until the next call or the person closes it; cleaned here. */
void window_tell(struct window *w, const char *text);

/* Each page, with the names of its file. update: after each change of the status (NULL: nobody
 * answers); the page exists. */
GtkWidget *page_state_new(struct window *w);
void page_state_update(GtkWidget *page, const json_t *status);
void page_state_events(GtkWidget *page);
GtkWidget *page_profiles_new(struct window *w);
void page_profiles_update(GtkWidget *page, const json_t *status);
GtkWidget *page_add_new(struct window *w);
void page_add_update(GtkWidget *page, const json_t *status);
void page_add_setup(GtkWidget *page, const struct setup_view *view);
/* Files or text that were dropped on the window, or pasted. */
void page_add_dropped(GtkWidget *page, const char *const *uris, const char *text);
void page_add_paste(GtkWidget *page);
GtkWidget *page_test_new(struct window *w);
void page_test_update(GtkWidget *page, const json_t *status);
void page_test_result(GtkWidget *page, bool sealed, const char *report);
GtkWidget *page_guide_new(struct window *w);
void page_guide_update(GtkWidget *page, const json_t *status);
