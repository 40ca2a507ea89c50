/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "desktop/configurator/setup_private.h"
#include "vpn/profile/openvpn.h"
#include "vpn/profile/wireguard.h"

/* ---- lists ---- */

void lines_clear(struct lines *l)
{
    for (size_t i = 0; l->list[i] != NULL; i++)
        free(l->list[i]);
    memset(l, 0, sizeof(*l));
}

void lines_add(struct lines *l, const char *text)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->list[i], text) == 0)
            return;
    }
    if (l->n == LINES_MAX || text[0] == '\0') {
        l->more += text[0] != '\0';
        return;
    }
    l->list[l->n] = strdup(text);
    if (l->list[l->n] != NULL)
        l->n++;
}

void lines_end(struct lines *l)
{
    char text[WORDS_SHORT];

    if (l->more == 0)
        return;
    (void)snprintf(text, sizeof(text), ngettext("and %zu more", "and %zu more", l->more), l->more);
    l->list[l->n] = strdup(text);
}

void setup_clear_view(struct setup *s)
{
    lines_clear(&s->servers);
    lines_clear(&s->found);
    lines_clear(&s->left_out);
    lines_clear(&s->refused);
    lines_clear(&s->missing);
    lines_clear(&s->needs);
    json_decref(s->endpoints);
    s->endpoints = NULL;
    s->view.endpoints = NULL;
    s->view.kind = "";
    s->view.usable = false;
}

/* ---- what is in the file ---- */

static void add_format(struct lines *l, const char *format, const char *outside)
{
    char text[WORDS_LONG], cleaned[WORDS_LONG / 2];

    words_clean(outside, cleaned, sizeof(cleaned));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* translated; msgfmt checks it */
    (void)snprintf(text, sizeof(text), format, cleaned);
#pragma GCC diagnostic pop
    lines_add(l, text);
}

static void show_openvpn(struct lines *l, const struct profile *p)
{
    unsigned contents = openvpn_contents(p);
    const char *user, *password;

    if (contents & OPENVPN_HAS_CA)
        lines_add(l, _("The provider's certificate, by which the right server is known"));
    if (contents & OPENVPN_HAS_FINGERPRINT)
        lines_add(l, _("The fingerprint by which the right server is known"));
    if (contents & OPENVPN_HAS_CERTIFICATE)
        lines_add(l, _("A certificate and a private key of yours"));
    if (contents & OPENVPN_HAS_TLS_KEY)
        lines_add(l, _("A key that protects the first words with the server"));
    if (openvpn_credentials(p, &user, &password))
        lines_add(l, password[0] != '\0' ? _("A user name and a password") : _("A user name"));
    lines_add(l, _("Name servers: the server names them when it connects"));
}

static void show_wireguard(struct lines *l, const struct wireguard_file *f)
{
    char list[WORDS_LONG / 2] = "", one[ADDR_STR_MAX];
    bool preshared = false;
    size_t used = 0;

    lines_add(l, _("Your private key, and the server's public key"));
    for (size_t i = 0; i < f->n_peers; i++)
        preshared = preshared || f->peers[i].has_preshared;
    if (preshared)
        lines_add(l, _("A key that both sides share beforehand"));
    for (size_t i = 0; i < f->n_dns && used < sizeof(list) - ADDR_STR_MAX - 2; i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                                 addr_format(&f->dns[i], one));
    if (f->n_dns > 0)
        add_format(l, _("Name servers: %s"), list);
    else
        lines_add(l, _("No name servers: the qubes behind would have no names. Add a line "
                       "\"DNS = ADDRESS\" to the file"));
}

static void show_protocols(struct lines *l, const struct profile *p)
{
    bool udp = false, tcp = false;

    for (size_t i = 0; i < p->n_endpoints; i++) {
        udp = udp || p->endpoints[i].protocol == IPPROTO_UDP;
        tcp = tcp || p->endpoints[i].protocol == IPPROTO_TCP;
    }
    if (udp && tcp)
        lines_add(l, _("It connects by UDP or TCP, in the order of the file"));
    else if (tcp)
        lines_add(l, _("It connects by TCP"));
    else if (udp)
        lines_add(l, _("It connects by UDP"));
}

static void show_files(struct lines *l, const struct offer *o)
{
    char list[WORDS_LONG / 2] = "", one[WORDS_SHORT];
    size_t used = 0;

    for (size_t i = 0; i < o->n_files && used + sizeof(one) + 3 < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                                 words_clean(o->files[i].name, one, sizeof(one)));
    if (used > 0)
        add_format(l, _("Files that it names, found: %s"), list);
}

static const char *why_missing(int error)
{
    switch (error) {
    case -ENOENT:
        return N_("%s: not there");
    case -ELOOP:
    case -EXDEV:
        return N_("%s: a link, or not in the folder of the profile; choose it yourself");
    case -EACCES:
    case -EPERM:
        return N_("%s: you may not read it");
    case -EFBIG:
        return N_("%s: larger than 512 KiB");
    case -EINVAL:
        return N_("%s: not a file");
    default:
        return N_("%s: cannot be read");
    }
}

