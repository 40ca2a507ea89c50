{#- SPDX-License-Identifier: GPL-2.0-or-later -#}
{#- The template of exposed qubes. -#}
{%- from "sluice/template/packages.jinja" import installed with context -%}
{{ installed(['qubes-network-server-inbound'], ['qubes-inbound']) }}
