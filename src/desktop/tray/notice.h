/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line shown by the session's notification daemon, for the answer to something that was asked for
 * in a menu which is closed by then. It is the summary alone, which the specification keeps free of
 * markup. Never waits: the bus is opened and spoken to from the loop, an answer is not needed (dom0
 * may take its time), and without a session bus or a daemon nothing is shown.
 */
#pragma once

#include <systemd/sd-event.h>

struct notice;

/* -ENOMEM. */
int notice_new(struct notice **ret, sd_event *event);
struct notice *notice_free(struct notice *n);
/* text: cleaned. A new one takes the place of the last one that is still shown. */
void notice_show(struct notice *n, const char *icon, const char *text);
