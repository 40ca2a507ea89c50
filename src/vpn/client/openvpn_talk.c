/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vpn/client/openvpn_private.h"
#include "vpn/client/runtime.h"

/* Events that a client may cause: so many at once, so many a second. An honest one needs few. */
#define EVENTS_BURST  200
#define EVENTS_REFILL 10
#define CLOSED_MS     1000 /* from the end of the connection to the end of the process */

static bool event_allowed(struct openvpn_driver *d)
{
    uint64_t now = clock_now_us(), gain;

    if (d->events_us == 0)
        d->events = EVENTS_BURST;
    gain = d->events_us == 0 ? 0 : (now - d->events_us) * EVENTS_REFILL / 1000000u;
    if (gain > 0 || d->events_us == 0) {
        d->events = d->events + gain > EVENTS_BURST ? EVENTS_BURST : d->events + gain;
        d->events_us = now;
    }
    if (d->events == 0)
        return false;
    d->events--;
    return true;
}

/* The client is not to be trusted any more: it is killed, its end is told by the exit event. */
static void client_condemn(struct openvpn_driver *d, const char *why)
{
    (void)snprintf(d->fatal, sizeof(d->fatal), "%s", why);
    (void)process_signal(&d->client->process, SIGKILL);
    d->link = management_link_free(d->link);
}

static bool say(struct openvpn_driver *d, enum client_event_kind kind, const char *text)
{
    if (!event_allowed(d)) {
        client_condemn(d, "it started over too often");
        return false;
    }
    return client_say(d->client, kind, "%s", text);
}

static bool ask(struct openvpn_driver *d, enum openvpn_asked asked, enum client_secret secret,
                const char *question)
{
    struct client_event e = {.kind = CLIENT_SECRET, .secret = secret, .text = question};

    d->asked = asked;
    if (!event_allowed(d)) {
        client_condemn(d, "it asked for secrets too often");
        return false;
    }
    return client_emit(d->client, &e);
}

static bool say_refused(struct openvpn_driver *d, const char *text)
{
    d->refused = true;
    return say(d, CLIENT_REFUSED, text);
}

static int send_user_password(struct openvpn_driver *d, const char *user, const char *password)
{
    int r = management_link_send(d->link, "username", "Auth", user);

    return r < 0 ? r : management_link_send(d->link, "password", "Auth", password);
}

/* All of a log-in; the password of the key stays until it is asked for. */
static void secrets_wipe_login(struct openvpn_secrets *s)
{
    s->have_user_password = s->have_response = false;
    explicit_bzero(s->user, sizeof(s->user));
    explicit_bzero(s->password, sizeof(s->password));
    explicit_bzero(s->response, sizeof(s->response));
    explicit_bzero(s->dynamic_id, sizeof(s->dynamic_id));
    explicit_bzero(s->dynamic_user, sizeof(s->dynamic_user));
}

/* -EAGAIN: something is missing yet. */
static int answer_user_password(struct openvpn_driver *d)
{
    struct openvpn_secrets *s = &d->secrets;
    char packed[MANAGEMENT_COMMAND_MAX];
    int r;

    if (!s->have_user_password || (d->has_static && !s->have_response))
        return -EAGAIN;
    if (d->has_static) {
        r = management_static_response(s->password, s->response, packed, sizeof(packed));
        if (r == 0)
            r = send_user_password(d, s->user, packed);
        explicit_bzero(packed, sizeof(packed));
    } else {
        r = send_user_password(d, s->user, s->password);
    }
    d->asked = ASKED_NOTHING;
    secrets_wipe_login(s);
    return r;
}

static int answer_dynamic(struct openvpn_driver *d)
{
    struct openvpn_secrets *s = &d->secrets;
    char packed[MANAGEMENT_COMMAND_MAX];
    int r;

    if (!s->have_response)
        return -EAGAIN;
    r = management_dynamic_response(str_from(s->dynamic_id), s->response, packed, sizeof(packed));
    if (r == 0)
        r = send_user_password(d, s->dynamic_user, packed);
    explicit_bzero(packed, sizeof(packed));
    d->asked = ASKED_NOTHING;
    secrets_wipe_login(s);
    return r;
}

static int answer_text(struct openvpn_driver *d)
{
    struct openvpn_secrets *s = &d->secrets;
    char packed[MANAGEMENT_SECRET_MAX * 2];
    int r;

    if (!s->have_response)
        return -EAGAIN;
    r = base64_write(s->response, strlen(s->response), packed, sizeof(packed));
    if (r == 0)
        r = management_link_send(d->link, "cr-response", packed, NULL);
    explicit_bzero(packed, sizeof(packed));
    d->asked = ASKED_NOTHING;
    secrets_wipe_login(s);
    return r;
}

