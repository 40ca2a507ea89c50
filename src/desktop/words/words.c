/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "desktop/words/words.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DOMAIN        "sluice"
#define DIRECTIVE_MAX 32

void words_begin(const char *dir)
{
    if (dir == NULL)
        dir = secure_getenv("SLUICE_LOCALE");
    (void)setlocale(LC_ALL, "");
    (void)bindtextdomain(DOMAIN, dir != NULL ? dir : SLUICE_LOCALEDIR);
    (void)bind_textdomain_codeset(DOMAIN, "UTF-8");
    (void)textdomain(DOMAIN);
}

/* A sentence put together of clean pieces and a translation; it may have become too long. */
#define SENTENCE(buf, size, ...)                                                                   \
    ({                                                                                             \
        char sentence_[WORDS_LONG * 2];                                                            \
        (void)snprintf(sentence_, sizeof(sentence_), __VA_ARGS__);                                 \
        words_clean(sentence_, buf, size);                                                         \
    })

static const char *get(const json_t *status, const char *key)
{
    const char *text = json_string_value(json_object_get(status, key));

    return text != NULL ? text : "";
}

static bool is(const json_t *status, const char *key, const char *value)
{
    return strcmp(get(status, key), value) == 0;
}

static bool wanted_up(const json_t *status)
{
    return json_is_true(json_object_get(status, "wanted_up"));
}

static bool has_any(const json_t *status, const char *key)
{
    return json_array_size(json_object_get(status, key)) > 0;
}

char *words_list(const json_t *strings, size_t n, char *buf, size_t size)
{
    char all[WORDS_LONG * 2] = "", one[WORDS_SHORT];
    size_t used = 0, shown = 0, total = json_array_size(strings);

    for (; shown < n && shown < total && used + sizeof(one) + 8 < sizeof(all); shown++) {
        const char *text = json_string_value(json_array_get(strings, shown));
        int r = snprintf(all + used, sizeof(all) - used, "%s%s", shown > 0 ? ", " : "",
                         words_clean(text != NULL ? text : "?", one, sizeof(one)));

        if (r > 0)
            used += (size_t)r;
    }
    if (shown < total)
        (void)snprintf(all + used, sizeof(all) - used,
                       /* TRANSLATORS: behind a list: "a, b and 2 more" */
                       ngettext(" and %zu more", " and %zu more", total - shown), total - shown);
    return words_clean(all, buf, size);
}

/* ---- the mood ---- */

enum words_mood words_mood(const json_t *status)
{
    if (status == NULL || is(status, "seal", "absent") || has_any(status, "missing_secrets"))
        return WORDS_ATTENTION;
    if (is(status, "state", "up"))
        return WORDS_UP;
    if (is(status, "state", "sealed"))
        return wanted_up(status) ? WORDS_CONNECTING : WORDS_BLOCKED;
    if (is(status, "state", "resolving") || is(status, "state", "connecting") ||
        is(status, "state", "stalled"))
        return WORDS_CONNECTING;
    return WORDS_ATTENTION;
}

const char *words_mood_icon(enum words_mood mood)
{
    switch (mood) {
    case WORDS_UP:
        return "qubes-vpn-up";
    case WORDS_CONNECTING:
        return "qubes-vpn-connecting";
    case WORDS_BLOCKED:
        return "qubes-vpn-blocked";
    case WORDS_ATTENTION:
        return "qubes-vpn-attention";
    }
    return "qubes-vpn-attention";
}

const char *words_mood_title(enum words_mood mood)
{
    switch (mood) {
    case WORDS_UP:
        return _("Connected");
    case WORDS_CONNECTING:
        return _("Connecting");
    case WORDS_BLOCKED:
        return _("Blocked");
    case WORDS_ATTENTION:
        return _("Needs attention");
    }
    return "";
}

/* ---- sentences ---- */

const char *words_secret(const char *kind)
{
    if (strcmp(kind, "user-password") == 0)
        return _("user name and password");
    if (strcmp(kind, "key-password") == 0)
        return _("password of the key");
    if (strcmp(kind, "challenge") == 0)
        return _("one-time code");
    return _("secret");
}

static const char *missing_secret(const json_t *status)
{
    const char *kind =
        json_string_value(json_array_get(json_object_get(status, "missing_secrets"), 0));

    return words_secret(kind != NULL ? kind : "");
}

