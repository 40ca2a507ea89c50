/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests/lab/test_vpn_openvpn_text.py and for people: what becomes of an OpenVPN profile.
 *   vpn-openvpn-text FILE [DEVICE MANAGEMENT ADDRESS:PORT:udp|tcp ...]
 * What is found goes to standard error, the client's configuration (when asked for) to standard
 * output. Files that the profile names are read beside it. Exit status 1: refused.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "test_vpn_openvpn_fixture.h"

static bool parse_target(char *text, struct openvpn_target *ret)
{
    char *proto = strrchr(text, ':'), *port;
    uint32_t number;

    if (!proto)
        return false;
    *proto++ = '\0';
    port = strrchr(text, ':');
    if (!port)
        return false;
    *port++ = '\0';
    ret->protocol = strcmp(proto, "tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
    if (str_to_u32(str_from(port), UINT16_MAX, &number) < 0)
        return false;
    ret->port = (uint16_t)number;
    return addr_parse(str_from(text), &ret->addr) == 0;
}

int main(int argc, char **argv)
{
    static struct openvpn_target targets[PROFILE_ENDPOINTS_MAX];
    static struct findings findings;
    static char description[32768];
    _cleanup_(profile_freep) struct profile *p = NULL;
    _cleanup_(freep) char *text = NULL, *out = NULL;
    struct profile_files files = {fixture_read_beside, argc > 1 ? argv[1] : NULL};
    struct openvpn_setup setup = {.targets = targets};
    size_t len, out_len;
    int r;

    if (argc < 2 || fixture_read_path(argv[1], &text, &len) < 0)
        return 2;
    r = profile_read("profile", text, len, &files, &findings, &p);
    fixture_describe(&findings, p, description, sizeof(description));
    fputs(description, stderr);
    if (r < 0)
        return 1;
    if (argc < 5)
        return 0;
    setup.device = argv[2];
    setup.management = argv[3];
    for (int i = 4; i < argc && setup.n_targets < PROFILE_ENDPOINTS_MAX; i++) {
        if (!parse_target(argv[i], &targets[setup.n_targets++]))
            return 2;
    }
    if (openvpn_write(p, &setup, &out, &out_len) < 0)
        return 2;
    return fwrite(out, 1, out_len, stdout) == out_len ? 0 : 2;
}
