/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Line by line as wg-quick and wg read it: '#' begins a comment anywhere, keys are told without
 * regard to case, lists are split at commas and blanks. Unlike them nothing unknown is skipped, and
 * what is given twice is refused where only one can count.
 */
#include "vpn/profile/wireguard.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "vpn/profile/wireguard_values.h"

enum section { SECTION_NONE, SECTION_INTERFACE, SECTION_PEER };

struct reader {
    struct profile *p;
    struct wireguard_file *f;
    struct wireguard_peer *peer; /* of the section that is read */
    struct findings *findings;
    unsigned line;
    unsigned peer_line; /* of the section's head */
    enum section section;
    unsigned seen;  /* keys of this section, a bit for each place in keys[] */
    unsigned given; /* and of the whole file */
    size_t refused; /* findings before this file */
    bool has_interface;
};

#define KEY_SHOWN_MAX 16
#define VALUE_SHOWN   64 /* room for a value in a message */

/*
 * A line that was broken within a key of WireGuard's begins with a secret. What is quoted as a word
 * is therefore short and made of letters and digits only.
 */
static struct str quotable(struct str key)
{
    if (key.len == 0 || key.len > KEY_SHOWN_MAX)
        return STR_LITERAL("line");
    for (size_t i = 0; i < key.len; i++) {
        char c = key.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9'))
            return STR_LITERAL("line");
    }
    return key;
}

/* The same for values: lines that ran together hold keys, which end in '=' and are 44 long. */
static const char *shown(struct str value, char buf[static VALUE_SHOWN])
{
    size_t run = 0;

    for (size_t i = 0; i < value.len; i++) {
        char c = value.p[i];

        run = c == '.' || c == '-' || c == ':' || c == ' ' ? 0 : run + 1;
        if (c == '=' || run >= 32)
            return "(not shown)";
    }
    return str_escape(value, buf, VALUE_SHOWN);
}

#define refuse(r, word, ...)                                                                       \
    findings_add((r)->findings, FINDING_REFUSED, (r)->line, word, __VA_ARGS__)
#define note(r, word, ...)                                                                         \
    findings_add((r)->findings, FINDING_NOTE, (r)->line, word, __VA_ARGS__)
#define leave_out(r, word, ...)                                                                    \
    findings_add((r)->findings, FINDING_LEFT_OUT, (r)->line, word, __VA_ARGS__)

static void read_private_key(struct reader *r, struct str key, struct str value)
{
    uint8_t *k = r->f->private_key;

    if (!wireguard_parse_key(value, k) || wireguard_key_is_zero(k)) {
        refuse(r, key, "is not a key: 44 characters of base64 are expected");
        return;
    }
    k[0] &= 248;
    k[31] = (uint8_t)((k[31] & 127) | 64);
}

static void read_public_key(struct reader *r, struct str key, struct str value)
{
    if (!wireguard_parse_key(value, r->peer->public_key) ||
        wireguard_key_is_zero(r->peer->public_key)) {
        refuse(r, key, "is not a key: 44 characters of base64 are expected");
        return;
    }
    for (size_t i = 0; i + 1 < r->f->n_peers; i++)
        if (memcmp(r->f->peers[i].public_key, r->peer->public_key, WIREGUARD_KEY_SIZE) == 0)
            refuse(r, key, "is that of an earlier [Peer], too: one section for one peer");
}

static void read_preshared_key(struct reader *r, struct str key, struct str value)
{
    if (!wireguard_parse_key(value, r->peer->preshared_key))
        refuse(r, key, "is not a key: 44 characters of base64 are expected");
    else
        r->peer->has_preshared = !wireguard_key_is_zero(r->peer->preshared_key);
}

