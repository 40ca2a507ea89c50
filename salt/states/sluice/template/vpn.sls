{#- SPDX-License-Identifier: GPL-2.0-or-later -#}
{#- The template of VPN qubes, with the programs of a desktop and OpenVPN; WireGuard is in the kernel. -#}
{%- from "sluice/template/packages.jinja" import installed with context -%}
{{ installed(['qubes-vpn', 'qubes-vpn-desktop'], ['qubes-vpn-forwarding', 'qubes-vpn'], ['openvpn']) }}
