# SPDX-License-Identifier: GPL-2.0-or-later
# What is wished. Put addresses, times and rules into quotes.
sluice:
  expose:
    web:
      ip: '192.168.16.25'               # an address of the LAN; without it the one that it has
      allow:                            # as for qvm-expose --allow
        - 'tcp/80,443'
        - 'tcp/22 from 192.168.16.10'
    # More of what may stand there:
    #   ip6: '2001:db8:16::25'
    #   publish: ['tcp/8443:443']       # ports of the net qube
    #   until: '2026-12-31T18:00:00Z'   # closed from then on
    #   limit: 20                       # new connections a second, for each source
    #   log: true
    #   keep: true
    #   attach: true                    # attach its network anew, when that takes a changed address
    # Or, to expose nothing of it:
    #   closed: true
  vpn:
    sys-vpn:
      template: 'debian-12-xfce'
      netvm: 'sys-net'                  # what stands here is what is so anyway
      label: 'blue'
      autostart: false
      clients:
        - work
