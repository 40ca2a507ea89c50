/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of RUNTIME, written beside and renamed: state.json for people and the notifier (everybody
 * may read it), session for the next supervisor (ours alone). Nothing secret is in either.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "vpn/daemon/manager_private.h"

#define SESSION_MAX (WISH_TEXT_MAX + 512)

static int write_file(const char *folder, const char *name, mode_t mode, const char *text,
                      size_t len)
{
    char path[4096], temporary[4096];
    _cleanup_(closep) int fd = -1;
    int r = 0;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path) ||
        snprintf(temporary, sizeof(temporary), "%s/.%s.new", folder, name) >=
            (int)sizeof(temporary))
        return -ENAMETOOLONG;
    (void)unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    errno = EIO; /* for a short write */
    if (fchmod(fd, mode) < 0 || write(fd, text, len) != (ssize_t)len)
        r = -errno;
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(temporary);
    return r;
}

static json_t *address(const struct addr *a)
{
    char text[ADDR_STR_MAX];

    return a->family == 0 ? json_null() : json_string(addr_format(a, text));
}

static json_t *dns(const struct tunnel_facts *f)
{
    json_t *list = json_array();

    for (size_t i = 0; i < f->n_dns; i++)
        (void)json_array_append_new(list, address(&f->dns[i]));
    return list;
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
    return "?";
}

static json_t *tunnel(const struct vpn_status *st)
{
    if (!st->has_tunnel)
        return json_null();
    return json_pack("{s:o, s:o, s:i, s:o, s:o}", "address4", address(&st->tunnel.addr4.addr),
                     "address6", address(&st->tunnel.addr6.addr), "mtu", st->tunnel.mtu, "server",
                     address(&st->server), "dns", dns(&st->tunnel));
}

void manager_write_state(const struct manager *m)
{
    const struct vpn_status *st = &m->status;
    json_t *j =
        json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:s, s:s, s:o, s:I, s:I, s:I}", "state",
                  machine_state_name(st->state), "wanted", st->wanted_up, "profile", st->profile,
                  "phase", st->phase, "since", (json_int_t)st->since_us, "retry",
                  (json_int_t)st->retry_us, "error", st->error, "seal", seal_name(st->seal),
                  "tunnel", tunnel(st), "bytes_in", (json_int_t)st->bytes_in, "bytes_out",
                  (json_int_t)st->bytes_out, "missing", (json_int_t)st->missing);
    char *text = j == NULL ? NULL : json_dumps(j, JSON_COMPACT);
    int r = text == NULL ? -ENOMEM
                         : write_file(m->config.runtime, "state.json", 0644, text, strlen(text));

    if (r < 0)
        log_debug("%s/state.json cannot be written (%s)", m->config.runtime, strerror(-r));
    free(text);
    json_decref(j);
}

/* "profile=NAME\ndigest=HEX\nserver=ADDR\n" and the wish as the seal has it. */
void manager_write_session(const struct manager *m)
{
    char text[SESSION_MAX], wish[WISH_TEXT_MAX], server[ADDR_STR_MAX] = "";
    const struct wish *granted = seal_link_wish(m->seal);
    int n, r = granted == NULL ? -ENOENT : request_format(REQUEST_SET, granted, wish, sizeof(wish));

    if (r >= 0) {
        if (m->server.family != 0)
            (void)addr_format(&m->server, server);
        n = snprintf(text, sizeof(text), "profile=%s\ndigest=%016" PRIx64 "\nserver=%s\n%.*s",
                     m->profile->name, m->digest, server, r, wish);
        r = n < 0 || (size_t)n >= sizeof(text)
                ? -ENOSPC
                : write_file(m->config.runtime, "session", 0600, text, (size_t)n);
    }
    if (r < 0)
        log_warning("%s/session cannot be written (%s): a restart will reconnect",
                    m->config.runtime, strerror(-r));
}

static bool take_line(struct str *rest, const char *key, struct str *ret)
{
    struct str line, name;

    if (rest->p == NULL || !str_next(rest, '\n', &line) || !str_next(&line, '=', &name) ||
        line.p == NULL || !str_is(name, key))
        return false;
    *ret = line;
    return true;
}

static int parse_session(struct str text, struct session *ret)
{
    struct str profile, digest, server;
    enum request_kind kind;
    const char *why = "";
    char number[17] = "", *end;

    memset(ret, 0, sizeof(*ret));
    if (!take_line(&text, "profile", &profile) || !take_line(&text, "digest", &digest) ||
        !take_line(&text, "server", &server) || text.p == NULL ||
        profile.len >= sizeof(ret->profile) || !folder_name_ok(profile) || digest.len != 16)
        return -EINVAL;
    memcpy(ret->profile, profile.p, profile.len);
    memcpy(number, digest.p, digest.len);
    ret->digest = strtoull(number, &end, 16);
    if (*end != '\0' || (server.len > 0 && addr_parse(server, &ret->server) < 0))
        return -EINVAL;
    if (request_parse(text.p, text.len, &kind, &ret->wish, &why) < 0 || kind != REQUEST_SET)
        return -EINVAL;
    return 0;
}

int manager_read_session(const struct manager *m, struct session *ret)
{
    char path[4096], text[SESSION_MAX];
    _cleanup_(closep) int fd = -1;
    struct stat st;
    ssize_t n;

    if (snprintf(path, sizeof(path), "%s/session", m->config.runtime) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return -EINVAL;
    n = read(fd, text, sizeof(text));
    return n <= 0 ? -EINVAL : parse_session((struct str){text, (size_t)n}, ret);
}

void manager_drop_session(const struct manager *m)
{
    char path[4096];

    if (snprintf(path, sizeof(path), "%s/session", m->config.runtime) < (int)sizeof(path))
        (void)unlink(path);
}
