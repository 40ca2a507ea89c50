/* SPDX-License-Identifier: GPL-2.0-or-later */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/cleanup.h"

static struct {
    const char *program;
    int max_priority;
    bool journal;
} state = {.program = "sluice", .max_priority = LOG_INFO};

/* $JOURNAL_STREAM names stderr's device and inode when it is the journal (systemd.exec). */
static bool stderr_is_journal(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat st;

    return text != NULL && sscanf(text, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *program, int max_priority)
{
    state.program = program;
    state.max_priority = max_priority;
    state.journal = stderr_is_journal();
}

static size_t add_field(struct iovec *iov, char *buf, size_t size, const char *name,
                        const char *value)
{
    int n;

    if (value == NULL)
        return 0;
    n = snprintf(buf, size, "%s=%s", name, value);
    if (n < 0)
        return 0;
    *iov = (struct iovec){buf, (size_t)n < size ? (size_t)n : size - 1};
    return 1;
}

static void send_to_journal(int priority, const struct log_fields *f, const char *message)
{
    char text[6][1100], number[12];
    struct iovec iov[6];
    size_t n = 0;

    (void)snprintf(number, sizeof(number), "%d", priority);
    n += add_field(&iov[n], text[n], sizeof(text[n]), "MESSAGE", message);
    n += add_field(&iov[n], text[n], sizeof(text[n]), "PRIORITY", number);
    if (f != NULL) {
        n += add_field(&iov[n], text[n], sizeof(text[n]), "SLUICE_ADDRESS", f->address);
        n += add_field(&iov[n], text[n], sizeof(text[n]), "SLUICE_QUBE", f->qube);
        n += add_field(&iov[n], text[n], sizeof(text[n]), "SLUICE_INTERFACE", f->interface);
        n += add_field(&iov[n], text[n], sizeof(text[n]), "SLUICE_ACTION", f->action);
    }
    (void)sd_journal_sendv(iov, (int)n); /* a full or absent journal must not stop the work */
}

void log_event(int priority, const struct log_fields *fields, const char *format, ...)
{
    int saved = errno;
    char message[1024];
    va_list args;

    if (priority > state.max_priority)
        return;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (state.journal)
        send_to_journal(priority, fields, message);
    else
        (void)fprintf(stderr, "%s: %s\n", state.program, message);
    errno = saved;
}