static void read_address(struct reader *r, struct str key, struct str value)
{
    char text[ADDR_STR_MAX];
    struct str piece;
    struct prefix p;

    while (wireguard_next_piece(&value, &piece)) {
        if (!wireguard_parse_net(piece, &p)) {
            refuse(r, key, "is not an address like 10.2.0.2/32");
            continue;
        }
        if (addr_why_unusable(&p.addr) != NULL) {
            refuse(r, key, "%s %s", addr_format(&p.addr, text), addr_why_unusable(&p.addr));
            continue;
        }
        for (size_t i = 0; i < r->f->n_addresses; i++) {
            if (r->f->addresses[i].addr.family != p.addr.family)
                continue;
            leave_out(r, key, "%s: one address of a family is used, the first",
                      addr_format(&p.addr, text));
            break;
        }
        if (r->f->n_addresses >= ARRAY_SIZE(r->f->addresses))
            refuse(r, key, "more than %zu addresses", ARRAY_SIZE(r->f->addresses));
        else
            r->f->addresses[r->f->n_addresses++] = p;
    }
}

/* wg-quick takes for a search domain what does not look like an address. */
static void read_dns(struct reader *r, struct str key, struct str value)
{
    struct str piece;
    struct addr a;
    char text[VALUE_SHOWN];

    while (wireguard_next_piece(&value, &piece)) {
        if (addr_parse(piece, &a) < 0) {
            leave_out(r, key, "%s: a search domain is the affair of the qube that asks",
                      shown(piece, text));
        } else if (r->f->n_dns >= WIREGUARD_DNS_MAX) {
            leave_out(r, key, "more than %d name servers: the first ones are used",
                      WIREGUARD_DNS_MAX);
            return;
        } else {
            r->f->dns[r->f->n_dns++] = a;
        }
    }
}

static bool read_number(struct reader *r, struct str key, struct str value, uint16_t min,
                        uint16_t *ret)
{
    uint32_t number;

    if (str_to_u32(value, UINT16_MAX, &number) < 0 || number < min) {
        refuse(r, key, "is not a number from %u to %u", min, UINT16_MAX);
        return false;
    }
    *ret = (uint16_t)number;
    return true;
}

static void read_mtu(struct reader *r, struct str key, struct str value)
{
    (void)read_number(r, key, value, 1, &r->f->mtu);
}

static void read_listen_port(struct reader *r, struct str key, struct str value)
{
    (void)read_number(r, key, value, 0, &r->f->listen_port);
}

static void read_keepalive(struct reader *r, struct str key, struct str value)
{
    if (value.len == 3 && strncasecmp(value.p, "off", 3) == 0)
        r->peer->keepalive = 0;
    else
        (void)read_number(r, key, value, 0, &r->peer->keepalive);
}

static void read_allowed(struct reader *r, struct str key, struct str value)
{
    struct wireguard_peer *peer = r->peer;
    struct str piece;
    struct prefix p;

    while (wireguard_next_piece(&value, &piece)) {
        struct addr first, last;

        if (!wireguard_parse_net(piece, &p)) {
            refuse(r, key, "is not a list of networks like 0.0.0.0/0, ::/0");
            return;
        }
        if (peer->n_allowed >= WIREGUARD_ALLOWED_MAX) {
            refuse(r, key, "more than %d networks for one peer", WIREGUARD_ALLOWED_MAX);
            return;
        }
        prefix_range(&p, &first, &last);
        peer->allowed[peer->n_allowed++] = (struct prefix){first, p.len};
    }
}

static void read_endpoint(struct reader *r, struct str key, struct str value)
{
    struct endpoint *e = &r->p->endpoints[r->p->n_endpoints];
    struct str host, port;
    struct addr a = {0};
    char text[VALUE_SHOWN];
    uint32_t number;

    if (!wireguard_split_endpoint(value, &host, &port) ||
        str_to_u32(port, UINT16_MAX, &number) < 0 || number == 0) {
        refuse(r, key, "is not HOST:PORT, ADDRESS:PORT or [IPV6-ADDRESS]:PORT: %s",
               shown(value, text));
        return;
    }
    if (addr_parse(host, &a) == 0 && addr_why_unusable(&a) != NULL) {
        refuse(r, key, "%s %s", shown(host, text), addr_why_unusable(&a));
        return;
    }
    if (a.family == 0 && !wireguard_is_host_name(host)) {
        refuse(r, key, "is neither a host name nor an address: %s",
               shown(host, text));
        return;
    }
    /* one for each peer, and there are fewer peers than room */
    memcpy(e->host, host.p, host.len);
    e->host[host.len] = '\0';
    e->port = (uint16_t)number;
    e->protocol = IPPROTO_UDP;
    e->family = a.family;
    r->peer->endpoint = r->p->n_endpoints++;
}

