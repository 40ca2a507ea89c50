/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_vpn_openvpn_fixture.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_lines.h"

static void fclosep(FILE **f)
{
    if (*f)
        fclose(*f);
}

int fixture_read_path(const char *path, char **ret, size_t *ret_len)
{
    _cleanup_(fclosep) FILE *f = fopen(path, "re");
    _cleanup_(freep) char *text = malloc(PROFILE_FILE_MAX + 2);
    size_t n;

    if (!f)
        return -errno;
    if (!text)
        return -ENOMEM;
    n = fread(text, 1, PROFILE_FILE_MAX + 1, f);
    text[n] = '\0';
    *ret = TAKE_PTR(text);
    *ret_len = n;
    return 0;
}

int fixture_read_beside(const char *name, char **ret, size_t *ret_len, void *user)
{
    const char *profile = user, *slash = strrchr(profile, '/');
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - profile + 1) : 0, profile,
                 name) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    return fixture_read_path(path, ret, ret_len);
}

struct out {
    char *p;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct out *o, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(o->p, o->left, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < o->left) {
        o->p += n;
        o->left -= (size_t)n;
    }
}

void fixture_describe(const struct findings *findings, const struct profile *p, char *buf,
                      size_t size)
{
    static const char *const kinds[] = {"refused", "left out", "note"};
    const char *user, *password;
    struct out o = {buf, size};

    buf[0] = '\0';
    for (size_t i = 0; i < findings->n; i++) {
        const struct finding *f = &findings->list[i];

        say(&o, "%u: %s: %s: %s\n", f->line, f->word, kinds[f->kind], f->text);
    }
    if (!p)
        return;
    for (size_t i = 0; i < p->n_endpoints; i++) {
        const struct endpoint *e = &p->endpoints[i];

        say(&o, "server %s %u %s%s\n", e->host, e->port, e->protocol == IPPROTO_TCP ? "tcp" : "udp",
            e->family == AF_INET ? "4" : e->family == AF_INET6 ? "6" : "");
    }
    say(&o, "%s%s%s", p->random ? "in random order\n" : "",
        p->needs & NEEDS_USER_PASSWORD ? "needs user and password\n" : "",
        p->needs & NEEDS_KEY_PASSWORD ? "needs the key's password\n" : "");
    if (p->needs & NEEDS_CHALLENGE)
        say(&o, "needs an answer to: %s (%s)\n", p->challenge,
            p->challenge_echo ? "shown" : "hidden");
    if (openvpn_credentials(p, &user, &password))
        say(&o, "user %s, password of %zu\n", user, strlen(password));
}

/* What may be in a text, apart from the reader's own table. */
static const char *const ours_once[] = {
    "client",          "dev",           "dev-type",         "disable-dco",
    "script-security", "route-noexec",  "ifconfig-noexec",  "persist-tun",
    "dns-updown",      "ignore-unknown-option",
    "management",      "management-hold", "management-query-passwords", "management-up-down",
    "auth-nocache",    "auth-retry",    "connect-retry",    "connect-retry-max",
    "resolv-retry",    "verb",          "data-ciphers",     "allow-compression",
    "ping",            "ping-restart",  "server-poll-timeout", "allow-recursive-routing",
};
static const char *const allowed[] = {
    "nobind", "bind", "lport", "topology", "remote-cert-tls", "ns-cert-type", "remote-cert-ku",
    "remote-cert-eku", "verify-x509-name", "verify-hash", "auth-user-pass", "static-challenge",
    "data-ciphers-fallback", "auth", "tls-cipher", "tls-ciphersuites", "tls-groups", "ecdh-curve",
    "tls-cert-profile", "tls-version-min", "tls-version-max", "tls-timeout", "reneg-sec",
    "reneg-bytes", "reneg-pkts", "hand-window", "tran-window", "replay-window", "comp-lzo",
    "compress", "tun-mtu", "mssfix", "dhcp-option", "key-direction", "pull-filter",
};
static const char *const blocks[] = {
    "ca", "cert", "key", "extra-certs", "pkcs12", "crl-verify", "tls-auth", "tls-crypt",
    "tls-crypt-v2", "peer-fingerprint", "connection",
};

