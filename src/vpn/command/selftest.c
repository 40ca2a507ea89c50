/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test: tries to get out from a stand-in qube by every class of packets, and from this qube itself,
 * while a witness looks at every uplink; a few seconds, some eighty small packets to addresses that
 * are nobody's. Says for each class what came of it. A test that saw nothing must have been able
 * to see: a control frame has to be seen, and every packet has to have arrived.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "netlink/link.h"
#include "netlink/policy.h"
#include "netlink/rt.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"
#include "vpn/command/sealed.h"
#include "vpn/command/selftest_stand.h"
#include "vpn/command/selftest_watch.h"
#include "vpn/wish/wish.h"

#define SETTLE_MS   10   /* between classes */
#define LISTEN_MS   1000 /* after the last packet: neighbours may have to be found first */
#define TABLE_PLACE 79   /* of the seal: the uplink's default */

struct test {
    struct test_place place;
    struct stand stand;
    struct watch watch;
    bool standing;
    char uplink[IFNAMSIZ]; /* with the default route */
    enum test_class class; /* of the packet before */
    const char *problem;   /* why there is no verdict */
};

/* ---- what is here ---- */

struct scene {
    struct test_place *place;
    uint32_t uplink[2]; /* with the default route, by family */
    uint32_t tunnel;
    uint32_t group[64], vifs[64]; /* indices of vifs */
    size_t n_vifs;
};

static int look_at_link(const struct rt_link *l, void *user)
{
    struct scene *s = user;

    if (strcmp(l->name, SEAL_TUNNEL) == 0)
        s->tunnel = l->index;
    if (strncmp(l->name, "vif", 3) == 0 && l->group == 2 && s->n_vifs < ARRAY_SIZE(s->vifs))
        s->vifs[s->n_vifs++] = l->index;
    return 0;
}

/* The uplink: what the seal keeps in its own table, else the main one. */
static int look_at_path(const struct path *p, void *user)
{
    struct scene *s = user;
    size_t i = p->family == AF_INET6;
    struct addr *gateway = i == 0 ? &s->place->gateway4 : &s->place->gateway6;

    if (p->type != RTN_UNICAST || p->dst.len != 0 || p->oif == 0 || p->oif == s->tunnel ||
        (p->table != TABLE_PLACE && p->table != RT_TABLE_MAIN))
        return 0;
    if (s->uplink[i] != 0 && p->table != TABLE_PLACE)
        return 0;
    s->uplink[i] = p->oif;
    *gateway = p->gateway;
    return 0;
}

static bool is_vif(const struct scene *s, uint32_t index)
{
    for (size_t i = 0; i < s->n_vifs; i++) {
        if (s->vifs[i] == index)
            return true;
    }
    return false;
}

static bool is_global(const struct addr *a)
{
    return !(a->family == AF_INET6 && a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80);
}

static int look_at_addr(const struct rt_addr *a, void *user)
{
    struct scene *s = user;
    const struct addr *addr = &a->prefix.addr;
    bool six = addr->family == AF_INET6;

    if (!is_global(addr))
        return 0;
    if (a->index == s->tunnel && s->tunnel != 0 && !six)
        s->place->tunnel4 = *addr;
    else if (is_vif(s, a->index))
        *(six ? &s->place->here6 : &s->place->here4) = *addr;
    else if (a->index == s->uplink[six] && s->uplink[six] != 0)
        *(six ? &s->place->uplink6 : &s->place->uplink4) = *addr;
    return 0;
}

static int look_around(struct test *t)
{
    static const struct addr here6 = {
        AF_INET6, {0xfd, 0x09, 0x24, 0xef, 0x41, 0x79, [12] = 0x0a, 0x89, 0xff, 0xfe}};
    _cleanup_(nl_freep) struct nl_sock *rt = NULL;
    struct scene s = {.place = &t->place};
    int r = nl_open(NETLINK_ROUTE, &rt);

    if (r == 0)
        r = rt_dump_links(rt, NULL, look_at_link, &s);
    if (r == 0)
        r = path_dump(rt, AF_INET, NULL, look_at_path, &s);
    if (r == 0)
        r = path_dump(rt, AF_INET6, NULL, look_at_path, &s);
    if (r == 0)
        r = rt_dump_addrs(rt, NULL, look_at_addr, &s);
    if (r < 0)
        return r;
    if (s.uplink[0] != 0 && if_indextoname(s.uplink[0], t->uplink) == NULL)
        t->uplink[0] = '\0';
    /* without a qube attached: as Qubes would do it */
    if (t->place.here4.family == 0)
        t->place.here4 = t->place.uplink4;
    if (t->place.here4.family == 0)
        t->place.here4 = (struct addr){AF_INET, {10, 137, 255, 254}};
    if (t->place.here6.family == 0)
        t->place.here6 = t->place.uplink6.family != 0 ? t->place.uplink6 : here6;
    return 0;
}

