/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The user's folder, on a real file system under TMPDIR. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "vpn/daemon/folder.h"
#include "vpn/daemon/folder_private.h"

#define WIREGUARD                                                                                  \
    "[Interface]\nPrivateKey = 5Gb7ok8h9onnPVoFeVGJNJ9Nz6VZe73pJ13qqqw1BfM=\n"                     \
    "Address = 10.2.0.2/32\n[Peer]\nPublicKey = KpIjnASI1hsD5mq5bEBGGgEXw3zDnRcCDbSkpYcoV1k=\n"    \
    "Endpoint = 203.0.113.5:51820\nAllowedIPs = 0.0.0.0/0\n"

#define OPENVPN                                                                                    \
    "client\ndev tun\nproto udp\nremote vpn.example.net 1194\nremote-cert-tls server\n"            \
    "ca certs/ca.crt\nauth-user-pass\n"

/* The reader of "ca" looks for an envelope, not into it. */
#define CA                                                                                         \
    "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ2hhbmdlTWU=\n-----END CERTIFICATE-----\n"

struct place {
    char dir[64];  /* its own */
    char path[80]; /* the folder in it */
    struct folder *f;
    int fd; /* of the folder */
};

static void remove_tree(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *e;
    DIR *d;

    if (fd < 0) {
        (void)unlinkat(at, name, 0);
        return;
    }
    d = fdopendir(fd);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove_tree(dirfd(d), e->d_name);
    closedir(d);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    const char *tmp = getenv("TMPDIR");

    assert_non_null(p);
    (void)snprintf(p->dir, sizeof(p->dir), "%.40s/vpn-folder-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->path, sizeof(p->path), "%s/keep", p->dir);
    assert_int_equal(folder_open(p->path, &p->f), 0);
    p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p->fd >= 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    (void)folder_close(p->f);
    (void)close(p->fd);
    remove_tree(AT_FDCWD, p->dir);
    free(p);
    return 0;
}

static void write_to(int dir, const char *name, const char *text, mode_t mode)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static mode_t mode_of(const struct place *p, const char *name)
{
    struct stat st;

    return fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode & 07777;
}

static bool says(const struct findings *f, enum finding_kind kind, const char *word,
                 const char *text)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->list[i].kind == kind && strcmp(f->list[i].word, word) == 0 &&
            strstr(f->list[i].text, text) != NULL)
            return true;
    return false;
}

static void test_names(void **state)
{
    static const char *const good[] = {
        "qubes-vpn.conf", "a.ovpn", "se-mma-001.conf", "A b+c@d_e.OVPN", "us.tcp443.ovpn",
    };
    static const char *const bad[] = {
        "", ".conf", "x", "x.txt", ".x.conf", " x.conf", "a/b.conf", "../x.conf", "x.conf\n",
        "My VPN (x).ovpn", "\xc3\xa9.conf", "x;y.conf", "conf", "$x.ovpn", "-.conf2",
    };
    char name[PROFILE_NAME_MAX + 8];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(folder_name_ok(str_from(good[i])));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(folder_name_ok(str_from(bad[i])));
    assert_false(folder_name_ok((struct str){"a\0.conf", 7}));
    memset(name, 'a', sizeof(name));
    memcpy(name + 58, ".conf", 6);
    assert_true(folder_name_ok(str_from(name)));
    memset(name, 'a', sizeof(name));
    memcpy(name + 59, ".conf", 6);
    assert_false(folder_name_ok(str_from(name)));
}