char *words_server(const json_t *status, char *buf, size_t size)
{
    char name[WORDS_SHORT], address[WORDS_SHORT];

    (void)words_member(status, "endpoint", name, sizeof(name));
    (void)words_member(status, "gateway", address, sizeof(address));
    if (name[0] != '\0' && address[0] != '\0' && strstr(address, name) == NULL)
        return SENTENCE(buf, size, "%s (%s)", name, address);
    return words_clean(address[0] != '\0' ? address : name, buf, size);
}

/* Why it is not connected: the last error, or what goes on. */
static char *reason(const json_t *status, char *buf, size_t size)
{
    (void)words_member(status, "last_error", buf, size);
    if (buf[0] == '\0')
        (void)words_member(status, "phase", buf, size);
    if (buf[0] == '\0')
        (void)words_clean(_("no reason was given"), buf, size);
    return buf;
}

static char *unconfigured(const json_t *status, char *buf, size_t size)
{
    return words_clean(has_any(status, "profiles")
                           ? _("No profile is chosen. All traffic of the qubes behind is blocked.")
                           : _("No VPN is set up yet. All traffic of the qubes behind is blocked."),
                       buf, size);
}

static bool is_broken(const json_t *status)
{
    const json_t *findings = json_object_get(status, "profile_findings");

    for (size_t i = 0; i < json_array_size(findings); i++) {
        const char *kind = json_string_value(json_array_get(json_array_get(findings, i), 0));

        if (kind != NULL && strcmp(kind, "refused") == 0)
            return true;
    }
    return false;
}

char *words_summary(const json_t *status, char *buf, size_t size)
{
    char profile[WORDS_SHORT], server[WORDS_SHORT], why[WORDS_LONG / 2];

    if (status == NULL)
        return words_clean(_("The VPN service does not answer, so its state is not known."), buf,
                           size);
    (void)words_member(status, "profile", profile, sizeof(profile));
    (void)words_server(status, server, sizeof(server));
    if (is(status, "seal", "absent"))
        return words_clean(
            _("The seal does not answer: it is not known whether this qube is sealed."), buf, size);
    if (has_any(status, "missing_secrets"))
        return SENTENCE(buf, size,
                        _("“%s” cannot connect: its %s is missing. All traffic of the qubes behind "
                          "is blocked."),
                        profile, missing_secret(status));
    if (is(status, "state", "unconfigured"))
        return unconfigured(status, buf, size);
    if (is(status, "state", "up"))
        return SENTENCE(buf, size,
                        _("Connected to %s. All traffic of the qubes behind goes through the "
                          "tunnel."),
                        server[0] != '\0' ? server : profile);
    if (is(status, "state", "stalled"))
        return SENTENCE(buf, size,
                        _("The server %s is silent. The qubes behind reach nothing until it "
                          "answers."),
                        server[0] != '\0' ? server : profile);
    if (is(status, "state", "resolving"))
        return SENTENCE(buf, size,
                        _("Looking for the server of “%s”. All traffic of the qubes behind is "
                          "blocked."),
                        profile);
    if (is(status, "state", "connecting"))
        return SENTENCE(buf, size,
                        _("Connecting with “%s”. All traffic of the qubes behind is blocked."),
                        profile);
    if (is(status, "state", "sealed") && !wanted_up(status))
        return words_clean(_("Disconnected, as asked. All traffic of the qubes behind is blocked."),
                           buf, size);
    if (is(status, "state", "sealed"))
        return SENTENCE(buf, size,
                        _("Not connected, another try follows: %s. All traffic of the qubes behind "
                          "is blocked."),
                        reason(status, why, sizeof(why)));
    if (is(status, "state", "failed") && is_broken(status))
        return SENTENCE(buf, size,
                        _("“%s” cannot be used: lines of its file are refused. All traffic of the "
                          "qubes behind is blocked."),
                        profile);
    if (is(status, "state", "failed"))
        return SENTENCE(buf, size,
                        _("“%s” does not connect: %s. All traffic of the qubes behind is blocked."),
                        profile, reason(status, why, sizeof(why)));
    return words_clean(_("The VPN service is in a state that this program does not know."), buf,
                       size);
}

