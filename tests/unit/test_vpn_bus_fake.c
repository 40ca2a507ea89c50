/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_vpn_bus_fake.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake fake;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(fake.last, sizeof(fake.last), format, ap);
    va_end(ap);
}

static void changed(void)
{
    if (fake.bus != NULL)
        bus_changed(fake.bus);
}

static struct addr address(const char *text)
{
    struct addr a = {0};

    (void)addr_parse(str_from(text), &a);
    return a;
}

const struct vpn_status *manager_status(const struct manager *m)
{
    (void)m;
    return &fake.status;
}

const char *vpn_event_name(enum vpn_event event)
{
    return event == VPN_EVENT_UP ? "up" : "down";
}

int manager_up(struct manager *m, const char **ret_why)
{
    struct vpn_status *s = &fake.status;

    (void)m;
    note("up");
    if (s->n_profiles == 0) {
        *ret_why = "There is no profile";
        return -ENOENT;
    }
    s->state = STATE_UP;
    s->wanted_up = true;
    s->since_us = UINT64_C(1790000000000000);
    s->has_tunnel = true;
    (void)snprintf(s->device, sizeof(s->device), "qubes-vpn");
    s->tunnel.addr4.addr = address("10.8.0.2");
    s->tunnel.addr6.addr = address("fd00:8::2");
    s->tunnel.mtu = 1420;
    s->tunnel.dns[0] = address("10.64.0.53");
    s->tunnel.n_dns = 1;
    s->server = address("2001:db8::1");
    s->server_port = 1194;
    s->server_protocol = IPPROTO_UDP;
    (void)snprintf(s->endpoint, sizeof(s->endpoint), "vpn.example.net");
    s->seal = SEAL_TUNNEL_OPEN;
    s->bytes_in = 5000000000;
    changed();
    if (fake.bus != NULL)
        bus_event(fake.bus, VPN_EVENT_UP, "Connected to vpn.example.net");
    return 0;
}

int manager_down(struct manager *m, const char **ret_why)
{
    (void)m;
    (void)ret_why;
    note("down");
    fake.status.state = STATE_SEALED;
    fake.status.wanted_up = false;
    fake.status.has_tunnel = false;
    fake.status.seal = SEAL_CLOSED;
    changed();
    return 0;
}

static int find(const char *name, const char **ret_why)
{
    for (size_t i = 0; i < fake.status.n_profiles; i++) {
        if (strcmp(fake.status.profiles[i].name, name) == 0)
            return (int)i;
    }
    *ret_why = "There is no such profile";
    return -ENOENT;
}

int manager_use(struct manager *m, const char *name, const char **ret_why)
{
    int i = find(name, ret_why);

    (void)m;
    note("use %s", name);
    if (i < 0)
        return i;
    for (size_t k = 0; k < fake.status.n_profiles; k++)
        fake.status.profiles[k].chosen = (int)k == i;
    (void)snprintf(fake.status.profile, sizeof(fake.status.profile), "%s", name);
    changed();
    return 0;
}

static int look(const struct manager_file *main_file, const struct manager_file *others,
                size_t n_others, struct findings *findings, const char **ret_why)
{
    fake.len = main_file->len;
    (void)snprintf(fake.text, sizeof(fake.text), "%s", main_file->text);
    fake.n_others = n_others;
    if (n_others > 0)
        (void)snprintf(fake.other, sizeof(fake.other), "%s=%zu", others[n_others - 1].name,
                       others[n_others - 1].len);
    if (strncmp(main_file->text, "bad", 3) != 0) {
        findings->list[findings->n++] = (struct finding){FINDING_LEFT_OUT, 7, "route",
                                                         "everything goes into the tunnel anyway"};
        return 0;
    }
    findings->list[findings->n++] =
        (struct finding){FINDING_REFUSED, 3, "up", "would run a program"};
    findings->refused++;
    *ret_why = "The file cannot be used";
    return -EINVAL;
}

