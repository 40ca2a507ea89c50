/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/configurator/guide.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "desktop/words/words.h"

#define PARTS_MAX     5
#define RULES_MAX     64
#define HOST_MAX      254
#define NAME_MAX_QUBE 31
#define DEFAULT_QUBE  "sys-vpn"

/* ---- what may stand in a command ---- */

static bool all_of(struct str s, const char *more)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!plain && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return s.len > 0;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* As qubesd takes them: [a-zA-Z][a-zA-Z0-9_-]*, at most 31. */
static bool is_qube_name(const char *name)
{
    struct str s = str_from(name != NULL ? name : "");

    return all_of(s, "_-") && s.len <= NAME_MAX_QUBE && is_letter(s.p[0]);
}

struct rule {
    char host[HOST_MAX];
    uint32_t port;
    const char *proto;
    bool is_name;
};

static bool host_ok(struct str host, struct rule *ret)
{
    struct addr addr;
    bool is_addr = addr_parse(host, &addr) == 0;

    if (host.len == 0 || host.len >= sizeof(ret->host))
        return false;
    if (!is_addr && (!all_of(host, ".-") || host.p[0] == '-' || host.p[0] == '.'))
        return false;
    memset(ret->host, 0, sizeof(ret->host));
    memcpy(ret->host, host.p, host.len);
    ret->is_name = !is_addr;
    return true;
}

static const char *last_of(struct str s, char c)
{
    return s.len > 0 ? memrchr(s.p, c, s.len) : NULL;
}

/* HOST:PORT/PROTOCOL, an IPv6 address in brackets. */
static bool read_endpoint(const char *text, struct rule *ret)
{
    struct str all = str_from(text), host, port;
    const char *slash = last_of(all, '/'), *colon;

    if (slash == NULL)
        return false;
    if (strcmp(slash + 1, "udp") == 0)
        ret->proto = "udp";
    else if (strcmp(slash + 1, "tcp") == 0)
        ret->proto = "tcp";
    else
        return false;
    all.len = (size_t)(slash - all.p);
    colon = last_of(all, ':');
    if (colon == NULL)
        return false;
    host = (struct str){all.p, (size_t)(colon - all.p)};
    port = (struct str){colon + 1, (size_t)(slash - colon - 1)};
    if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
        host = (struct str){host.p + 1, host.len - 2};
    return str_to_u32(port, 65535, &ret->port) == 0 && ret->port > 0 && host_ok(host, ret);
}

/* Each once; returns how many could not be used. */
static size_t read_rules(const struct guide_facts *f, struct rule *list, size_t *ret_n)
{
    size_t n = 0, left_out = 0;

    for (size_t i = 0; i < json_array_size(f->endpoints); i++) {
        const char *text = json_string_value(json_array_get(f->endpoints, i));
        struct rule one = {.port = 0};
        bool known = false;

        if (n == RULES_MAX || text == NULL || !read_endpoint(text, &one)) {
            left_out++;
            continue;
        }
        for (size_t k = 0; k < n && !known; k++)
            known = strcmp(list[k].host, one.host) == 0 && list[k].port == one.port &&
                    strcmp(list[k].proto, one.proto) == 0;
        if (!known)
            list[n++] = one;
    }
    *ret_n = n;
    return left_out;
}

/* ---- the page ---- */

struct page {
    struct guide *guide;
    FILE *text, *commands; /* of the part that is written */
    char *p_text, *p_commands;
    size_t len_text, len_commands;
    const char *title;
    int error;
};

static void begin(struct page *p, const char *title)
{
    p->title = title;
    p->text = open_memstream(&p->p_text, &p->len_text);
    p->commands = open_memstream(&p->p_commands, &p->len_commands);
    if (p->text == NULL || p->commands == NULL)
        p->error = -ENOMEM;
}

__attribute__((format(printf, 2, 3))) static void say(struct page *p, const char *format, ...)
{
    va_list ap;

    if (p->error < 0)
        return;
    va_start(ap, format);
    if (ftell(p->text) > 0)
        (void)fputc(' ', p->text);
    if (vfprintf(p->text, format, ap) < 0)
        p->error = -ENOMEM;
    va_end(ap);
}

__attribute__((format(printf, 2, 3))) static void run(struct page *p, const char *format, ...)
{
    va_list ap;

    if (p->error < 0)
        return;
    va_start(ap, format);
    if (vfprintf(p->commands, format, ap) < 0 || fputc('\n', p->commands) == EOF)
        p->error = -ENOMEM;
    va_end(ap);
}

static void end(struct page *p)
{
    struct guide_part *part = &p->guide->parts[p->guide->n];

    if ((p->text != NULL && fclose(p->text) != 0) ||
        (p->commands != NULL && fclose(p->commands) != 0))
        p->error = -ENOMEM;
    part->title = strdup(p->title);
    part->text = p->p_text;
    part->commands = p->p_commands;
    p->text = p->commands = NULL;
    p->p_text = p->p_commands = NULL;
    p->guide->n++;
    if (part->title == NULL || part->text == NULL || part->commands == NULL)
        p->error = -ENOMEM;
}

