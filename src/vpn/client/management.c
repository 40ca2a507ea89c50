/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/management.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define STATE_FIELDS 9

static const struct {
    const char *name;
    enum management_state state;
    const char *words;
} states[] = {
    {"CONNECTING", OPENVPN_STARTING, "starting"},
    {"WAIT", OPENVPN_WAIT, "waiting for the server"},
    {"AUTH", OPENVPN_AUTH, "logging in"},
    {"GET_CONFIG", OPENVPN_GET_CONFIG, "asking for addresses"},
    {"ASSIGN_IP", OPENVPN_ASSIGN_IP, "taking addresses"},
    {"ADD_ROUTES", OPENVPN_ADD_ROUTES, "taking routes"},
    {"CONNECTED", OPENVPN_CONNECTED, "connected"},
    {"RECONNECTING", OPENVPN_RECONNECTING, "starting over"},
    {"EXITING", OPENVPN_EXITING, "ending"},
    {"RESOLVE", OPENVPN_RESOLVE, "looking up the server"},
    {"TCP_CONNECT", OPENVPN_TCP_CONNECT, "calling the server"},
    {"AUTH_PENDING", OPENVPN_AUTH_PENDING, "waiting for the log-in to be granted"},
};

static const struct {
    const char *name, *words;
} reasons[] = {
    {"ping-restart", "the server went silent"},
    {"server_poll", "no answer from the server"},
    {"init_instance", "the connection could not be set up"},
    {"tls-error", "the TLS handshake failed"},
    {"connection-reset", "the server closed the connection"},
    {"connection-failed", "the server could not be reached"},
    {"auth-failure", "the log-in was refused"},
    {"auth-temp-failure (server temporary reject)", "the server has no place just now"},
    {"server-pushed-connection-reset", "the server asked for a new connection"},
    {"server-pushed-halt", "the server ended the connection"},
    {"remote-exit", "the server ended"},
    {"SIGUSR1", "asked for a new connection"},
    {"SIGTERM", "asked to end"},
    {"SIGHUP", "asked to start over"},
};

bool management_read(struct management_reader *r, struct str *bytes, struct str *ret)
{
    while (bytes->len > 0) {
        char c = *bytes->p++;

        bytes->len--;
        if (c != '\n') {
            if (r->len < sizeof(r->line))
                r->line[r->len++] = c;
            else
                r->dropping = true;
            continue;
        }
        *ret = (struct str){r->line, r->len};
        if (ret->len > 0 && ret->p[ret->len - 1] == '\r')
            ret->len--;
        r->len = 0;
        if (!r->dropping)
            return true;
        r->dropping = false;
    }
    return false;
}

static bool str_cut(struct str *s, const char *head)
{
    size_t len = strlen(head);

    if (s->len < len || memcmp(s->p, head, len) != 0)
        return false;
    s->p += len;
    s->len -= len;
    return true;
}

static uint64_t str_to_number(struct str s)
{
    uint64_t n = 0;

    if (s.len == 0 || s.len > 18) /* fits always */
        return 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return 0;
        n = n * 10 + (uint64_t)(s.p[i] - '0');
    }
    return n;
}

/* TIME,STATE,DETAIL,LOCAL,SERVER,PORT,OWN,OWN PORT,LOCAL6; older ones have fewer fields. */
static void parse_state(struct str text, struct management_message *m)
{
    struct str field[STATE_FIELDS] = {0};
    uint32_t port;

    for (size_t i = 0; i < STATE_FIELDS; i++) {
        if (!str_next(&text, ',', &field[i]))
            field[i] = (struct str){"", 0};
    }
    m->time = str_to_number(field[0]);
    m->state = OPENVPN_OTHER;
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (str_is(field[1], states[i].name))
            m->state = states[i].state;
    m->text = field[2];
    (void)addr_parse(field[3], &m->local); /* what does not parse is not told */
    (void)addr_parse(field[4], &m->server);
    (void)addr_parse(field[8], &m->local6);
    if (str_to_u32(field[5], UINT16_MAX, &port) == 0)
        m->port = (uint16_t)port;
    if (m->local.family != AF_INET)
        m->local = (struct addr){0};
    if (m->local6.family != AF_INET6)
        m->local6 = (struct addr){0};
}

/* "E,R" and the like: does the answer have to be given, may it be seen while typed? */
static bool flags_have(struct str flags, char flag)
{
    struct str one;

    while (flags.p != NULL && str_next(&flags, ',', &one))
        if (one.len == 1 && one.p[0] == flag)
            return true;
    return false;
}

/* CRV1:FLAGS:STATE_ID:USER:TEXT; the text may hold colons. */
static bool parse_dynamic(struct str text, struct management_message *m)
{
    struct str flags, id, user;

    if (!str_cut(&text, "CRV1:") || !str_next(&text, ':', &flags) || !str_next(&text, ':', &id) ||
        !str_next(&text, ':', &user) || text.p == NULL || id.len == 0)
        return false;
    m->challenge = text;
    m->challenge_echo = flags_have(flags, 'E');
    m->state_id = id;
    m->user = user;
    return true;
}

