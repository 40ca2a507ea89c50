/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The look-up of an endpoint's name, against name servers of the test's own on 127.0.0.N in a
 * namespace of the test's own: what is asked, by which sockets, and what is made of the answers.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "test_netlink_sandbox.h"

#include "base/cleanup.h"
#include "vpn/client/resolver.h"
#include "vpn/wish/wish.h"

#define A    1
#define AAAA 28

enum manner { ANSWERS, SILENT, REFUSES, NO_SUCH_NAME, NO_AAAA_ANSWER, TRUNCATES };

/* One name server: UDP and TCP on port 53 of 127.0.0.host. */
struct server {
    uint8_t host;
    enum manner manner;
    const char *addresses[24]; /* text, both families */
    unsigned queries;
    char last_name[256];
    int udp, tcp;
    sd_event_source *sources[2];
};

struct world {
    sd_event *loop;
    struct resolver *resolver;
    struct server servers[2];
    size_t n_servers;
    unsigned answers;
    struct addr found[RESOLVER_ADDRS_MAX];
    size_t n;
    char error[256];
    enum { KEEP, FREE_IT, ASK_AGAIN, CANCEL_IT } at_answer;
};

static size_t put_u16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
    return 2;
}

static size_t put_record(uint8_t *p, const struct addr *a)
{
    size_t n = put_u16(p, 0xc00c);

    n += put_u16(p + n, a->family == AF_INET ? A : AAAA);
    n += put_u16(p + n, 1);
    n += put_u16(p + n, 0);
    n += put_u16(p + n, 60);
    n += put_u16(p + n, (unsigned)addr_size(a->family));
    memcpy(p + n, a->bytes, addr_size(a->family));
    return n + addr_size(a->family);
}

/* Where the question ends; its name as text goes to name. */
static size_t read_question(const uint8_t *q, size_t len, char *name, unsigned *ret_kind)
{
    size_t at = 12, used = 0;

    while (at < len && q[at] != 0) {
        for (size_t i = 1; i <= q[at] && at + i < len; i++)
            name[used++] = (char)q[at + i];
        name[used++] = '.';
        at += q[at] + 1u;
    }
    name[used > 0 ? used - 1 : 0] = '\0';
    assert_true(at + 5 <= len);
    *ret_kind = (unsigned)q[at + 1] << 8 | q[at + 2];
    return at + 5;
}

/* 0: no answer. */
static size_t answer(struct server *s, const uint8_t *q, size_t len, bool tcp, uint8_t *out)
{
    unsigned kind, count = 0;
    size_t end = read_question(q, len, s->last_name, &kind), n = end;

    assert_true(kind == A || kind == AAAA);
    s->queries++;
    if (s->manner == SILENT || (s->manner == NO_AAAA_ANSWER && kind == AAAA))
        return 0;
    memcpy(out, q, end);
    out[2] = s->manner == TRUNCATES && !tcp ? 0x87 : 0x85;
    out[3] = s->manner == REFUSES ? 0x85 : s->manner == NO_SUCH_NAME ? 0x83 : 0x80;
    memset(out + 6, 0, 6);
    for (size_t i = 0; out[2] == 0x85 && out[3] == 0x80 && s->addresses[i] != NULL; i++) {
        struct addr a;

        assert_int_equal(addr_parse(str_from(s->addresses[i]), &a), 0);
        if ((a.family == AF_INET) == (kind == A)) {
            n += put_record(out + n, &a);
            count++;
        }
    }
    (void)put_u16(out + 6, count);
    return n;
}

static int on_udp(sd_event_source *source, int fd, uint32_t events, void *user)
{
    uint8_t q[512], out[1024];
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_len);
    size_t len;

    (void)source;
    (void)events;
    assert_true(n > 12);
    len = answer(user, q, (size_t)n, false, out);
    if (len > 0)
        assert_int_equal(sendto(fd, out, len, 0, (struct sockaddr *)&from, from_len), len);
    return 0;
}

/* One question, one answer, and the server hangs up. */
static int on_connection(sd_event_source *source, int fd, uint32_t events, void *user)
{
    uint8_t q[512], out[1024];
    ssize_t n = recv(fd, q, sizeof(q), 0);
    size_t len;

    (void)events;
    assert_true(n > 14); /* in one piece: it is small, and local */
    len = answer(user, q + 2, (size_t)n - 2, true, out + 2);
    (void)put_u16(out, (unsigned)len);
    assert_int_equal(send(fd, out, len + 2, MSG_NOSIGNAL), len + 2);
    (void)sd_event_source_disable_unref(source);
    return 0;
}

