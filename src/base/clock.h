/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Microseconds of CLOCK_MONOTONIC, read now: an event loop's own idea is from before its round began. */
#pragma once

#include <stdint.h>

uint64_t clock_now_us(void);
