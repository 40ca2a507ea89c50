/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * set-secret: asks on the terminal without echo (or reads standard input where that is none) and
 * hands it over in a sealed memory file, never in an argument.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "vpn/command/command.h"
#include "vpn/command/say.h"

#define SECRET_MAX 512

static struct termios before;
static volatile sig_atomic_t echo_off;

static void restore_echo(void)
{
    if (echo_off)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    echo_off = 0;
}

static void on_signal(int number)
{
    restore_echo(); /* tcsetattr is safe here (POSIX 2.4.3) */
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void switch_echo_off(void)
{
    struct termios now;

    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return;
    now = before;
    now.c_lflag &= ~(tcflag_t)ECHO;
    now.c_lflag |= ECHONL;
    echo_off = 1;
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGHUP, on_signal);
    (void)signal(SIGQUIT, on_signal);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &now);
}

/* One line without its end, byte by byte: nothing of it stays in a buffer of the library. */
static int read_line(char buf[static SECRET_MAX])
{
    size_t n = 0;
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
        if (n + 1 == SECRET_MAX)
            return -E2BIG;
        buf[n++] = c;
    }
    buf[n] = '\0';
    return 0;
}

static int ask(const char *prompt, bool echo, char buf[static SECRET_MAX])
{
    bool terminal = isatty(STDIN_FILENO);
    int r;

    if (terminal && !echo)
        switch_echo_off(); /* before anybody is asked to type */
    if (terminal)
        (void)fprintf(stderr, "%s: ", prompt);
    r = read_line(buf);
    restore_echo();
    return r;
}

static int ask_all(const char *kind, int fd)
{
    char line[SECRET_MAX], text[2 * SECRET_MAX] = "";
    int r = 0;

    if (strcmp(kind, "user-password") == 0) {
        r = ask("User name", true, line);
        (void)snprintf(text, sizeof(text), "%s\n", line);
    }
    if (r == 0)
        r = ask(strcmp(kind, "challenge") == 0      ? "Code"
                : strcmp(kind, "key-password") == 0 ? "Password of the private key"
                                                    : "Password",
                false, line);
    if (r == 0) {
        size_t len = strlen(text);

        (void)snprintf(text + len, sizeof(text) - len, "%s", line);
        len = strlen(text);
        if (write(fd, text, len) != (ssize_t)len)
            r = -EIO;
    }
    explicit_bzero(line, sizeof(line));
    explicit_bzero(text, sizeof(text));
    return r;
}

int command_set_secret(const struct command_options *o)
{
    const char *kind = o->kind != NULL ? o->kind : "user-password";
    _cleanup_(closep) int fd = memfd_create("secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char failed[220], name[160];
    struct line l;
    int r = command_connect(o, &l);

    if (r != COMMAND_OK)
        return r;
    (void)snprintf(failed, sizeof(failed), "cannot keep the secret of %s",
                   str_escape(str_from(o->words[0]), name, sizeof(name)));
    r = fd < 0 ? -errno : ask_all(kind, fd);
    if (r < 0) {
        say_failed(SAY_UNCHANGED, NULL, "%s: %s", failed,
                   r == -ENODATA ? "nothing was given" : strerror(-r));
        line_close(&l);
        return COMMAND_FAILED;
    }
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    r = line_call(&l, NULL, "SetSecret", "ssh", o->words[0], kind, fd);
    if (r < 0)
        r = command_refused(&l, r, failed);
    else
        printf("%s\n", strcmp(kind, "challenge") == 0 ? "Given to the next try."
                                                      : "Kept. Next: qubes-vpn up");
    line_close(&l);
    return r;
}
