/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Printing on and asking at a terminal that may be able to do nothing at all. */
#include <errno.h>
#include <langinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "desktop/configurator/terminal_private.h"
#include "vpn/profile/profile.h"

#define COLUMNS 78

/* ---- printing ---- */

static bool is_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* In place of a character that the locale may not have. */
static const char *plain(const char *s, size_t len)
{
    static const struct {
        const char *from, *to;
    } list[] = {{"“", "\""}, {"”", "\""}, {"„", "\""}, {"’", "'"},  {"…", "..."},
                {"–", "-"},  {"ä", "ae"}, {"ö", "oe"}, {"ü", "ue"}, {"Ä", "Ae"},
                {"Ö", "Oe"}, {"Ü", "Ue"}, {"ß", "ss"}};

    for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
        if (strlen(list[i].from) == len && memcmp(list[i].from, s, len) == 0)
            return list[i].to;
    }
    return "?";
}

static size_t length_at(const char *s)
{
    size_t n = 1;

    while (((unsigned char)s[n] & 0xC0) == 0x80)
        n++;
    return n;
}

static void put(const char *s, size_t len)
{
    static const char *charset_asked;
    static bool utf8;

    if (charset_asked == NULL) {
        charset_asked = "";
        utf8 = is_utf8();
    }
    while (len > 0) {
        size_t n = length_at(s);

        n = n > len ? len : n;
        if (n == 1 && (unsigned char)*s >= 0x20 && (unsigned char)*s < 0x7f)
            (void)fputc(*s, stdout);
        else if (n == 1)
            (void)fputc(*s == '\n' ? '\n' : '?', stdout);
        else if (utf8)
            (void)fwrite(s, 1, n, stdout);
        else
            (void)fputs(plain(s, n), stdout);
        s += n;
        len -= n;
    }
}

static size_t columns_of(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

/* Words with one blank between, from a column on. */
static void wrap(size_t column, unsigned more, const char *text)
{
    bool begun = false;

    while (*text != '\0') {
        size_t len = strcspn(text, " "), width = columns_of(text, len);

        if (begun && column + 1 + width > COLUMNS) {
            (void)printf("\n%*s", (int)more, "");
            column = more;
        } else if (begun) {
            (void)fputc(' ', stdout);
            column++;
        }
        put(text, len);
        column += width;
        begun = true;
        text += len;
        text += strspn(text, " ");
    }
    (void)fputc('\n', stdout);
}

void terminal_indent(unsigned first, unsigned more, const char *text)
{
    (void)printf("%*s", (int)first, "");
    wrap(first, more, text);
}

void terminal_number(size_t number, const char *text)
{
    (void)printf("%4zu  ", number);
    wrap(6, 6, text);
}

void terminal_say(const char *format, ...)
{
    _cleanup_(freep) char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, format);
    n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n >= 0)
        terminal_indent(0, 0, text);
    else
        text = NULL;
}

void terminal_raw(const char *text)
{
    put(text, strlen(text));
}

/* ---- waiting ---- */

static int on_input(sd_event_source *s, int fd, uint32_t events, void *user)
{
    struct terminal *t = user;

    (void)s;
    (void)fd;
    (void)events;
    t->typed = true;
    return 0;
}

bool terminal_wait(struct terminal *t, const bool *flag, bool input, uint64_t usec)
{
    sd_event_source *source = NULL;
    uint64_t begun = clock_now_us();

    t->typed = false;
    (void)fflush(stdout);
    /* A regular file can always be read, and cannot be waited for. */
    if (input && sd_event_add_io(t->event, &source, STDIN_FILENO, EPOLLIN, on_input, t) < 0)
        t->typed = true;
    while (!*flag && !t->typed) {
        uint64_t gone = clock_now_us() - begun;

        if (gone >= usec || sd_event_run(t->event, usec == UINT64_MAX ? usec : usec - gone) < 0)
            break;
    }
    sd_event_source_disable_unref(source);
    return *flag;
}

/* ---- asking ---- */