static void test_list(void **state)
{
    struct place *p = *state;
    struct findings findings = {0};
    _cleanup_(freep) struct folder_list *l = calloc(1, sizeof(*l));
    struct folder_settings s = {0};
    const char *name = NULL;

    assert_int_equal(folder_list(p->f, l, &findings), 0);
    assert_int_equal(l->n, 0);
    assert_int_equal(folder_choose(l, &s, &name), -ENOENT);

    write_to(p->fd, "one.conf", WIREGUARD, 0600);
    assert_int_equal(folder_list(p->f, l, &findings), 0);
    assert_int_equal(folder_choose(l, &s, &name), 0);
    assert_string_equal(name, "one.conf");

    write_to(p->fd, "two.ovpn", OPENVPN, 0600);
    write_to(p->fd, "one.ovpn", OPENVPN, 0600);
    write_to(p->fd, "ca.crt", CA, 0600);
    write_to(p->fd, ".hidden.conf", WIREGUARD, 0600);
    write_to(p->fd, "b;d.conf", WIREGUARD, 0600);
    assert_int_equal(symlinkat("one.conf", p->fd, "link.conf"), 0);
    assert_int_equal(mkdirat(p->fd, "dir.conf", 0700), 0);
    assert_int_equal(mkfifoat(p->fd, "pipe.conf", 0600), 0);
    assert_int_equal(folder_list(p->f, l, &findings), 0);
    assert_int_equal(l->n, 3);
    assert_string_equal(l->names[0], "one.conf");
    assert_string_equal(l->names[1], "one.ovpn");
    assert_string_equal(l->names[2], "two.ovpn");
    assert_int_equal(findings.n, 4);
    assert_true(says(&findings, FINDING_LEFT_OUT, "b;d.conf", "rename it"));
    assert_true(says(&findings, FINDING_LEFT_OUT, "link.conf", "links are not followed"));
    assert_true(says(&findings, FINDING_LEFT_OUT, "pipe.conf", "no regular file"));

    if (geteuid() != 0) { /* root may read all */
        write_to(p->fd, "root.conf", WIREGUARD, 0);
        assert_int_equal(folder_list(p->f, l, &findings), 0);
        assert_int_equal(l->n, 3);
        assert_true(says(&findings, FINDING_LEFT_OUT, "root.conf", "chown"));
    }

    assert_string_equal(folder_find(l, "two"), "two.ovpn");
    assert_string_equal(folder_find(l, "one.conf"), "one.conf");
    assert_null(folder_find(l, "one")); /* there are two */
    assert_null(folder_find(l, "three"));
    assert_null(folder_find(l, ""));

    assert_int_equal(folder_choose(l, &s, &name), -ENOTUNIQ);
    write_to(p->fd, "qubes-vpn.conf", OPENVPN, 0600);
    assert_int_equal(folder_list(p->f, l, &findings), 0);
    assert_int_equal(folder_choose(l, &s, &name), 0);
    assert_string_equal(name, "qubes-vpn.conf");
    s.n_order = 2;
    memcpy(s.order[0], "gone.conf", 10);
    memcpy(s.order[1], "two.ovpn", 9);
    assert_int_equal(folder_choose(l, &s, &name), 0);
    assert_string_equal(name, "two.ovpn");
    memcpy(s.profile, "one.ovpn", 9);
    assert_int_equal(folder_choose(l, &s, &name), 0);
    assert_string_equal(name, "one.ovpn");
    memcpy(s.profile, "gone.conf", 10);
    assert_int_equal(folder_choose(l, &s, &name), -ESTALE);
}

static void test_many(void **state)
{
    struct place *p = *state;
    struct findings findings = {0};
    _cleanup_(freep) struct folder_list *l = calloc(1, sizeof(*l));
    char name[32];

    for (unsigned i = 300; i-- > 0;) {
        (void)snprintf(name, sizeof(name), "p%03u.conf", i);
        write_to(p->fd, name, "", 0600);
    }
    assert_int_equal(folder_list(p->f, l, &findings), 0);
    assert_int_equal(l->n, FOLDER_PROFILES_MAX);
    assert_int_equal(l->more, 300 - FOLDER_PROFILES_MAX);
    for (unsigned i = 0; i < FOLDER_PROFILES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "p%03u.conf", i);
        assert_string_equal(l->names[i], name);
    }
}

static void test_check(void **state)
{
    struct place *p = *state;
    struct findings findings = {0};

    assert_int_equal(mode_of(p, "."), 0700);
    folder_check(p->f, &findings);
    assert_int_equal(findings.n, 0);
    assert_int_equal(chmod(p->path, 0755), 0);
    folder_check(p->f, &findings);
    assert_true(says(&findings, FINDING_NOTE, "folder", "chmod 700"));
    if (geteuid() == 0) { /* else nobody can give it away */
        findings.n = 0;
        assert_int_equal(chown(p->path, 4978, 4978), 0);
        folder_check(p->f, &findings);
        assert_true(says(&findings, FINDING_NOTE, "folder", "belongs to user 4978"));
    }
    findings.n = 0;
    remove_tree(AT_FDCWD, p->path);
    folder_check(p->f, &findings);
    assert_true(says(&findings, FINDING_NOTE, "folder", "is missing"));
}

