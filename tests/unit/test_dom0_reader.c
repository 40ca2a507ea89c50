/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader, and what may happen between its questions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "test_dom0_reader_fixture.h"

static void test_everything(void **state)
{
    const struct qube *q;
    struct addr ip;

    (void)state;
    start(0);
    read_all();
    assert_int_equal(t.error, 0);
    assert_int_equal(tree_count(t.tree), 3);
    assert_int_equal(t.ones, 0);
    assert_int_equal(t.done, 2); /* dom0 is not asked */
    assert_int_equal(t.all, 2);
    assert_int_equal(t.gets, 3); /* not for "other", nor what is not set */
    q = qube("web");
    assert_true(q->complete);
    assert_string_equal(q->klass, "AppVM");
    assert_string_equal(q->netvm, "sys-net");
    assert_string_equal(q->template, "debian-12");
    assert_int_equal(q->power, POWER_HALTED);
    assert_int_equal(q->xid[0], 11);
    assert_return_code(addr_parse(STR_LITERAL("192.168.16.25"), &ip), 0);
    assert_true(addr_equal(&q->ip[0], &ip));
    assert_int_equal(q->ip[1].family, 0);
    assert_string_equal(q->feature[FEATURE_METHOD], "forward");
    assert_string_equal(q->feature[FEATURE_ALLOW], "tcp/22");
    assert_string_equal(q->feature[FEATURE_VPN], "");
    assert_null(q->feature[FEATURE_PUBLISH]);
    assert_false(q->live.known); /* not the reader's */
    assert_int_equal(qube("sys-net")->power, POWER_RUNNING);
    assert_string_equal(qube("dom0")->klass, "AdminVM");
    assert_true(qube("dom0")->complete);
}

static void test_changes(void **state)
{
    struct vm *vm;

    (void)state;
    start(0);
    read_all();
    vm = vm_find("web", 3);
    vm->state = "Running";
    vm->features[0] = "network-server.keep"; /* routing-method has gone */
    vm->features[1] = "1";
    vm->properties = "ip default=True type=str 10.137.0.9\nnetvm default=False type=vm \n";
    read_one("web");
    assert_false(t.one_gone);
    assert_int_equal(qube("web")->power, POWER_RUNNING);
    assert_string_equal(qube("web")->netvm, "");
    assert_null(qube("web")->feature[FEATURE_METHOD]);
    assert_string_equal(qube("web")->feature[FEATURE_KEEP], "1");

    vm_remove("web");
    vm_add("new", "Halted");
    read_all();
    assert_null(tree_find(t.tree, STR_LITERAL("web")));
    assert_true(qube("new")->complete);
    vm_add("newer", "Transient");
    read_one("newer");
    assert_int_equal(qube("newer")->power, POWER_STARTING);
}

static void test_gone(void **state)
{
    (void)state;
    start(0);
    read_all();
    vm_remove("web");
    read_one("web"); /* 4.2: no answer, and not in the list */
    assert_true(t.one_gone);
    assert_null(tree_find(t.tree, STR_LITERAL("web")));
    t.not_found = true;
    read_one("web");
    assert_true(t.one_gone);
    assert_int_equal(tree_count(t.tree), 2);
}

/* A qube that goes while everything is read. */
static void remove_web(struct fake_conn *c)
{
    if (strstr(c->header, "GetAll+ dom0 name web"))
        vm_remove("web");
}

static void test_gone_meanwhile(void **state)
{
    (void)state;
    t.asked = remove_web;
    for (int exception = 0; exception < 2; exception++) {
        t.not_found = exception;
        if (exception)
            vm_add("web", "Halted");
        else
            start(0);
        read_all();
        assert_int_equal(t.error, 0);
        assert_null(tree_find(t.tree, STR_LITERAL("web")));
        assert_true(qube("sys-net")->complete);
    }
}

