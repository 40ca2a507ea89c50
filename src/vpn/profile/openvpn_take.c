/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_private.h"

#define MTU_MIN     576
#define MTU_MAX     1500
#define SECONDS_MAX 3600

static bool is_printable(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}

void openvpn_keep(struct openvpn_reading *r, const struct openvpn_line *line)
{
    size_t before = r->kept.len;

    for (size_t i = 0; i < line->n; i++) {
        if (!is_printable(line->arg[i])) {
            openvpn_refuse(r, line, "has control characters in it");
            return;
        }
    }
    text_add(&r->kept, line->arg[0]); /* a name of the table */
    for (size_t i = 1; i < line->n; i++) {
        text_add(&r->kept, STR_LITERAL(" "));
        text_add_word(&r->kept, line->arg[i]);
    }
    if (r->kept.len - before > OPENVPN_LINE_MAX) {
        r->kept.len = before;
        openvpn_refuse(r, line, "the line is too long");
        return;
    }
    text_add(&r->kept, STR_LITERAL("\n"));
}

int openvpn_number(struct openvpn_reading *r, const struct openvpn_line *line, size_t arg,
                   uint32_t low, uint32_t high, uint32_t *ret)
{
    char shown[32];
    uint32_t value;
    int e = str_to_u32(line->arg[arg], high, &value);

    str_escape(line->arg[arg], shown, sizeof(shown));
    if (e == 0 && value >= low) {
        *ret = value;
        return 0;
    }
    if (e == -EINVAL) {
        openvpn_refuse(r, line, "%s is not a number", shown);
        return e;
    }
    openvpn_leave_out(r, line, "%s is not within %u and %u", shown, low, high);
    return -ERANGE;
}

static void take_numbers(struct openvpn_reading *r, const struct openvpn_directive *d,
                         const struct openvpn_line *line)
{
    uint32_t value;

    for (size_t i = 1; i < line->n; i++) {
        if (openvpn_number(r, line, i, d->low, d->high, &value) < 0)
            return;
    }
    openvpn_keep(r, line);
}

static void take_words(struct openvpn_reading *r, const struct openvpn_line *line)
{
    static const char also[] = "_.:+-";
    char shown[40];

    for (size_t i = 1; i < line->n; i++) {
        for (size_t k = 0; k < line->arg[i].len; k++) {
            char c = line->arg[i].p[k];

            if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                (c != '\0' && strchr(also, c)))
                continue;
            openvpn_refuse(r, line, "%s is not understood",
                           str_escape(line->arg[i], shown, sizeof(shown)));
            return;
        }
    }
    openvpn_keep(r, line);
}

static void take_choice(struct openvpn_reading *r, const struct openvpn_directive *d,
                        const struct openvpn_line *line)
{
    struct str rest = str_from(d->why), one;
    char shown[40];

    while (str_next(&rest, ' ', &one)) {
        if (one.len == line->arg[1].len && memcmp(one.p, line->arg[1].p, one.len) == 0) {
            openvpn_keep(r, line);
            return;
        }
    }
    str_escape(line->arg[1], shown, sizeof(shown));
    if (str_is(line->arg[0], "tls-cert-profile"))
        openvpn_leave_out(r, line, "%s would take certificates that can be forged", shown);
    else
        openvpn_refuse(r, line, "%s is not supported (%s)", shown, d->why);
}

static void take_dev(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct str name = line->arg[1];

    if (name.len >= 3 && memcmp(name.p, "tap", 3) == 0)
        openvpn_refuse(r, line, "tap devices (bridges) are not supported");
    else if (str_is(name, "null"))
        openvpn_refuse(r, line, "a tunnel without device is of no use");
    else if (name.len < 3 || memcmp(name.p, "tun", 3) != 0)
        r->dev_other = true;
}

static void take_dev_type(struct openvpn_reading *r, const struct openvpn_line *line)
{
    r->dev_type = true;
    if (!str_is(line->arg[1], "tun"))
        openvpn_refuse(r, line, "only tun devices are supported");
}

static void take_lport(struct openvpn_reading *r, const struct openvpn_line *line)
{
    if (str_is(line->arg[1], "0"))
        r->file->lport = 0; /* any */
    else
        (void)openvpn_number(r, line, 1, 1024, UINT16_MAX, &r->file->lport);
}

