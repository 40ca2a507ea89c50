/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the measuring programs share: a blocking QubesDB client, clocks, the loop's ends. A program
 * that measures has nobody to report to: every failure ends it with a message (exit status 1).
 * Times are nanoseconds of CLOCK_MONOTONIC.
 */
#pragma once

#include <stdint.h>

/* Ends the program: "PROGRAM: what: strerror(errno)". */
_Noreturn void bench_die(const char *what);

int64_t bench_now(void);
void bench_sleep(int64_t ns);

int bench_qubesdb_connect(const char *path);
/* value NULL: removes the key. Sends one message and does not wait for the answer. */
void bench_qubesdb_send(int fd, const char *key, const char *value);
/* Takes the answer of one send; anything but "ok" or "no such key" ends the program. */
void bench_qubesdb_answer(int fd);

long bench_number(const char *text, long min, long max);
