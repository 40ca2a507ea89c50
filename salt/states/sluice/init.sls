# SPDX-License-Identifier: GPL-2.0-or-later
# All that the pillar `sluice` says, for dom0: qubesctl --show-output state.apply sluice
include:
  - sluice.vpn
  - sluice.expose
