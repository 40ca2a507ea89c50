/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Times as people write and read them. Seconds since 1970; no clock here, now comes from outside.
 * Local times follow TZ.
 */
#pragma once

#include <stdint.h>

#include "base/str.h"

#define WHEN_STR_MAX 80
#define WHEN_MAX_S   (INT64_C(10) * 366 * 24 * 3600) /* nobody means more than ten years */

/* "90s", "30m", "2h", "1d12h", "2w". -EINVAL, -ERANGE (nothing, or more than WHEN_MAX_S). */
int when_parse_span(struct str text, int64_t *ret);

/*
 * "2026-12-31T18:00:00Z" (UTC); "2026-12-31 18:00", with T or a blank and seconds if wanted (local);
 * "18:00" (local, the next one). -EINVAL; -ERANGE: it has passed, or is too far away.
 */
int when_parse_time(struct str text, int64_t now, int64_t *ret);

/* As the feature has it, "2026-12-31T18:00:00Z". */
const char *when_format_utc(int64_t t, char buf[static WHEN_STR_MAX]);
/* "2026-12-31 18:00 CET (in 2 h 5 min)", "... (12 min ago)" */
const char *when_format(int64_t t, int64_t now, char buf[static WHEN_STR_MAX]);
