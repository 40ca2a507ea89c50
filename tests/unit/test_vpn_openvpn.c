/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenVPN's files: how lines are cut, what is taken and what is not, and what is written for the
 * client. The profiles in tests/data/vpn/openvpn* each have a file of what must be said about them.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "test_vpn_openvpn_fixture.h"
#include "vpn/profile/openvpn_directives.h"
#include "vpn/profile/openvpn_lines.h"

#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nQUJDREVGRw==\n-----END CERTIFICATE-----\n"
#define PLAIN_KEY   "-----BEGIN PRIVATE KEY-----\nQUJDREVGRw==\n-----END PRIVATE KEY-----\n"
#define CA          "<ca>\n" CERTIFICATE "</ca>\n"
#define CLIENT      "client\ndev tun\nremote 192.0.2.1\nremote-cert-tls server\n"
#define USER        CLIENT CA "auth-user-pass\n"

/* -- lines ------------------------------------------------------------------------------------- */

/* "word|word" of the first line with words; "!" and what is wrong; "" for none. */
static const char *cut(const char *text)
{
    static char shown[600];
    _cleanup_(freep) char *copy = malloc(strlen(text) + 1);
    struct openvpn_lines lines;
    struct openvpn_line line;
    const char *why = NULL;
    char *p = shown;
    int r;

    assert_non_null(copy);
    memcpy(copy, text, strlen(text));
    lines = openvpn_lines_from((struct str){copy, strlen(text)}, 1);
    r = openvpn_lines_next(&lines, &line, &why);
    shown[0] = '\0';
    if (r < 0)
        (void)snprintf(shown, sizeof(shown), "!%s", why);
    for (size_t i = 0; r > 0 && i < line.n; i++)
        p += sprintf(p, "%s%.*s", i > 0 ? "|" : "", (int)line.arg[i].len, line.arg[i].p);
    if (r > 0 && line.has_block)
        (void)sprintf(p, "{%.*s}", (int)line.block.len, line.block.p);
    return shown;
}

static void test_lines_are_cut_as_openvpn_does(void **state)
{
    (void)state;
    assert_string_equal(cut("remote a 1\n"), "remote|a|1");
    assert_string_equal(cut("\n\n  \t\n remote\ta \r\n"), "remote|a");
    assert_string_equal(cut("# remote\n;x\nremote a # b\n"), "remote|a");
    assert_string_equal(cut("remote a#b ;c"), "remote|a#b");
    assert_string_equal(cut("a \"b c\" 'd e' \"\" ''"), "a|b c|d e||");
    assert_string_equal(cut("a \"b\"c"), "a|b|c");
    assert_string_equal(cut("a b\"c d\"\n"), "a|b\"c|d\"");
    assert_string_equal(cut("a b\\ c \\\"d \\\\"), "a|b c|\"d|\\");
    assert_string_equal(cut("a 'b\\c' \"d\\\"e\\\\\""), "a|b\\c|d\"e\\");
    assert_string_equal(cut("a 'b\"c' \"d'e\""), "a|b\"c|d'e");
    assert_string_equal(cut("\xEF\xBB\xBFremote a"), "remote|a");
    assert_string_equal(cut("--remote a"), "remote|a");
    assert_string_equal(cut("--"), "--");
    assert_string_equal(cut("--- a"), "-|a");
    assert_string_equal(cut("\v\fa\vb"), "a|b");
    assert_string_equal(cut("a \\#b"), "a");
    assert_string_equal(cut(""), "");
    assert_string_equal(cut("a b c d e f g h i j k l m n o p"), "a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p");
}

static void test_lines_that_cannot_be_cut(void **state)
{
    static const char wrong[] = "!a backslash before an ordinary character; write two for one";
    char text[300];

    (void)state;
    assert_string_equal(cut("a \"b"), "!no closing quotation mark");
    assert_string_equal(cut("a 'b\\'"), "a|b\\");
    assert_string_equal(cut("a 'b"), "!no closing quotation mark");
    assert_string_equal(cut("a \\b"), wrong);
    assert_string_equal(cut("a \\'b"), wrong);
    assert_string_equal(cut("a b\\\nc"), "!a backslash at the end of the line");
    assert_string_equal(cut("a b c d e f g h i j k l m n o p q"), "!too many words in one line");
    assert_string_equal(cut("a b c d e f g h i j k l m n o p 'q'"), "!too many words in one line");
    memset(text, 'x', sizeof(text));
    text[254] = '\0';
    assert_string_equal(cut(text), text);
    text[254] = 'x';
    text[255] = '\0';
    assert_string_equal(cut(text), "!the line is too long");
}