/* What has no effect here; text says why. */
static const char never_run[] = "commands in a profile are never run here";

static const struct key {
    const char *name;
    enum section section;
    bool list; /* may be given several times */
    void (*read)(struct reader *r, struct str key, struct str value);
    const char *left_out;
} keys[] = {
    {"PrivateKey", SECTION_INTERFACE, false, read_private_key, NULL},
    {"ListenPort", SECTION_INTERFACE, false, read_listen_port, NULL},
    {"Address", SECTION_INTERFACE, true, read_address, NULL},
    {"DNS", SECTION_INTERFACE, true, read_dns, NULL},
    {"MTU", SECTION_INTERFACE, false, read_mtu, NULL},
    {"PreUp", SECTION_INTERFACE, true, NULL, never_run},
    {"PostUp", SECTION_INTERFACE, true, NULL, never_run},
    {"PreDown", SECTION_INTERFACE, true, NULL, never_run},
    {"PostDown", SECTION_INTERFACE, true, NULL, never_run},
    {"SaveConfig", SECTION_INTERFACE, true, NULL, "a profile is never written back"},
    {"Table", SECTION_INTERFACE, true, NULL, "everything of the qubes goes into the tunnel anyway"},
    {"FwMark", SECTION_INTERFACE, true, NULL, "the tunnel's own packets have the seal's mark"},
    {"IncludedApplications", SECTION_INTERFACE, true, NULL, "there are no Android applications"},
    {"ExcludedApplications", SECTION_INTERFACE, true, NULL, "there are no Android applications"},
    {"PublicKey", SECTION_PEER, false, read_public_key, NULL},
    {"PresharedKey", SECTION_PEER, false, read_preshared_key, NULL},
    {"AllowedIPs", SECTION_PEER, true, read_allowed, NULL},
    {"Endpoint", SECTION_PEER, false, read_endpoint, NULL},
    {"PersistentKeepalive", SECTION_PEER, false, read_keepalive, NULL},
};
_Static_assert(ARRAY_SIZE(keys) <= 32, "a bit for each key");
_Static_assert((int)WIREGUARD_PEERS_MAX <= (int)PROFILE_ENDPOINTS_MAX, "an endpoint for each peer");

/* Is the key that this function reads among them? */
static bool has_key(unsigned seen, void (*read)(struct reader *, struct str, struct str))
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].read == read)
            return (seen & 1u << i) != 0;
    return false;
}

static bool same_word(struct str s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.p, word, s.len) == 0;
}

