/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One notification on the session's bus (org.freedesktop.Notifications, Desktop Notifications
 * Specification 1.2), replaced in place. Nothing here waits: Notify may be answered only when
 * somebody far away has answered, and until then the newest notice is kept and no other call made.
 * Stays through restarts of the daemon and of the bus; a notice that nobody took is given to the
 * next daemon. Text goes as it is, or escaped where the daemon reads markup. No call but Notify,
 * GetCapabilities and those of the bus itself is needed.
 *
 * One thread, that of the sd_event. Errors: -errno.
 */
#pragma once

#include <systemd/sd-event.h>

#include "desktop/notifier/plan.h"

struct popup;

/* Ends the loop with status 0 when another notifier has this session. A bus that is not there is no
 * error. */
int popup_new(struct popup **ret, sd_event *event);
struct popup *popup_free(struct popup *p);
/* Instead of the one before. n is copied. */
void popup_show(struct popup *p, const struct notice *n);

/* text as it is, or for daemons that read markup; lines stay. Cut at a whole character, never
 * inside an escape. Pure. Returns buf. */
char *popup_text(const char *text, bool markup, char *buf, size_t size);