static int on_tcp(sd_event_source *source, int fd, uint32_t events, void *user)
{
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    sd_event_source *connection;

    (void)events;
    assert_true(sd_event_add_io(sd_event_source_get_event(source), &connection, peer, EPOLLIN,
                                on_connection, user) >= 0);
    assert_true(sd_event_source_set_io_fd_own(connection, true) >= 0);
    return 0;
}

static int open_server(int type, uint8_t host)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(53)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;

    at.sin_addr.s_addr = htonl(0x7f000000u | host);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void add_server(struct world *w, uint8_t host, enum manner manner)
{
    struct server *s = &w->servers[w->n_servers++];

    s->host = host;
    s->manner = manner;
    s->udp = open_server(SOCK_DGRAM, host);
    s->tcp = open_server(SOCK_STREAM, host);
    assert_int_equal(listen(s->tcp, 4), 0);
    assert_true(sd_event_add_io(w->loop, &s->sources[0], s->udp, EPOLLIN, on_udp, s) >= 0);
    assert_true(sd_event_add_io(w->loop, &s->sources[1], s->tcp, EPOLLIN, on_tcp, s) >= 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_true(sd_event_new(&w->loop) >= 0);
    assert_int_equal(resolver_new(w->loop, &w->resolver), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    w->resolver = resolver_free(w->resolver);
    for (size_t i = 0; i < w->n_servers; i++) {
        struct server *s = &w->servers[i];

        (void)sd_event_source_disable_unref(s->sources[0]);
        (void)sd_event_source_disable_unref(s->sources[1]);
        (void)close(s->udp);
        (void)close(s->tcp);
    }
    (void)sd_event_unref(w->loop);
    free(w);
    return 0;
}

static int ask(struct world *w, const char *name, int family);

static void on_found(const struct addr *addrs, size_t n, const char *error, void *user)
{
    struct world *w = user;

    assert_true((n == 0) == (error != NULL));
    w->answers++;
    w->n = n;
    memcpy(w->found, addrs, n * sizeof(*addrs));
    (void)snprintf(w->error, sizeof(w->error), "%s", error != NULL ? error : "");
    switch (w->at_answer) {
    case KEEP:
        break;
    case FREE_IT:
        w->resolver = resolver_free(w->resolver);
        break;
    case ASK_AGAIN:
        w->at_answer = KEEP;
        assert_int_equal(ask(w, "again.example", 0), 0);
        break;
    case CANCEL_IT:
        resolver_cancel(w->resolver);
        break;
    }
}

static int ask(struct world *w, const char *name, int family)
{
    struct addr servers[2];

    for (size_t i = 0; i < w->n_servers; i++)
        servers[i] = (struct addr){AF_INET, {127, 0, 0, w->servers[i].host}};
    return resolver_ask(w->resolver, servers, w->n_servers, name, family, on_found, w);
}

/* Until there have been that many answers; how long it took in milliseconds. */
static int64_t run(struct world *w, unsigned answers)
{
    int64_t begin = sandbox_now_us();

    while (w->answers < answers) {
        if (sandbox_now_us() - begin > 15000000)
            fail_msg("no answer within 15 s");
        assert_true(sd_event_run(w->loop, 1000000) >= 0);
    }
    return (sandbox_now_us() - begin) / 1000;
}

/* Nothing is left to wake up for. */
static void check_quiet(struct world *w)
{
    while (sd_event_run(w->loop, 20000) > 0)
        ;
    assert_int_equal(sd_event_run(w->loop, 50000), 0);
}

static void check_found(const struct world *w, const char *want)
{
    char text[RESOLVER_ADDRS_MAX * (ADDR_STR_MAX + 1)] = "", one[ADDR_STR_MAX];
    size_t used = 0;

    for (size_t i = 0; i < w->n; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? " " : "",
                                 addr_format(&w->found[i], one));
    assert_string_equal(text, want);
}

static void test_both_families_in_turns(void **state)
{
    static const char *const list[] = {"2001:db8::1", "203.0.113.10", "203.0.113.11", "2001:db8::2",
                                       "203.0.113.12", "203.0.113.10"};
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    memcpy(w->servers[0].addresses, list, sizeof(list));
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    assert_int_equal(ask(w, "vpn.example.net", 0), -EBUSY);
    assert_int_equal(w->answers, 0); /* never from within */
    assert_in_range(run(w, 1), 0, 900);
    check_found(w, "203.0.113.10 2001:db8::1 203.0.113.11 2001:db8::2 203.0.113.12");
    assert_int_equal(w->servers[0].queries, 2);
    assert_string_equal(w->servers[0].last_name, "vpn.example.net");
    check_quiet(w);
    assert_int_equal(ask(w, "vpn.example.net", AF_INET6), 0);
    (void)run(w, 2);
    check_found(w, "2001:db8::1 2001:db8::2");
    assert_int_equal(w->servers[0].queries, 3);
}

static void test_addresses_of_nobody(void **state)
{
    static const char *const list[] = {"127.0.0.1", "224.0.0.1", "169.254.1.1", "0.0.0.0",
                                       "255.255.255.255", "::1", "fe80::1", "ff02::1",
                                       "::ffff:203.0.113.10", "192.168.1.5", "64:ff9b::cb00:710a"};
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    memcpy(w->servers[0].addresses, list, sizeof(list));
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 1);
    check_found(w, "192.168.1.5 64:ff9b::cb00:710a");
    w->servers[0].addresses[1] = NULL;
    assert_int_equal(ask(w, "vpn.example.net", AF_INET), 0);
    (void)run(w, 2);
    assert_string_equal(w->error, "the only answer is 127.0.0.1, which is a loopback address");
}

static void test_many_addresses(void **state)
{
    static char text[24][ADDR_STR_MAX];
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    for (size_t i = 0; i < 23; i++) {
        (void)snprintf(text[i], sizeof(text[i]), i < 20 ? "203.0.113.%zu" : "2001:db8::%zu", i + 1);
        w->servers[0].addresses[i] = text[i];
    }
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 1);
    assert_int_equal(w->n, RESOLVER_ADDRS_MAX);
    assert_int_equal(w->found[1].family, AF_INET6);
    assert_int_equal(w->found[5].family, AF_INET6);
    assert_int_equal(w->found[6].family, AF_INET);
}

