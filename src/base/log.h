/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One event, one line. Under systemd the line goes to the journal with fields
 * (SLUICE_ADDRESS, SLUICE_QUBE, SLUICE_INTERFACE, SLUICE_ACTION); elsewhere to stderr as plain text
 * after the name of the program.
 * Libraries do not log: they return errors, and the program that decides what they mean logs once.
 * Text from outside must have gone through str_escape() first. Not thread-safe, keeps errno.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <syslog.h> /* LOG_ERR ... LOG_DEBUG */

struct log_fields { /* any may be NULL; borrowed */
    const char *address;
    const char *qube;
    const char *interface;
    const char *action;
};

/* program: prefix of lines on stderr. max_priority: LOG_INFO, or LOG_DEBUG for --verbose. */
void log_open(const char *program, int max_priority);

__attribute__((format(printf, 3, 4))) void log_event(int priority, const struct log_fields *fields,
                                                     const char *format, ...);

#define log_error(...)   log_event(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...)  log_event(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...)    log_event(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_event(LOG_DEBUG, NULL, __VA_ARGS__)