static void take_compression(struct openvpn_reading *r, const struct openvpn_line *line)
{
    static const char *const algorithms[] = {"no",  "yes", "adaptive", "lzo",    "lz4",
                                             "lz4-v2", "stub", "stub-v2", "migrate"};
    bool stub = line->n > 1 && (str_is(line->arg[1], "no") || str_is(line->arg[1], "stub") ||
                                str_is(line->arg[1], "stub-v2") || str_is(line->arg[1], "migrate"));
    bool known = line->n == 1;

    for (size_t i = 0; i < ARRAY_SIZE(algorithms) && !known; i++)
        known = str_is(line->arg[1], algorithms[i]);
    if (!known) {
        openvpn_refuse(r, line, "is no kind of compression that is supported");
        return;
    }
    if (line->n == 1 && str_is(line->arg[0], "compress"))
        stub = true;
    if (!stub) {
        r->file->compression = true;
        openvpn_note(r, line, "what the server sends may be compressed, which can tell about its "
                              "content; nothing is compressed on the way out");
    }
    openvpn_keep(r, line);
}

static void take_fragment(struct openvpn_reading *r, const struct openvpn_line *line)
{
    uint32_t value;

    if (line->n > 2 && !str_is(line->arg[2], "mtu")) {
        openvpn_refuse(r, line, "the second word is mtu, or there is none");
        return;
    }
    if (str_to_u32(line->arg[1], UINT16_MAX, &value) < 0 || value < 68) {
        openvpn_refuse(r, line, "both ends must agree on it, and this is not a size");
        return;
    }
    r->file->fragment = value;
    r->file->fragment_mtu = line->n > 2;
}

static void take_mssfix(struct openvpn_reading *r, const struct openvpn_line *line)
{
    uint32_t value;

    if (line->n > 2 && !str_is(line->arg[2], "mtu") && !str_is(line->arg[2], "fixed"))
        openvpn_refuse(r, line, "the second word is mtu or fixed");
    else if (line->n == 1 || openvpn_number(r, line, 1, 0, UINT16_MAX, &value) == 0)
        openvpn_keep(r, line);
}

static void take_mtu(struct openvpn_reading *r, const struct openvpn_line *line)
{
    (void)openvpn_number(r, line, 1, MTU_MIN, MTU_MAX, &r->file->tun_mtu);
}

static void take_ping(struct openvpn_reading *r, const struct openvpn_line *line, size_t arg,
                      uint32_t *ret)
{
    (void)openvpn_number(r, line, arg, 1, SECONDS_MAX, ret);
}

static void take_exit_notify(struct openvpn_reading *r, const struct openvpn_line *line)
{
    uint32_t value = 1;

    if (line->n == 1 || openvpn_number(r, line, 1, 0, 100, &value) == 0)
        r->file->exit_notify = value > 0; /* one packet: the client ends at once when told to */
}

/* "dhcp-option DNS ADDRESS" counts like a pushed one; the rest is for desktops. */
static void take_dns(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct addr a;
    char text[ADDR_STR_MAX];

    if (!str_is(line->arg[1], "DNS") && !str_is(line->arg[1], "DNS6")) {
        openvpn_leave_out(r, line, "only DNS servers are taken");
        return;
    }
    if (line->n != 3 || addr_parse(line->arg[2], &a) < 0) {
        openvpn_refuse(r, line, "is not a DNS server's address");
        return;
    }
    text_format(&r->kept, "dhcp-option %s %s\n", a.family == AF_INET ? "DNS" : "DNS6",
                addr_format(&a, text));
}

static void take_ignored(struct openvpn_reading *r, const struct openvpn_line *line)
{
    for (size_t i = 1; i < line->n; i++) {
        if (r->n_ignored == ARRAY_SIZE(r->ignored) ||
            line->arg[i].len >= sizeof(r->ignored[0])) {
            openvpn_refuse(r, line, "names too many directives, or too long ones");
            return;
        }
        memcpy(r->ignored[r->n_ignored], line->arg[i].p, line->arg[i].len);
        r->ignored[r->n_ignored++][line->arg[i].len] = '\0';
    }
}

/* Scripts that many files name for the sake of the name servers only, which are our task. */
static void take_script(struct openvpn_reading *r, const struct openvpn_line *line)
{
    static const char *const known[] = {
        "update-resolv-conf",      "update-resolv-conf.sh",      "update-systemd-resolved",
        "openvpn-systemd-resolved", "update-systemd-resolved.sh", "client.up",
        "client.down",             "dns-updown",                 "disable"};
    struct str rest = line->arg[1], path, name = {"", 0};

    (void)str_next(&rest, ' ', &path);
    while (str_next(&path, '/', &name))
        ;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (str_is(name, known[i])) {
            openvpn_leave_out(r, line, "its task, the name servers, is done without it");
            return;
        }
    }
    openvpn_refuse(r, line, "runs a program, and nothing that a profile names is ever run");
}