static void test_incomplete(void **state)
{
    static const char *const bad[] = {
        "",                                              /* no properties at all */
        "ip default=True type=str 10.137.0.9",           /* cut off */
        "ip default=True type=str 10.137.0.900\n",       /* no address */
        "netvm default=True type=vm sys net\n",          /* no name */
        "ip\n",
        "netvm default=Maybe type=vm sys-net\n",
    };

    (void)state;
    start(0);
    read_all();
    vm_find("web", 3)->empty = true; /* 4.2, 4.3: permission denied, or failed inside */
    read_one("web");
    assert_false(t.one_gone);
    assert_false(qube("web")->complete);
    vm_find("web", 3)->empty = false;
    read_one("web");
    assert_true(qube("web")->complete);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        vm_find("web", 3)->properties = bad[i];
        read_one("web");
        assert_false(qube("web")->complete);
        vm_find("web", 3)->properties = plain;
        read_all();
        assert_true(qube("web")->complete);
    }
    vm_find("web", 3)->empty = true;
    read_all();
    assert_int_equal(t.error, 0);
    assert_false(qube("web")->complete);
    assert_true(qube("sys-net")->complete);
}

/* Every printable character; and what is none is not cut off where it begins. */
static void test_feature_values(void **state)
{
    char every[128];
    struct fake_conn *c;
    size_t n = 0;

    (void)state;
    for (char ch = ' '; ch <= '~'; ch++)
        every[n++] = ch;
    every[n] = '\0';
    vm_find("web", 3)->features[3] = every;
    start(0);
    read_all();
    assert_string_equal(qube("web")->feature[FEATURE_ALLOW], every);
    assert_true(qube("web")->complete);

    t.hold = "admin.vm.feature.Get+network-server.allow";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.feature.Get+network-server.allow dom0 name web"));
    fake_answer(c, "0\0tcp/22\0 from 10.0.0.1", 23);
    RUN_UNTIL(t.ones == 1);
    assert_string_equal(qube("web")->feature[FEATURE_ALLOW], "tcp/22\1 from 10.0.0.1");
}

/* Between two features of one qube nothing is taken over. */
static void test_all_at_once(void **state)
{
    struct fake_conn *c;
    struct vm *vm;

    (void)state;
    start(0);
    read_all();
    vm = vm_find("web", 3);
    vm->features[1] = "masquerade";
    vm->properties = "ip default=True type=str 10.137.0.9\n";
    t.hold = "admin.vm.feature.Get+network-server.allow";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    RUN_UNTIL(c = fake_find(&t.fake, "admin.vm.feature.Get+network-server.allow dom0 name web"));
    fake_run_quiet(t.event, 10);
    assert_string_equal(qube("web")->feature[FEATURE_METHOD], "forward");
    assert_int_equal(qube("web")->ip[0].bytes[0], 192);
    fake_ok(c, "tcp/23");
    RUN_UNTIL(t.ones == 1);
    assert_string_equal(qube("web")->feature[FEATURE_METHOD], "masquerade");
    assert_string_equal(qube("web")->feature[FEATURE_ALLOW], "tcp/23");
    assert_int_equal(qube("web")->ip[0].bytes[0], 10);
}

static void answer_old(const char *header, const char *answer)
{
    struct fake_conn *c;

    RUN_UNTIL(c = fake_find(&t.fake, header));
    t.hold = NULL;
    fake_ok(c, answer);
}

/* An event came after qubesd made the answer, and before we read it. */
static void test_asked_again_while_reading(void **state)
{
    (void)state;
    start(0);
    read_all();
    t.hold = "admin.vm.property.GetAll+ dom0 name web";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    RUN_UNTIL(fake_find(&t.fake, t.hold));
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    answer_old(t.hold, "ip default=True type=str 10.0.0.1\n");
    RUN_UNTIL(t.ones == 1);
    fake_run_quiet(t.event, 10);
    assert_int_equal(t.ones, 1); /* told once, with the newest */
    assert_int_equal(qube("web")->ip[0].bytes[0], 192);

    t.hold = "admin.vm.property.GetAll+ dom0 name web";
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, t.hold));
    vm_find("web", 3)->state = "Running"; /* the list was before */
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    answer_old(t.hold, "ip default=True type=str 10.0.0.1\n");
    RUN_UNTIL(t.wholes == 2);
    assert_int_equal(qube("web")->ip[0].bytes[0], 192);
    assert_int_equal(qube("web")->power, POWER_RUNNING);
    assert_int_equal(t.ones, 1);
}