static int read_profile(struct place *p, const char *name, struct findings *findings)
{
    struct profile *profile = NULL;
    int r;

    *findings = (struct findings){0};
    r = folder_read_profile(p->f, name, findings, &profile);
    (void)profile_free(profile);
    return r;
}

/* Whatever a name leads to: only a regular file of the folder is read. */
static void test_read(void **state)
{
    struct place *p = *state;
    _cleanup_(freep) char *big = malloc(PROFILE_FILE_MAX + 2);
    struct findings findings;

    write_to(p->fd, "wg.conf", WIREGUARD, 0600);
    assert_int_equal(read_profile(p, "wg.conf", &findings), 0);
    assert_int_equal(read_profile(p, "none.conf", &findings), -ENOENT);
    assert_true(says(&findings, FINDING_REFUSED, "file", "not there"));
    assert_int_equal(read_profile(p, "../keep/wg.conf", &findings), -EINVAL);
    assert_int_equal(symlinkat("wg.conf", p->fd, "link.conf"), 0);
    assert_int_equal(read_profile(p, "link.conf", &findings), -ELOOP);
    assert_true(says(&findings, FINDING_REFUSED, "file", "is a link"));
    assert_int_equal(mkfifoat(p->fd, "pipe.conf", 0600), 0);
    assert_int_equal(read_profile(p, "pipe.conf", &findings), -ENOTSUP); /* and does not wait */
    assert_int_equal(mkdirat(p->fd, "dir.conf", 0700), 0);
    assert_int_equal(read_profile(p, "dir.conf", &findings), -EISDIR);
    memset(big, '#', PROFILE_FILE_MAX + 1);
    big[PROFILE_FILE_MAX + 1] = '\0';
    write_to(p->fd, "big.conf", big, 0600);
    assert_int_equal(read_profile(p, "big.conf", &findings), -EFBIG);
    assert_int_equal(findings.refused, 1);
    write_to(p->fd, "broken.conf", "[Interface]\n", 0600);
    assert_int_equal(read_profile(p, "broken.conf", &findings), -EINVAL);
    assert_true(findings.refused > 0);
}

static int read_beneath(struct place *p, const char *name)
{
    char *text = NULL;
    size_t len = 0;
    int r = folder_read_beneath(p->fd, name, 4096, &text, &len, NULL);

    if (r == 0)
        assert_int_equal(text[len], '\0');
    folder_wipe(text, len);
    return r;
}

static void test_beneath(void **state)
{
    struct place *p = *state;
    char secret[96];

    (void)snprintf(secret, sizeof(secret), "%s/outside", p->dir);
    write_to(AT_FDCWD, secret, "x", 0600);
    write_to(p->fd, "inside", "x", 0600);
    assert_int_equal(mkdirat(p->fd, "sub", 0700), 0);
    assert_int_equal(symlinkat("..", p->fd, "sub/up"), 0);
    assert_int_equal(symlinkat(p->dir, p->fd, "out"), 0);
    assert_int_equal(read_beneath(p, "inside"), 0);
    assert_int_equal(read_beneath(p, "sub/../inside"), 0);
    assert_int_equal(read_beneath(p, "./sub/.././/inside"), 0);
    assert_int_equal(read_beneath(p, "inside/x"), -ENOTDIR);
    assert_int_equal(read_beneath(p, "../outside"), -EXDEV);
    assert_int_equal(read_beneath(p, "sub/../../outside"), -EXDEV);
    assert_int_equal(read_beneath(p, secret), -EXDEV);
    assert_int_equal(read_beneath(p, "sub/up/inside"), -ELOOP);
    assert_int_equal(read_beneath(p, "out/outside"), -ELOOP);
}

