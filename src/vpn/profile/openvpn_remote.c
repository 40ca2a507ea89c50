/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the servers are: remote, connection, proto, port. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/openvpn_private.h"

#define PORT_DEFAULT 1194

static const struct {
    const char *name;
    struct openvpn_proto proto;
} protos[] = {
    {"udp", {TRANSPORT_UDP, 0}},
    {"udp4", {TRANSPORT_UDP, AF_INET}},
    {"udp6", {TRANSPORT_UDP, AF_INET6}},
    {"tcp", {TRANSPORT_TCP, 0}},
    {"tcp4", {TRANSPORT_TCP, AF_INET}},
    {"tcp6", {TRANSPORT_TCP, AF_INET6}},
    {"tcp-client", {TRANSPORT_TCP, 0}},
    {"tcp4-client", {TRANSPORT_TCP, AF_INET}},
    {"tcp6-client", {TRANSPORT_TCP, AF_INET6}},
};

static bool read_proto(struct openvpn_reading *r, const struct openvpn_line *line, size_t arg,
                       struct openvpn_proto *ret)
{
    char shown[32];

    for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
        if (str_is(line->arg[arg], protos[i].name)) {
            *ret = protos[i].proto;
            return true;
        }
    }
    openvpn_refuse(r, line, "%s is no protocol that a client can use (udp, tcp, udp6, ...)",
                   str_escape(line->arg[arg], shown, sizeof(shown)));
    return false;
}

static bool read_port(struct openvpn_reading *r, const struct openvpn_line *line, size_t arg,
                      uint32_t *ret)
{
    char shown[32];

    if (str_to_u32(line->arg[arg], UINT16_MAX, ret) == 0 && *ret > 0)
        return true;
    openvpn_refuse(r, line, "%s is no port number",
                   str_escape(line->arg[arg], shown, sizeof(shown)));
    return false;
}

/* RFC 1123 2.1, and '_'. A last label of digits would be an address to some, a name to others. */
static bool is_host_name(struct str s)
{
    struct str rest = s, label = {0};
    bool number = true;

    if (s.len == 0 || s.len >= PROFILE_HOST_MAX)
        return false;
    while (str_next(&rest, '.', &label)) {
        if (label.len == 0 && !rest.p && label.p > s.p)
            return !number; /* the dot at the end of an absolute name */
        if (label.len == 0 || label.len > 63 || label.p[0] == '-' || label.p[label.len - 1] == '-')
            return false;
        number = true;
        for (size_t i = 0; i < label.len; i++) {
            char c = label.p[i];
            bool digit = c >= '0' && c <= '9';

            if (!digit && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '-' &&
                c != '_')
                return false;
            number = number && digit;
        }
    }
    return !number;
}

static bool read_host(struct openvpn_reading *r, const struct openvpn_line *line,
                      struct openvpn_remote *remote)
{
    struct str host = line->arg[1];
    struct addr a = {0};
    char shown[80];

    if (addr_parse(host, &a) == 0) {
        const char *why = addr_why_unusable(&a);

        if (why != NULL) {
            openvpn_refuse(r, line, "%s %s", str_escape(host, shown, sizeof(shown)), why);
            return false;
        }
    } else if (!is_host_name(host)) {
        openvpn_refuse(r, line, "%s is neither a host name nor an address",
                       str_escape(host, shown, sizeof(shown)));
        return false;
    }
    memcpy(remote->host, host.p, host.len);
    remote->host[host.len] = '\0';
    return true;
}

static bool read_remote(struct openvpn_reading *r, const struct openvpn_line *line,
                        struct openvpn_remote *remote)
{
    return read_host(r, line, remote) && (line->n < 3 || read_port(r, line, 2, &remote->port)) &&
           (line->n < 4 || read_proto(r, line, 3, &remote->proto));
}

void openvpn_take_remote(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct openvpn_remote remote = {.line = line->number};

    if (!read_remote(r, line, &remote))
        return;
    if (r->n_remotes < ARRAY_SIZE(r->remotes))
        r->remotes[r->n_remotes++] = remote;
    else
        r->more_remotes++;
}

/* One line of a <connection>. */
static void take_inner(struct openvpn_reading *r, const struct openvpn_line *line,
                       struct openvpn_remote *remote)
{
    const struct openvpn_directive *d = openvpn_directive_find(line->arg[0]);

    if (d == NULL || d->verdict == OPENVPN_REFUSED) {
        openvpn_refuse(r, line, "%s", d ? d->why : "is not known");
    } else if (d->verdict == OPENVPN_LEFT_OUT) {
        openvpn_leave_out(r, line, "%s", d->why);
    } else if (d->take == TAKE_REMOTE && line->n >= 2 && line->n <= 4 && !line->has_block) {
        if (remote->host[0] != '\0')
            openvpn_refuse(r, line, "a connection has one remote");
        else
            (void)read_remote(r, line, remote);
    } else if (d->take == TAKE_PROTO && line->n == 2 && !line->has_block) {
        (void)read_proto(r, line, 1, &remote->proto);
    } else if (d->take == TAKE_PORT && line->n == 2 && !line->has_block) {
        (void)read_port(r, line, 1, &remote->port);
    } else if (d->take == TAKE_EXIT_NOTIFY && line->n <= 2 && !line->has_block) {
        openvpn_take_line(r, d, line); /* for all, which does no harm */
    } else if (d->verdict != OPENVPN_OURS) {
        openvpn_refuse(r, line, "is not supported within <connection>; write it before, for all");
    }
}