static void take_setenv(struct openvpn_reading *r, const struct openvpn_line *line)
{
    if (str_is(line->arg[1], "FORWARD_COMPATIBLE") && line->n > 2 && str_is(line->arg[2], "1"))
        r->forward_compatible = true;
    else if (str_is(line->arg[1], "GENERIC_CONFIG"))
        openvpn_refuse(r, line, "this is a generic profile that was not made for a user");
    else
        openvpn_leave_out(r, line, "no variable is set, for a script or for the server");
}

static void take_check(struct openvpn_reading *r, const struct openvpn_line *line)
{
    static const char *const checks[] = {"remote-cert-tls", "ns-cert-type",     "remote-cert-ku",
                                         "remote-cert-eku", "verify-x509-name", "verify-hash"};

    for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
        r->has_check = r->has_check || str_is(line->arg[0], checks[i]);
}

static void take_server(struct openvpn_reading *r, const struct openvpn_directive *d,
                        const struct openvpn_line *line)
{
    if (d->take == TAKE_REMOTE)
        openvpn_take_remote(r, line);
    else if (d->take == TAKE_CONNECTION)
        openvpn_take_connection(r, line);
    else if (d->take == TAKE_PROTO)
        openvpn_take_proto(r, line);
    else if (d->take == TAKE_PROTO_FORCE)
        openvpn_take_proto_force(r, line);
    else
        openvpn_take_port(r, line);
}

void openvpn_take_line(struct openvpn_reading *r, const struct openvpn_directive *d,
                       const struct openvpn_line *line)
{
    struct openvpn_file *f = r->file;

    take_check(r, line);
    switch (d->take) {
    case TAKE_NONE:
        break;
    case TAKE_TEXT:
        openvpn_keep(r, line);
        break;
    case TAKE_NUMBERS:
        take_numbers(r, d, line);
        break;
    case TAKE_WORDS:
        take_words(r, line);
        break;
    case TAKE_CHOICE:
        take_choice(r, d, line);
        break;
    case TAKE_BLOB:
        openvpn_take_blob(r, line);
        break;
    case TAKE_CLIENT:
        r->pull = r->pull || str_is(line->arg[0], "client");
        r->client = true;
        break;
    case TAKE_PULL:
        r->pull = true;
        break;
    case TAKE_MODE:
        if (!str_is(line->arg[1], "p2p"))
            openvpn_refuse(r, line, "is for a server, and this is a client");
        break;
    case TAKE_DEV:
        take_dev(r, line);
        break;
    case TAKE_DEV_TYPE:
        take_dev_type(r, line);
        break;
    case TAKE_REMOTE:
    case TAKE_CONNECTION:
    case TAKE_PROTO:
    case TAKE_PROTO_FORCE:
    case TAKE_PORT:
        take_server(r, d, line);
        break;
    case TAKE_RANDOM:
        r->profile->random = true;
        break;
    case TAKE_LPORT:
        take_lport(r, line);
        break;
    case TAKE_CIPHER:
        openvpn_take_cipher(r, line);
        break;
    case TAKE_DATA_CIPHERS:
        openvpn_take_ciphers(r, line);
        break;
    case TAKE_FALLBACK:
        openvpn_take_fallback(r, line);
        break;
    case TAKE_AUTH:
        openvpn_take_auth(r, line);
        break;
    case TAKE_TLS_CIPHER:
        openvpn_take_tls_cipher(r, line);
        break;
    case TAKE_TLS_MIN:
        openvpn_take_tls_min(r, line);
        break;
    case TAKE_USER_PASSWORD:
        openvpn_take_user_password(r, line);
        break;
    case TAKE_CHALLENGE:
        openvpn_take_challenge(r, line);
        break;
    case TAKE_COMPRESSION:
        take_compression(r, line);
        break;
    case TAKE_TUN_MTU:
        take_mtu(r, line);
        break;
    case TAKE_FRAGMENT:
        take_fragment(r, line);
        break;
    case TAKE_MSSFIX:
        take_mssfix(r, line);
        break;
    case TAKE_PING:
        take_ping(r, line, 1, &f->ping);
        break;
    case TAKE_PING_RESTART:
        take_ping(r, line, 1, &f->ping_restart);
        break;
    case TAKE_KEEPALIVE:
        take_ping(r, line, 1, &f->ping);
        take_ping(r, line, 2, &f->ping_restart);
        break;
    case TAKE_EXIT_NOTIFY:
        take_exit_notify(r, line);
        break;
    case TAKE_DNS:
        take_dns(r, line);
        break;
    case TAKE_SETENV:
        take_setenv(r, line);
        break;
    case TAKE_IGNORE_UNKNOWN:
        take_ignored(r, line);
        break;
    case TAKE_DNS_SCRIPT:
        take_script(r, line);
        break;
    }
}
