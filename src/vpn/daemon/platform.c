/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/daemon/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "qubesdb/mirror.h"

#define KEY_PRIMARY   "/qubes-primary-dns"
#define KEY_SECONDARY "/qubes-secondary-dns"
#define KEY_SERVICE   "/qubes-service/qubes-vpn"
#define KEY_FIREWALL  "/qubes-firewall/"
#define RESOLV_MAX    8192
#define RULE_KEYS_MAX                                                                              \
    4096 /* that name a host; with more, look-ups stay allowed until a reading                     \
          */
#define PATH_MAX_QDB 64

/* Two readings: of QubesDB as known, and of the one that is on its way. */
struct reading {
    struct addr servers[2]; /* family 0: none */
    bool service_seen, service_on;
    char (*rules)[PATH_MAX_QDB]; /* owned */
    size_t n_rules, room;
};

struct platform {
    char *resolv_conf;
    struct qdb_mirror *mirror;
    struct reading now, next;
    bool known;
    bool service_was_on; /* since we run: absent before is no switching off */
    void (*changed)(void *user);
    void *user;
};

static bool can_be_asked(const struct addr *a)
{
    static const uint8_t zero[15];

    if (a->family == AF_INET)
        return a->bytes[0] != 0 && a->bytes[0] != 127 && a->bytes[0] < 224;
    return a->bytes[0] != 0xff && a->bytes[0] != 0xfe && memcmp(a->bytes, zero, sizeof(zero)) != 0;
}

size_t platform_parse_resolv_conf(struct str text, struct addr ret[static PLATFORM_SERVERS_MAX])
{
    struct str line;
    size_t n = 0;

    while (n < PLATFORM_SERVERS_MAX && str_next(&text, '\n', &line)) {
        static const char word[] = "nameserver";
        struct addr a;

        line = str_trim(line);
        if (line.len <= sizeof(word) - 1 || memcmp(line.p, word, sizeof(word) - 1) != 0 ||
            (line.p[sizeof(word) - 1] != ' ' && line.p[sizeof(word) - 1] != '\t'))
            continue;
        line = str_trim((struct str){line.p + sizeof(word) - 1, line.len - (sizeof(word) - 1)});
        if (addr_parse(line, &a) == 0 && can_be_asked(&a))
            ret[n++] = a;
    }
    return n;
}

bool platform_rule_names_host(struct str rule)
{
    struct str word, key;
    struct addr a;

    while (str_next(&rule, ' ', &word)) {
        struct str value = word;

        if (!str_next(&value, '=', &key) || value.p == NULL || !str_is(key, "dsthost"))
            continue;
        for (size_t i = 0; i < value.len; i++)
            if (value.p[i] == '/') { /* a network, so no name */
                value.len = i;
                break;
            }
        if (value.len > 0 && addr_parse(value, &a) < 0)
            return true;
    }
    return false;
}

static struct reading *reading_clear(struct reading *r)
{
    free(r->rules);
    memset(r, 0, sizeof(*r));
    return r;
}

static void rule_remove(struct reading *r, const char *path)
{
    for (size_t i = 0; i < r->n_rules; i++)
        if (strcmp(r->rules[i], path) == 0) {
            memmove(r->rules[i], r->rules[r->n_rules - 1], PATH_MAX_QDB);
            r->n_rules--;
            return;
        }
}

static void rule_add(struct reading *r, const char *path)
{
    if (strlen(path) >= PATH_MAX_QDB)
        return;
    rule_remove(r, path);
    if (r->n_rules == r->room) {
        size_t room = r->room == 0 ? 16 : r->room * 2;
        char(*rules)[PATH_MAX_QDB] = NULL;

        if (room <= RULE_KEYS_MAX)
            rules = realloc(r->rules, room * sizeof(*rules));
        if (rules == NULL)
            return;
        r->rules = rules;
        r->room = room;
    }
    memcpy(r->rules[r->n_rules++], path, strlen(path) + 1);
}

