/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/client/openvpn_private.h"
#include "vpn/client/runtime.h"

#define TOLD_NAME "pushed"
#define HEAD_MAX  256

/* Names of the environment that the judge's reader knows; the others are about certificates. */
static bool line_matters(struct str line)
{
    static const char *const heads[] = {"ifconfig_", "tun_mtu=", "foreign_option_", "dns_",
                                        "route_"};

    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        if (line.len >= strlen(heads[i]) && memcmp(line.p, heads[i], strlen(heads[i])) == 0)
            return true;
    return false;
}

void openvpn_told_begin(struct openvpn_told *t)
{
    memset(&t->pushed, 0, sizeof(t->pushed));
    memset(&t->findings, 0, sizeof(t->findings));
    t->len = 0;
    t->whole = true;
}

void openvpn_told_add(struct openvpn_told *t, struct str line)
{
    if (!line_matters(line))
        return;
    pushed_add_openvpn(&t->pushed, line, &t->findings);
    if (t->text == NULL)
        t->text = malloc(OPENVPN_TOLD_MAX);
    if (t->text == NULL || line.len + 1 > OPENVPN_TOLD_MAX - t->len) {
        t->whole = false; /* cannot be given to a successor, who then starts anew */
        return;
    }
    memcpy(t->text + t->len, line.p, line.len);
    t->len += line.len;
    t->text[t->len++] = '\n';
}

static const char *addr_or_dash(const struct addr *a, char buf[static ADDR_STR_MAX])
{
    return a->family == 0 ? "-" : addr_format(a, buf);
}

int openvpn_told_write(const struct openvpn_told *t, const char *folder,
                       const struct management_message *state)
{
    char local[ADDR_STR_MAX], local6[ADDR_STR_MAX], server[ADDR_STR_MAX];
    _cleanup_(freep) char *text = NULL;
    int n;

    if (!t->whole)
        return runtime_remove(folder, TOLD_NAME);
    text = malloc(HEAD_MAX + t->len);
    if (text == NULL)
        return -ENOMEM;
    n = snprintf(text, HEAD_MAX, "%" PRIu64 " %s %s %s %u\n", state->time,
                 addr_or_dash(&state->local, local), addr_or_dash(&state->local6, local6),
                 addr_or_dash(&state->server, server), state->port);
    if (t->len > 0)
        memcpy(text + n, t->text, t->len);
    return runtime_write(folder, TOLD_NAME, text, (size_t)n + t->len);
}

static int head_read(struct str line, struct management_message *ret)
{
    struct management_message m = {.state = OPENVPN_CONNECTED};
    struct addr *const addrs[] = {&m.local, &m.local6, &m.server};
    struct str field;
    uint32_t port;

    if (!str_next(&line, ' ', &field) || field.len == 0 || field.len > 18)
        return -EBADMSG;
    for (size_t i = 0; i < field.len; i++) {
        if (field.p[i] < '0' || field.p[i] > '9')
            return -EBADMSG;
        m.time = m.time * 10 + (uint64_t)(field.p[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_SIZE(addrs); i++)
        if (!str_next(&line, ' ', &field) ||
            (!str_is(field, "-") && addr_parse(field, addrs[i]) < 0))
            return -EBADMSG;
    if (!str_next(&line, ' ', &field) || str_to_u32(field, UINT16_MAX, &port) < 0)
        return -EBADMSG;
    m.port = (uint16_t)port;
    *ret = m;
    return 0;
}

int openvpn_told_read(struct openvpn_told *t, const char *folder, struct management_message *ret)
{
    _cleanup_(freep) char *text = NULL;
    struct str rest, line;
    int r = runtime_read(folder, TOLD_NAME, &text, &rest.len);

    if (r < 0)
        return r;
    rest.p = text;
    if (!str_next(&rest, '\n', &line))
        return -EBADMSG;
    r = head_read(line, ret);
    if (r < 0)
        return r;
    openvpn_told_begin(t);
    while (str_next(&rest, '\n', &line))
        openvpn_told_add(t, line);
    return 0;
}
