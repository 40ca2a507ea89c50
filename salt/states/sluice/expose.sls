{#- SPDX-License-Identifier: GPL-2.0-or-later -#}
{#- Every qube below `sluice:expose` becomes what stands there. qvm-expose does it: it checks all before it writes, and writes in
    an order in which at no moment more is open than before or after. With --dry-run it says whether there is anything to do:
    nothing between "Would be done, in this order:" and "Then:". -#}
{%- from "sluice/map.jinja" import section, check_expose, check_addresses with context -%}
{{- section('expose') -}}
{%- set entries = pillar.get('sluice', {}).get('expose', {}) -%}
{%- for name, entry in entries | dictsort -%}{{- check_expose(name, entry) -}}{%- endfor -%}
{{- check_addresses(entries) -}}
sluice-daemon:
  service.running:
    - name: qubes-network-serverd
    - enable: True
{% for name, entry in entries | dictsort %}
{%- set words = ['qvm-expose', name] -%}
{%- if entry.get('closed') -%}
{%-   do words.append('--off') -%}
{%- else -%}
{%-   for key in ['ip', 'ip6'] if key in entry -%}
{%-     do words.extend(['--ip', entry[key]]) -%}
{%-   endfor -%}
{%-   for key in ['allow', 'publish'] -%}
{%-     set wanted = entry.get(key, []) -%}
{%-     for one in ([wanted] if wanted is string else wanted) -%}
{%-       do words.extend(['--' ~ key, "'" ~ one ~ "'"]) -%}
{%-     else -%}
{%-       do words.extend(['--' ~ key, 'none']) -%}
{%-     endfor -%}
{%-   endfor -%}
{%-   do words.extend(['--until', entry.get('until', 'never'), '--limit', entry.get('limit', 'none') | string]) -%}
{%-   do words.append('--log' if entry.get('log') else '--no-log') -%}
{%-   do words.append('--keep' if entry.get('keep') else '--no-keep') -%}
{%-   do words.append('--yes' if entry.get('attach') else '--no') -%}
{%- endif %}
sluice-expose-{{ name }}:
  cmd.run:
    - name: {{ words | join(' ') | tojson }}
    - unless: {{ ((words + ['--dry-run']) | join(' ') ~ ' | sed -n 2p | grep -qx Then:') | tojson }}
    - require:
      - service: sluice-daemon
{% endfor %}