static void parse_failed(struct str text, struct management_message *m)
{
    struct str rest = text;

    m->kind = MANAGEMENT_FAILED;
    m->failed = FAILED_USER_PASSWORD;
    if (str_cut(&rest, "'Private Key'"))
        m->failed = FAILED_KEY_PASSWORD;
    else
        (void)str_cut(&rest, "'Auth'");
    rest = str_trim(rest);
    m->text = (struct str){"", 0};
    /* a reason given by the server: ['TEXT'] */
    if (rest.len >= 4 && str_cut(&rest, "['")) {
        if (rest.len >= 2 && memcmp(rest.p + rest.len - 2, "']", 2) == 0)
            rest.len -= 2;
        m->text = rest;
        (void)parse_dynamic(rest, m);
    }
}

static void parse_password(struct str text, struct management_message *m)
{
    if (str_cut(&text, "Verification Failed: ")) {
        parse_failed(text, m);
        return;
    }
    m->kind = MANAGEMENT_OTHER; /* Auth-Token: */
    if (!str_cut(&text, "Need "))
        return;
    m->kind = MANAGEMENT_NEED_OTHER;
    m->text = text;
    if (str_cut(&text, "'Auth' username/password")) {
        m->kind = MANAGEMENT_NEED_USER_PASSWORD;
        m->text = (struct str){"", 0};
        if (str_cut(&text, " SC:") && text.len >= 2 && text.p[1] == ',') {
            m->challenge_echo = (text.p[0] & 1) != 0; /* 2.7 adds a second bit for the format */
            m->challenge = (struct str){text.p + 2, text.len - 2};
        }
    } else if (str_cut(&text, "'Private Key' password")) {
        m->kind = MANAGEMENT_NEED_KEY_PASSWORD;
    }
}

static void parse_info(struct str text, struct management_message *m)
{
    struct str flags;

    m->kind = MANAGEMENT_OTHER;
    if (str_cut(&text, "WEB_AUTH:") || str_cut(&text, "OPEN_URL:")) {
        m->kind = MANAGEMENT_WEB_LOGIN;
    } else if (str_cut(&text, "CR_TEXT:") && str_next(&text, ':', &flags) && text.p != NULL) {
        m->kind = MANAGEMENT_TEXT_CHALLENGE;
        m->challenge = text;
        m->challenge_echo = flags_have(flags, 'E');
    }
}

static void parse_updown(struct str text, struct management_message *m)
{
    m->kind = MANAGEMENT_OTHER;
    if (str_is(text, "UP")) {
        m->kind = MANAGEMENT_UP;
    } else if (str_is(text, "DOWN")) {
        m->kind = MANAGEMENT_DOWN;
    } else if (str_is(text, "ENV,END")) {
        m->kind = MANAGEMENT_ENV_END;
    } else if (str_cut(&text, "ENV,")) {
        m->kind = MANAGEMENT_ENV;
        m->text = text;
    }
}

static void parse_bytes(struct str text, struct management_message *m)
{
    struct str in, out;

    m->kind = MANAGEMENT_OTHER;
    if (!str_next(&text, ',', &in) || !str_next(&text, ',', &out) || text.p != NULL)
        return;
    m->kind = MANAGEMENT_BYTES;
    m->bytes_in = str_to_number(in);
    m->bytes_out = str_to_number(out);
}

/* nclients=N,bytesin=N,bytesout=N: the answer to "load-stats". */
static bool parse_load(struct str text, struct management_message *m)
{
    struct str clients, in, out;

    if (!str_cut(&text, "nclients=") || !str_next(&text, ',', &clients) ||
        !str_next(&text, ',', &in) || !str_next(&text, ',', &out) || !str_cut(&in, "bytesin=") ||
        !str_cut(&out, "bytesout="))
        return false;
    m->kind = MANAGEMENT_BYTES;
    m->bytes_in = str_to_number(in);
    m->bytes_out = str_to_number(out);
    return true;
}

static void parse_notification(struct str text, struct management_message *m)
{
    m->kind = MANAGEMENT_OTHER;
    m->text = text;
    if (str_cut(&text, "STATE:")) {
        m->kind = MANAGEMENT_STATE;
        parse_state(text, m);
    } else if (str_cut(&text, "UPDOWN:")) {
        parse_updown(text, m);
    } else if (str_cut(&text, "PASSWORD:")) {
        parse_password(text, m);
    } else if (str_cut(&text, "HOLD:")) {
        m->kind = MANAGEMENT_HOLD;
    } else if (str_cut(&text, "FATAL:")) {
        m->kind = MANAGEMENT_FATAL;
        m->text = text;
    } else if (str_cut(&text, "BYTECOUNT:")) {
        parse_bytes(text, m);
    } else if (str_cut(&text, "INFOMSG:")) {
        parse_info(text, m);
    } else if (str_cut(&text, "NEED-OK:") || str_cut(&text, "NEED-STR:") ||
               str_cut(&text, "NEED-CERTIFICATE:") || str_cut(&text, "PK_SIGN:")) {
        m->kind = MANAGEMENT_NEED_OTHER;
        m->text = text;
    }
}

