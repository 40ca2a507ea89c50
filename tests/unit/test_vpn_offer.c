/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A provider's file and what it names, read from a folder of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vpn/object/offer.h"

#define CA "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUJp8d\n-----END CERTIFICATE-----\n"
#define PLAIN                                                                                      \
    "client\ndev tun\nremote 203.0.113.10 1194 udp\nremote-cert-tls server\nauth-user-pass\n"
#define WIRE                                                                                       \
    "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = "           \
    "10.9.0.2/32\n"                                                                                \
    "[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\n"   \
    "Endpoint = 203.0.113.10:51820\n"

static char folder[64];

static const char *at(const char *name)
{
    static char paths[4][300];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static const char *put(const char *name, const char *text)
{
    const char *path = at(name);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

static int setup(void **state)
{
    (void)state;
    (void)strcpy(folder, "/tmp/offer-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct offer *offer_of(const char *const *paths, size_t n)
{
    const struct offer_source source = {.paths = paths, .n = n};
    struct offer *o = NULL;

    assert_int_equal(offer_read(&source, &o), 0);
    return o;
}

static int error_of(const char *const *paths, size_t n)
{
    const struct offer_source source = {.paths = paths, .n = n};
    struct offer *o = NULL;
    int r = offer_read(&source, &o);

    assert_null(o);
    return r;
}

static void test_files_of_its_folder(void **state)
{
    const char *const paths[] = {put("work.ovpn", PLAIN "ca keys/ca.crt\n")};
    _cleanup_(offer_freep) struct offer *o = NULL;

    (void)state;
    assert_int_equal(mkdir(at("keys"), 0700), 0);
    (void)put("keys/ca.crt", CA);
    o = offer_of(paths, 1);
    assert_int_equal(o->judged, 0);
    assert_string_equal(o->name, "work.ovpn");
    assert_int_equal(o->n_files, 1);
    assert_string_equal(o->files[0].name, "keys/ca.crt");
    assert_int_equal(o->n_missing, 0);
}

/* A provider's file must not have other files of the person sent along. */
static void test_no_way_out_of_the_folder(void **state)
{
    static const char *const names[] = {"../secret.crt", "/tmp/secret.crt", "link.crt",
                                        "up/secret.crt"};

    (void)state;
    assert_int_equal(mkdir(at("in"), 0700), 0);
    (void)put("secret.crt", CA);
    assert_int_equal(symlink("../secret.crt", at("in/link.crt")), 0);
    assert_int_equal(symlink("..", at("in/up")), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char text[300];
        const char *const paths[] = {at("in/work.ovpn")};
        _cleanup_(offer_freep) struct offer *o = NULL;

        (void)snprintf(text, sizeof(text), PLAIN "ca %s\n", names[i]);
        (void)put("in/work.ovpn", text);
        o = offer_of(paths, 1);
        assert_int_equal(o->judged, -EINVAL);
        assert_int_equal(o->n_files, 0);
        assert_null(o->profile);
    }
}

static void test_files_that_were_given(void **state)
{
    const char *main_file, *ca;
    _cleanup_(offer_freep) struct offer *o = NULL;

    (void)state;
    assert_int_equal(mkdir(at("elsewhere"), 0700), 0);
    ca = put("elsewhere/ca.crt", CA);
    main_file = put("work.ovpn", PLAIN "ca keys/ca.crt\n");
    o = offer_of((const char *const[]){ca, main_file}, 2);
    assert_int_equal(o->judged, 0);
    assert_string_equal(o->files[0].name, "keys/ca.crt");
}

static void test_all_that_are_missing(void **state)
{
    const char *const paths[] = {put("work.ovpn", PLAIN "ca ca.crt\ncert a.crt\nkey dir\n")};
    _cleanup_(offer_freep) struct offer *o = NULL;

    (void)state;
    assert_int_equal(mkdir(at("dir"), 0700), 0);
    o = offer_of(paths, 1);
    assert_int_equal(o->n_missing, 3);
    assert_string_equal(o->missing[0].name, "ca.crt");
    assert_int_equal(o->missing[0].error, -ENOENT);
    assert_string_equal(o->missing[2].name, "dir");
    assert_int_equal(o->missing[2].error, -EINVAL);
}

static void test_which_one_is_the_profile(void **state)
{
    const char *a = put("a.ovpn", PLAIN), *b = put("b.CONF", WIRE), *c = put("ca.crt", CA);

    (void)state;
    assert_int_equal(error_of((const char *const[]){a, b}, 2), -ENOTUNIQ);
    assert_int_equal(error_of((const char *const[]){c, c}, 2), -ENOMSG);
    assert_int_equal(error_of(NULL, 0), -ENOMSG);
    assert_int_equal(error_of((const char *const[]){at("none")}, 1), -ENOENT);
    assert_int_equal(error_of((const char *const[]){folder}, 1), -EINVAL);
    assert_int_equal(error_of((const char *const[]){"/dev/zero"}, 1), -EINVAL);
}

static void test_too_large(void **state)
{
    const char *path = put("big.ovpn", PLAIN);

    (void)state;
    assert_int_equal(truncate(path, PROFILE_FILE_MAX + 1), 0);
    assert_int_equal(error_of((const char *const[]){path}, 1), -EFBIG);
    assert_int_equal(truncate(path, PROFILE_FILE_MAX), 0);
    (void)offer_free(offer_of((const char *const[]){path}, 1));
}

static void test_names(void **state)
{
    static const struct {
        const char *file, *name;
    } list[] = {
        {"\xc3\x9c"
         "ber (1).ovpn",
         "-ber -1-.ovpn"},
        {"...x.ovpn", "x.ovpn"},
        {"\x1b[2J.ovpn", "--2J.ovpn"},
        {"noend", "noend.ovpn"},
        {".ovpn", "vpn.ovpn"},
        {"abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789.ovpn",
         "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuv.ovpn"},
    };
    const char *wire[] = {put("wire.ovpn", WIRE)};
    _cleanup_(offer_freep) struct offer *o = offer_of(wire, 1);

    (void)state;
    assert_string_equal(o->name, "wire.conf");
    for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
        const char *const paths[] = {put(list[i].file, PLAIN "<ca>\n" CA "</ca>\n")};
        _cleanup_(offer_freep) struct offer *one = offer_of(paths, 1);

        assert_string_equal(one->name, list[i].name);
    }
}

static void test_pasted(void **state)
{
    const char *ca = put("ca.crt", CA);
    const char *const paths[] = {ca};
    struct offer_source source = {.text = PLAIN "ca ca.crt\n", .size = sizeof(PLAIN "ca ca.crt\n") - 1};
    struct offer *o = NULL;

    (void)state;
    assert_int_equal(offer_read(&source, &o), 0);
    assert_int_equal(o->n_missing, 1); /* there is no folder to look in */
    o = offer_free(o);
    source.paths = paths;
    source.n = 1;
    assert_int_equal(offer_read(&source, &o), 0);
    assert_int_equal(o->judged, 0);
    assert_string_equal(o->name, "203.0.113.10.ovpn");
    o = offer_free(o);
    source = (struct offer_source){.text = "", .size = 0};
    assert_int_equal(offer_read(&source, &o), 0);
    assert_true(o->judged < 0);
    o = offer_free(o);
    source.size = PROFILE_FILE_MAX + 1;
    assert_int_equal(offer_read(&source, &o), -EFBIG);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_files_of_its_folder),
        TEST(test_no_way_out_of_the_folder),
        TEST(test_files_that_were_given),
        TEST(test_all_that_are_missing),
        TEST(test_which_one_is_the_profile),
        TEST(test_too_large),
        TEST(test_names),
        TEST(test_pasted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