static void test_no_such_name(void **state)
{
    struct world *w = *state;

    add_server(w, 1, NO_SUCH_NAME);
    assert_int_equal(ask(w, "gone.example", 0), 0);
    (void)run(w, 1);
    assert_string_equal(w->error, "the name does not exist");
    w->servers[0].manner = ANSWERS;
    assert_int_equal(ask(w, "empty.example", 0), 0);
    (void)run(w, 2);
    assert_string_equal(w->error, "the name has no address");
    w->servers[0].manner = REFUSES;
    assert_int_equal(ask(w, "refused.example", 0), 0);
    (void)run(w, 3);
    assert_string_equal(w->error, "no name server could be reached, or all refused");
}

/* The name is asked as it is: no domain of the machine, no variable's, is put behind it. */
static void test_no_search(void **state)
{
    struct world *w = *state;

    add_server(w, 1, NO_SUCH_NAME);
    assert_int_equal(setenv("LOCALDOMAIN", "search.example", 1), 0);
    assert_int_equal(ask(w, "short", 0), 0);
    (void)run(w, 1);
    assert_string_equal(w->servers[0].last_name, "short");
    assert_int_equal(w->servers[0].queries, 2);
    assert_int_equal(unsetenv("LOCALDOMAIN"), 0);
}

/* The hosts file is not looked at: this name is in every one. */
static void test_no_hosts_file(void **state)
{
    struct world *w = *state;
    char host[64];

    add_server(w, 1, ANSWERS);
    w->servers[0].addresses[0] = "203.0.113.10";
    assert_int_equal(gethostname(host, sizeof(host)), 0);
    assert_int_equal(ask(w, host, AF_INET), 0);
    (void)run(w, 1);
    check_found(w, "203.0.113.10");
}

static void test_second_server(void **state)
{
    struct world *w = *state;

    add_server(w, 1, SILENT);
    add_server(w, 2, ANSWERS);
    w->servers[1].addresses[0] = "203.0.113.10";
    w->servers[1].addresses[1] = "2001:db8::1";
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    assert_in_range(run(w, 1), 0, 4000);
    check_found(w, "203.0.113.10 2001:db8::1");
}

/* A name server that never answers for AAAA costs little, not the whole time. */
static void test_one_family_unanswered(void **state)
{
    struct world *w = *state;

    add_server(w, 1, NO_AAAA_ANSWER);
    w->servers[0].addresses[0] = "203.0.113.10";
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    assert_in_range(run(w, 1), 1500, 4000);
    check_found(w, "203.0.113.10");
    check_quiet(w);
}

static void test_nobody_answers(void **state)
{
    struct world *w = *state;

    add_server(w, 1, SILENT);
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    assert_in_range(run(w, 1), 5000, 10500);
    assert_string_equal(w->error, "no name server answered in time");
    assert_true(w->servers[0].queries >= 4);
    check_quiet(w);
}

static void test_nobody_there(void **state)
{
    struct world *w = *state;
    const struct addr server = {AF_INET, {127, 0, 0, 77}}; /* nothing listens */

    assert_int_equal(resolver_ask(w->resolver, &server, 1, "vpn.example.net", 0, on_found, w), 0);
    assert_in_range(run(w, 1), 0, 10500);
    assert_string_equal(w->error, "no name server could be reached, or all refused");
}