/* Byte by byte: nothing of it stays in a buffer of the library. */
static int read_line(char *buf, size_t size)
{
    size_t n = 0;
    bool whole = true;
    char c;

    for (;;) {
        ssize_t got = read(STDIN_FILENO, &c, 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0 && n == 0)
            return -ENODATA;
        if (got == 0 || c == '\n')
            break;
        if (n + 1 < size)
            buf[n++] = c;
        else
            whole = false;
    }
    buf[n] = '\0';
    return whole ? 0 : -E2BIG;
}

static void trim(char *text)
{
    size_t len = strlen(text), skip = strspn(text, " \t");

    while (len > skip && strchr(" \t\r", text[len - 1]) != NULL)
        len--;
    memmove(text, text + skip, len - skip);
    text[len - skip] = '\0';
}

static void prompt_for(const char *prompt)
{
    terminal_raw(prompt);
    (void)fputc(' ', stdout);
    (void)fflush(stdout);
}

int terminal_ask(struct terminal *t, const char *prompt, char *buf, size_t size)
{
    static const bool never;
    int r;

    buf[0] = '\0';
    if (t->over)
        return -ENODATA;
    prompt_for(prompt);
    (void)terminal_wait(t, &never, true, UINT64_MAX);
    r = read_line(buf, size);
    if (!isatty(STDIN_FILENO))
        (void)fputc('\n', stdout); /* nobody's Enter did it */
    if (r == -ENODATA || r == -EIO)
        t->over = true;
    if (r < 0)
        buf[0] = '\0';
    trim(buf);
    return r;
}

bool terminal_agree(struct terminal *t, const char *question)
{
    char answer[16];
    int r = terminal_ask(t, question, answer, sizeof(answer));

    return (r == 0 || r == -E2BIG) && answer[0] != 'n' && answer[0] != 'N';
}

static struct termios before;
static volatile sig_atomic_t echo_off;

static void restore_echo(void)
{
    if (echo_off)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    echo_off = 0;
    (void)signal(SIGTSTP, SIG_DFL);
}

static void on_signal(int number)
{
    restore_echo(); /* tcsetattr is safe here (POSIX 2.4.3) */
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static int switch_echo_off(bool show_ends)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct termios now;

    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return -ENOTTY;
    now = before;
    now.c_lflag &= ~(tcflag_t)ECHO;
    if (show_ends)
        now.c_lflag |= ECHONL;
    echo_off = 1;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)signal(numbers[i], on_signal);
    (void)signal(SIGTSTP, SIG_IGN); /* a shell would switch the echo on again */
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &now) < 0 ? -errno : 0;
}

int terminal_ask_secret(const char *prompt, char *buf, size_t size)
{
    int r;

    buf[0] = '\0';
    r = switch_echo_off(true); /* before anybody is asked to type */
    if (r < 0) {
        terminal_say("%s",
                     _("Passwords and codes are asked for on a terminal only, where they are not "
                       "shown. Run this program in a terminal, or: qubes-vpn set-secret"));
        restore_echo();
        return r;
    }
    prompt_for(prompt);
    r = read_line(buf, size);
    restore_echo();
    if (r < 0)
        explicit_bzero(buf, size);
    return r;
}

/* ---- a text ---- */

static int add_line(char *text, size_t *len, const char *line)
{
    size_t n = strlen(line);

    if (*len + n + 1 > PROFILE_FILE_MAX)
        return -EFBIG;
    memcpy(text + *len, line, n + 1);
    text[*len + n] = '\n';
    *len += n + 1;
    return 0;
}

int terminal_ask_text(char **ret, size_t *ret_len)
{
    char line[TERMINAL_LINE];
    char *text = calloc(1, PROFILE_FILE_MAX + 1);
    size_t len = 0;
    int r;

    if (text == NULL)
        return -ENOMEM;
    (void)fflush(stdout);
    (void)switch_echo_off(false); /* keys are in it; a pipe shows nothing anyway */
    do {
        r = read_line(line, sizeof(line));
        if (r == 0 && strcmp(line, ".") == 0)
            break;
        if (r == 0)
            r = add_line(text, &len, line);
    } while (r == 0);
    restore_echo();
    explicit_bzero(line, sizeof(line));
    if (r == -ENODATA && len > 0)
        r = 0;
    if (r < 0) {
        explicit_bzero(text, len);
        free(text);
        return r;
    }
    *ret = text;
    *ret_len = len;
    return 0;
}