static void test_asked_while_listing(void **state)
{
    struct qube *added;
    int error = 0;

    (void)state;
    start(0);
    read_all();
    t.hold = "admin.vm.List+ dom0 name dom0";
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, t.hold));
    /* Started, added and removed since qubesd made the list. */
    vm_find("web", 3)->state = "Running";
    vm_add("added", "Halted");
    vm_remove("sys-net");
    added = tree_get(t.tree, STR_LITERAL("added"), &error); /* as by its event */
    assert_non_null(added);
    added->live.known = true;
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("added")), 0);
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("sys-net")), 0);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.fake.now_open, 1); /* they wait */
    answer_old(t.hold, "dom0 class=AdminVM state=Running\nweb class=AppVM state=Halted\n"
                       "sys-net class=AppVM state=Running\n");
    RUN_UNTIL(t.wholes == 2);
    assert_int_equal(t.error, 0);
    assert_int_equal(qube("web")->power, POWER_RUNNING);
    assert_true(qube("added")->complete);
    assert_true(qube("added")->live.known); /* it was never away */
    assert_int_equal(t.all, 3);             /* nobody is read twice */
    assert_null(tree_find(t.tree, STR_LITERAL("sys-net")));
    assert_int_equal(t.ones, 0);
}

/* Asked about a qube that the full reading has done already. */
static void test_asked_behind_the_reading(void **state)
{
    (void)state;
    start(0);
    t.hold = "admin.vm.property.GetAll+ dom0 name web";
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, t.hold) && t.done == 1);
    vm_find("sys-net", 7)->state = "Halted";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("sys-net")), 0);
    RUN_UNTIL(t.done == 2);
    assert_int_equal(qube("sys-net")->power, POWER_HALTED);
    assert_int_equal(t.wholes, 0);
    answer_old(t.hold, plain);
    RUN_UNTIL(t.wholes == 1);
    assert_int_equal(t.ones, 0);
    assert_int_equal(t.done, 3);
    assert_int_equal(t.all, 3);
}

static void test_begins_again(void **state)
{
    (void)state;
    start(0);
    t.hold = "admin.vm.property.GetAll+ dom0 name web";
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, t.hold));
    t.hold = NULL;
    read_all();
    fake_run_quiet(t.event, 10);
    assert_int_equal(t.wholes, 1);
    assert_int_equal(t.error, 0);
    t.read_in_callback = true;
    read_all();
    RUN_UNTIL(t.wholes == 3);
    t.read_in_callback = true;
    read_one("web");
    RUN_UNTIL(t.ones == 2);
}

static void test_no_list(void **state)
{
    static const char *const bad[] = {"", "dom0 class=AdminVM state=Running\nweb class=App"};

    (void)state;
    start(0);
    read_all();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        t.hold = "admin.vm.List+ dom0 name dom0";
        assert_return_code(reader_read_all(t.reader), 0);
        answer_old(t.hold, bad[i]);
        RUN_UNTIL(t.wholes == 2 + i);
        assert_int_equal(t.error, -EPROTO);
        assert_int_equal(tree_count(t.tree), 3); /* nothing is gone */
    }
}

static void test_strange_lines(void **state)
{
    (void)state;
    start(0);
    t.hold = "admin.vm.List+ dom0 name dom0";
    assert_return_code(reader_read_all(t.reader), 0);
    answer_old(t.hold, "dom0 class=AdminVM state=Running\nno/name class=AppVM state=Halted\n"
                       "web class=AppVM state=Halted\nweb class=AppVM state=Running\n\n"
                       "what\nremote class=RemoteVM state=Halted\n"
                       "sys-net class=AVeryLongWordThatNobodyKnows state=AnotherOneThatIsLonger\n");
    RUN_UNTIL(t.wholes == 1);
    assert_int_equal(t.error, 0);
    assert_int_equal(tree_count(t.tree), 4);
    assert_int_equal(qube("web")->power, POWER_HALTED);
    assert_int_equal(qube("sys-net")->power, POWER_OTHER);
    assert_true(qube("remote")->complete);
    assert_int_equal(reader_read_one(t.reader, STR_LITERAL("no/name")), -EINVAL);
    assert_int_equal(t.all, 2);
}

