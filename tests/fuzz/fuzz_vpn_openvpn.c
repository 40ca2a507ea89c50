/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A provider's file, hostile or damaged: up to the first NUL the profile, behind it what every file
 * has that the profile names. What is accepted must be written so that the laws hold: no line but
 * those that may be there, whatever was quoted, escaped or hidden in a block.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/test_vpn_openvpn_fixture.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct rest {
    const uint8_t *data;
    size_t len;
};

static int read_rest(const char *name, char **ret, size_t *ret_len, void *user)
{
    const struct rest *rest = user;
    char *copy = malloc(rest->len + 1);

    require(name[0] != '/' && strstr(name, "/../") == NULL && strncmp(name, "../", 3) != 0);
    require(copy != NULL);
    if (rest->len > 0)
        memcpy(copy, rest->data, rest->len);
    copy[rest->len] = '\0';
    *ret = copy;
    *ret_len = rest->len;
    return 0;
}

static void check_findings(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        for (const char *c = f->list[i].text; *c; c++)
            require(*c >= 0x20 && *c < 0x7f);
        for (const char *c = f->list[i].word; *c; c++)
            require(*c >= 0x20 && *c < 0x7f);
    }
}

static void check_profile(const struct profile *p)
{
    static const struct openvpn_target targets[] = {
        {{AF_INET, {192, 0, 2, 1}}, 1194, IPPROTO_UDP},
        {{AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}}, 443, IPPROTO_TCP},
    };
    static const struct openvpn_setup setup = {.targets = targets,
                                               .n_targets = ARRAY_SIZE(targets),
                                               .device = "qubes-vpn",
                                               .management = "/run/m.sock"};
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_.:";
    char *text;
    size_t len;

    require(p->n_endpoints > 0 && p->n_endpoints <= PROFILE_ENDPOINTS_MAX);
    for (size_t i = 0; i < p->n_endpoints; i++) {
        const struct endpoint *e = &p->endpoints[i];

        require(e->host[0] != '\0' && memchr(e->host, '\0', sizeof(e->host)) && e->port > 0);
        require(strspn(e->host, plain) == strlen(e->host));
    }
    if (openvpn_write(p, &setup, &text, &len) < 0)
        return;
    require(fixture_broken_law(text, len, &setup) == NULL);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 0 ? memchr(data, '\0', size) : NULL;
    struct rest rest = {nul ? nul + 1 : data, nul ? size - (size_t)(nul - data) - 1 : 0};
    struct profile_files files = {read_rest, &rest};
    size_t len = nul ? (size_t)(nul - data) : size;
    struct findings findings = {0};
    struct profile *p = calloc(1, sizeof(*p));
    char *copy = malloc(len > 0 ? len : 1);
    int r;

    require(p && copy);
    if (len > 0)
        memcpy(copy, data, len);
    r = openvpn_read(copy, len, &files, &findings, p);
    check_findings(&findings);
    require((r < 0) == (findings.refused > 0));
    if (r == 0)
        check_profile(p);
    profile_free(p);
    free(copy);
    return 0;
}