static void test_blocks(void **state)
{
    (void)state;
    assert_string_equal(cut("<ca>\na\nb\n</ca>\n"), "ca{a\nb\n}");
    assert_string_equal(cut("<ca>\n</ca>"), "ca{}");
    assert_string_equal(cut("  <ca> # c\na\n \t</ca> x"), "ca{a\n}");
    assert_string_equal(cut("--<ca>\na\n</ca>"), "ca{a\n}");
    assert_string_equal(cut("<ca>\n<ca>\n</cax>\n</ca>"), "ca{<ca>\n</cax>\n}");
    assert_string_equal(cut("<ca>\na</ca>\n"), "!the closing tag of this block is missing");
    assert_string_equal(cut("<ca>"), "!the closing tag of this block is missing");
    assert_string_equal(cut("<ca> x\n"), "<ca>|x");
    assert_string_equal(cut("<>\n"), "<>");
}

/* -- profiles ---------------------------------------------------------------------------------- */

struct reading {
    struct findings findings;
    struct profile *profile;
    char text[32768]; /* see fixture_describe() */
    int r;
};

static void reading_free(struct reading *r)
{
    r->profile = profile_free(r->profile);
}

static void read_text(struct reading *ret, const char *text, size_t len,
                      const struct profile_files *files)
{
    _cleanup_(freep) char *copy = malloc(len > 0 ? len : 1); /* without NUL, for the sanitizers */

    assert_non_null(copy);
    memcpy(copy, text, len);
    reading_free(ret);
    memset(ret, 0, sizeof(*ret));
    ret->r = profile_read("a", copy, len, files, &ret->findings, &ret->profile);
    assert_true(ret->r == 0 || ret->r == -EINVAL);
    assert_int_equal(ret->r == 0, ret->findings.refused == 0);
    assert_int_equal(ret->r == 0, ret->profile != NULL);
    fixture_describe(&ret->findings, ret->profile, ret->text, sizeof(ret->text));
}

static void read_string(struct reading *ret, const char *text)
{
    read_text(ret, text, strlen(text), NULL);
}

static const struct openvpn_target targets[] = {
    {{AF_INET, {192, 0, 2, 1}}, 1194, IPPROTO_UDP},
    {{AF_INET, {192, 0, 2, 2}}, 443, IPPROTO_TCP},
    {{AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}}, 1194, IPPROTO_UDP},
};
static const struct openvpn_setup setup = {.targets = targets, .n_targets = ARRAY_SIZE(targets),
                                           .device = "qubes-vpn", .management = "/run/q v/m.sock"};

/* What is written for it, after the laws were checked. The caller frees it. */
static char *written(const struct profile *p)
{
    const char *law;
    char *text;
    size_t len;

    assert_int_equal(openvpn_write(p, &setup, &text, &len), 0);
    assert_int_equal(strlen(text), len);
    law = fixture_broken_law(text, len, &setup);
    if (law != NULL)
        fail_msg("%s in:\n%s", law, text);
    return text;
}

static void require_written(const struct reading *r, const char *line)
{
    _cleanup_(freep) char *text = NULL;

    if (!r->profile)
        fail_msg("refused:\n%s", r->text);
    text = written(r->profile);
    if (strstr(text, line) == NULL)
        fail_msg("'%s' is missing in:\n%s", line, text);
}

static void require_said(const struct reading *r, const char *line)
{
    if (strstr(r->text, line) == NULL)
        fail_msg("'%s' is missing in:\n%s", line, r->text);
}

static void check_sample(const char *path)
{
    _cleanup_(freep) char *text = NULL, *expected = NULL;
    struct profile_files files = {fixture_read_beside, NULL};
    _cleanup_(reading_free) struct reading got = {0};
    char name[PATH_MAX];
    size_t len, ignored;

    (void)snprintf(name, sizeof(name), "%s", path);
    files.user = name;
    assert_int_equal(fixture_read_path(path, &text, &len), 0);
    read_text(&got, text, len, &files);
    strcpy(strrchr(name, '.'), ".expected");
    assert_int_equal(fixture_read_path(name, &expected, &ignored), 0);
    if (strcmp(got.text, expected) != 0)
        fail_msg("%s: expected:\n%s\ngot:\n%s", path, expected, got.text);
    if (got.profile)
        free(written(got.profile));
}