/* "203.0.113.10:1194/udp", "[2001:db8::1]:443/tcp": as the bus has it. */
static void take_endpoint(struct test_place *p, const char *text)
{
    const char *slash = strrchr(text, '/'), *colon = strrchr(text, ':');
    struct str host, port;
    struct addr addr;
    uint32_t number;

    if (slash == NULL || colon == NULL || colon > slash)
        return;
    host = (struct str){text, (size_t)(colon - text)};
    port = (struct str){colon + 1, (size_t)(slash - colon - 1)};
    if (host.len > 2 && host.p[0] == '[')
        host = (struct str){host.p + 1, host.len - 2};
    if (addr_parse(host, &addr) < 0 || str_to_u32(port, UINT16_MAX, &number) < 0)
        return;
    p->endpoint = addr;
    p->endpoint_port = (uint16_t)number;
    p->endpoint_protocol = strcmp(slash, "/tcp") == 0 ? IPPROTO_TCP : IPPROTO_UDP;
}

/* Of the tunnel, else of what the seal lets the client speak to. */
static void ask_endpoint(struct test *t, const struct command_options *o)
{
    json_t *status = NULL, *report = NULL, *carrier;
    char text[128];
    struct line l;

    if (line_open(&l, o->bus) >= 0 && line_get_all(&l, &status) >= 0)
        take_endpoint(&t->place, say_get(status, "gateway"));
    line_close(&l);
    if (t->place.endpoint.family == 0) {
        (void)sealed_ask(o->seal, &report, text, sizeof(text));
        carrier = json_array_get(json_object_get(json_object_get(report, "open"), "carriers"), 0);
        (void)snprintf(text, sizeof(text), "%s:%d/%s", say_get(carrier, "address"),
                       (int)json_integer_value(json_object_get(carrier, "port")),
                       say_get(carrier, "protocol"));
        take_endpoint(&t->place, text);
    }
    json_decref(report);
    json_decref(status);
}

static int make_random(char random[static TAG_RANDOM + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint8_t bytes[TAG_RANDOM];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return -EIO;
    for (size_t i = 0; i < TAG_RANDOM; i++)
        random[i] = letters[bytes[i] % 32];
    random[TAG_RANDOM] = '\0';
    return 0;
}

/* ---- the stand-in's packets ---- */

static int shoot(enum test_class c, const struct shot *s, void *user)
{
    struct test *t = user;
    struct frame f;
    int r = frame_build(s, &f);

    if (r < 0)
        return 0;
    if (c != t->class)
        r = watch_run(&t->watch, SETTLE_MS);
    t->class = c;
    if (r == 0)
        r = stand_send(&t->stand, f.bytes, f.len);
    if (r == 0)
        t->watch.classes[c].sent++;
    return r;
}

/* ---- this qube's own ---- */

static void send_own(struct test *t, const struct addr *to, uint16_t port, const char *device,
                     bool raw)
{
    struct sockaddr_in at4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 at6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool six = to->family == AF_INET6;
    _cleanup_(closep) int fd = -1;
    char tag[TAG_LEN + 8] = {8}; /* an echo request, should it be raw */

    if (to->family == 0)
        return;
    tag_make(t->place.random, CLASS_LOCAL, tag + 8);
    fd = socket(to->family, (raw ? SOCK_RAW : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
                raw ? IPPROTO_ICMP : 0);
    if (fd < 0)
        return;
    memcpy(&at4.sin_addr, to->bytes, 4);
    memcpy(&at6.sin6_addr, to->bytes, 16);
    if (device != NULL && device[0] != '\0')
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
    t->watch.classes[CLASS_LOCAL].sent++;
    t->watch.classes[CLASS_LOCAL].arrived++; /* nothing lies between it and the stack */
    (void)sendto(fd, tag, sizeof(tag), MSG_NOSIGNAL,
                 six ? (struct sockaddr *)&at6 : (struct sockaddr *)&at4,
                 six ? sizeof(at6) : sizeof(at4)); /* refused is as good as dropped */
}

/* A frame made by hand, straight to the device: what even root may not do. */
static void send_frame(struct test *t, const char *device, const struct addr *src,
                       const struct addr *dst, unsigned number)
{
    struct shot s = {.to_mac = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff},
                     .from_mac = {0x02, 0, 0, 0, 0, 1},
                     .src = *src,
                     .dst = *dst,
                     .protocol = IPPROTO_UDP,
                     .sport = 40999,
                     .dport = 9,
                     .ttl = 64};
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_IP),
                             .sll_halen = 6,
                             .sll_ifindex = (int)if_nametoindex(device)};
    _cleanup_(closep) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct frame f;

    memcpy(at.sll_addr, s.to_mac, 6);
    tag_make(t->place.random, number, s.tag);
    if (fd < 0 || at.sll_ifindex == 0 || frame_build(&s, &f) < 0)
        return;
    (void)sendto(fd, f.bytes, f.len, MSG_NOSIGNAL, (struct sockaddr *)&at, sizeof(at));
    if (number == CLASS_LOCAL) {
        t->watch.classes[CLASS_LOCAL].sent++;
        t->watch.classes[CLASS_LOCAL].arrived++;
    }
}