/* Keys of AmneziaWG, which changes the packets: Jc, Jmin, S1, H1, I1, ... */
static bool is_amnezia(struct str key)
{
    static const char *const names[] = {"Jc", "Jmin", "Jmax", "S1", "S2", "S3", "S4", "H1", "H2",
                                        "H3", "H4", "I1", "I2", "I3", "I4", "I5", "J1", "J2",
                                        "J3", "ITime"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (same_word(key, names[i]))
            return true;
    return false;
}

static void read_key(struct reader *r, struct str key, struct str value)
{
    size_t i = 0;

    while (i < ARRAY_SIZE(keys) && !same_word(key, keys[i].name))
        i++;
    if (i == ARRAY_SIZE(keys)) {
        if (is_amnezia(key))
            refuse(r, key, "is of AmneziaWG, which plain WireGuard cannot speak with: ask the "
                           "provider for a WireGuard file");
        else
            refuse(r, quotable(key), "is not known in a WireGuard file");
        return;
    }
    if (keys[i].section != r->section) {
        refuse(r, key, "belongs in %s",
               keys[i].section == SECTION_PEER ? "a [Peer]" : "the [Interface]");
        return;
    }
    if (keys[i].left_out != NULL) {
        leave_out(r, key, "%s", keys[i].left_out);
        return;
    }
    if (!keys[i].list && (r->seen & 1u << i) != 0) {
        refuse(r, key, "is given twice: which one counts?");
        return;
    }
    r->seen |= 1u << i;
    r->given |= 1u << i;
    if (r->section == SECTION_PEER && r->peer == NULL)
        return; /* beyond the maximum, said already */
    keys[i].read(r, key, value);
}

static bool allows_all(const struct wireguard_peer *peer, int family)
{
    unsigned halves = 0;

    for (size_t i = 0; i < peer->n_allowed; i++) {
        if (peer->allowed[i].addr.family != family || peer->allowed[i].len > 1)
            continue;
        halves |= peer->allowed[i].len == 0 ? 3u : peer->allowed[i].addr.bytes[0] < 128 ? 1u : 2u;
    }
    return halves == 3;
}

static bool is_allowed(const struct wireguard_file *f, const struct addr *a)
{
    for (size_t i = 0; i < f->n_peers; i++)
        for (size_t k = 0; k < f->peers[i].n_allowed; k++)
            if (prefix_contains(&f->peers[i].allowed[k], a))
                return true;
    return false;
}

static void end_peer(struct reader *r)
{
    unsigned line = r->line;

    if (r->peer == NULL)
        return;
    r->line = r->peer_line;
    if (!has_key(r->seen, read_public_key))
        refuse(r, STR_LITERAL("PublicKey"), "is missing in this [Peer]");
    if (r->peer->n_allowed == 0)
        note(r, STR_LITERAL("AllowedIPs"), "are none: nothing is sent to this peer");
    if (!has_key(r->seen, read_endpoint))
        note(r, STR_LITERAL("Endpoint"), "is missing: this peer cannot be reached from here");
    r->line = line;
    r->peer = NULL;
}

static void begin_section(struct reader *r, struct str head)
{
    end_peer(r);
    r->seen = 0;
    if (same_word(head, "[Interface]")) {
        if (r->has_interface)
            refuse(r, STR_LITERAL("[Interface]"), "is given twice: one profile is one tunnel");
        r->has_interface = true;
        r->section = SECTION_INTERFACE;
    } else if (same_word(head, "[Peer]")) {
        r->section = SECTION_PEER;
        if (r->f->n_peers >= WIREGUARD_PEERS_MAX) {
            refuse(r, STR_LITERAL("[Peer]"), "more than %d peers", WIREGUARD_PEERS_MAX);
            return;
        }
        r->peer = &r->f->peers[r->f->n_peers++];
        *r->peer = (struct wireguard_peer){.endpoint = SIZE_MAX};
        r->peer_line = r->line;
    } else {
        refuse(r, STR_LITERAL("line"), "is neither [Interface] nor [Peer]");
    }
}

static void read_line(struct reader *r, struct str line)
{
    struct str key;

    (void)str_next(&line, '#', &key);
    line = key;
    if (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;
    line = str_trim(line);
    if (line.len == 0)
        return;
    if (line.p[0] == '[') {
        begin_section(r, line);
        return;
    }
    (void)str_next(&line, '=', &key);
    key = str_trim(key);
    if (line.p == NULL)
        refuse(r, STR_LITERAL("line"), "is not \"Key = value\"");
    else if (r->section == SECTION_NONE)
        refuse(r, quotable(key), "stands before [Interface]");
    else
        read_key(r, key, str_trim(line));
}

/* Both families on the way: what of the Internet would a qube not reach? */
static void note_reach(struct reader *r)
{
    static const int families[] = {AF_INET, AF_INET6};
    char text[ADDR_STR_MAX];

    for (size_t k = 0; k < ARRAY_SIZE(families); k++) {
        bool carried = false, all = false;

        for (size_t i = 0; i < r->f->n_addresses; i++)
            carried = carried || r->f->addresses[i].addr.family == families[k];
        for (size_t i = 0; i < r->f->n_peers; i++)
            all = all || allows_all(&r->f->peers[i], families[k]);
        if (carried && !all)
            note(r, STR_LITERAL("AllowedIPs"),
                 "no %s: qubes reach the networks named and nothing else",
                 families[k] == AF_INET ? "0.0.0.0/0" : "::/0");
        if (!carried)
            note(r, STR_LITERAL("Address"), "none of %s, which this tunnel does not carry",
                 families[k] == AF_INET ? "IPv4" : "IPv6");
    }
    for (size_t i = 0; i < r->f->n_dns; i++)
        if (!is_allowed(r->f, &r->f->dns[i]))
            note(r, STR_LITERAL("DNS"), "%s is in no AllowedIPs: it will not answer",
                 addr_format(&r->f->dns[i], text));
}

static bool allows_same(const struct wireguard_peer *a, const struct wireguard_peer *b)
{
    for (size_t i = 0; i < a->n_allowed; i++)
        for (size_t k = 0; k < b->n_allowed; k++)
            if (a->allowed[i].len == b->allowed[k].len &&
                addr_equal(&a->allowed[i].addr, &b->allowed[k].addr))
                return true;
    return false;
}

static void note_shared(struct reader *r)
{
    for (size_t i = 1; i < r->f->n_peers; i++)
        for (size_t k = 0; k < i; k++)
            if (allows_same(&r->f->peers[i], &r->f->peers[k]))
                note(r, STR_LITERAL("AllowedIPs"),
                     "[Peer] %zu and [Peer] %zu name the same network: the later one gets it",
                     k + 1, i + 1);
}

/* What the file as a whole must have. What was given and is no good has been refused already. */
static void check_whole(struct reader *r)
{
    r->line = 0;
    if (!r->has_interface)
        refuse(r, STR_LITERAL("[Interface]"), "is missing");
    if (!has_key(r->given, read_private_key))
        refuse(r, STR_LITERAL("PrivateKey"), "is missing: put in the one that the provider gave, "
                                             "or that you told the provider");
    if (r->f->n_peers == 0)
        refuse(r, STR_LITERAL("[Peer]"), "is missing: there is nobody to connect to");
    else if (!has_key(r->given, read_endpoint))
        refuse(r, STR_LITERAL("Endpoint"), "is missing: no [Peer] says where it is");
    if (!has_key(r->given, read_address) ||
        (r->f->n_addresses == 0 && r->findings->refused == r->refused))
        refuse(r, STR_LITERAL("Address"), "is missing: this qube would have none in the tunnel");
    if (r->findings->refused == r->refused) {
        note_shared(r);
        note_reach(r);
    }
}

int wireguard_read(const char *text, size_t len, struct findings *findings, struct profile *p)
{
    struct str rest = {text, len}, line;
    struct reader r = {.p = p, .findings = findings, .refused = findings->refused};

    if (len > PROFILE_FILE_MAX)
        return -EFBIG;
    r.f = calloc(1, sizeof(*r.f));
    if (r.f == NULL)
        return -ENOMEM;
    p->kind = PROFILE_WIREGUARD;
    p->wireguard = wireguard_free(p->wireguard);
    p->wireguard = r.f; /* freed with the profile, also after an error */
    p->n_endpoints = 0;
    if (len > 0 && memchr(text, '\0', len) != NULL) {
        refuse(&r, STR_LITERAL("file"), "has a NUL byte: it is no text");
        return -EINVAL;
    }
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        rest = (struct str){text + 3, len - 3}; /* a byte order mark */
    while (rest.p != NULL && str_next(&rest, '\n', &line)) {
        r.line++;
        read_line(&r, line);
    }
    end_peer(&r);
    check_whole(&r);
    return findings->refused > r.refused ? -EINVAL : 0;
}

struct wireguard_file *wireguard_free(struct wireguard_file *f)
{
    if (f != NULL)
        explicit_bzero(f, sizeof(*f));
    free(f);
    return NULL;
}