/* qubesd goes while it is asked: what is known stays as it is. */
static void test_qubesd_dies(void **state)
{
    (void)state;
    start(0);
    read_all();
    t.hold = "admin.vm.property.GetAll";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    RUN_UNTIL(fake_find(&t.fake, "admin.vm.property.GetAll+ dom0 name web"));
    fake_stop(&t.fake, false);
    RUN_UNTIL(t.fails == 1);
    assert_true(t.error == -ECONNRESET || t.error == -ECONNREFUSED);
    assert_true(qube("web")->complete);
    assert_int_equal(t.ones, 0);
    read_all();
    assert_int_equal(t.error, -ECONNREFUSED);
    assert_int_equal(tree_count(t.tree), 3);

    fake_listen(&t.fake, 16);
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, "admin.vm.property.GetAll+ dom0 name web"));
    fake_stop(&t.fake, true);
    RUN_UNTIL(t.wholes == 3);
    assert_true(t.error < 0);
    assert_int_equal(tree_count(t.tree), 3);
    fake_run_quiet(t.event, 5);
    assert_int_equal(t.wholes, 3);
}

/* qubesd stands still: one qube is asked again for as long as it takes. */
static void test_time_limit(void **state)
{
    (void)state;
    start(50000);
    read_all();
    t.hold = "admin.vm.feature.List";
    assert_return_code(reader_read_one(t.reader, STR_LITERAL("web")), 0);
    fake_run_quiet(t.event, 0);
    RUN_UNTIL(t.fake.requests > 20);
    assert_int_equal(t.ones + t.fails, 0);
    t.hold = NULL;
    RUN_UNTIL(t.ones == 1);
    assert_true(qube("web")->complete);
    t.hold = "admin.vm.feature.List";
    read_all();
    assert_int_equal(t.error, -ETIMEDOUT);
}

static void test_freed_while_reading(void **state)
{
    (void)state;
    start(0);
    t.hold = "admin.vm.feature";
    assert_return_code(reader_read_all(t.reader), 0);
    RUN_UNTIL(fake_find(&t.fake, "admin.vm.feature.List+ dom0 name web"));
    t.reader = reader_free(t.reader);
    fake_run_quiet(t.event, 10);
    assert_int_equal(t.wholes, 0);
    assert_int_equal(t.fake.now_open, 0);
}

static void test_many(void **state)
{
    char name[QUBE_NAME_MAX];
    uint64_t began;

    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        struct vm *vm;

        snprintf(name, sizeof(name), "qube%u", i);
        vm = vm_add(name, "Running");
        if (i % 10 == 0)
            memcpy(vm->features, vm_find("web", 3)->features, sizeof(vm->features));
    }
    start(0);
    began = fake_now_ms();
    read_all();
    print_message("503 qubes in %u ms, the stand-in's time included\n",
                  (unsigned)(fake_now_ms() - began));
    assert_int_equal(tree_count(t.tree), 503);
    for (size_t i = 0; i < tree_count(t.tree); i++)
        assert_true(tree_at(t.tree, i)->complete);
    assert_int_equal(t.progresses, 503);
    assert_in_range(t.fake.most_open, 1, ADMIN_CALLS_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everything),
        TEST(test_changes),
        TEST(test_gone),
        TEST(test_gone_meanwhile),
        TEST(test_incomplete),
        TEST(test_feature_values),
        TEST(test_all_at_once),
        TEST(test_asked_again_while_reading),
        TEST(test_asked_while_listing),
        TEST(test_asked_behind_the_reading),
        TEST(test_begins_again),
        TEST(test_no_list),
        TEST(test_strange_lines),
        TEST(test_qubesd_dies),
        TEST(test_time_limit),
        TEST(test_freed_while_reading),
        TEST(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
