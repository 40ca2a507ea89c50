/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_dom0_reader_fixture.h"

#include <stdio.h>
#include <string.h>

struct fixture t;


const char plain[] =
    "default_user default=True type=str user\n"
    "ip default=False type=str 192.168.16.25\n"
    "ip6 default=True type=str \n"
    "kernelopts default=True type=str a\\\\b\\nc\n"
    "klass default=True type=str AppVM\n"
    "netvm default=True type=vm sys-net\n"
    "provides_network default=True type=bool False\n"
    "stubdom_xid default=True type=int -1\n"
    "template default=False type=vm debian-12\n"
    "xid default=True type=int 11\n";

struct vm *vm_add(const char *name, const char *state)
{
    struct vm *vm = &t.vms[t.n_vms++];

    assert_true(t.n_vms <= VMS_MAX);
    *vm = (struct vm){.klass = "AppVM", .state = state, .properties = plain};
    snprintf(vm->name, sizeof(vm->name), "%s", name);
    return vm;
}

struct vm *vm_find(const char *name, size_t len)
{
    for (size_t i = 0; i < t.n_vms; i++)
        if (strlen(t.vms[i].name) == len && memcmp(t.vms[i].name, name, len) == 0)
            return &t.vms[i];
    return NULL;
}

void vm_remove(const char *name)
{
    struct vm *vm = vm_find(name, strlen(name));

    assert_non_null(vm);
    *vm = t.vms[--t.n_vms];
}

static void answer_list(struct fake_conn *c, const struct vm *only)
{
    static char text[VMS_MAX * 64];
    size_t len = 0;

    for (size_t i = 0; i < t.n_vms; i++) {
        const struct vm *vm = &t.vms[i];

        if (!only || vm == only)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s class=%s state=%s uuid=x\n",
                                    vm->name, vm->klass, vm->state);
    }
    assert_true(len < sizeof(text));
    FAKE_SEND(c, "0\0");
    fake_answer(c, text, len);
}

static void answer_features(struct fake_conn *c, const struct vm *vm)
{
    FAKE_SEND(c, "0\0other\n");
    for (size_t i = 0; vm->features[i]; i += 2) {
        fake_send(c, vm->features[i], strlen(vm->features[i]));
        FAKE_SEND(c, "\n");
    }
    fake_close(c);
}

static void answer_feature(struct fake_conn *c, const struct vm *vm, const char *name, size_t len)
{
    t.gets++;
    for (size_t i = 0; vm->features[i]; i += 2)
        if (strlen(vm->features[i]) == len && memcmp(vm->features[i], name, len) == 0) {
            fake_ok(c, vm->features[i + 1]);
            return;
        }
    fake_exception(c, "QubesFeatureNotFoundError", "Feature not set");
}

static void qubesd(struct fake_conn *c)
{
    const char *plus = strchr(c->header, '+'), *dest = strrchr(c->header, ' ') + 1;
    size_t arg_len = strcspn(plus + 1, " ");
    const struct vm *vm = vm_find(dest, strlen(dest));

    if (t.asked)
        t.asked(c);
    if (t.hold && strncmp(c->header, t.hold, strlen(t.hold)) == 0)
        return;
    if (strcmp(c->header, "admin.vm.List+ dom0 name dom0") == 0)
        answer_list(c, NULL);
    else if (!vm && t.not_found)
        fake_exception(c, "QubesVMNotFoundError", "No such domain");
    else if (!vm || vm->empty)
        fake_close(c);
    else if (strncmp(c->header, "admin.vm.List+ ", 15) == 0)
        answer_list(c, vm);
    else if (strncmp(c->header, "admin.vm.property.GetAll+ ", 26) == 0)
        fake_ok(c, vm->properties);
    else if (strncmp(c->header, "admin.vm.feature.List+ ", 23) == 0)
        answer_features(c, vm);
    else if (strncmp(c->header, "admin.vm.feature.Get+", 21) == 0)
        answer_feature(c, vm, plus + 1, arg_len);
    else
        fail_msg("%s", c->header);
}

static void on_whole(int error, void *user)
{
    assert_ptr_equal(user, &t);
    t.wholes++;
    t.error = error;
    if (t.read_in_callback) {
        t.read_in_callback = false;
        assert_return_code(reader_read_all(t.reader), 0);
    }
}

static void on_one(struct qube *q, struct str name, void *user)
{
    assert_ptr_equal(user, &t);
    t.ones++;
    t.one_gone = q == NULL;
    snprintf(t.one_name, sizeof(t.one_name), "%.*s", (int)name.len, name.p);
    if (q)
        assert_string_equal(q->name, t.one_name);
    if (t.read_in_callback) {
        t.read_in_callback = false;
        assert_return_code(reader_read_one(t.reader, name), 0);
    }
}

static void on_failed(int error, struct str name, void *user)
{
    assert_ptr_equal(user, &t);
    assert_true(name.len > 0);
    t.fails++;
    t.error = error;
}

static void on_progress(size_t done, size_t all, void *user)
{
    assert_ptr_equal(user, &t);
    assert_true(done <= all);
    t.progresses++;
    t.done = done;
    t.all = all;
}

void start(uint64_t timeout_usec)
{
    const struct admin_client_config client = {
        .socket = t.fake.socket, .timeout_usec = timeout_usec, .user = &t};
    const struct reader_config reader = {.whole = on_whole,
                                         .one = on_one,
                                         .failed = on_failed,
                                         .progress = on_progress,
                                         .user = &t};

    assert_return_code(admin_client_new(t.event, &client, &t.client), 0);
    assert_return_code(reader_new(t.client, t.tree, &reader, &t.reader), 0);
}

int setup(void **state)
{
    struct vm *vm;

    (void)state;
    memset(&t, 0, sizeof(t));
    assert_return_code(sd_event_new(&t.event), 0);
    fake_init(&t.fake, t.event);
    t.fake.script = qubesd;
    t.tree = tree_new();
    assert_non_null(t.tree);
    vm_add("dom0", "Running")->klass = "AdminVM";
    vm_add("sys-net", "Running");
    vm = vm_add("web", "Halted");
    vm->features[0] = "routing-method";
    vm->features[1] = "forward";
    vm->features[2] = "network-server.allow";
    vm->features[3] = "tcp/22";
    vm->features[4] = "service.qubes-vpn";
    vm->features[5] = "";
    fake_listen(&t.fake, 16);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    t.reader = reader_free(t.reader);
    t.client = admin_client_free(t.client);
    t.tree = tree_free(t.tree);
    fake_done(&t.fake);
    t.event = sd_event_unref(t.event);
    return 0;
}

struct qube *qube(const char *name)
{
    struct qube *q = tree_find(t.tree, str_from(name));

    assert_non_null(q);
    return q;
}

void read_all(void)
{
    unsigned before = t.wholes;

    assert_return_code(reader_read_all(t.reader), 0);
    assert_int_equal(t.wholes, before); /* nothing from inside */
    RUN_UNTIL(t.wholes == before + 1);
}

void read_one(const char *name)
{
    unsigned before = t.ones;

    assert_return_code(reader_read_one(t.reader, str_from(name)), 0);
    assert_int_equal(t.ones, before);
    RUN_UNTIL(t.ones == before + 1);
    assert_string_equal(t.one_name, name);
}
