/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's configuration. Ours alone: what came from the file stands in the middle, in our own
 * spelling, and none of it can undo what stands around it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_private.h"

/*
 * No route, no address, no program, no rights: what is told by the server goes to the supervisor by
 * management-up-down. After the addresses were tried twice the client ends, so that names are
 * looked up again. persist-tun: a restart with the same answer leaves the device alone.
 * allow-recursive-routing: the carrier goes its own way, so a packet to the server's own address
 * belongs into the tunnel like any other.
 * dns-updown: 2.7 would set name servers by itself; 2.6 does not know it.
 */
static const char head[] = "client\n"
                           "disable-dco\n"
                           "script-security 0\n"
                           "route-noexec\n"
                           "ifconfig-noexec\n"
                           "persist-tun\n"
                           "allow-recursive-routing\n"
                           "management-hold\n"
                           "management-query-passwords\n"
                           "management-up-down\n"
                           "auth-nocache\n"
                           "auth-retry interact\n"
                           "connect-retry 1 8\n"
                           "connect-retry-max 2\n"
                           "server-poll-timeout 10\n"
                           "resolv-retry 0\n"
                           "verb 3\n"
                           "ignore-unknown-option dns-updown\n"
                           "dns-updown disable\n";

/*
 * What a server may say, by the beginning of the option; the first match decides, and the empty one
 * at the end takes everything else away. Not among them: routes (their number has no bound, and
 * none is used), ping-exit, inactive (would end it), explicit-exit-notify (would delay a restart).
 * From push-continuation on the protocol itself would break.
 */
static const char *const pulled[] = {
    "ifconfig ",        "ifconfig-ipv6 ",    "topology ",
    "dhcp-option DNS ", "dhcp-option DNS6 ", "dns server ",
    "ping ",            "ping-restart ",     "tun-mtu ",
    "auth-token ",      "auth-token-user ",  "push-continuation ",
    "peer-id ",         "cipher ",           "protocol-flags ",
    "key-derivation ",  "comp-lzo",          "compress",
};

static void write_words(struct text *t, const char *name, const char *word)
{
    text_format(t, "%s ", name);
    text_add_word(t, str_from(word));
}

/* OpenVPN takes fragment and explicit-exit-notify for UDP only, so every server has its block. */
static int write_target(struct text *t, const struct openvpn_file *f,
                        const struct openvpn_target *target)
{
    char text[ADDR_STR_MAX];
    int version = target->addr.family == AF_INET ? 4 : 6;

    if ((target->addr.family != AF_INET && target->addr.family != AF_INET6) || target->port == 0 ||
        (target->protocol != IPPROTO_UDP && target->protocol != IPPROTO_TCP))
        return -EINVAL;
    text_format(t, "<connection>\nremote %s %u %s%d%s\n", addr_format(&target->addr, text),
                target->port, target->protocol == IPPROTO_TCP ? "tcp" : "udp", version,
                target->protocol == IPPROTO_TCP ? "-client" : "");
    if (target->protocol == IPPROTO_UDP && f->fragment > 0)
        text_format(t, "fragment %u%s\n", f->fragment, f->fragment_mtu ? " mtu" : "");
    if (target->protocol == IPPROTO_UDP && f->exit_notify > 0)
        text_format(t, "explicit-exit-notify %u\n", f->exit_notify);
    text_add(t, STR_LITERAL("</connection>\n"));
    return 0;
}

/*
 * Without asking first whether the tun device and the socket take a packet: one call of the kernel
 * less for each. What they do not take is dropped, as by any full queue. Only OpenVPN before 2.7
 * has it, and only for UDP; it says so in its log where it leaves it out.
 */
static void write_speed(struct text *t, const struct openvpn_setup *setup)
{
    for (size_t i = 0; i < setup->n_targets; i++)
        if (setup->targets[i].protocol == IPPROTO_UDP) {
            text_add(t, STR_LITERAL("fast-io\n"));
            return;
        }
}

static void write_values(struct text *t, const struct openvpn_file *f)
{
    text_format(t, "data-ciphers %s\n", f->ciphers);
    if (f->fallback)
        text_format(t, "data-ciphers-fallback %s\n", f->fallback);
    text_format(t, "allow-compression %s\n", f->compression ? "asym" : "no");
    if (f->ask_user)
        text_add(t, STR_LITERAL("auth-user-pass\n"));
    if (f->tun_mtu > 0)
        text_format(t, "tun-mtu %u\n", f->tun_mtu);
    if (f->lport > 0)
        text_format(t, "bind\nlport %u\n", f->lport);
    else
        text_add(t, STR_LITERAL("nobind\n"));
    text_format(t, "ping %u\nping-restart %u\n", f->ping > 0 ? f->ping : 10,
                f->ping_restart > 0 ? f->ping_restart : 60);
}

static void write_filters(struct text *t)
{
    for (size_t i = 0; i < ARRAY_SIZE(pulled); i++)
        text_format(t, "pull-filter accept \"%s\"\n", pulled[i]);
    text_add(t, STR_LITERAL("pull-filter ignore \"\"\n"));
}

static bool is_word(const char *s)
{
    struct str word = str_from(s);

    for (size_t i = 0; i < word.len; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return word.len > 0 && word.len < OPENVPN_LINE_MAX / 2;
}

int openvpn_write(const struct profile *p, const struct openvpn_setup *setup, char **ret,
                  size_t *ret_len)
{
    _cleanup_(text_free) struct text t = {0};
    const struct openvpn_file *f = p->openvpn;
    int r;

    if (!f || setup->n_targets == 0 || !is_word(setup->device) || !is_word(setup->management))
        return -EINVAL;
    if (setup->n_targets > PROFILE_ENDPOINTS_MAX)
        return -E2BIG;
    text_add(&t, str_from(head));
    write_words(&t, "dev", setup->device);
    text_add(&t, STR_LITERAL("\ndev-type tun\n"));
    write_words(&t, "management", setup->management);
    text_add(&t, STR_LITERAL(" unix\n"));
    text_add(&t, (struct str){f->kept, f->kept_len});
    write_speed(&t, setup);
    write_values(&t, f);
    write_filters(&t);
    for (size_t i = 0; i < setup->n_targets; i++) {
        r = write_target(&t, f, &setup->targets[i]);
        if (r < 0)
            return r;
    }
    return text_end(&t, ret, ret_len);
}