static void test_settings(void **state)
{
    struct place *p = *state;
    _cleanup_(freep) struct folder_settings *s = calloc(1, sizeof(*s));
    _cleanup_(freep) struct folder_settings *back = calloc(1, sizeof(*back));
    struct findings findings = {0};

    assert_int_equal(folder_read_settings(p->f, back, &findings), 0);
    assert_memory_equal(back, s, sizeof(*s));
    memcpy(s->profile, "a b.conf", 9);
    for (unsigned i = 0; i < FOLDER_PROFILES_MAX; i++) /* as long as it gets */
        (void)snprintf(s->order[i], PROFILE_NAME_MAX, "%058u.conf", i);
    s->n_order = FOLDER_PROFILES_MAX;
    s->random = s->down = true;
    assert_int_equal(folder_write_settings(p->f, s), 0);
    assert_int_equal(mode_of(p, "settings"), 0600);
    assert_int_equal(folder_read_settings(p->f, back, &findings), 0);
    assert_int_equal(findings.n, 0);
    assert_memory_equal(back, s, sizeof(*s));

    write_to(p->fd, "settings",
             "# mine\n profile = x.conf \nprofile=../x.conf\nwanted=maybe\nrandom=1\ncolour=blue\n"
             "order=\nwanted=down\nnonsense",
             0644);
    assert_int_equal(folder_read_settings(p->f, back, &findings), 0);
    assert_string_equal(back->profile, "x.conf");
    assert_true(back->random && back->down);
    assert_int_equal(back->n_order, 0);
    assert_int_equal(findings.n, 5);
    assert_int_equal(findings.refused, 0);
    assert_true(says(&findings, FINDING_LEFT_OUT, "colour", "not known"));
    assert_true(says(&findings, FINDING_LEFT_OUT, "wanted", "cannot have"));
}

static void test_remembered(void **state)
{
    struct place *p = *state;
    struct addr a, b;
    char host[64];
    struct stat before, after;

    assert_int_equal(folder_recall(p->f, "vpn.example", &b), -ENOENT);
    assert_int_equal(addr_parse(str_from("203.0.113.5"), &a), 0);
    assert_int_equal(folder_remember(p->f, "vpn.example", &a), 0);
    assert_int_equal(folder_recall(p->f, "VPN.example", &b), 0);
    assert_true(addr_equal(&a, &b));
    assert_int_equal(fstatat(p->fd, "remembered", &before, 0), 0);
    assert_int_equal(folder_remember(p->f, "vpn.example", &a), 0);
    assert_int_equal(fstatat(p->fd, "remembered", &after, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* nothing new is not written */
    a.bytes[3] = 6;
    assert_int_equal(folder_remember(p->f, "vpn.example", &a), 0);
    assert_int_equal(folder_recall(p->f, "vpn.example", &b), 0);
    assert_true(addr_equal(&a, &b));
    for (unsigned i = 0; i < FOLDER_REMEMBERED_MAX; i++) {
        assert_int_equal(folder_recall(p->f, "vpn.example", &b), 0);
        (void)snprintf(host, sizeof(host), "host%u.example", i);
        assert_int_equal(folder_remember(p->f, host, &a), 0);
    }
    assert_int_equal(folder_recall(p->f, "vpn.example", &b), -ENOENT); /* the oldest went */
    assert_int_equal(folder_recall(p->f, "host0.example", &b), 0);
    assert_int_equal(folder_remember(p->f, "a b", &a), -EINVAL);
    assert_int_equal(addr_parse(str_from("127.0.0.1"), &a), 0);
    assert_int_equal(folder_remember(p->f, "vpn.example", &a), -EINVAL);
    write_to(p->fd, "remembered", "vpn.example 127.0.0.1\nvpn.example x\nvpn.example\n\n", 0600);
    assert_int_equal(folder_recall(p->f, "vpn.example", &b), -ENOENT);
}

static void test_secrets(void **state)
{
    struct place *p = *state;
    struct folder_secrets s = {.user = "me", .password = "p=ss w\xc3\xb6rd#", .key_password = "k"};
    struct folder_secrets back;

    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), -ENOENT); /* for which server? */
    write_to(p->fd, "a.conf", OPENVPN, 0600);
    assert_int_equal(folder_read_secrets(p->f, "a.conf", &back), 0);
    assert_string_equal(back.user, "");
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
    assert_int_equal(mode_of(p, "secrets"), 0700);
    assert_int_equal(mode_of(p, "secrets/a.conf"), 0600);
    assert_int_equal(folder_read_secrets(p->f, "a.conf", &back), 0);
    assert_string_equal(back.user, s.user);
    assert_string_equal(back.password, s.password);
    assert_string_equal(back.key_password, s.key_password);

    memset(s.password, 'x', FOLDER_SECRET_MAX - 1); /* the longest there can be */
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
    assert_int_equal(folder_read_secrets(p->f, "a.conf", &back), 0);
    assert_string_equal(back.password, s.password);
    memcpy(s.user, "me\nkey-password=x", 18);
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), -EINVAL);
    assert_int_equal(folder_write_secrets(p->f, "../a.conf", &s), -EINVAL);

    /* another provider's file under the same name */
    s.user[2] = '\0';
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
    write_to(p->fd, "a.conf", OPENVPN, 0600);
    assert_int_equal(folder_read_secrets(p->f, "a.conf", &back), -ESTALE);
    assert_string_equal(back.password, "");
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
    assert_int_equal(folder_rename(p->f, "a.conf", "c.conf"), 0);
    assert_int_equal(folder_read_secrets(p->f, "c.conf", &back), 0);
    assert_string_equal(back.password, s.password);
    assert_int_equal(folder_rename(p->f, "c.conf", "a.conf"), 0);

    assert_int_equal(fchmodat(p->fd, "secrets/a.conf", 0640, 0), 0);
    assert_int_equal(folder_read_secrets(p->f, "a.conf", &back), -EPERM);
    assert_string_equal(back.password, "");
    folder_secrets_wipe(&s);
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
    assert_int_equal(mode_of(p, "secrets/a.conf"), 0);
    assert_int_equal(folder_write_secrets(p->f, "a.conf", &s), 0);
}