static void check_folder(const char *folder, unsigned least)
{
    DIR *d = opendir(folder);
    const struct dirent *e;
    unsigned n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        const char *dot = strrchr(e->d_name, '.');
        char path[PATH_MAX];

        if (!dot || strcmp(dot, ".ovpn") != 0)
            continue;
        assert_true(snprintf(path, sizeof(path), "%s/%s", folder, e->d_name) < PATH_MAX);
        check_sample(path);
        n++;
    }
    closedir(d);
    assert_true(n >= least);
}

static void test_providers(void **state)
{
    (void)state;
    check_folder(DATA "/openvpn", 10);
}

static void test_hostile(void **state)
{
    (void)state;
    check_folder(DATA "/openvpn-hostile", 15);
}

static void test_kind_is_told_by_the_text(void **state)
{
    char name[PROFILE_NAME_MAX + 1] = "";
    struct findings findings = {0};
    struct profile *p = NULL;
    static const char wireguard[] = "# x\n  [interface]\nup /bin/id\n";

    (void)state;
    assert_int_equal(profile_read("a", wireguard, strlen(wireguard), NULL, &findings, &p), -EINVAL);
    for (size_t i = 0; i < findings.n; i++)
        assert_string_not_equal(findings.list[i].text, "runs a program");
    assert_int_equal(profile_read("a", USER, strlen(USER), NULL, &(struct findings){0}, &p), 0);
    assert_int_equal(p->kind, PROFILE_OPENVPN);
    p = profile_free(p);
    memset(name, 'x', sizeof(name) - 1);
    assert_int_equal(profile_read(name, USER, strlen(USER), NULL, &findings, &p), -ENAMETOOLONG);
}

static void test_findings_keep_refusals(void **state)
{
    struct findings f = {0};

    (void)state;
    for (unsigned i = 0; i < PROFILE_FINDINGS_MAX + 5; i++)
        findings_add(&f, FINDING_NOTE, i, STR_LITERAL("a\x1b"), "%s", "b\x1b[2J");
    findings_add(&f, FINDING_REFUSED, 1000, STR_LITERAL("up"), "no");
    assert_int_equal(f.n, PROFILE_FINDINGS_MAX);
    assert_int_equal(f.more, 6);
    assert_int_equal(f.refused, 1);
    assert_int_equal(f.list[f.n - 1].line, 1000);
    assert_string_equal(f.list[0].word, "a\\x1b");
    assert_string_equal(f.list[0].text, "b?[2J");
    for (unsigned i = 0; i < PROFILE_FINDINGS_MAX + 5; i++)
        findings_add(&f, FINDING_REFUSED, i, STR_LITERAL("x"), "no");
    assert_int_equal(f.list[0].line, 1000);
    assert_int_equal(f.refused, PROFILE_FINDINGS_MAX + 6);
}

static void test_earlier_refusals_are_not_ours(void **state)
{
    struct findings f = {0};
    struct profile *p = NULL;

    (void)state;
    findings_add(&f, FINDING_REFUSED, 0, STR_LITERAL("other"), "of another profile");
    assert_int_equal(profile_read("a", USER, strlen(USER), NULL, &f, &p), 0);
    profile_free(p);
}

static void test_table(void **state)
{
    const struct openvpn_directive *d;

    (void)state;
    for (size_t i = 0; (d = openvpn_directive_at(i)) != NULL; i++) {
        assert_ptr_equal(openvpn_directive_find(str_from(d->name)), d); /* no name twice */
        if (d->verdict == OPENVPN_LEFT_OUT || d->verdict == OPENVPN_REFUSED)
            assert_non_null(d->why);
        assert_int_equal(d->verdict == OPENVPN_TAKE, d->take != TAKE_NONE);
        assert_true(d->min <= d->max);
        if (d->take == TAKE_CHOICE)
            assert_non_null(d->why);
    }
}