static int answer_key_password(struct openvpn_driver *d)
{
    struct openvpn_secrets *s = &d->secrets;
    int r;

    if (!s->have_key_password)
        return -EAGAIN;
    r = management_link_send(d->link, "password", "Private Key", s->key_password);
    d->asked = ASKED_NOTHING;
    s->have_key_password = false;
    explicit_bzero(s->key_password, sizeof(s->key_password));
    return r;
}

static int answer(struct openvpn_driver *d)
{
    if (d->link == NULL)
        return -ENOTCONN;
    switch (d->asked) {
    case ASKED_NOTHING:
        return 0; /* kept until asked */
    case ASKED_USER_PASSWORD:
    case ASKED_STATIC:
        return answer_user_password(d);
    case ASKED_DYNAMIC:
        return answer_dynamic(d);
    case ASKED_TEXT:
        return answer_text(d);
    case ASKED_KEY_PASSWORD:
        return answer_key_password(d);
    }
    return -EINVAL;
}

static int secret_copy(char ret[static MANAGEMENT_SECRET_MAX], const char *value)
{
    char line[MANAGEMENT_COMMAND_MAX];
    int r = management_write(line, "password", "Auth", value); /* can it be sent at all? */

    explicit_bzero(line, sizeof(line));
    if (r < 0)
        return r;
    if (strlen(value) >= MANAGEMENT_SECRET_MAX)
        return -E2BIG;
    memcpy(ret, value, strlen(value) + 1);
    return 0;
}

int openvpn_give_secret(struct client *c, enum client_secret kind, const char *name,
                        const char *value)
{
    struct openvpn_driver *d = c->driver;
    struct openvpn_secrets *s = &d->secrets;
    int r = 0;

    switch (kind) {
    case SECRET_USER_PASSWORD:
        r = secret_copy(s->user, name != NULL ? name : "");
        if (r == 0)
            r = secret_copy(s->password, value);
        s->have_user_password = r == 0;
        break;
    case SECRET_KEY_PASSWORD:
        r = secret_copy(s->key_password, value);
        s->have_key_password = r == 0;
        break;
    case SECRET_CHALLENGE:
        r = secret_copy(s->response, value);
        s->have_response = r == 0;
        break;
    }
    if (r < 0)
        return r;
    r = answer(d);
    if (r == -EAGAIN && d->asked == ASKED_USER_PASSWORD && s->have_user_password) {
        d->asked = ASKED_STATIC;
        return client_post_secret(c, SECRET_CHALLENGE, "%s", d->challenge);
    }
    return r == -EAGAIN ? 0 : r;
}

/* A name and a password that the profile's file brought along, unless there are others. */
static void take_from_profile(struct openvpn_driver *d)
{
    struct openvpn_secrets *s = &d->secrets;
    const char *user, *password;

    if (s->have_user_password || d->profile_refused ||
        !openvpn_credentials(d->client->profile, &user, &password) || password[0] == '\0')
        return;
    s->have_user_password =
        secret_copy(s->user, user) == 0 && secret_copy(s->password, password) == 0;
}

static bool on_need_user_password(struct openvpn_driver *d, const struct management_message *m)
{
    d->refused = false;
    d->has_static = m->challenge.p != NULL;
    if (d->secrets.dynamic_id[0] != '\0')
        return ask(d, ASKED_DYNAMIC, SECRET_CHALLENGE, d->challenge);
    (void)str_escape(m->challenge.p != NULL ? m->challenge : str_from(""), d->challenge,
                     sizeof(d->challenge));
    take_from_profile(d);
    d->asked = ASKED_USER_PASSWORD;
    if (answer(d) == 0)
        return true;
    if (d->secrets.have_user_password && d->has_static)
        return ask(d, ASKED_STATIC, SECRET_CHALLENGE, d->challenge);
    return ask(d, ASKED_USER_PASSWORD, SECRET_USER_PASSWORD, "");
}

static bool on_need_key_password(struct openvpn_driver *d)
{
    d->refused = false;
    d->asked = ASKED_KEY_PASSWORD;
    return answer(d) == 0 || ask(d, ASKED_KEY_PASSWORD, SECRET_KEY_PASSWORD, "");
}