static bool line_is_state(struct str line)
{
    struct str time, name;

    if (!str_next(&line, ',', &time) || !str_next(&line, ',', &name) || str_to_number(time) == 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (str_is(name, states[i].name))
            return true;
    return false;
}

void management_parse(struct str line, struct management_message *ret)
{
    struct management_message m = {.kind = MANAGEMENT_OTHER, .text = line};
    struct str text = line;

    if (str_cut(&text, ">")) {
        parse_notification(text, &m);
    } else if (str_cut(&text, "SUCCESS: ")) {
        m.kind = MANAGEMENT_SUCCESS;
        m.text = text;
        (void)parse_load(text, &m);
    } else if (str_cut(&text, "ERROR: ")) {
        m.kind = MANAGEMENT_ERROR;
        m.text = text;
    } else if (str_is(line, "END")) {
        m.kind = MANAGEMENT_END;
    } else if (line_is_state(line)) {
        m.kind = MANAGEMENT_STATE_WAS;
        parse_state(line, &m);
    }
    *ret = m;
}

/* Appends s in quotes as OpenVPN's lexer takes them. New length, or -errno. */
static int write_quoted(char *buf, int at, const char *s)
{
    int n = at;

    buf[n++] = ' ';
    buf[n++] = '"';
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return -EINVAL;
        if (n > MANAGEMENT_COMMAND_MAX - 8)
            return -E2BIG;
        if (*s == '"' || *s == '\\')
            buf[n++] = '\\';
        buf[n++] = *s;
    }
    buf[n++] = '"';
    return n;
}

int management_write(char buf[static MANAGEMENT_COMMAND_MAX], const char *verb, const char *name,
                     const char *value)
{
    size_t len = strlen(verb);
    int n = (int)len;

    if (len > MANAGEMENT_COMMAND_MAX / 2)
        return -E2BIG;
    memcpy(buf, verb, len);
    if (name != NULL)
        n = write_quoted(buf, n, name);
    if (n >= 0 && value != NULL)
        n = n > MANAGEMENT_COMMAND_MAX - 16 ? -E2BIG : write_quoted(buf, n, value);
    if (n < 0)
        return n;
    buf[n++] = '\n';
    buf[n] = '\0';
    return n;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_write(const void *bytes, size_t len, char *ret, size_t size)
{
    const uint8_t *p = bytes;
    size_t n = 0;

    if (size == 0 || len > (size - 1) / 4 * 3)
        return -E2BIG;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;

        if (i + 1 < len)
            v |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < len)
            v |= p[i + 2];
        ret[n++] = base64_digits[v >> 18];
        ret[n++] = base64_digits[v >> 12 & 63];
        ret[n++] = i + 1 < len ? base64_digits[v >> 6 & 63] : '=';
        ret[n++] = i + 2 < len ? base64_digits[v & 63] : '=';
    }
    ret[n] = '\0';
    return 0;
}

int base64_read(struct str text, char *ret, size_t size, size_t *ret_len)
{
    uint32_t v = 0;
    size_t n = 0, bits = 0;

    while (text.len > 0 && text.p[text.len - 1] == '=')
        text.len--;
    if (text.len % 4 == 1 || size == 0)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.p[i] != '\0' ? strchr(base64_digits, text.p[i]) : NULL;

        if (digit == NULL)
            return -EINVAL;
        v = v << 6 | (uint32_t)(digit - base64_digits);
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        if (n + 1 >= size)
            return -E2BIG;
        ret[n++] = (char)(v >> bits & 0xff);
    }
    ret[n] = '\0';
    *ret_len = n;
    return 0;
}

int management_static_response(const char *password, const char *response, char *ret, size_t size)
{
    char one[MANAGEMENT_SECRET_MAX * 2], two[MANAGEMENT_SECRET_MAX * 2];
    int n = -E2BIG;

    if (base64_write(password, strlen(password), one, sizeof(one)) == 0 &&
        base64_write(response, strlen(response), two, sizeof(two)) == 0)
        n = snprintf(ret, size, "SCRV1:%s:%s", one, two);
    explicit_bzero(one, sizeof(one));
    explicit_bzero(two, sizeof(two));
    return n < 0 || (size_t)n >= size ? -E2BIG : 0;
}

int management_dynamic_response(struct str state_id, const char *response, char *ret, size_t size)
{
    int n = -1;

    if (state_id.len < size)
        n = snprintf(ret, size, "CRV1::%.*s::%s", (int)state_id.len, state_id.p, response);
    return n < 0 || (size_t)n >= size ? -E2BIG : 0;
}

const char *management_state_words(enum management_state state)
{
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (states[i].state == state)
            return states[i].words;
    return "working";
}

const char *management_reason_words(struct str reason)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (str_is(reason, reasons[i].name))
            return reasons[i].words;
    return NULL;
}