static void test_over_tcp(void **state)
{
    struct world *w = *state;

    add_server(w, 1, TRUNCATES);
    w->servers[0].addresses[0] = "203.0.113.10";
    w->servers[0].manner = TRUNCATES;
    assert_int_equal(ask(w, "vpn.example.net", AF_INET), 0);
    (void)run(w, 1);
    check_found(w, "203.0.113.10");
    assert_int_equal(w->servers[0].queries, 2);
}

static void test_use_in_callback(void **state)
{
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    w->servers[0].addresses[0] = "203.0.113.10";
    w->at_answer = ASK_AGAIN;
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 2);
    assert_string_equal(w->servers[0].last_name, "again.example");
    w->at_answer = CANCEL_IT;
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 3);
    w->at_answer = FREE_IT;
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 4);
    check_quiet(w);
    assert_int_equal(w->answers, 4);
}

static void test_cancel(void **state)
{
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    resolver_cancel(w->resolver);
    resolver_cancel(w->resolver);
    check_quiet(w);
    assert_int_equal(w->answers, 0);
    assert_int_equal(ask(w, "vpn.example.net", 0), 0); /* freed while one runs */
    w->resolver = resolver_free(w->resolver);
    check_quiet(w);
    assert_int_equal(w->answers, 0);
}

static void test_bad_questions(void **state)
{
    struct world *w = *state;
    const struct addr server = {AF_INET, {127, 0, 0, 1}}, none = {0};
    char name[300];

    memset(name, 'a', sizeof(name));
    name[299] = '\0';
    assert_int_equal(resolver_ask(w->resolver, &server, 0, "a.example", 0, on_found, w), -EINVAL);
    assert_int_equal(resolver_ask(w->resolver, &none, 1, "a.example", 0, on_found, w), -EINVAL);
    assert_int_equal(resolver_ask(w->resolver, &server, 1, "", 0, on_found, w), -EINVAL);
    assert_int_equal(resolver_ask(w->resolver, &server, 1, name, 0, on_found, w), -EINVAL);
    assert_int_equal(resolver_ask(w->resolver, &server, 1, "a.example", AF_UNIX, on_found, w),
                     -EAFNOSUPPORT);
    /* labels that are too long are c-ares' to refuse, and told from the loop */
    name[200] = '\0';
    assert_int_equal(resolver_ask(w->resolver, &server, 1, name, 0, on_found, w), 0);
    (void)run(w, 1);
    assert_true(w->error[0] != '\0');
}

/*
 * Every packet to port 53 carries the mark: the kernel counts those that do not. Last, because the
 * second half gives up the right to mark.
 */
static void test_mark(void **state)
{
    struct world *w = *state;
    FILE *list;
    char line[512] = "", *counter;

    sandbox_run("nft 'table inet t { chain c { type filter hook output priority 0; "
                "th dport 53 meta mark & 0xff000000 == 0x79000000 accept; "
                "th dport 53 counter drop; }; }'");
    add_server(w, 1, TRUNCATES);
    w->servers[0].addresses[0] = "203.0.113.10";
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 1);
    check_found(w, "203.0.113.10");
    list = popen("nft list ruleset | grep counter", "re");
    assert_non_null(list);
    assert_non_null(fgets(line, sizeof(line), list));
    (void)pclose(list);
    counter = strstr(line, "packets ");
    assert_non_null(counter);
    assert_int_equal(atoi(counter + 8), 0);
}

static void test_no_right_to_mark(void **state)
{
    struct world *w = *state;

    add_server(w, 1, ANSWERS);
    w->servers[0].addresses[0] = "203.0.113.10";
    if (setresuid(65534, 65534, 0) < 0)
        skip();
    assert_int_equal(ask(w, "vpn.example.net", 0), 0);
    (void)run(w, 1);
    assert_int_equal(setresuid(0, 0, 0), 0);
    assert_string_equal(w->error, "a socket cannot be marked: Operation not permitted");
    assert_int_equal(w->servers[0].queries, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_both_families_in_turns), TEST(test_addresses_of_nobody),
        TEST(test_many_addresses),         TEST(test_no_such_name),
        TEST(test_no_search),              TEST(test_no_hosts_file),
        TEST(test_second_server),          TEST(test_one_family_unanswered),
        TEST(test_nobody_answers),         TEST(test_nobody_there),
        TEST(test_over_tcp),               TEST(test_use_in_callback),
        TEST(test_cancel),                 TEST(test_bad_questions),
        TEST(test_mark),                   TEST(test_no_right_to_mark),
    };

    if (!sandbox_enter())
        return 77;
    sandbox_run("ip link set lo up");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