static void show_offer(struct setup *s)
{
    const struct offer *o = s->offer;

    if (o->profile != NULL) {
        show_protocols(&s->found, o->profile);
        if (o->profile->openvpn != NULL)
            show_openvpn(&s->found, o->profile);
        if (o->profile->wireguard != NULL)
            show_wireguard(&s->found, o->profile->wireguard);
    }
    show_files(&s->found, o);
    for (size_t i = 0; i < o->n_missing; i++)
        add_format(&s->missing, gettext(why_missing(o->missing[i].error)), o->missing[i].name);
}

/* ---- what the supervisor says of it ---- */

/* Itself, or what follows of it: "ca is missing" for the file as a whole. */
static bool tells_of_missing(const json_t *finding, const char *text)
{
    static const char end[] = " is missing; it belongs beside the profile", begin[] = "is missing";
    size_t len = strlen(text);

    if (json_integer_value(json_array_get(finding, 1)) == 0)
        return strncmp(text, begin, sizeof(begin) - 1) == 0;
    return len >= sizeof(end) && strcmp(text + len - (sizeof(end) - 1), end) == 0;
}

static void show_findings(struct setup *s, const json_t *findings)
{
    size_t i;
    json_t *one;
    char text[WORDS_LONG];

    json_array_foreach((json_t *)findings, i, one)
    {
        const char *kind = json_string_value(json_array_get(one, 0)),
                   *why = json_string_value(json_array_get(one, 3));

        if (kind == NULL || why == NULL || (s->missing.n > 0 && tells_of_missing(one, why)))
            continue; /* it stands among the missing files */
        words_finding(one, text, sizeof(text));
        if (strcmp(kind, "refused") == 0)
            lines_add(&s->refused, text);
        else
            lines_add(&s->left_out, text);
    }
}

void setup_show_needs(struct setup *s, const json_t *needs)
{
    size_t i;
    json_t *one;
    char text[WORDS_SHORT];

    lines_clear(&s->needs);
    json_array_foreach((json_t *)needs, i, one)
    {
        if (json_is_string(one))
            lines_add(&s->needs, words_clean(json_string_value(one), text, sizeof(text)));
    }
}

void setup_show_answer(struct setup *s, const json_t *facts, const json_t *findings)
{
    const char *kind = json_string_value(json_object_get(facts, "kind"));
    const json_t *endpoints = json_object_get(facts, "endpoints");
    size_t i;
    json_t *one;
    char text[WORDS_SHORT * 2];

    setup_clear_view(s);
    s->view.usable = json_is_true(json_object_get(facts, "usable"));
    if (kind != NULL)
        s->view.kind = strcmp(kind, "wireguard") == 0 ? "WireGuard" : "OpenVPN";
    json_array_foreach((json_t *)endpoints, i, one)
    {
        if (json_is_string(one))
            lines_add(&s->servers, words_clean(json_string_value(one), text, sizeof(text)));
    }
    s->endpoints = json_incref((json_t *)endpoints);
    s->view.endpoints = s->endpoints;
    show_offer(s);
    show_findings(s, findings);
    setup_show_needs(s, json_object_get(facts, "needs"));
    lines_end(&s->servers);
    lines_end(&s->found);
    lines_end(&s->left_out);
    lines_end(&s->refused);
    lines_end(&s->missing);
}

/* ---- errors ---- */

void setup_say(struct setup *s, const char *what, const char *next)
{
    (void)snprintf(s->error, sizeof(s->error), "%s %s%s%s", what,
                   _("The qubes behind stay as sealed as they were."), next[0] != '\0' ? " " : "",
                   next);
}

void setup_say_read_error(struct setup *s, int error)
{
    char text[WORDS_LONG];

    switch (error) {
    case -ENOMSG:
        setup_say(s, _("None of these files is a profile."),
                  _("Its name ends in .ovpn or .conf; choose it together with its other files."));
        return;
    case -ENOTUNIQ:
        setup_say(s, _("These are several profiles."), _("Choose one of them."));
        return;
    case -EINVAL:
        setup_say(s, _("That is not a file."), _("Choose the provider's file itself."));
        return;
    case -EFBIG:
        setup_say(s, _("The file is larger than 512 KiB: no profile is."), "");
        return;
    case -ENOENT:
        setup_say(s, _("There is no such file."), "");
        return;
    case -EACCES:
    case -EPERM:
        setup_say(s, _("You may not read the file."), "");
        return;
    default:
        (void)snprintf(text, sizeof(text), _("The file cannot be read (%s)."), strerror(-error));
        setup_say(s, text, "");
        return;
    }
}

static const struct {
    const char *name, *next;
} refusals[] = {
    {"Denied", N_("Ask who may administer this qube, or use sudo qubes-vpn.")},
    {"Exists", N_("Choose another name, or delete the other profile first.")},
    {"Busy", N_("Try again in a moment.")},
    {"TimedOut", N_("Try again in a moment.")},
    {"NoSeal", N_("Look at the service: systemctl status qubes-vpn-forwarding")},
};

void setup_say_refused(struct setup *s, const char *name, const char *text)
{
    char cleaned[WORDS_LONG / 2], what[WORDS_LONG];
    const char *next = "";

    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        if (strcmp(name, refusals[i].name) == 0)
            next = gettext(refusals[i].next);
    }
    (void)snprintf(what, sizeof(what), _("The VPN service refused this: %s."),
                   words_said(text, cleaned, sizeof(cleaned)));
    setup_say(s, what, next);
}