static void write_qube(struct page *p, const char *qube)
{
    begin(p, _("The VPN qube itself"));
    say(p,
        _("Open a terminal in dom0 and run these once. They let this qube give network to others, "
          "put it behind sys-firewall, and switch the service on."));
    say(p,
        _("What stands behind it must be another net qube; a VPN qube cannot own a network card."));
    run(p, "qvm-prefs %s provides_network True", qube);
    run(p, "qvm-prefs %s netvm sys-firewall", qube);
    run(p, "qvm-service --enable %s qubes-vpn", qube);
    end(p);
}

static void write_behind(struct page *p, const char *qube)
{
    begin(p, _("Send a qube through the VPN"));
    say(p,
        _("Put the name of the qube in the place of \"work\". Nothing is to be done in that qube; "
          "while there is no tunnel it has no network."));
    run(p, "qvm-prefs work netvm %s", qube);
    end(p);
}

static void write_fence(struct page *p, const char *qube, const struct guide_facts *f)
{
    _cleanup_(freep) struct rule *rules = calloc(RULES_MAX, sizeof(*rules));
    size_t n = 0, left_out = rules != NULL ? read_rules(f, rules, &n) : 0;
    bool names = false;
    char profile[WORDS_SHORT];

    begin(p, _("Close the VPN qube to its servers"));
    if (rules == NULL)
        p->error = -ENOMEM;
    if (n == 0) {
        say(p, _("As soon as there is a profile, the rules for its servers stand here."));
        end(p);
        return;
    }
    say(p,
        _("A second fence, kept by the net qube below and not by this one: only the servers of the "
          "profile %s can be reached, whatever happens in this qube."),
        words_clean(f->profile != NULL ? f->profile : "", profile, sizeof(profile)));
    say(p, _("Rules that you made for this qube before are replaced. Another profile needs other "
             "rules."));
    run(p, "qvm-firewall %s reset", qube);
    for (size_t i = 0; i < n; i++) {
        run(p, "qvm-firewall %s add accept dsthost=%s proto=%s dstports=%u", qube, rules[i].host,
            rules[i].proto, (unsigned)rules[i].port);
        names = names || rules[i].is_name;
    }
    if (names) {
        say(p,
            _("A server that is given by name may change its address; the net qube looks the name "
              "up only when it loads the rules. If the VPN no longer connects, run them again."));
        run(p, "qvm-firewall %s add accept specialtarget=dns", qube);
    }
    run(p, "qvm-firewall %s add drop", qube);
    run(p, "qvm-firewall %s del --rule-no 0", qube);
    run(p, "qvm-firewall %s list", qube);
    if (left_out > 0)
        say(p,
            ngettext("%zu server is not in this list.", "%zu servers are not in this list.",
                     left_out),
            left_out);
    end(p);
}

static void write_undo(struct page *p, const char *qube)
{
    begin(p, _("Take the fence away"));
    say(p, _("This qube stays sealed by itself; only the rules of the net qube below go."));
    run(p, "qvm-firewall %s reset", qube);
    end(p);
}

static void write_belt(struct page *p, const char *qube)
{
    begin(p, _("A belt that needs none of these programs"));
    say(p, _("With this the platform sets no default route in this qube. The VPN finds its way "
             "without one; nothing else does. It takes effect when the qube starts again."));
    run(p, "qvm-service --enable %s disable-default-route", qube);
    end(p);
}

int guide_new(struct guide **ret, const struct guide_facts *facts)
{
    const char *qube = is_qube_name(facts->qube) ? facts->qube : DEFAULT_QUBE;
    struct page p = {.guide = calloc(1, sizeof(*p.guide))};

    if (p.guide != NULL)
        p.guide->parts = calloc(PARTS_MAX, sizeof(*p.guide->parts));
    if (p.guide == NULL || p.guide->parts == NULL) {
        (void)guide_free(p.guide);
        return -ENOMEM;
    }
    write_qube(&p, qube);
    write_behind(&p, qube);
    write_fence(&p, qube, facts);
    write_undo(&p, qube);
    write_belt(&p, qube);
    if (p.error < 0) {
        (void)guide_free(p.guide);
        return p.error;
    }
    *ret = p.guide;
    return 0;
}

struct guide *guide_free(struct guide *g)
{
    for (size_t i = 0; g != NULL && g->parts != NULL && i < g->n; i++) {
        free(g->parts[i].title);
        free(g->parts[i].text);
        free(g->parts[i].commands);
    }
    if (g != NULL)
        free(g->parts);
    free(g);
    return NULL;
}

void guide_freep(struct guide **g)
{
    *g = guide_free(*g);
}