/* A dynamic challenge is no refusal: the next log-in has to bring the answer. */
static bool keep_dynamic(struct openvpn_driver *d, const struct management_message *m)
{
    struct openvpn_secrets *s = &d->secrets;
    size_t len;

    secrets_wipe_login(s);
    if (m->state_id.len == 0 || m->state_id.len >= sizeof(s->dynamic_id) ||
        base64_read(m->user, s->dynamic_user, sizeof(s->dynamic_user), &len) < 0 ||
        strlen(s->dynamic_user) != len)
        return false;
    memcpy(s->dynamic_id, m->state_id.p, m->state_id.len);
    (void)str_escape(m->challenge, d->challenge, sizeof(d->challenge));
    return true;
}

static bool on_failed(struct openvpn_driver *d, const struct management_message *m)
{
    char reason[CLIENT_TEXT_MAX / 2], text[CLIENT_TEXT_MAX];

    d->asked = ASKED_NOTHING;
    if (m->failed == FAILED_KEY_PASSWORD)
        return say_refused(d, "the password does not open the private key");
    if (keep_dynamic(d, m))
        return true;
    d->profile_refused = true;
    (void)str_escape(m->text, reason, sizeof(reason));
    (void)snprintf(text, sizeof(text), "the server refused the log-in%s%s",
                   reason[0] != '\0' ? ": " : "", reason);
    return say_refused(d, text);
}

static bool on_need_other(struct openvpn_driver *d, const struct management_message *m)
{
    char what[CLIENT_TEXT_MAX / 2], text[CLIENT_TEXT_MAX];

    (void)str_escape(m->text, what, sizeof(what));
    (void)snprintf(text, sizeof(text), "the client asks for what cannot be given here: %s", what);
    return say_refused(d, text);
}

bool openvpn_say_up(struct openvpn_driver *d, const struct management_message *state)
{
    struct client_event e = {.kind = CLIENT_UP,
                             .text = "",
                             .pushed = &d->told.pushed,
                             .findings = &d->told.findings,
                             .server = state->server};

    d->up = d->looping = true;
    d->phase[0] = '\0';
    d->asked = ASKED_NOTHING;
    if (!event_allowed(d)) {
        client_condemn(d, "it started over too often");
        return false;
    }
    return client_emit(d->client, &e);
}

static bool on_connected(struct openvpn_driver *d, const struct management_message *m)
{
    runtime_trim_log(d->client->folder, OPENVPN_LOG_MAX / 2);
    /* without the file a successor starts anew, which is all that is lost */
    (void)openvpn_told_write(&d->told, d->client->folder, m);
    return openvpn_say_up(d, m);
}

static bool on_starting_over(struct openvpn_driver *d, const struct management_message *m)
{
    const char *words = management_reason_words(m->text);
    char text[CLIENT_TEXT_MAX / 2];
    bool was_up = d->up;

    d->up = d->looping = false;
    d->asked = ASKED_NOTHING;
    d->phase[0] = '\0';
    if (d->refused || d->secrets.dynamic_id[0] != '\0')
        return true; /* told already, or a question follows */
    /* another try finds the same file */
    if (str_is(m->text, "private-key-password-failure"))
        return say_refused(d, "the private key cannot be used: another password, or not the key "
                              "of the certificate");
    if (words == NULL)
        words = str_escape(m->text, text, sizeof(text));
    return say(d, was_up ? CLIENT_RECONNECTING : CLIENT_CONNECTING, words);
}

static bool on_state(struct openvpn_driver *d, const struct management_message *m)
{
    const char *words = management_state_words(m->state);

    switch (m->state) {
    case OPENVPN_CONNECTED:
        return on_connected(d, m);
    case OPENVPN_RECONNECTING:
        return on_starting_over(d, m);
    case OPENVPN_EXITING:
    case OPENVPN_OTHER:
        return true; /* the end of the process says more */
    case OPENVPN_WAIT:
    case OPENVPN_AUTH:
    case OPENVPN_GET_CONFIG:
    case OPENVPN_ASSIGN_IP:
    case OPENVPN_ADD_ROUTES:
    case OPENVPN_AUTH_PENDING:
        d->looping = true;
        break;
    case OPENVPN_STARTING:
    case OPENVPN_RESOLVE:
    case OPENVPN_TCP_CONNECT:
        d->looping = false;
        break;
    }
    if (d->up || strcmp(d->phase, words) == 0)
        return true;
    (void)snprintf(d->phase, sizeof(d->phase), "%s", words);
    return say(d, CLIENT_CONNECTING, words);
}

