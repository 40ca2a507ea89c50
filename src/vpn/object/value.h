/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the supervisor's D-Bus object (data/dbus/org.qubes_os.Vpn1.xml) as JSON. Members keep
 * their types; names become lower case ("WantedUp": "wanted_up"). What is not in our interface, is
 * nested deeper than it or does not read is an error, not a hole.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

#define VPN_OBJECT_NAME  "org.qubes_os.Vpn1"
#define VPN_OBJECT_PATH  "/org/qubes_os/Vpn1"
#define VPN_OBJECT_ERROR VPN_OBJECT_NAME ".Error."
#define VPN_ADDRESS_MAX  256

/* What is left of a message, as an array the caller owns. -EBADMSG, -ENOMEM. */
int vpn_value_read(sd_bus_message *m, json_t **ret);
/* "WantedUp" to "wanted_up"; cut when buf is too small. Pure. */
void vpn_value_name(const char *name, char *buf, size_t size);
/* The address of a socket of `qubes-vpnd --bus`. -EINVAL: a path that sd-bus would have to quote. */
int vpn_value_address(const char *socket, char *buf, size_t size);
/* A connection to it; socket: NULL for the system bus. *ret is the caller's, also after an error. */
int vpn_value_open(const char *socket, sd_bus **ret);
