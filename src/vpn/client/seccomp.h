/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client may not do, and what it need not. No client makes another process: one that was
 * taken over would leave it behind with the rights of the next client (its memory, its device, its
 * way out). Threads are no processes. fork(), vfork() and clone() without CLONE_THREAD are refused,
 * clone3(), whose flags a filter cannot see, is unknown; libc then takes clone(). execve() stays:
 * the client itself starts by it, and it makes no process. Calls in another form (32 bits, x32),
 * which have other numbers, kill.
 *
 * What wireguard-go has to be told so that it works without any right of its own. It insists on
 * three things that are done already or are not wanted (its tun/tun_linux.go, ipc/uapi_linux.go;
 * the same from 0.0.20220316 to 0.0.20231211):
 * - setting the device's MTU, which needs CAP_NET_ADMIN: we have set it; the call says "done";
 * - watching /var/run/wireguard/NAME.sock, though it was given its socket as a descriptor: adding
 *   the watch says "done", and the check whether the file is there (lstat) "no access", which it
 *   takes for "not deleted".
 * The filters only take away, or make calls return without doing anything; they allow nothing that
 * was not allowed. On other machines than x86-64 and arm64 there are none: process_end_all_of() is
 * what ends the rest there, and wireguard-go will not run.
 */
#pragma once

/* For spawn_setup.prepare: after no_new_privs, async-signal-safe. 0 or -errno. */
int seccomp_prepare_openvpn(void *unused);
int seccomp_prepare_wireguard(void *unused);