/* Is it where our predecessor left it? Then what was pushed is known; else it has to start anew. */
static bool on_adopt_answer(struct openvpn_driver *d, const struct management_message *m)
{
    const struct management_message *want = &d->adopt;

    d->adopting = false;
    if (m->kind != MANAGEMENT_STATE_WAS || m->state != OPENVPN_CONNECTED ||
        m->time != want->time || m->port != want->port || !addr_equal(&m->local, &want->local) ||
        !addr_equal(&m->local6, &want->local6) || !addr_equal(&m->server, &want->server)) {
        client_condemn(d, "it moved on while nobody listened");
        return false;
    }
    return openvpn_say_up(d, m);
}

static bool on_bytes(struct openvpn_driver *d, const struct management_message *m)
{
    struct client_event e = {.kind = CLIENT_ALIVE,
                             .text = "",
                             .bytes_in = m->bytes_in,
                             .bytes_out = m->bytes_out};

    return !event_allowed(d) || client_emit(d->client, &e);
}

static void on_fatal(struct openvpn_driver *d, const struct management_message *m)
{
    static const char tired[] = "All connections have been connect-retry-max";

    (void)str_escape(m->text, d->fatal, sizeof(d->fatal));
    if (strncmp(d->fatal, tired, sizeof(tired) - 1) == 0)
        (void)snprintf(d->fatal, sizeof(d->fatal), "no server of the profile answers");
}

static bool on_message(const struct management_message *m, void *user)
{
    struct openvpn_driver *d = user;

    if (d->adopting && (m->kind == MANAGEMENT_STATE || m->kind == MANAGEMENT_STATE_WAS ||
                        m->kind == MANAGEMENT_HOLD))
        return on_adopt_answer(d, m);
    switch (m->kind) {
    case MANAGEMENT_HOLD:
        (void)management_link_send(d->link, "hold release", NULL, NULL);
        return true;
    case MANAGEMENT_STATE:
        return on_state(d, m);
    case MANAGEMENT_NEED_USER_PASSWORD:
        return on_need_user_password(d, m);
    case MANAGEMENT_NEED_KEY_PASSWORD:
        return on_need_key_password(d);
    case MANAGEMENT_NEED_OTHER:
        return on_need_other(d, m);
    case MANAGEMENT_FAILED:
        return on_failed(d, m);
    case MANAGEMENT_TEXT_CHALLENGE:
        (void)str_escape(m->challenge, d->challenge, sizeof(d->challenge));
        return ask(d, ASKED_TEXT, SECRET_CHALLENGE, d->challenge);
    case MANAGEMENT_WEB_LOGIN:
        return say_refused(d, "the server wants a log-in by web browser, which is not possible "
                              "here: the qube has no way out but the tunnel");
    case MANAGEMENT_UP:
        d->collecting = true;
        openvpn_told_begin(&d->told);
        return true;
    case MANAGEMENT_DOWN:
        d->collecting = false;
        return true;
    case MANAGEMENT_ENV:
        if (d->collecting)
            openvpn_told_add(&d->told, m->text);
        return true;
    case MANAGEMENT_ENV_END:
        d->collecting = false;
        return true;
    case MANAGEMENT_BYTES:
        return on_bytes(d, m);
    case MANAGEMENT_FATAL:
        on_fatal(d, m);
        return true;
    case MANAGEMENT_STATE_WAS:
    case MANAGEMENT_SUCCESS:
    case MANAGEMENT_ERROR:
    case MANAGEMENT_END:
    case MANAGEMENT_OTHER:
        return true;
    }
    return true;
}

bool openvpn_say_ended(struct openvpn_driver *d, const char *fallback)
{
    char line[CLIENT_TEXT_MAX];

    if (d->fatal[0] == '\0')
        (void)snprintf(d->fatal, sizeof(d->fatal), "%s",
                       runtime_last_line(d->client->folder, line, sizeof(line)));
    return client_say(d->client, CLIENT_ENDED, "%s", d->fatal[0] != '\0' ? d->fatal : fallback);
}

static int on_kill(sd_event_source *source, uint64_t us, void *user)
{
    struct openvpn_driver *d = user;

    (void)source;
    (void)us;
    (void)process_signal(&d->client->process, SIGKILL);
    return 0;
}

static void on_gone(int error, void *user)
{
    struct openvpn_driver *d = user;

    d->link = management_link_free(d->link);
    if (error != -EPIPE && error != -ECONNRESET) {
        client_condemn(d, error == -ETIMEDOUT ? "it does not answer" : strerror(-error));
        return;
    }
    /* it closes when it ends; the end of the process is what counts */
    (void)sd_event_add_time_relative(d->client->loop, &d->kill, CLOCK_MONOTONIC,
                                     CLOSED_MS * 1000ULL, 10000, on_kill, d);
}

const struct management_link_ops openvpn_link_ops = {.message = on_message, .gone = on_gone};
