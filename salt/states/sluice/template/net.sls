{#- SPDX-License-Identifier: GPL-2.0-or-later -#}
{#- The template of net qubes: qubesctl --show-output --skip-dom0 --targets=TEMPLATE state.apply sluice.template.net -#}
{%- from "sluice/template/packages.jinja" import installed with context -%}
{{ installed(['qubes-network-server'], ['qubes-routing-manager']) }}
