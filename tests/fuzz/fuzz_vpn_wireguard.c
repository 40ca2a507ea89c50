/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A WireGuard file from anywhere. What is accepted has all that a tunnel needs, within bounds; what
 * is refused says why; nothing unprintable and no key reaches a finding.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/profile/pushed.h"
#include "vpn/profile/wireguard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_text(const char *text, size_t size)
{
    require(memchr(text, '\0', size) != NULL && text[0] != '\0');
    for (; *text != '\0'; text++)
        require(*text >= 0x20 && *text < 0x7f);
}

static void check_findings(const struct findings *f, int r)
{
    require((r < 0) == (f->refused > 0) && f->n <= PROFILE_FINDINGS_MAX);
    for (size_t i = 0; i < f->n; i++) {
        check_text(f->list[i].word, sizeof(f->list[i].word));
        check_text(f->list[i].text, sizeof(f->list[i].text));
    }
}

static void check_accepted(const struct profile *p)
{
    const struct wireguard_file *f = p->wireguard;

    require(p->kind == PROFILE_WIREGUARD && f->n_addresses >= 1 && f->n_addresses <= 8);
    require(f->n_peers >= 1 && f->n_peers <= WIREGUARD_PEERS_MAX && f->n_dns <= WIREGUARD_DNS_MAX);
    require((f->private_key[0] & 7) == 0 && (f->private_key[31] & 0xc0) == 0x40);
    require(p->n_endpoints >= 1 && p->n_endpoints <= f->n_peers);
    for (size_t i = 0; i < f->n_addresses; i++)
        require(addr_why_unusable(&f->addresses[i].addr) == NULL &&
                f->addresses[i].len <= addr_bits(f->addresses[i].addr.family));
    for (size_t i = 0; i < f->n_peers; i++) {
        const struct wireguard_peer *peer = &f->peers[i];

        require(peer->endpoint == SIZE_MAX || peer->endpoint < p->n_endpoints);
        require(peer->n_allowed <= WIREGUARD_ALLOWED_MAX);
        for (size_t k = 0; k < peer->n_allowed; k++)
            require(peer->allowed[k].len <= addr_bits(peer->allowed[k].addr.family));
    }
    for (size_t i = 0; i < p->n_endpoints; i++) {
        const struct endpoint *e = &p->endpoints[i];

        check_text(e->host, sizeof(e->host));
        require(e->port > 0 && e->protocol == IPPROTO_UDP);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct surroundings around = {0};
    struct findings findings = {0};
    struct tunnel_facts facts;
    struct profile p = {0};
    struct pushed pushed;
    int r;

    if (size > 65536)
        return 0;
    r = wireguard_read((const char *)data, size, &findings, &p);
    check_findings(&findings, r);
    if (r == 0) {
        check_accepted(&p);
        pushed_from_wireguard(&pushed, &p);
        findings = (struct findings){0};
        r = pushed_judge(&pushed, &around, &findings, &facts);
        check_findings(&findings, r);
    }
    p.wireguard = wireguard_free(p.wireguard);
    return 0;
}
