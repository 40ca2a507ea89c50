/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What wireguard-go has to be told so that it works without any right of its own. It insists on
 * three things that are done already or are not wanted (its tun/tun_linux.go, ipc/uapi_linux.go;
 * the same from 0.0.20220316 to 0.0.20231211):
 * - setting the device's MTU, which needs CAP_NET_ADMIN: we have set it; the call says "done";
 * - watching /var/run/wireguard/NAME.sock, though it was given its socket as a descriptor: adding
 *   the watch says "done", and the check whether the file is there (lstat) "no access", which it
 *   takes for "not deleted".
 * The filter only makes calls return without doing anything; it allows nothing that was not
 * allowed. For other machines than those it knows it changes nothing, and wireguard-go will not run.
 */
#pragma once

/* For spawn_setup.prepare: after no_new_privs, async-signal-safe. 0 or -errno. */
int seccomp_prepare_wireguard(void *unused);