int manager_import(struct manager *m, const struct manager_file *main_file,
                   const struct manager_file *others, size_t n_others, struct findings *findings,
                   const char **ret_why)
{
    struct vpn_profile *p = &fake.status.profiles[fake.status.n_profiles];
    int r = look(main_file, others, n_others, findings, ret_why);

    (void)m;
    note("import %s", main_file->name);
    if (r < 0)
        return r;
    *p = (struct vpn_profile){.known = true, .kind = PROFILE_OPENVPN, .usable = true};
    (void)snprintf(p->name, sizeof(p->name), "%s", main_file->name);
    fake.status.n_profiles++;
    changed();
    return 0;
}

static int make_profile(struct profile **ret)
{
    struct profile *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return -ENOMEM;
    p->kind = PROFILE_WIREGUARD;
    p->n_endpoints = 2;
    p->endpoints[0] = (struct endpoint){"vpn.example.net", 1194, IPPROTO_UDP, 0};
    p->endpoints[1] = (struct endpoint){"2001:db8::1", 443, IPPROTO_TCP, 0};
    p->needs = NEEDS_USER_PASSWORD;
    *ret = p;
    return 0;
}

int manager_describe(struct manager *m, const struct manager_file *main_file,
                     const struct manager_file *others, size_t n_others, struct findings *findings,
                     struct profile **ret_profile, const char **ret_why)
{
    int r = look(main_file, others, n_others, findings, ret_why);

    (void)m;
    note("describe");
    return r < 0 ? r : make_profile(ret_profile);
}

int manager_describe_profile(struct manager *m, const char *name, struct findings *findings,
                             struct profile **ret_profile, const char **ret_why)
{
    (void)m;
    (void)findings;
    note("describe-profile|%s", name);
    if (strcmp(name, "work.ovpn") == 0)
        return make_profile(ret_profile);
    *ret_why = "there is no such profile";
    return -ENOENT;
}

int manager_set_secret(struct manager *m, const char *name, enum client_secret kind,
                       struct str text, const char **ret_why)
{
    int i = find(name, ret_why);

    (void)m;
    note("secret %s %d", name, (int)kind);
    fake.len = text.len;
    (void)snprintf(fake.text, sizeof(fake.text), "%.*s", (int)text.len, text.p);
    return i < 0 ? i : 0;
}

int manager_rename(struct manager *m, const char *name, const char *new_name, const char **ret_why)
{
    int i = find(name, ret_why);

    (void)m;
    note("rename %s %s", name, new_name);
    if (i < 0)
        return i;
    (void)snprintf(fake.status.profiles[i].name, PROFILE_NAME_MAX, "%s", new_name);
    changed();
    return 0;
}

int manager_delete(struct manager *m, const char *name, const char **ret_why)
{
    int i = find(name, ret_why);

    (void)m;
    note("delete %s", name);
    if (i < 0)
        return i;
    fake.status.profiles[i] = fake.status.profiles[--fake.status.n_profiles];
    changed();
    return 0;
}

int manager_set_order(struct manager *m, const char *const *names, size_t n, bool random,
                      const char **ret_why)
{
    (void)m;
    (void)ret_why;
    note("order %zu %s %s", n, n > 0 ? names[n - 1] : "", random ? "random" : "fixed");
    for (size_t i = 0; i < fake.status.n_profiles; i++) {
        fake.status.profiles[i].order = 0;
        for (size_t k = 0; k < n; k++) {
            if (strcmp(names[k], fake.status.profiles[i].name) == 0)
                fake.status.profiles[i].order = (unsigned)k + 1;
        }
    }
    fake.status.random_order = random;
    changed();
    return 0;
}

int manager_test(struct manager *m, const char **ret_why)
{
    (void)m;
    (void)ret_why;
    note("test");
    if (fake.bus != NULL)
        bus_test_result(fake.bus, true, "{\"sealed\": true}");
    return 0;
}