static void send_all_own(struct test *t)
{
    static const struct addr resolver = {AF_INET, {192, 0, 2, 53}},
                             virtual = {AF_INET, {10, 139, 1, 1}};
    const struct test_place *p = &t->place;

    send_own(t, &test_own4, 443, NULL, false);
    send_own(t, &test_own4, 443, t->uplink, false);
    send_own(t, &test_own4, 0, NULL, true);
    send_own(t, &resolver, 53, NULL, false);
    send_own(t, &virtual, 53, NULL, false);
    send_own(t, &p->gateway4, 9, NULL, false);
    send_own(t, &p->endpoint, p->endpoint_port, NULL, false);
    send_own(t, &test_own6, 443, NULL, false);
    send_own(t, &test_own6, 443, t->uplink, false);
    if (t->uplink[0] != '\0')
        send_frame(t, t->uplink, p->uplink4.family != 0 ? &p->uplink4 : &virtual, &test_own4,
                   CLASS_LOCAL);
}

/* ---- the course ---- */

static int make_ready(struct test *t, const struct command_options *o)
{
    int r = make_random(t->place.random);

    t->problem = "this qube's network cannot be read";
    if (r == 0)
        r = look_around(t);
    if (r < 0)
        return r;
    ask_endpoint(t, o);
    r = stand_make(&t->stand, &t->place.here4, &t->place.here6, &t->problem);
    if (r < 0)
        return r;
    t->standing = true;
    t->place.qube4 = t->stand.qube4;
    t->place.qube6 = t->stand.qube6;
    memcpy(t->place.vif_mac, t->stand.vif_mac, 6);
    memcpy(t->place.qube_mac, t->stand.qube_mac, 6);
    t->problem = "the uplinks cannot be watched";
    return watch_open(&t->watch, t->stand.index, &t->place);
}

static int run_course(struct test *t)
{
    int r;

    send_frame(t, t->stand.name, &t->place.here4, &t->place.qube4, CLASS_CONTROL);
    r = test_plan(&t->place, shoot, t);
    if (r == 0)
        r = watch_run(&t->watch, SETTLE_MS);
    if (r == 0) {
        send_all_own(t);
        send_frame(t, t->stand.name, &t->place.here4, &t->place.qube4, CLASS_CONTROL);
        r = watch_run(&t->watch, LISTEN_MS);
    }
    t->problem = r < 0 ? "the test broke off" : NULL;
    return r;
}

/* ---- the verdict ---- */

static const char *blind_because(const struct test *t)
{
    if (t->watch.control < 2)
        return "the control frames were not seen";
    if (t->watch.lost > 0)
        return "frames were lost: the uplinks are too busy at present";
    if (!t->stand.firewall)
        return "Qubes' own firewall tables are not there, or did not take the stand-in: what "
               "it sends may have been dropped before the seal";
    return NULL;
}

static const char *class_verdict(const struct watch_class *c, char *buf, size_t size)
{
    if (c->leaked > 0)
        (void)snprintf(buf, size, "LEAKED by %s, %u times: %s", c->by, c->leaked, c->what);
    else if (c->sent == 0)
        (void)snprintf(buf, size, "not tried: nothing here that it could aim at");
    else if (c->arrived < c->sent)
        (void)snprintf(buf, size, "not sure: only %u of %u packets arrived", c->arrived, c->sent);
    else if (c->tunnel > 0)
        (void)snprintf(buf, size, "no leak: into the tunnel or nowhere");
    else
        (void)snprintf(buf, size, "no leak: nowhere");
    return buf;
}

