/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile server: lines as OpenVPN reports them, with "taken=ADDR" and "uplink=ADDR LEN" lines
 * for what is around. Whatever the judge lets through, the seal would grant, and it collides with
 * nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/pushed.h"

#define AROUND_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct input {
    struct pushed pushed;
    struct findings findings;
    struct addr taken[AROUND_MAX];
    struct prefix uplinks[AROUND_MAX];
    size_t n_taken, n_uplinks;
};

static bool is_around(struct input *in, struct str line)
{
    struct str name, text;
    uint32_t len;

    (void)str_next(&line, '=', &name);
    if (line.p == NULL)
        return false;
    if (str_is(name, "taken") && in->n_taken < AROUND_MAX) {
        in->n_taken += addr_parse(line, &in->taken[in->n_taken]) == 0;
        return true;
    }
    if (!str_is(name, "uplink") || in->n_uplinks == AROUND_MAX)
        return false;
    (void)str_next(&line, ' ', &text);
    if (line.p != NULL && addr_parse(text, &in->uplinks[in->n_uplinks].addr) == 0 &&
        str_to_u32(line, addr_bits(in->uplinks[in->n_uplinks].addr.family), &len) == 0)
        in->uplinks[in->n_uplinks++].len = (uint8_t)len;
    return true;
}

static void check_findings(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        require(memchr(f->list[i].text, '\0', sizeof(f->list[i].text)) != NULL);
        for (const char *c = f->list[i].text; *c != '\0'; c++)
            require(*c >= 0x20 && *c < 0x7f);
        for (const char *c = f->list[i].word; *c != '\0'; c++)
            require(*c >= 0x20 && *c < 0x7f);
    }
}

static void check_free(const struct input *in, const struct addr *a)
{
    if (a->family == 0)
        return;
    require(addr_why_unusable(a) == NULL);
    for (size_t i = 0; i < in->n_taken; i++)
        require(!addr_equal(a, &in->taken[i]));
    for (size_t i = 0; i < in->n_uplinks; i++)
        require(in->uplinks[i].len == 0 || !prefix_contains(&in->uplinks[i], a));
}

static void check_granted(const struct input *in, const struct tunnel_facts *t)
{
    struct wish w = {.tunnel = SEAL_TUNNEL, .mtu = t->mtu, .n_dns = t->n_dns};
    const char *why;

    w.tunnel_addr[0] = t->addr4.addr;
    w.tunnel_addr[1] = t->addr6.addr;
    memcpy(w.dns, t->dns, sizeof(w.dns));
    require(wish_check(&w, &why) == 0);
    require(t->addr4.addr.family == 0 || t->addr4.len == 32);
    require(t->addr6.addr.family == 0 || (t->addr6.len == 128 && t->mtu >= 1280));
    check_free(in, &t->addr4.addr);
    check_free(in, &t->addr6.addr);
    check_free(in, &t->peer4);
    for (size_t i = 0; i < t->n_dns; i++) {
        check_free(in, &t->dns[i]);
        require(!addr_equal(&t->dns[i], &t->addr4.addr));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, line;
    struct surroundings around;
    struct tunnel_facts facts;
    struct input in = {0};

    if (size == 0 || size > 65536)
        return 0;
    while (str_next(&rest, '\n', &line)) {
        if (!is_around(&in, line))
            pushed_add_openvpn(&in.pushed, line, &in.findings);
        require(in.pushed.n_dns <= PUSHED_DNS_MAX);
    }
    for (size_t i = 1; i < in.pushed.n_dns; i++)
        require(in.pushed.dns_order[i - 1] <= in.pushed.dns_order[i]);
    require(in.findings.refused == 0);
    around = (struct surroundings){in.taken, in.n_taken, in.uplinks, in.n_uplinks};
    if (pushed_judge(&in.pushed, &around, &in.findings, &facts) == 0)
        check_granted(&in, &facts);
    else
        require(in.findings.refused == 1);
    check_findings(&in.findings);
    return 0;
}
