#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Tells dom0, from a template or standalone qube, that net qubes made of it can expose qubes. Run by qubes.PostInstall.
qvm-features-request supported-feature.network-server=1
