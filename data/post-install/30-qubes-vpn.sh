#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Has the service qubes-vpn offered in the settings of qubes made of this template. Run by qubes.PostInstall.
qvm-features-request supported-service.qubes-vpn=1
