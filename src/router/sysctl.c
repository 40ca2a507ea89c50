/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "router/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define ROOT "/proc/sys/net/"

static const struct {
    const char *folder, *file, *name;
} switches[] = {
    [SYSCTL_IP6_FORWARDING] = {"ipv6/conf", "forwarding", "IPv6 forwarding"},
    [SYSCTL_IP6_PROXY_NDP] = {"ipv6/conf", "proxy_ndp", "proxy NDP"},
    [SYSCTL_IP6_ACCEPT_RA] = {"ipv6/conf", "accept_ra", "router advertisements"},
    [SYSCTL_IP4_PROXY_DELAY] = {"ipv4/neigh", "proxy_delay", "delay of proxy ARP"},
    [SYSCTL_IP6_PROXY_DELAY] = {"ipv6/neigh", "proxy_delay", "delay of proxy NDP"},
};

const char *sysctl_name(enum sysctl_id id)
{
    return switches[id].name;
}

const char *sysctl_path(enum sysctl_id id, const char *scope, char buf[static SYSCTL_PATH_MAX])
{
    (void)snprintf(buf, SYSCTL_PATH_MAX, "%s/%s/%s", switches[id].folder, scope, switches[id].file);
    return buf;
}

static int open_switch(enum sysctl_id id, const char *scope, int flags)
{
    char path[SYSCTL_PATH_MAX], full[sizeof(ROOT) + SYSCTL_PATH_MAX];
    int fd;

    if (strchr(scope, '/') != NULL || scope[0] == '\0' || scope[0] == '.')
        return -EINVAL;
    (void)snprintf(full, sizeof(full), ROOT "%s", sysctl_path(id, scope, path));
    fd = open(full, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int sysctl_read(enum sysctl_id id, const char *scope, uint32_t *ret)
{
    _cleanup_(closep) int fd = open_switch(id, scope, O_RDONLY);
    char text[16];
    ssize_t n;

    if (fd < 0)
        return fd;
    n = read(fd, text, sizeof(text));
    if (n < 0)
        return -errno;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    return str_to_u32((struct str){text, (size_t)n}, UINT32_MAX, ret);
}

int sysctl_write(const struct sysctl_value *value)
{
    _cleanup_(closep) int fd = open_switch(value->id, value->scope, O_WRONLY);
    char text[16];
    int n;

    if (fd < 0)
        return fd;
    n = snprintf(text, sizeof(text), "%u\n", value->value);
    return write(fd, text, (size_t)n) == n ? 0 : -errno;
}
