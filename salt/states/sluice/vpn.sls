{#- SPDX-License-Identifier: GPL-2.0-or-later -#}
{#- Every qube below `sluice:vpn` exists, is a VPN qube, and has its clients behind it. The service comes before the clients: who
    is moved behind it finds it sealed. Properties are set with qvm-prefs: the state qvm.prefs sets them in a dry run too. -#}
{%- from "sluice/map.jinja" import section, check_vpn with context -%}
{{- section('vpn') -}}
{%- set entries = pillar.get('sluice', {}).get('vpn', {}) -%}
{%- for name, entry in entries | dictsort -%}{{- check_vpn(name, entry) -}}{%- endfor -%}
{%- for name, entry in entries | dictsort %}
sluice-vpn-{{ name }}:
  qvm.present:
    - name: {{ name | tojson }}
    - template: {{ entry.template | tojson }}
    - label: {{ entry.get('label', 'blue') | tojson }}
    - flags:
      - proxy

sluice-vpn-{{ name }}-service:
  qvm.service:
    - name: {{ name | tojson }}
    - enable:
      - qubes-vpn
    - require:
      - qvm: sluice-vpn-{{ name }}
{% set wanted = {'provides_network': 'True', 'netvm': entry.get('netvm', 'sys-net'),
                 'autostart': 'True' if entry.get('autostart') else 'False'} %}
{%- for property, value in wanted | dictsort %}
sluice-vpn-{{ name }}-{{ property }}:
  cmd.run:
    - name: {{ ('qvm-prefs ' ~ name ~ ' ' ~ property ~ ' ' ~ value) | tojson }}
    - unless: {{ ('test "$(qvm-prefs ' ~ name ~ ' ' ~ property ~ ')" = ' ~ value) | tojson }}
    - require:
      - qvm: sluice-vpn-{{ name }}-service
{% endfor %}
{%- set clients = entry.get('clients', []) %}
{%- for client in ([clients] if clients is string else clients) %}
sluice-vpn-{{ name }}-client-{{ client }}:
  cmd.run:
    {#- qubesd attaches a running qube to a running one only #}
    - name: {{ ('if qvm-check --quiet --running ' ~ client ~ '; then qvm-start --skip-if-running ' ~ name ~ ' || exit; fi; ' ~
               'qvm-prefs ' ~ client ~ ' netvm ' ~ name) | tojson }}
    - unless: {{ ('test "$(qvm-prefs ' ~ client ~ ' netvm)" = ' ~ name) | tojson }}
    - require:
      {%- for property in wanted | sort %}
      - cmd: sluice-vpn-{{ name }}-{{ property }}
      {%- endfor %}
{% endfor %}
{%- endfor %}
