/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenVPN's management protocol as a compromised client may speak it: the input is what it sends,
 * in one piece and byte by byte, which has to give the same lines; what is understood keeps its
 * promises; and what we would answer is one command, whatever was in the input.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "vpn/client/management.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_within(struct str part, struct str line)
{
    require(part.p == NULL || part.len == 0 ||
            (part.p >= line.p && part.p + part.len <= line.p + line.len));
}

static void check_addr(const struct addr *a, int family)
{
    static const uint8_t zero[16];
    size_t size = addr_size(a->family);

    require(a->family == 0 || family == 0 || a->family == family);
    require(memcmp(a->bytes + size, zero, sizeof(zero) - size) == 0);
}

/* The bytes of a command: quotes closed, one line, nothing behind it. */
static void check_command(const char *verb, const char *value)
{
    char buf[MANAGEMENT_COMMAND_MAX];
    int n = management_write(buf, verb, "Auth", value);
    bool quoted = false;

    if (n < 0)
        return;
    require((size_t)n < sizeof(buf) && buf[n] == '\0' && buf[n - 1] == '\n');
    for (int i = 0; i < n - 1; i++) {
        require((unsigned char)buf[i] >= ' ' && buf[i] != 0x7f);
        if (buf[i] == '\\')
            i++;
        else if (buf[i] == '"')
            quoted = !quoted;
    }
    require(!quoted);
}

static void check_answers(const struct management_message *m)
{
    char value[MANAGEMENT_COMMAND_MAX], text[MANAGEMENT_SECRET_MAX], back[MANAGEMENT_SECRET_MAX];
    size_t len;

    if (m->kind != MANAGEMENT_FAILED || m->state_id.p == NULL)
        return;
    require(m->state_id.len > 0 && memchr(m->state_id.p, ':', m->state_id.len) == NULL);
    if (management_dynamic_response(m->state_id, "123456", value, sizeof(value)) == 0)
        check_command("password", value);
    if (base64_read(m->user, text, sizeof(text), &len) == 0) {
        check_command("username", text);
        if (base64_write(text, len, value, sizeof(value)) == 0)
            require(base64_read(str_from(value), back, sizeof(back), &len) == 0 &&
                    memcmp(text, back, len) == 0);
    }
}

static void check_line(struct str line)
{
    _cleanup_(freep) char *copy = malloc(line.len + 1); /* so that reading beyond it is seen */
    struct management_message m;

    if (copy == NULL)
        return;
    if (line.len > 0)
        memcpy(copy, line.p, line.len);
    line.p = copy;
    management_parse(line, &m);
    check_within(m.text, line);
    check_within(m.challenge, line);
    check_within(m.state_id, line);
    check_within(m.user, line);
    check_addr(&m.local, AF_INET);
    check_addr(&m.local6, AF_INET6);
    check_addr(&m.server, 0);
    require(m.kind != MANAGEMENT_STATE_WAS || (m.time != 0 && m.state != OPENVPN_OTHER));
    require(management_state_words(m.state) != NULL);
    (void)management_reason_words(m.text);
    check_answers(&m);
    copy[line.len] = '\0';
    check_command("password", copy);
}

/* Line after line; returns a number that tells two series of lines apart. */
static uint64_t read_lines(struct management_reader *r, struct str bytes, uint64_t h, bool check)
{
    struct str line;

    while (management_read(r, &bytes, &line)) {
        require(line.len <= MANAGEMENT_LINE_MAX && memchr(line.p, '\n', line.len) == NULL);
        for (size_t i = 0; i < line.len; i++)
            h = (h ^ (uint8_t)line.p[i]) * 0x100000001b3u;
        h = (h ^ 0x100) * 0x100000001b3u;
        if (check)
            check_line(line);
    }
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct management_reader whole, pieces;
    uint64_t a, b = 0;

    memset(&whole, 0, sizeof(whole));
    memset(&pieces, 0, sizeof(pieces));
    a = read_lines(&whole, (struct str){(const char *)data, size}, 0, true);
    for (size_t i = 0; i < size; i++)
        b = read_lines(&pieces, (struct str){(const char *)data + i, 1}, b, false);
    require(a == b);
    return 0;
}
