/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_adminapi_fixture.h"

#include <stdio.h>
#include <string.h>

struct fixture t;


static void note(char what)
{
    size_t len = strlen(t.order);

    if (len + 1 < sizeof(t.order))
        t.order[len] = what;
}

static void copy(char *out, size_t size, struct str s)
{
    snprintf(out, size, "%.*s", (int)s.len, s.len > 0 ? s.p : "");
}

static void on_event(const struct admin_event *e, void *user)
{
    struct str value;

    assert_ptr_equal(user, &t);
    t.events++;
    note('e');
    snprintf(t.last_event, sizeof(t.last_event), "%.*s %.*s %zu", (int)e->subject.len,
             e->subject.p, (int)e->name.len, e->name.p, e->n_pairs);
    t.last_value_len = SIZE_MAX;
    if (admin_event_value(e, "value", &value)) {
        t.last_value_len = value.len;
        copy(t.last_value, sizeof(t.last_value), value);
    }
    if (t.cancel_in_event)
        admin_cancel(t.client, &t);
}

static void on_connected(void *user)
{
    assert_ptr_equal(user, &t);
    t.connected++;
    note('c');
}

static void on_lost(int error, void *user)
{
    assert_ptr_equal(user, &t);
    assert_true(error < 0);
    t.losses++;
    t.lost_error = error;
    note('l');
}

void on_answer(int error, const struct admin_answer *a, void *user)
{
    assert_ptr_equal(user, &t);
    t.answers++;
    t.error = error;
    note('a');
    if (error == 0) {
        t.status = a->status;
        t.last_content = a->content.len;
        copy(t.content, sizeof(t.content), a->content);
        copy(t.type, sizeof(t.type), a->type);
        copy(t.message, sizeof(t.message), a->message);
    } else {
        assert_true(error < 0);
        assert_null(a);
    }
    if (t.call_more > 0) {
        t.call_more--;
        call_some();
    }
}

void call_to(const char *method, const char *arg, const char *dest, const char *payload)
{
    const struct admin_request request = {
        .method = method, .arg = arg, .dest = dest, .payload = str_from(payload)};

    assert_return_code(admin_call(t.client, &request, on_answer, &t), 0);
}

void call_some(void)
{
    call_to("admin.vm.List", NULL, "dom0", "");
}

void start(bool events, uint64_t timeout_usec)
{
    const struct admin_client_config config = {
        .socket = t.fake.socket,
        .timeout_usec = timeout_usec,
        .event = events ? on_event : NULL,
        .connected = on_connected,
        .lost = on_lost,
        .user = &t,
    };

    assert_return_code(admin_client_new(t.event, &config, &t.client), 0);
    assert_string_equal(t.order, ""); /* nothing from inside */
}

void script_hold(struct fake_conn *c)
{
    (void)c;
}

void script_echo(struct fake_conn *c)
{
    FAKE_SEND(c, "0\0");
    fake_send(c, c->header, strlen(c->header));
    FAKE_SEND(c, "|");
    fake_answer(c, c->payload, c->payload_len);
}

void script_events(struct fake_conn *c)
{
    if (fake_is(c, FAKE_EVENTS))
        FAKE_SEND(c, FAKE_ESTABLISHED);
}

int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    assert_return_code(sd_event_new(&t.event), 0);
    fake_init(&t.fake, t.event);
    t.fake.script = script_hold;
    return 0;
}

int teardown(void **state)
{
    (void)state;
    t.client = admin_client_free(t.client);
    fake_done(&t.fake);
    t.event = sd_event_unref(t.event);
    return 0;
}

void start_with_stream(void)
{
    t.fake.script = script_events;
    fake_listen(&t.fake, 8);
    start(true, 2000000);
    RUN_UNTIL(t.connected == 1);
}

struct fake_conn *stream(void)
{
    struct fake_conn *c = fake_find(&t.fake, FAKE_EVENTS);

    assert_non_null(c);
    return c;
}