struct verdict {
    unsigned leaked, unsure;
    const char *blind;
};

static struct verdict judge(const struct test *t)
{
    struct verdict v = {.blind = blind_because(t)};

    for (size_t i = 0; i < TEST_CLASSES; i++) {
        const struct watch_class *c = &t->watch.classes[i];

        v.leaked += c->leaked > 0;
        v.unsure += c->leaked == 0 && c->sent > 0 && c->arrived < c->sent;
    }
    return v;
}

static const char *whole_verdict(const struct test *t, const struct verdict *v)
{
    if (v->leaked > 0)
        return "LEAKS";
    if (v->blind != NULL || v->unsure > 0)
        return "not sure";
    return t->watch.foreign > 0 ? "identifies" : "sealed";
}

static int print_people(const struct test *t, const struct verdict *v)
{
    static const char *const columns[] = {"TRIED", "PACKETS", "OUTCOME", NULL};
    struct say_table *table = say_table_new(columns);
    char number[16], text[192];
    int r = table != NULL ? 0 : -ENOMEM;

    for (unsigned i = 0; i < TEST_CLASSES && r == 0; i++) {
        const struct watch_class *c = &t->watch.classes[i];

        (void)snprintf(number, sizeof(number), "%u", c->sent);
        r = say_table_add(table, (const char *const[]){test_class_name(i), number,
                                                       class_verdict(c, text, sizeof(text))});
    }
    if (r == 0)
        r = say_table_print(table);
    if (v->leaked > 0)
        printf("LEAKS: %u of %d classes got out by an uplink. Shut down the qubes behind; then: "
               "qubes-vpn-forwarding check\n",
               v->leaked, TEST_CLASSES);
    else if (v->blind != NULL)
        printf("Not sure: %s.\n", v->blind);
    else if (v->unsure > 0)
        printf("Not sure: not every packet arrived. Try again.\n");
    else if (t->watch.foreign > 0)
        printf("Nothing got out by an uplink, but %u packets in the tunnel carry an address of "
               "this qube or of a qube behind it.\n",
               t->watch.foreign);
    else
        printf("Sealed: nothing got out by an uplink. The witness saw its control frames.\n");
    return r;
}

static int print_json(const struct test *t, const struct verdict *v)
{
    json_t *classes = json_array(), *root;
    char text[192];
    int r;

    for (unsigned i = 0; i < TEST_CLASSES; i++) {
        const struct watch_class *c = &t->watch.classes[i];

        (void)json_array_append_new(
            classes, json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:s}", "class", test_class_name(i),
                               "sent", (int)c->sent, "arrived", (int)c->arrived, "leaked",
                               (int)c->leaked, "tunnel", (int)c->tunnel, "by", c->by, "outcome",
                               class_verdict(c, text, sizeof(text))));
    }
    root = json_pack("{s:s, s:b, s:o, s:i, s:i, s:i, s:s}", "verdict", whole_verdict(t, v), "leak",
                     (int)(v->leaked > 0), "classes", classes, "control", (int)t->watch.control,
                     "lost", (int)t->watch.lost, "identifying", (int)t->watch.foreign, "not_sure",
                     v->blind != NULL ? v->blind : "");
    r = root != NULL ? say_json(root, false) : -ENOMEM;
    json_decref(root);
    return r;
}

static int tell(const struct test *t, bool json)
{
    struct verdict v = judge(t);
    int r = json ? print_json(t, &v) : print_people(t, &v);

    if (v.leaked > 0)
        return COMMAND_OPEN;
    return r < 0 || v.blind != NULL || v.unsure > 0 || t->watch.foreign > 0 ? COMMAND_FAILED
                                                                            : COMMAND_OK;
}

static void test_done(struct test *t)
{
    watch_close(&t->watch);
    if (t->standing)
        stand_remove(&t->stand);
}

int command_test(const struct command_options *o)
{
    _cleanup_(test_done) struct test t = {.watch = {.fd = -1}};
    int r;

    if (geteuid() != 0) {
        say_failed(NULL, "Next: sudo qubes-vpn test",
                   "the leak test needs root: it attaches a stand-in qube and watches the uplinks");
        return COMMAND_FAILED;
    }
    r = make_ready(&t, o);
    if (r == 0)
        r = run_course(&t);
    if (r < 0) {
        say_failed("Nothing is known about leaks from this.", NULL, "cannot test: %s: %s",
                   t.problem, strerror(-r));
        return COMMAND_FAILED;
    }
    return tell(&t, o->json);
}