static int give_ca(const char *name, char **ret, size_t *ret_len, void *user)
{
    (void)user;
    if (strcmp(name, "certs/ca.crt") != 0)
        return -ENOENT;
    *ret = strdup(CA);
    *ret_len = strlen(CA);
    return 0;
}

static int import(struct place *p, const char *name, const char *text, bool replace,
                  struct findings *findings, char *ret_name)
{
    struct profile_files files = {give_ca, NULL};

    *findings = (struct findings){0};
    return folder_import(p->f, str_from(name), text, strlen(text), &files, replace, findings,
                         ret_name);
}

static void test_import(void **state)
{
    struct place *p = *state;
    struct findings findings;
    char name[PROFILE_NAME_MAX] = "";

    assert_int_equal(import(p, "home", WIREGUARD, false, &findings, name), 0);
    assert_string_equal(name, "home.conf");
    assert_int_equal(mode_of(p, "home.conf"), 0600);
    assert_int_equal(mode_of(p, "files"), 0); /* it refers to nothing */
    assert_int_equal(import(p, "home.conf", WIREGUARD, false, &findings, name), -EEXIST);
    assert_int_equal(import(p, "home.conf", WIREGUARD, true, &findings, name), 0);

    assert_int_equal(import(p, "work", OPENVPN, false, &findings, name), 0);
    assert_string_equal(name, "work.ovpn");
    assert_int_equal(mode_of(p, "files/work.ovpn/certs%2Fca.crt"), 0600);
    assert_int_equal(read_profile(p, "work.ovpn", &findings), 0);
    assert_int_equal(import(p, "work.ovpn", OPENVPN, true, &findings, name), 0);
    assert_int_equal(read_profile(p, "work.ovpn", &findings), 0);
    /* one that needs no files leaves none behind */
    assert_int_equal(import(p, "work.ovpn", WIREGUARD, true, &findings, name), 0);
    assert_int_equal(mode_of(p, "files/work.ovpn"), 0);

    /* with a refusal nothing is written */
    assert_int_equal(import(p, "bad", "[Interface]\n", false, &findings, name), -EINVAL);
    assert_int_equal(import(p, "bad", "client\ndev tun\nremote a 1\nup /bin/sh\n", false, &findings,
                            name), -EINVAL);
    assert_true(findings.refused > 0);
    assert_int_equal(mode_of(p, "bad.conf") + mode_of(p, "bad.ovpn"), 0);
    assert_int_equal(import(p, "../bad", WIREGUARD, false, &findings, name), -EINVAL);
    assert_true(says(&findings, FINDING_REFUSED, "name", "letters"));
    assert_int_equal(import(p, "", WIREGUARD, false, &findings, name), -EINVAL);
    assert_int_equal(folder_import(p->f, str_from("x"), OPENVPN, strlen(OPENVPN), NULL, false,
                                   &findings, name), -EINVAL); /* nobody gives ca.crt */
    assert_int_equal(mode_of(p, "x.ovpn"), 0);
}

/* A profile that was put here by hand has its files beside it. */
static void test_beside(void **state)
{
    struct place *p = *state;
    struct findings findings;

    write_to(p->fd, "qubes-vpn.conf", OPENVPN, 0600);
    assert_int_equal(read_profile(p, "qubes-vpn.conf", &findings), -EINVAL);
    assert_int_equal(mkdirat(p->fd, "certs", 0700), 0);
    write_to(p->fd, "certs/ca.crt", CA, 0600);
    assert_int_equal(read_profile(p, "qubes-vpn.conf", &findings), 0);
}