/* Is "Ic NAME" between the headings? '-' is written "\\-" there. */
static bool described(const char *page, const char *from, const char *to, const char *name)
{
    const char *begin = strstr(page, from), *end = strstr(begin ? begin : page, to), *at;
    char word[100] = "Ic ", *p = word + 3;

    assert_non_null(begin);
    assert_non_null(end);
    for (; *name; name++) {
        if (*name == '-')
            *p++ = '\\';
        *p++ = *name;
    }
    *p = '\0';
    for (at = strstr(begin, word); at && at < end; at = strstr(at + 1, word)) {
        if (strchr(" \n", at[strlen(word)]))
            return true;
    }
    return false;
}

static void test_manual_names_every_directive(void **state)
{
    static const char *const headings[] = {"\n.Ss Taken", "\n.Ss Set here", "\n.Ss Left out",
                                           "\n.Ss Refused", "\n.Ss What the server"};
    const struct openvpn_directive *d;
    _cleanup_(freep) char *page = NULL;
    size_t len;

    (void)state;
    assert_int_equal(fixture_read_path(MAN, &page, &len), 0);
    for (size_t i = 0; (d = openvpn_directive_at(i)) != NULL; i++) {
        if (!described(page, headings[d->verdict], headings[d->verdict + 1], d->name))
            fail_msg("%s is not in its section", d->name);
    }
}

/* -- what is written --------------------------------------------------------------------------- */

static void test_values(void **state)
{
    _cleanup_(reading_free) struct reading r = {0};
    char quotes[130] = "", text[1000];

    (void)state;
    read_string(&r, USER);
    require_written(&r, "\ndata-ciphers AES-256-GCM:AES-128-GCM:?CHACHA20-POLY1305\n");
    require_written(&r, "\nallow-compression no\n");
    require_written(&r, "\nping 10\nping-restart 60\n");
    require_written(&r, "\nmanagement \"/run/q v/m.sock\" unix\n");
    require_written(&r, "\nremote 192.0.2.1 1194 udp4\n</connection>\n");
    require_written(&r, "\nremote 192.0.2.2 443 tcp4-client\n</connection>\n");
    require_written(&r, "\nremote 2001:db8::1 1194 udp6\n</connection>\n");
    require_written(&r, "\nnobind\n");
    read_string(&r, USER "cipher aes-256-cbc\n");
    require_written(&r, ":AES-256-CBC\ndata-ciphers-fallback AES-256-CBC\n");
    read_string(&r, USER "cipher AES-128-GCM\ndata-ciphers ?AES-256-GCM:CHACHA20-POLY1305\n");
    require_written(&r, "\ndata-ciphers ?AES-256-GCM:?CHACHA20-POLY1305:AES-128-GCM\n");
    read_string(&r, USER "data-ciphers DEFAULT:AES-256-CBC\n");
    require_written(&r, "\ndata-ciphers AES-256-GCM:AES-128-GCM:?CHACHA20-POLY1305:AES-256-CBC\n");
    read_string(&r, USER "comp-lzo adaptive\n");
    require_written(&r, "\ncomp-lzo adaptive\n");
    require_written(&r, "\nallow-compression asym\n");
    read_string(&r, USER "comp-lzo no\n");
    require_written(&r, "\nallow-compression no\n");
    read_string(&r, USER "fragment 1300 mtu\nexplicit-exit-notify 3\nlport 5000\ntun-mtu 1400\n");
    require_written(&r, " udp4\nfragment 1300 mtu\nexplicit-exit-notify 1\n</connection>\n");
    require_written(&r, "\nremote 192.0.2.2 443 tcp4-client\n</connection>\n");
    require_written(&r, "\nbind\nlport 5000\n");
    require_written(&r, "\ntun-mtu 1400\n");
    read_string(&r, USER "auth rsa-sha256\nkeepalive 5 30\n");
    require_written(&r, "\nauth SHA256\n");
    require_written(&r, "\nping 5\nping-restart 30\n");
    read_string(&r, USER "verify-x509-name 'a \\b \"c\"' name\n");
    require_written(&r, "\nverify-x509-name \"a \\\\b \\\"c\\\"\" name\n");
    memset(quotes, '"', sizeof(quotes) - 1); /* each becomes two bytes */
    (void)snprintf(text, sizeof(text), "%sremote-cert-eku '%s'\n", USER, quotes);
    read_string(&r, text);
    require_said(&r, "remote-cert-eku: refused: the line is too long");
    read_string(&r, USER "dhcp-option DNS6 2001:DB8::0:1\n");
    require_written(&r, "\ndhcp-option DNS6 2001:db8::1\n");
}

