/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "vpn/daemon/bus_private.h"

/* ---- values ---- */

int bus_object_append_strings(sd_bus_message *m, const char *const *strings, size_t n)
{
    int r = sd_bus_message_open_container(m, 'a', "s");

    for (size_t i = 0; i < n && r >= 0; i++)
        r = sd_bus_message_append(m, "s", strings[i]);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_object_append_needs(sd_bus_message *m, unsigned needs)
{
    const char *list[3];
    size_t n = 0;

    if (needs & NEEDS_USER_PASSWORD)
        list[n++] = "user-password";
    if (needs & NEEDS_KEY_PASSWORD)
        list[n++] = "key-password";
    if (needs & NEEDS_CHALLENGE)
        list[n++] = "challenge";
    return bus_object_append_strings(m, list, n);
}

static const char *finding_name(enum finding_kind kind)
{
    switch (kind) {
    case FINDING_REFUSED:
        return "refused";
    case FINDING_LEFT_OUT:
        return "left-out";
    case FINDING_NOTE:
        return "note";
    }
    return "note";
}

int bus_object_append_findings(sd_bus_message *m, const struct findings *f)
{
    char more[64];
    int r = sd_bus_message_open_container(m, 'a', "(suss)");

    for (size_t i = 0; i < f->n && r >= 0; i++)
        r = sd_bus_message_append(m, "(suss)", finding_name(f->list[i].kind), f->list[i].line,
                                  f->list[i].word, f->list[i].text);
    if (r >= 0 && f->more > 0) {
        (void)snprintf(more, sizeof(more), "%zu more were found", f->more);
        r = sd_bus_message_append(m, "(suss)", "note", 0U, "", more);
    }
    return r < 0 ? r : sd_bus_message_close_container(m);
}

static const char *kind_name(bool known, enum profile_kind kind)
{
    if (!known)
        return "";
    switch (kind) {
    case PROFILE_OPENVPN:
        return "openvpn";
    case PROFILE_WIREGUARD:
        return "wireguard";
    }
    return "";
}

static const char *seal_name(enum vpn_seal seal)
{
    switch (seal) {
    case SEAL_ABSENT:
        return "absent";
    case SEAL_CLOSED:
        return "closed";
    case SEAL_CARRIER:
        return "carrier";
    case SEAL_TUNNEL_OPEN:
        return "tunnel";
    }
    return "absent";
}

static int append_needs_entry(sd_bus_message *m, const char *key, unsigned needs)
{
    int r = sd_bus_message_open_container(m, 'e', "sv");

    if (r >= 0)
        r = sd_bus_message_append(m, "s", key);
    if (r >= 0)
        r = sd_bus_message_open_container(m, 'v', "as");
    if (r >= 0)
        r = bus_object_append_needs(m, needs);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_profile(sd_bus_message *m, const struct vpn_profile *p)
{
    int r = sd_bus_message_open_container(m, 'a', "{sv}");

    if (r >= 0)
        r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "Name", "s", p->name, "Kind", "s",
                                  kind_name(p->known, p->kind), "Usable", "b", (int)p->usable,
                                  "Chosen", "b", (int)p->chosen, "Order", "u", p->order, "Problem",
                                  "s", p->problem);
    if (r >= 0)
        r = append_needs_entry(m, "Needs", p->needs);
    if (r >= 0)
        r = append_needs_entry(m, "Has", p->has);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* ---- properties; each has the same arguments, of which it uses three ---- */

#define PROPERTY(function)                                                                         \
    static int function(sd_bus *connection, const char *path, const char *interface,              \
                        const char *property, sd_bus_message *m, void *user, sd_bus_error *e)

#define PROPERTY_BEGIN                                                                             \
    const struct vpn_status *s = manager_status(((struct bus *)user)->manager);                    \
    (void)connection;                                                                              \
    (void)path;                                                                                    \
    (void)interface;                                                                               \
    (void)property;                                                                                \
    (void)e

#define SIMPLE_PROPERTY(function, type, value)                                                     \
    PROPERTY(function)                                                                             \
    {                                                                                              \
        PROPERTY_BEGIN;                                                                            \
        return sd_bus_message_append(m, type, value);                                              \
    }

SIMPLE_PROPERTY(get_state, "s", machine_state_name(s->state))
SIMPLE_PROPERTY(get_wanted_up, "b", (int)s->wanted_up)
SIMPLE_PROPERTY(get_phase, "s", s->phase)
SIMPLE_PROPERTY(get_since, "t", s->since_us)
SIMPLE_PROPERTY(get_next_try, "t", s->retry_us)
SIMPLE_PROPERTY(get_profile, "s", s->profile)
SIMPLE_PROPERTY(get_kind, "s", kind_name(s->profile[0] != '\0', s->kind))
SIMPLE_PROPERTY(get_random_order, "b", (int)s->random_order)
SIMPLE_PROPERTY(get_device, "s", s->has_tunnel ? s->device : "")
SIMPLE_PROPERTY(get_mtu, "u", s->has_tunnel ? (uint32_t)s->tunnel.mtu : 0U)
SIMPLE_PROPERTY(get_endpoint, "s", s->endpoint)
SIMPLE_PROPERTY(get_bytes_in, "t", s->bytes_in)
SIMPLE_PROPERTY(get_bytes_out, "t", s->bytes_out)
SIMPLE_PROPERTY(get_connects, "u", s->connects)
SIMPLE_PROPERTY(get_last_error, "s", s->error)
SIMPLE_PROPERTY(get_last_error_time, "t", s->error_us)
SIMPLE_PROPERTY(get_seal, "s", seal_name(s->seal))
SIMPLE_PROPERTY(get_seal_error, "s", s->seal_error)
SIMPLE_PROPERTY(get_updates_proxy, "b", (int)s->proxy)

PROPERTY(get_version)
{
    (void)connection;
    (void)path;
    (void)interface;
    (void)property;
    (void)user;
    (void)e;
    return sd_bus_message_append(m, "s", SLUICE_VERSION);
}

PROPERTY(get_missing)
{
    PROPERTY_BEGIN;
    return bus_object_append_needs(m, s->missing);
}

PROPERTY(get_profile_findings)
{
    PROPERTY_BEGIN;
    return bus_object_append_findings(m, &s->profile_findings);
}

PROPERTY(get_pushed_findings)
{
    PROPERTY_BEGIN;
    return bus_object_append_findings(m, &s->pushed_findings);
}

PROPERTY(get_addresses)
{
    char text[2][ADDR_STR_MAX];
    const char *list[2];
    size_t n = 0;
    PROPERTY_BEGIN;

    if (s->has_tunnel && s->tunnel.addr4.addr.family != 0) {
        list[n] = addr_format(&s->tunnel.addr4.addr, text[0]);
        n++;
    }
    if (s->has_tunnel && s->tunnel.addr6.addr.family != 0) {
        list[n] = addr_format(&s->tunnel.addr6.addr, text[1]);
        n++;
    }
    return bus_object_append_strings(m, list, n);
}

PROPERTY(get_dns)
{
    char text[WISH_DNS_MAX][ADDR_STR_MAX];
    const char *list[WISH_DNS_MAX];
    size_t n = 0;
    PROPERTY_BEGIN;

    for (size_t i = 0; s->has_tunnel && i < s->tunnel.n_dns && i < WISH_DNS_MAX; i++)
        list[n++] = addr_format(&s->tunnel.dns[i], text[i]);
    return bus_object_append_strings(m, list, n);
}

PROPERTY(get_gateway)
{
    char addr[ADDR_STR_MAX], text[ADDR_STR_MAX + 16] = "";
    PROPERTY_BEGIN;

    if (s->server.family != 0)
        (void)snprintf(text, sizeof(text), s->server.family == AF_INET6 ? "[%s]:%u/%s" : "%s:%u/%s",
                       addr_format(&s->server, addr), (unsigned)s->server_port,
                       s->server_protocol == IPPROTO_TCP ? "tcp" : "udp");
    return sd_bus_message_append(m, "s", text);
}

PROPERTY(get_profiles)
{
    int r;
    PROPERTY_BEGIN;

    r = sd_bus_message_open_container(m, 'a', "a{sv}");
    for (size_t i = 0; i < s->n_profiles && r >= 0; i++)
        r = append_profile(m, &s->profiles[i]);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* ---- the object ---- */

/* Every call is looked at by bus_access.c, so nothing is left to the library's own check. */
#define METHOD(name, in, out)                                                                      \
    SD_BUS_METHOD(name, in, out, bus_call_begin, SD_BUS_VTABLE_UNPRIVILEGED)
#define CHANGES(name, type, get)                                                                   \
    SD_BUS_PROPERTY(name, type, get, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    METHOD("Up", "", ""),
    METHOD("Down", "", ""),
    METHOD("Use", "s", ""),
    METHOD("Import", "hs", "a(suss)"),
    METHOD("ImportWithFiles", "hsa{sh}", "a(suss)"),
    METHOD("Describe", "h", "a{sv}a(suss)"),
    METHOD("DescribeWithFiles", "ha{sh}", "a{sv}a(suss)"),
    METHOD("DescribeProfile", "s", "a{sv}a(suss)"),
    METHOD("SetSecret", "ssh", ""),
    METHOD("Rename", "ss", ""),
    METHOD("Delete", "s", ""),
    METHOD("SetOrder", "as", ""),
    METHOD("SetRandomOrder", "as", ""),
    METHOD("Test", "", ""),
    SD_BUS_SIGNAL("Event", "ss", 0),
    SD_BUS_SIGNAL("TestResult", "bs", 0),
    SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    CHANGES("State", "s", get_state),
    CHANGES("WantedUp", "b", get_wanted_up),
    CHANGES("Phase", "s", get_phase),
    CHANGES("Since", "t", get_since),
    CHANGES("NextTry", "t", get_next_try),
    CHANGES("Profile", "s", get_profile),
    CHANGES("Kind", "s", get_kind),
    CHANGES("Profiles", "aa{sv}", get_profiles),
    CHANGES("RandomOrder", "b", get_random_order),
    CHANGES("Device", "s", get_device),
    CHANGES("Addresses", "as", get_addresses),
    CHANGES("Mtu", "u", get_mtu),
    CHANGES("Gateway", "s", get_gateway),
    CHANGES("Endpoint", "s", get_endpoint),
    CHANGES("Dns", "as", get_dns),
    SD_BUS_PROPERTY("BytesIn", "t", get_bytes_in, 0, 0),
    SD_BUS_PROPERTY("BytesOut", "t", get_bytes_out, 0, 0),
    CHANGES("Connects", "u", get_connects),
    CHANGES("LastError", "s", get_last_error),
    CHANGES("LastErrorTime", "t", get_last_error_time),
    CHANGES("MissingSecrets", "as", get_missing),
    CHANGES("Seal", "s", get_seal),
    CHANGES("SealError", "s", get_seal_error),
    CHANGES("UpdatesProxy", "b", get_updates_proxy),
    CHANGES("ProfileFindings", "a(suss)", get_profile_findings),
    CHANGES("PushedFindings", "a(suss)", get_pushed_findings),
    SD_BUS_VTABLE_END,
};

int bus_object_add(struct bus *b, sd_bus *connection)
{
    return sd_bus_add_object_vtable(connection, NULL, BUS_PATH, BUS_INTERFACE, vtable, b);
}

int bus_object_emit_changed(sd_bus *connection)
{
    static const char *const names[] = {
        "State",       "WantedUp",       "Phase",     "Since",         "NextTry",
        "Profile",     "Kind",           "Profiles",  "RandomOrder",   "Device",
        "Addresses",   "Mtu",            "Gateway",   "Endpoint",      "Dns",
        "Connects",    "LastError",      "Seal",      "LastErrorTime", "MissingSecrets",
        "SealError",   "UpdatesProxy",   "ProfileFindings", "PushedFindings", NULL,
    };

    const union { /* the library reads it only */
        const char *const *ours;
        char **theirs;
    } list = {names};

    return sd_bus_emit_properties_changed_strv(connection, BUS_PATH, BUS_INTERFACE, list.theirs);
}