static void test_rename(void **state)
{
    struct place *p = *state;
    _cleanup_(freep) struct folder_settings *s = calloc(1, sizeof(*s));
    struct folder_secrets secrets = {.user = "me", .password = "x"};
    struct findings findings;
    char name[PROFILE_NAME_MAX];

    assert_int_equal(import(p, "a", OPENVPN, false, &findings, name), 0);
    assert_int_equal(import(p, "b", WIREGUARD, false, &findings, name), 0);
    assert_int_equal(folder_write_secrets(p->f, "a.ovpn", &secrets), 0);
    memcpy(s->profile, "a.ovpn", 7);
    memcpy(s->order[0], "b.conf", 7);
    memcpy(s->order[1], "a.ovpn", 7);
    s->n_order = 2;
    assert_int_equal(folder_write_settings(p->f, s), 0);

    assert_int_equal(folder_rename(p->f, "a.ovpn", "b.conf"), -EEXIST);
    assert_int_equal(folder_rename(p->f, "c.ovpn", "d"), -ENOENT);
    assert_int_equal(folder_rename(p->f, "a.ovpn", "x/y"), -EINVAL);
    assert_int_equal(folder_rename(p->f, "a.ovpn", "new"), 0);
    assert_int_equal(read_profile(p, "new.ovpn", &findings), 0); /* its ca came along */
    assert_int_equal(folder_read_secrets(p->f, "new.ovpn", &secrets), 0);
    assert_string_equal(secrets.user, "me");
    assert_int_equal(folder_read_settings(p->f, s, &findings), 0);
    assert_string_equal(s->profile, "new.ovpn");
    assert_string_equal(s->order[1], "new.ovpn");

    assert_int_equal(folder_delete(p->f, "new.ovpn"), 0);
    assert_int_equal(folder_delete(p->f, "new.ovpn"), -ENOENT);
    assert_int_equal(folder_delete(p->f, "../new.ovpn"), -EINVAL);
    assert_int_equal(mode_of(p, "new.ovpn") + mode_of(p, "files/new.ovpn") +
                     mode_of(p, "secrets/new.ovpn"), 0);
    assert_int_equal(folder_read_settings(p->f, s, &findings), 0);
    assert_string_equal(s->profile, "");
    assert_int_equal(s->n_order, 1);
    assert_string_equal(s->order[0], "b.conf");
    assert_int_equal(folder_delete(p->f, "b.conf"), 0);
}

/* What a crash left is gone after the next start; a full disk leaves the old file. */
static void test_leftovers(void **state)
{
    struct place *p = *state;

    write_to(p->fd, ".new-0123", "x", 0600);
    assert_int_equal(mkdirat(p->fd, "files", 0700), 0);
    assert_int_equal(mkdirat(p->fd, "files/.new-import", 0700), 0);
    write_to(p->fd, "files/.new-import/ca.crt", CA, 0600);
    p->f = folder_close(p->f);
    assert_int_equal(folder_open(p->path, &p->f), 0);
    assert_int_equal(mode_of(p, ".new-0123") + mode_of(p, "files/.new-import"), 0);
    assert_int_equal(mode_of(p, "files"), 0700);
}

struct watch {
    sd_event *loop;
    unsigned calls;
};

static void on_change(struct folder *f, void *user)
{
    (void)f;
    ((struct watch *)user)->calls++;
}