/* value NULL: the key is gone. */
static void reading_take(struct reading *r, const char *path, const struct str *value)
{
    bool second = strcmp(path, KEY_SECONDARY) == 0;
    struct addr a;

    if (second || strcmp(path, KEY_PRIMARY) == 0) {
        memset(&r->servers[second], 0, sizeof(r->servers[second]));
        if (value != NULL && addr_parse(str_trim(*value), &a) == 0 && can_be_asked(&a))
            r->servers[second] = a;
    } else if (strcmp(path, KEY_SERVICE) == 0) {
        r->service_seen = value != NULL;
        r->service_on = value != NULL && str_is(*value, "1");
    } else if (strncmp(path, KEY_FIREWALL, sizeof(KEY_FIREWALL) - 1) == 0) {
        if (value != NULL && platform_rule_names_host(*value))
            rule_add(r, path);
        else
            rule_remove(r, path);
    }
}

static void tell(struct platform *p)
{
    p->known = true;
    p->service_was_on |= p->now.service_on;
    p->changed(p->user);
}

static void on_begin(void *user)
{
    struct platform *p = user;

    (void)reading_clear(&p->next);
}

static void on_entry(const char *path, struct str value, void *user)
{
    struct platform *p = user;

    reading_take(&p->next, path, &value);
}

static void on_end(void *user)
{
    struct platform *p = user;

    (void)reading_clear(&p->now);
    p->now = p->next;
    memset(&p->next, 0, sizeof(p->next));
    tell(p);
}

static void on_changed(const char *path, const struct str *value, void *user)
{
    struct platform *p = user;

    reading_take(&p->now, path, value);
    tell(p);
}

/* What was read stays: name servers do not become worse by a restart of QubesDB. */
static void on_lost(int error, void *user)
{
    (void)error;
    tell(user);
}

int platform_new(sd_event *loop, const char *qubesdb, const char *resolv_conf,
                 void (*changed)(void *user), void *user, struct platform **ret)
{
    static const char *const prefixes[] = {KEY_PRIMARY, KEY_SECONDARY, KEY_SERVICE, KEY_FIREWALL,
                                           NULL};
    _cleanup_(platform_freep) struct platform *p = calloc(1, sizeof(*p));
    struct qdb_mirror_config config = {.socket = qubesdb,
                                       .prefixes = prefixes,
                                       .begin = on_begin,
                                       .entry = on_entry,
                                       .end = on_end,
                                       .changed = on_changed,
                                       .lost = on_lost,
                                       .user = p};
    int r;

    if (p == NULL)
        return -ENOMEM;
    p->changed = changed;
    p->user = user;
    p->resolv_conf = strdup(resolv_conf);
    if (p->resolv_conf == NULL)
        return -ENOMEM;
    r = qdb_mirror_new(loop, &config, &p->mirror);
    if (r >= 0)
        *ret = TAKE_PTR(p);
    return r;
}

struct platform *platform_free(struct platform *p)
{
    if (p == NULL)
        return NULL;
    p->mirror = qdb_mirror_free(p->mirror);
    (void)reading_clear(&p->now);
    (void)reading_clear(&p->next);
    free(p->resolv_conf);
    free(p);
    return NULL;
}

void platform_freep(struct platform **p)
{
    *p = platform_free(*p);
}

bool platform_is_known(const struct platform *p)
{
    return p->known;
}

static size_t read_resolv_conf(const char *path, struct addr *ret)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[RESOLV_MAX];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    return n <= 0 ? 0 : platform_parse_resolv_conf((struct str){text, (size_t)n}, ret);
}

size_t platform_servers(const struct platform *p, struct addr ret[static PLATFORM_SERVERS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < 2; i++)
        if (p->now.servers[i].family != 0 && (n == 0 || !addr_equal(&ret[0], &p->now.servers[i])))
            ret[n++] = p->now.servers[i];
    return n > 0 ? n : read_resolv_conf(p->resolv_conf, ret);
}

bool platform_switched_off(const struct platform *p)
{
    return p->service_was_on && !p->now.service_on;
}

bool platform_names_hosts(const struct platform *p)
{
    return p->now.n_rules > 0;
}
