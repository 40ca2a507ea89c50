# SPDX-License-Identifier: GPL-2.0-or-later
"""The Qubes network on one Linux machine: see lab/README.md."""