static bool among(struct str name, const char *const *list, size_t n, size_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (str_is(name, list[i])) {
            *ret = i;
            return true;
        }
    }
    return false;
}

struct seen {
    unsigned once[ARRAY_SIZE(ours_once)];
    size_t connections;
    unsigned fast;
    bool filtered; /* the empty pull-filter was there */
};

static const char *check_connection(struct seen *seen, struct str block,
                                    const struct openvpn_setup *setup)
{
    struct openvpn_lines lines = openvpn_lines_from(block, 1);
    const struct openvpn_target *target;
    struct openvpn_line line;
    const char *why;
    struct addr a;
    size_t n = 0;
    int got;

    if (seen->connections >= setup->n_targets)
        return "too many servers";
    target = &setup->targets[seen->connections++];
    while ((got = openvpn_lines_next(&lines, &line, &why)) != 0) {
        if (got < 0)
            return why;
        if (n++ == 0) {
            if (!str_is(line.arg[0], "remote") || line.n != 4 ||
                addr_parse(line.arg[1], &a) < 0 || !addr_equal(&a, &target->addr))
                return "a server that was not wished";
        } else if (!str_is(line.arg[0], "fragment") &&
                   !str_is(line.arg[0], "explicit-exit-notify")) {
            return "a foreign word in a connection";
        } else if (target->protocol == IPPROTO_TCP) {
            return "for UDP only";
        }
    }
    return n > 0 ? NULL : "an empty connection";
}

static const char *check_line(struct seen *seen, const struct openvpn_line *line,
                              const struct openvpn_setup *setup)
{
    size_t at;

    if (line->has_block) {
        if (!among(line->arg[0], blocks, ARRAY_SIZE(blocks), &at))
            return "a foreign block";
        if (!str_is(line->arg[0], "connection"))
            return NULL;
        return check_connection(seen, line->block, setup);
    }
    if (among(line->arg[0], ours_once, ARRAY_SIZE(ours_once), &at)) {
        seen->once[at]++;
        if (str_is(line->arg[0], "script-security") && !str_is(line->arg[1], "0"))
            return "scripts are allowed";
        if (str_is(line->arg[0], "management") && !str_is(line->arg[1], setup->management))
            return "a foreign management socket";
        if (str_is(line->arg[0], "dev") && !str_is(line->arg[1], setup->device))
            return "a foreign device";
        if (str_is(line->arg[0], "dns-updown") && !str_is(line->arg[1], "disable"))
            return "a program for name servers";
        return NULL;
    }
    if (str_is(line->arg[0], "fast-io")) {
        seen->fast++;
        return NULL;
    }
    if (!among(line->arg[0], allowed, ARRAY_SIZE(allowed), &at))
        return "a foreign directive";
    if (str_is(line->arg[0], "pull-filter")) {
        if (seen->filtered)
            return "something behind the last filter";
        seen->filtered = str_is(line->arg[1], "ignore") && line->arg[2].len == 0;
    }
    return NULL;
}

const char *fixture_broken_law(const char *text, size_t len, const struct openvpn_setup *setup)
{
    struct openvpn_lines lines = openvpn_lines_from((struct str){text, len}, 1);
    struct openvpn_line line;
    struct seen seen = {0};
    const char *why;
    bool udp = false;
    int got;

    for (size_t i = 0; i < len; i++) {
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f)
            return "a control character";
    }
    while ((got = openvpn_lines_next(&lines, &line, &why)) != 0) {
        if (got > 0)
            why = check_line(&seen, &line, setup);
        if (got < 0 || why != NULL)
            return why;
    }
    for (size_t i = 0; i < ARRAY_SIZE(seen.once); i++) {
        if (seen.once[i] != 1)
            return ours_once[i];
    }
    for (size_t i = 0; i < setup->n_targets; i++)
        udp |= setup->targets[i].protocol == IPPROTO_UDP;
    if (seen.fast != (udp ? 1u : 0u))
        return "fast-io, which is for UDP";
    if (!seen.filtered || seen.connections != setup->n_targets)
        return "no end";
    return NULL;
}