/* TCP alone has nothing of what is for UDP (the laws say what that is). */
static void test_write_for_one_protocol(void **state)
{
    _cleanup_(reading_free) struct reading r = {0};

    (void)state;
    read_string(&r, USER "fast-io\nfragment 1300\nexplicit-exit-notify\n");
    require_said(&r, "fast-io: left out: is used anyway where it works");
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        struct openvpn_setup one = setup;
        _cleanup_(freep) char *text = NULL;
        const char *law;
        size_t len;

        one.targets = &targets[i];
        one.n_targets = 1;
        assert_int_equal(openvpn_write(r.profile, &one, &text, &len), 0);
        law = fixture_broken_law(text, len, &one);
        if (law != NULL)
            fail_msg("%s in:\n%s", law, text);
    }
}

static void test_write_refuses(void **state)
{
    static struct openvpn_target many[PROFILE_ENDPOINTS_MAX + 1];
    _cleanup_(reading_free) struct reading r = {0};
    struct openvpn_setup bad = setup;
    struct openvpn_target target = targets[0];
    _cleanup_(freep) char *text = NULL;
    size_t len;

    (void)state;
    read_string(&r, USER);
    bad.n_targets = 0;
    assert_int_equal(openvpn_write(r.profile, &bad, &text, &len), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = targets[0];
    bad.targets = many;
    bad.n_targets = ARRAY_SIZE(many);
    assert_int_equal(openvpn_write(r.profile, &bad, &text, &len), -E2BIG);
    bad = setup;
    bad.targets = &target;
    bad.n_targets = 1;
    target.port = 0;
    assert_int_equal(openvpn_write(r.profile, &bad, &text, &len), -EINVAL);
    target = targets[0];
    target.addr.family = 0;
    assert_int_equal(openvpn_write(r.profile, &bad, &text, &len), -EINVAL);
    bad = setup;
    bad.management = "/run/a\nup /bin/id";
    assert_int_equal(openvpn_write(r.profile, &bad, &text, &len), -EINVAL);
}

/* -- keys and credentials ---------------------------------------------------------------------- */

static void test_blobs_are_brought_into_one_form(void **state)
{
    _cleanup_(reading_free) struct reading r = {0};

    (void)state;
    read_string(&r, CLIENT "auth-user-pass\n<ca>\nup /bin/id\n" CERTIFICATE
                           "</up>\n<up>\n -----BEGIN CERTIFICATE----- \r\n  QUJD \r\n\r\nREVG\r\n"
                           "-----END CERTIFICATE-----\n" PLAIN_KEY "</ca>\n");
    require_written(&r, "\n<ca>\n" CERTIFICATE "-----BEGIN CERTIFICATE-----\nQUJDREVG\n"
                        "-----END CERTIFICATE-----\n</ca>\n");
    read_string(&r, CLIENT CA "<cert>\n" PLAIN_KEY CERTIFICATE "</cert>\n<key>\n"
                              "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                              "DEK-Info: AES-256-CBC,0123\n\nQUJD\n-----END RSA PRIVATE KEY-----\n"
                              "</key>\n");
    require_said(&r, "needs the key's password");
    require_written(&r, "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123\n\nQUJD\n");
    read_string(&r, CLIENT "<pkcs12>\n QUJD\nREVG \n</pkcs12>\n");
    require_written(&r, "\n<pkcs12>\nQUJDREVG\n</pkcs12>\n");
    read_string(&r, CLIENT "<pkcs12>\nQUJ#\n</pkcs12>\n");
    require_said(&r, "pkcs12: refused: is not base64");
    read_string(&r, CLIENT CA "<cert>\n-----BEGIN CERTIFICATE-----\nQUJD\n"
                              "-----END PRIVATE KEY-----\n</cert>\n");
    require_said(&r, "cert: refused: is damaged");
    read_string(&r, CLIENT CA "<key>\n" PLAIN_KEY PLAIN_KEY "</key>\n");
    require_said(&r, "key: refused: has too many parts");
    read_string(&r, CLIENT CA "<ca>\n" CERTIFICATE "</ca>\nauth-user-pass\n");
    require_said(&r, "ca: refused: is given twice");
    read_string(&r, CLIENT "ca [inline]\n" CA "auth-user-pass [inline]\n");
    require_written(&r, "\nauth-user-pass\n");
}

/* A folder: "name" -> content. */
struct folder {
    const char *name, *content;
    int error;
    unsigned asked;
};

static int read_folder(const char *name, char **ret, size_t *ret_len, void *user)
{
    struct folder *f = user;

    f->asked++;
    if (f->error < 0)
        return f->error;
    if (strcmp(name, f->name) != 0)
        return -ENOENT;
    *ret = strdup(f->content);
    assert_non_null(*ret);
    *ret_len = strlen(f->content);
    return 0;
}

static void test_files(void **state)
{
    struct folder folder = {"keys/ca.crt", CERTIFICATE, 0, 0};
    struct profile_files files = {read_folder, &folder};
    static const char *const outside[] = {"/etc/passwd", "../ca.crt", "keys/../../x", "keys//x",
                                          "~/x", "C:\\\\x", "c:/x", "..", "''", "'x\ty'"};
    _cleanup_(reading_free) struct reading r = {0};
    char text[1000];

    (void)state;
    (void)snprintf(text, sizeof(text), "%sauth-user-pass\nca keys/ca.crt\n", CLIENT);
    read_text(&r, text, strlen(text), &files);
    require_written(&r, "<ca>\n" CERTIFICATE "</ca>\n");
    folder.error = -EFBIG;
    read_text(&r, text, strlen(text), &files);
    require_said(&r, "ca: refused: keys/ca.crt is too large");
    folder.error = -EACCES;
    read_text(&r, text, strlen(text), &files);
    require_said(&r, "ca: refused: keys/ca.crt Permission denied");
    read_text(&r, text, strlen(text), NULL);
    require_said(&r, "ca: refused: keys/ca.crt is missing");
    folder.asked = 0;
    for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
        (void)snprintf(text, sizeof(text), "%sauth-user-pass\nca %s\n", CLIENT, outside[i]);
        read_text(&r, text, strlen(text), &files);
        require_said(&r, "name a file beside the profile");
    }
    assert_int_equal(folder.asked, 0);
}