/*
 * What stands in the block counts for it, later lines more than earlier ones; what is unset there
 * is what the file has set before the block, or at its end.
 */
void openvpn_take_connection(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct openvpn_remote remote = {.line = line->number};
    struct openvpn_lines lines;
    struct openvpn_line inner;
    const char *why;
    int got;

    if (!line->has_block) {
        openvpn_refuse(r, line, "is a block: <connection> ... </connection>");
        return;
    }
    lines = openvpn_lines_from(line->block, line->number + 1);
    lines.begun = true;
    while ((got = openvpn_lines_next(&lines, &inner, &why)) != 0) {
        if (got < 0)
            findings_add(r->findings, FINDING_REFUSED, inner.number, (struct str){"", 0}, "%s",
                         why);
        else
            take_inner(r, &inner, &remote);
    }
    if (remote.host[0] == '\0') {
        openvpn_refuse(r, line, "has no remote");
        return;
    }
    if (remote.port == 0)
        remote.port = r->common.port;
    if (remote.proto.transport == TRANSPORT_UNSET)
        remote.proto = r->common.proto;
    if (r->n_blocks < ARRAY_SIZE(r->blocks))
        r->blocks[r->n_blocks++] = remote;
    else
        r->more_blocks++;
}

void openvpn_take_proto(struct openvpn_reading *r, const struct openvpn_line *line)
{
    (void)read_proto(r, line, 1, &r->common.proto);
}

void openvpn_take_proto_force(struct openvpn_reading *r, const struct openvpn_line *line)
{
    struct openvpn_proto proto;

    if (read_proto(r, line, 1, &proto))
        r->only_transport = proto.transport;
}

void openvpn_take_port(struct openvpn_reading *r, const struct openvpn_line *line)
{
    (void)read_port(r, line, 1, &r->common.port);
}

static bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return strcmp(a->host, b->host) == 0 && a->port == b->port && a->protocol == b->protocol &&
           a->family == b->family;
}

static void add_endpoint(struct openvpn_reading *r, const struct openvpn_remote *remote)
{
    enum openvpn_transport transport = remote->proto.transport;
    struct profile *p = r->profile;
    struct endpoint e = {.port = (uint16_t)remote->port, .family = remote->proto.family};
    struct addr a;

    if (transport == TRANSPORT_UNSET) {
        transport = r->common.proto.transport;
        e.family = r->common.proto.family;
    }
    if (transport == TRANSPORT_UNSET)
        transport = TRANSPORT_UDP;
    if (r->only_transport != TRANSPORT_UNSET && transport != r->only_transport)
        return;
    if (remote->port == 0)
        e.port = (uint16_t)(r->common.port ? r->common.port : PORT_DEFAULT);
    e.protocol = transport == TRANSPORT_TCP ? IPPROTO_TCP : IPPROTO_UDP;
    memcpy(e.host, remote->host, sizeof(e.host));
    if (addr_parse(str_from(e.host), &a) == 0 && e.family != 0 && a.family != e.family) {
        findings_add(r->findings, FINDING_REFUSED, remote->line, STR_LITERAL("remote"),
                     "%s is not of the family that the protocol names", e.host);
        return;
    }
    for (size_t i = 0; i < p->n_endpoints; i++) {
        if (endpoint_equal(&p->endpoints[i], &e))
            return;
    }
    if (p->n_endpoints < ARRAY_SIZE(p->endpoints))
        p->endpoints[p->n_endpoints++] = e;
}

void openvpn_settle_endpoints(struct openvpn_reading *r)
{
    bool blocks = r->n_blocks > 0;
    size_t n = blocks ? r->n_blocks : r->n_remotes;
    size_t more = blocks ? r->more_blocks : r->more_remotes;

    for (size_t i = 0; i < n; i++)
        add_endpoint(r, blocks ? &r->blocks[i] : &r->remotes[i]);
    if (blocks && r->n_remotes > 0)
        findings_add(r->findings, FINDING_LEFT_OUT, r->remotes[0].line, STR_LITERAL("remote"),
                     "the file has <connection> blocks, which count instead");
    if (more > 0)
        findings_add(r->findings, FINDING_LEFT_OUT, 0, STR_LITERAL("remote"),
                     "%zu servers beyond the first %d", more, PROFILE_ENDPOINTS_MAX);
    if (r->profile->n_endpoints == 0 && r->findings->refused == r->refused_before)
        findings_add(r->findings, FINDING_REFUSED, 0, STR_LITERAL("remote"),
                     "%s", n > 0 ? "proto-force leaves no server"
                                 : "no server is named; is this a client's profile?");
}