char *words_next(const json_t *status, char *buf, size_t size)
{
    char profile[WORDS_SHORT];
    /* Of a state that asks for attention and is not one of these. */
    const char *next = words_mood(status) == WORDS_ATTENTION
                           ? _("Look at the service: systemctl status qubes-vpn")
                           : "";

    (void)words_member(status, "profile", profile, sizeof(profile));
    if (is(status, "seal", "absent"))
        next = _("Look at it: sudo qubes-vpn-forwarding check");
    else if (has_any(status, "missing_secrets"))
        return SENTENCE(buf, size, _("Give the %s for “%s”."), missing_secret(status), profile);
    else if (is(status, "state", "unconfigured"))
        next = has_any(status, "profiles") ? _("Choose a profile.")
                                           : _("Add the file that your VPN provider gave you.");
    else if (is(status, "state", "failed"))
        next = is_broken(status) ? _("Look at what is wrong with the file, or choose another "
                                     "profile.")
                                 : _("Try again, or choose another profile.");
    else if (is(status, "state", "up") && !has_any(status, "dns"))
        next = _("The server named no name server, so the qubes behind cannot look up names. Ask "
                 "the provider for one, or choose another profile.");
    return words_clean(next, buf, size);
}

static char *finding_of_line(const char *kind, long line, const char *word, const char *text,
                             char *buf, size_t size)
{
    if (strcmp(kind, "refused") == 0)
        return SENTENCE(buf, size, _("Line %ld (%s) is refused: %s."), line, word, text);
    if (strcmp(kind, "left-out") == 0)
        return SENTENCE(buf, size, _("Line %ld (%s) is not used: %s."), line, word, text);
    return SENTENCE(buf, size, _("Line %ld (%s): %s."), line, word, text);
}

static char *finding_of_file(const char *kind, const char *word, const char *text, char *buf,
                             size_t size)
{
    if (word[0] == '\0') {
        if (strcmp(kind, "refused") == 0)
            return SENTENCE(buf, size, _("The file is refused: %s."), text);
        return SENTENCE(buf, size, _("About the whole: %s."), text);
    }
    if (strcmp(kind, "refused") == 0)
        return SENTENCE(buf, size, _("%s is refused: %s."), word, text);
    if (strcmp(kind, "left-out") == 0)
        return SENTENCE(buf, size, _("%s is not used: %s."), word, text);
    return SENTENCE(buf, size, "%s: %s.", word, text);
}

char *words_finding(const json_t *finding, char *buf, size_t size)
{
    const char *kind = json_string_value(json_array_get(finding, 0)),
               *word = json_string_value(json_array_get(finding, 2)),
               *text = json_string_value(json_array_get(finding, 3));
    json_int_t line = json_integer_value(json_array_get(finding, 1));
    char safe_word[WORDS_SHORT], safe_text[WORDS_LONG / 2];

    if (kind == NULL)
        kind = "";
    (void)words_clean(word != NULL ? word : "", safe_word, sizeof(safe_word));
    (void)words_said(text != NULL ? text : "", safe_text, sizeof(safe_text));
    /* A line that has no word, such as one of blanks and noise; or one of a key, where it does not
     * belong: no directive is so long. */
    if (line > 0 && (safe_word[0] == '\0' || strlen(safe_word) > DIRECTIVE_MAX))
        (void)snprintf(safe_word, sizeof(safe_word), "…");
    if (line > 0)
        return finding_of_line(kind, (long)line, safe_word, safe_text, buf, size);
    return finding_of_file(kind, safe_word, safe_text, buf, size);
}

/* ---- figures ---- */

char *words_bytes(uint64_t bytes, char *buf, size_t size)
{
    double value = (double)bytes / 1024;
    unsigned unit = 0;

    if (bytes < 1024)
        return SENTENCE(buf, size, _("%" PRIu64 " B"), bytes);
    /* 1023.95 would be written as 1024.0 */
    while (value >= 1023.95 && unit < 3) {
        value /= 1024;
        unit++;
    }
    switch (unit) {
    case 0:
        return SENTENCE(buf, size, _("%.1f KiB"), value);
    case 1:
        return SENTENCE(buf, size, _("%.1f MiB"), value);
    case 2:
        return SENTENCE(buf, size, _("%.1f GiB"), value);
    default:
        return SENTENCE(buf, size, _("%.1f TiB"), value);
    }
}

char *words_time(uint64_t usec, char *buf, size_t size)
{
    time_t then = (time_t)(usec / 1000000), now = time(NULL);
    struct tm at, today;
    char text[WORDS_SHORT];

    buf[0] = '\0';
    if (usec == 0 || localtime_r(&then, &at) == NULL || localtime_r(&now, &today) == NULL)
        return buf;
    /* TRANSLATORS: of today, and of another day; see strftime(3) */
    if (strftime(text, sizeof(text),
                 at.tm_year == today.tm_year && at.tm_yday == today.tm_yday ? _("%H:%M:%S")
                                                                            : _("%-d %B %Y, %H:%M"),
                 &at) == 0)
        return buf;
    return words_clean(text, buf, size);
}