static void test_credentials(void **state)
{
    struct folder folder = {"up.txt", "anna\r\ngeheim \r\n\r\n", 0, 0};
    struct profile_files files = {read_folder, &folder};
    _cleanup_(reading_free) struct reading r = {0};
    const char *user, *password;
    _cleanup_(freep) char *out = NULL;
    char text[1000];

    (void)state;
    (void)snprintf(text, sizeof(text), "%s%sauth-user-pass up.txt\n", CLIENT, CA);
    read_text(&r, text, strlen(text), &files);
    assert_true(openvpn_credentials(r.profile, &user, &password));
    assert_string_equal(user, "anna");
    assert_string_equal(password, "geheim ");
    assert_int_equal(r.profile->needs, 0);
    require_written(&r, "\nauth-user-pass\n"); /* and never the password: it goes by management */
    out = written(r.profile);
    assert_null(strstr(out, "geheim"));
    folder.content = "anna\r\ngeheim\r\nmore\r\n"; /* it may be anything: nothing of it is sent */
    read_text(&r, text, strlen(text), &files);
    require_said(&r, "auth-user-pass: refused: the file must hold");
    folder.content = "[Interface]\nPrivateKey = x\n";
    read_text(&r, text, strlen(text), &files);
    require_said(&r, "auth-user-pass: refused: the file must hold");
    folder.content = "anna";
    read_text(&r, text, strlen(text), &files);
    assert_int_equal(r.profile->needs, NEEDS_USER_PASSWORD);
    folder.error = -ENOENT;
    read_text(&r, text, strlen(text), &files);
    assert_int_equal(r.r, 0);
    assert_int_equal(r.profile->needs, NEEDS_USER_PASSWORD);
    require_said(&r, "note: the file with user and password is not there");
    folder = (struct folder){"up.txt", "an\x1bna\npw\n", 0, 0};
    read_text(&r, text, strlen(text), &files);
    require_said(&r, "auth-user-pass: refused:");
    read_string(&r, USER "static-challenge \"code: \x1b\" 1\n");
    require_said(&r, "static-challenge: refused: has control characters");
    read_string(&r, CLIENT CA "<cert>\n" CERTIFICATE "</cert>\n<key>\n" PLAIN_KEY "</key>\n"
                                             "static-challenge code 0\n");
    assert_int_equal(r.profile->needs, 0); /* nobody would ask for it */
}

