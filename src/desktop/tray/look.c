/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/tray/look.h"

#include <stdio.h>
#include <string.h>


static bool is(const json_t *status, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(status, key));

    return text != NULL && strcmp(text, value) == 0;
}

/* False: a name that no profile can have. */
static bool read_profile(const json_t *from, struct look_profile *ret)
{
    const char *id = json_string_value(json_object_get(from, "name"));
    struct look_profile p = {
        .chosen = json_is_true(json_object_get(from, "chosen")),
        .usable = json_is_true(json_object_get(from, "usable")),
    };

    if (id == NULL || id[0] == '\0' || strlen(id) >= sizeof(p.id))
        return false;
    memcpy(p.id, id, strlen(id) + 1);
    (void)words_clean(id, p.name, sizeof(p.name));
    *ret = p;
    return true;
}

static void read_profiles(struct look *l, const json_t *profiles)
{
    size_t total = json_array_size(profiles);

    for (size_t i = 0; i < total; i++) {
        struct look_profile p;

        if (!read_profile(json_array_get(profiles, i), &p))
            continue;
        if (l->n < LOOK_PROFILES) {
            l->profiles[l->n++] = p;
            continue;
        }
        l->more++;
        if (p.chosen)
            l->profiles[LOOK_PROFILES - 1] = p;
    }
}

void look_at(struct look *l, const json_t *status)
{
    bool waits, profile;

    memset(l, 0, sizeof(*l));
    l->mood = words_mood(status);
    (void)words_summary(status, l->summary, sizeof(l->summary));
    (void)words_next(status, l->next, sizeof(l->next));
    if (status == NULL)
        return;
    read_profiles(l, json_object_get(status, "profiles"));
    /* "sealed" is also between two tries, where Up means: now. */
    waits = is(status, "state", "sealed") || is(status, "state", "failed");
    profile = !is(status, "profile", "");
    l->can_connect = profile && waits;
    l->can_block = profile && json_is_true(json_object_get(status, "wanted_up"));
    l->can_test = true;
}

bool look_same(const struct look *a, const struct look *b)
{
    if (a->mood != b->mood || strcmp(a->summary, b->summary) != 0 ||
        strcmp(a->next, b->next) != 0 || a->can_connect != b->can_connect ||
        a->can_block != b->can_block || a->can_test != b->can_test || a->n != b->n ||
        a->more != b->more)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct look_profile *p = &a->profiles[i], *q = &b->profiles[i];

        if (strcmp(p->id, q->id) != 0 || p->chosen != q->chosen || p->usable != q->usable)
            return false;
    }
    return true;
}

char *look_verdict(bool sealed, char *buf, size_t size)
{
    return words_clean(sealed ? _("Leak test passed: the seal is whole. Nothing can leave beside "
                                  "the tunnel.")
                              : _("Leak test FAILED: the seal is not whole. Stop the qubes behind "
                                  "and look at the details."),
                       buf, size);
}

char *look_failure(const char *error_name, const char *error, char *buf, size_t size)
{
    char text[WORDS_LONG], said[WORDS_LONG / 2];

    if (strcmp(error_name, "Denied") == 0)
        return words_clean(_("That is not allowed from here."), buf, size);
    if (strcmp(error_name, "Unkept") == 0) /* it is done */
        return words_said(error, buf, size);
    (void)words_clean(error != NULL ? error : "", said, sizeof(said));
    (void)snprintf(text, sizeof(text), _("That did not work: %s"), said);
    return words_clean(text, buf, size);
}