static uint64_t now_usec(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Runs the loop until there were so many calls (true) or the time is over. */
static bool run_until(struct watch *w, unsigned calls, unsigned msec)
{
    uint64_t end = now_usec() + msec * 1000u;

    while (w->calls < calls && now_usec() < end)
        assert_true(sd_event_run(w->loop, end - now_usec()) >= 0);
    return w->calls >= calls;
}

static void begin_watch(struct place *p, struct watch *w)
{
    *w = (struct watch){0};
    assert_true(sd_event_new(&w->loop) >= 0);
    assert_int_equal(folder_watch(p->f, w->loop, on_change, w), 0);
}

static void test_watch(void **state)
{
    struct place *p = *state;
    struct folder_secrets secrets = {.user = "me"};
    struct folder_settings *s = calloc(1, sizeof(*s));
    struct findings findings;
    struct addr a;
    struct watch w;
    char name[PROFILE_NAME_MAX];
    int fd;

    begin_watch(p, &w);
    write_to(p->fd, "a.conf", WIREGUARD, 0600); /* a new file */
    assert_true(run_until(&w, 1, 3000));
    write_to(p->fd, "ca.crt", CA, 0600);
    assert_true(run_until(&w, 2, 3000));
    assert_int_equal(fchmodat(p->fd, "a.conf", 0644, 0), 0);
    assert_true(run_until(&w, 3, 3000));
    assert_int_equal(renameat(p->fd, "a.conf", p->fd, "b.conf"), 0);
    assert_true(run_until(&w, 4, 3000));
    assert_int_equal(unlinkat(p->fd, "b.conf", 0), 0);
    assert_true(run_until(&w, 5, 3000));

    /* our own writing is no news */
    assert_int_equal(folder_write_settings(p->f, s), 0);
    assert_int_equal(import(p, "own", OPENVPN, false, &findings, name), 0);
    assert_int_equal(folder_write_secrets(p->f, "own.ovpn", &secrets), 0);
    assert_int_equal(folder_rename(p->f, "own.ovpn", "mine.ovpn"), 0);
    assert_int_equal(folder_delete(p->f, "mine.ovpn"), 0);
    assert_int_equal(addr_parse(str_from("203.0.113.5"), &a), 0);
    assert_int_equal(folder_remember(p->f, "vpn.example", &a), 0);
    assert_false(run_until(&w, 6, 400));
    /* but what somebody else did at the same time is */
    assert_int_equal(folder_write_settings(p->f, s), 0);
    write_to(p->fd, "c.conf", WIREGUARD, 0600);
    assert_int_equal(folder_write_settings(p->f, s), 0);
    assert_true(run_until(&w, 6, 3000));
    write_to(p->fd, "settings", "random=1\n", 0600); /* by hand */
    assert_true(run_until(&w, 7, 3000));
    write_to(p->fd, "secrets/a.conf", "user=you\n", 0600);
    assert_true(run_until(&w, 8, 3000));

    /* a file is not looked at before its writer has closed it */
    fd = openat(p->fd, "slow.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, WIREGUARD, 20), 20);
    assert_false(run_until(&w, 9, 600));
    assert_int_equal(write(fd, &WIREGUARD[20], sizeof(WIREGUARD) - 21), sizeof(WIREGUARD) - 21);
    assert_int_equal(close(fd), 0);
    assert_true(run_until(&w, 9, 1000));
    assert_false(run_until(&w, 10, 300));
    (void)folder_watcher_free(p->f->watcher);
    p->f->watcher = NULL;
    (void)sd_event_unref(w.loop);
    free(s);
}

/* A folder that comes later, goes and comes back. */
static void test_watch_folder(void **state)
{
    struct place *p = *state;
    struct watch w;

    remove_tree(AT_FDCWD, p->path);
    begin_watch(p, &w);
    assert_int_equal(mkdir(p->path, 0700), 0);
    (void)close(p->fd);
    p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_to(p->fd, "a.conf", WIREGUARD, 0600);
    assert_true(run_until(&w, 1, 3000));
    write_to(p->fd, "b.conf", WIREGUARD, 0600);
    assert_true(run_until(&w, 2, 3000));
    remove_tree(AT_FDCWD, p->path);
    assert_true(run_until(&w, 3, 3000));
    assert_int_equal(mkdir(p->path, 0700), 0);
    assert_true(run_until(&w, 4, 3000));
    (void)close(p->fd);
    p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_to(p->fd, "a.conf", WIREGUARD, 0600);
    assert_true(run_until(&w, 5, 3000));
    (void)folder_watcher_free(p->f->watcher);
    p->f->watcher = NULL;
    (void)sd_event_unref(w.loop);
}

#define FOLDER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), FOLDER_TEST(test_list),      FOLDER_TEST(test_many),
        FOLDER_TEST(test_check),      FOLDER_TEST(test_read),      FOLDER_TEST(test_beneath),
        FOLDER_TEST(test_settings),   FOLDER_TEST(test_remembered), FOLDER_TEST(test_secrets),
        FOLDER_TEST(test_import),     FOLDER_TEST(test_beside),    FOLDER_TEST(test_rename),
        FOLDER_TEST(test_leftovers),  FOLDER_TEST(test_watch),     FOLDER_TEST(test_watch_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