/* A folder full of large files, and a file that names them again and again. */
static void test_work_is_bounded(void **state)
{
    static const char *const names[] = {"ca",  "extra-certs", "cert",         "crl-verify",
                                        "key", "tls-auth",    "tls-crypt-v2", "pkcs12"};
    struct folder folder = {"big", NULL, 0, 0};
    struct profile_files files = {read_folder, &folder};
    _cleanup_(reading_free) struct reading r = {0};
    _cleanup_(freep) char *big = malloc(PROFILE_FILE_MAX);
    _cleanup_(freep) char *text = malloc(200 * 1024);
    size_t len = 0;

    (void)state;
    assert_true(big != NULL && text != NULL);
    memset(big, '\n', PROFILE_FILE_MAX);
    big[PROFILE_FILE_MAX - 1] = '\0';
    folder.content = big;
    for (int i = 0; i < 4000; i++)
        len += (size_t)sprintf(text + len, "ca big\n");
    read_text(&r, text, len, &files);
    assert_int_equal(r.r, -EINVAL);
    assert_in_range(folder.asked, 1, 5); /* 2 MiB of half a MiB each */
    require_said(&r, "too large in all");
    require_said(&r, "too much is wrong with it");
    assert_in_range(r.findings.refused, 32, 33);

    len = 0; /* what is read without a refusal costs as much */
    memcpy(big, CERTIFICATE, sizeof(CERTIFICATE) - 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        len += (size_t)sprintf(text + len, "%s big\n", names[i]);
    folder.asked = 0;
    read_text(&r, text, len, &files);
    assert_in_range(folder.asked, 1, 5);
    require_said(&r, "too large in all");

    len = 0;
    folder = (struct folder){"up", "anna\npw\n", 0, 0};
    for (int i = 0; i < 4000; i++)
        len += (size_t)sprintf(text + len, "auth-user-pass up\n");
    read_text(&r, text, len, &files);
    assert_int_equal(folder.asked, 1);
    require_said(&r, "auth-user-pass: refused: user and password are given twice");
    folder.asked = 0;
    folder.error = -ENOENT;
    read_text(&r, text, len, &files);
    assert_int_equal(folder.asked, 1);
    /* the word alone says only that there are some */
    read_string(&r, USER "auth-user-pass\n<auth-user-pass>\nanna\npw\n</auth-user-pass>\n");
    assert_int_equal(r.r, 0);
}

static void test_sizes(void **state)
{
    size_t size = 600 * 1024, used;
    _cleanup_(freep) char *text = malloc(size);
    _cleanup_(reading_free) struct reading r = {0};

    (void)state;
    assert_non_null(text);
    used = (size_t)sprintf(text, "%s", USER);
    for (int i = 0; i < 100; i++)
        used += (size_t)sprintf(text + used, "remote 192.0.2.%d\n", i + 2);
    read_text(&r, text, used, NULL);
    assert_int_equal(r.profile->n_endpoints, PROFILE_ENDPOINTS_MAX);
    require_said(&r, "remote: left out: 37 servers beyond the first 64");
    memset(text + used, '\n', size - used);
    read_text(&r, text, size, NULL);
    require_said(&r, "refused: is larger than");
    while (used < 100 * 1024)
        used += (size_t)sprintf(text + used, "ping 1\n");
    read_text(&r, text, used, NULL);
    require_said(&r, "refused: has too many lines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_cut_as_openvpn_does),
        cmocka_unit_test(test_lines_that_cannot_be_cut),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_providers),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_kind_is_told_by_the_text),
        cmocka_unit_test(test_findings_keep_refusals),
        cmocka_unit_test(test_earlier_refusals_are_not_ours),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_manual_names_every_directive),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_write_for_one_protocol),
        cmocka_unit_test(test_write_refuses),
        cmocka_unit_test(test_blobs_are_brought_into_one_form),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_work_is_bounded),
        cmocka_unit_test(test_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
