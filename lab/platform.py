# SPDX-License-Identifier: GPL-2.0-or-later
"""What Qubes OS itself does inside a net qube, rebuilt from its observed behaviour: firewall tables, vif scripts.

Only the behaviour that a routing manager can meet is kept: chain names, hooks, priorities, the order of verdicts and of
the steps of a vif's life, and known defects (two vifs with one address). Functions take the node of the net qube (see
lab/lab.py) and act in its namespace; a failing step ends the procedure there, as `set -e` does in the real one.
Not rebuilt: the flowtable `inet qubes-nat-accel` (the kernels that CI runs on may lack flowtables, and it only takes
flows from a vif to eth0 of a net qube in a chain), per-vif hardening sysctls, fake addresses.
"""

import ipaddress
import shlex

VIF_GROUP, UPLINK_GROUP = 2, 1
BACKEND_MAC = "fe:ff:ff:ff:ff:ff"
VIRTUAL_DNS = ("10.139.1.1", "10.139.1.2")
MAX_DOMID = 32752

_WORDS = {
    4: {"table": "ip", "addr": "ip", "type": "ipv4_addr"},
    6: {"table": "ip6", "addr": "ip6", "type": "ipv6_addr"},
}

# Loaded first in every qube, by itself: source addresses of vifs are checked before connection tracking sees them.
_ANTISPOOF = """
table {table} qubes {{
    set downstream {{ type {type}; }}
    set allowed {{ type ifname . {type}; }}
    chain antispoof {{
        iifname . {addr} saddr @allowed accept
        counter drop
    }}
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        iifgroup 2 goto antispoof
        {addr} saddr @downstream counter drop
    }}
}}
"""

_MAIN = """
table {table} qubes {{
    chain custom-input {{ }}
    chain custom-forward {{ }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifgroup 2 accept
        oif lo accept
        masquerade
    }}
{input}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        jump custom-forward
        ct state invalid counter drop
        ct state related,established accept
        oifgroup 2 counter drop
    }}
}}
"""

_INPUT4 = """
    chain input {
        type filter hook input priority filter; policy drop;
        jump custom-input
        ct state invalid counter drop
        iifgroup 2 udp dport 68 counter drop
        ct state related,established accept
        iifgroup 2 meta l4proto icmp accept
        iif lo accept
        iifgroup 2 counter reject with icmp type host-prohibited
        counter
    }"""

_INPUT6 = """
    chain _icmpv6 {
        meta l4proto != ipv6-icmp counter reject with icmpv6 type admin-prohibited
        icmpv6 type { nd-router-advert, nd-redirect } counter drop
        accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        jump custom-input
        ct state invalid counter drop
        ct state related,established accept
        iifgroup 2 goto _icmpv6
        iif lo accept
        ip6 saddr fe80::/64 ip6 daddr fe80::/64 udp dport 546 accept
        meta l4proto ipv6-icmp accept
        counter
    }"""

_FIREWALL_HEAD = """
table {table} qubes-firewall {{
{extra}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname != "vif*" accept
        {jump}
    }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
    chain postrouting {{ type filter hook postrouting priority raw; policy accept; }}
}}
"""


def family(address):
    return ipaddress.ip_network(address, strict=False).version


def antispoof_text():
    return "".join(_ANTISPOOF.format(**_WORDS[version]) for version in (4, 6))


def main_text():
    return (_MAIN.format(input=_INPUT4, **_WORDS[4]) + _MAIN.format(input=_INPUT6, **_WORDS[6]))


def dns_text(servers):
    """Redirection of the two virtual name servers; without a server their queries are dropped."""
    rules = []
    for number, address in enumerate(VIRTUAL_DNS):
        server = servers[min(number, len(servers) - 1)] if servers else None
        verdict = f"dnat to {server}" if server else "drop"
        rules += [f"ip daddr {address} {proto} dport 53 {verdict}" for proto in ("udp", "tcp")]
    lines = "\n        ".join(rules)
    hook = "type nat hook prerouting priority dstnat; policy accept;"
    return (f"add table ip qubes\nadd chain ip qubes dnat-dns {{ {hook} }}\ndelete chain ip qubes dnat-dns\n"
            f"table ip qubes {{\n    chain dnat-dns {{\n        {hook}\n        {lines}\n    }}\n}}\n")


def firewall_text(flavour, connected):
    """Empty tables of the firewall daemon. connected: addresses of all qubes attached here, running or not."""
    text = ""
    for version in (4, 6):
        words = _WORDS[version]
        new = flavour == "4.3"
        extra = f"    set dns-addr {{ type {words['type']}; }}\n    chain qubes-forward {{ }}" if new else ""
        text += _FIREWALL_HEAD.format(extra=extra, jump="jump qubes-forward" if new else "", **words)
        text += _connected_text(version, [address for address in connected if family(address) == version])
    return text


def _connected_text(version, addresses):
    table = f"{_WORDS[version]['table']} qubes-firewall"
    text = f"flush chain {table} prerouting\nflush chain {table} postrouting\n"
    if addresses:
        listed = ", ".join(addresses)
        word = _WORDS[version]["addr"]
        text += (f'add rule {table} prerouting iifname != "vif*" {word} saddr {{ {listed} }} drop\n'
                 f'add rule {table} postrouting oifname != "vif*" {word} daddr {{ {listed} }} drop\n')
    return text


def _rule_lines(rules, version, flavour, dns):
    """The rules of one source as nft text; None is the default policy of a qube, everything is let out."""
    if rules is None:
        return ["accept"]
    word = _WORDS[version]["addr"]
    lines = []
    for rule in rules:
        fields = dict(part.split("=", 1) for part in rule.split())
        if f"dst{10 - version}" in fields:
            continue
        verdict = "accept" if fields["action"] == "accept" else "reject with icmp{} type admin-prohibited".format(
            "v6" if version == 6 else "")
        match = f"{word} daddr {fields[f'dst{version}']} " if f"dst{version}" in fields else ""
        if fields.get("specialtarget") == "dns":
            servers = "@dns-addr" if flavour == "4.3" else "{ " + ", ".join(dns) + " }"
            if version == 4 and (dns or flavour == "4.3"):
                lines += [f"ip daddr {servers} {proto} dport 53 {verdict}" for proto in ("udp", "tcp")]
            continue
        proto = fields.get("proto")
        if "dstports" in fields:
            match += f"{proto} dport {fields['dstports']} "
        elif proto == "icmp":
            match += "meta l4proto {} ".format("icmp" if version == 4 else "ipv6-icmp")
        elif proto:
            match += f"meta l4proto {proto} "
        lines.append(match + verdict)
    return lines + ["reject with icmp{} type admin-prohibited".format("v6" if version == 6 else "")]


def _chain_name(address):
    return "qbs-" + address.replace(".", "-").replace(":", "-")


def firewall_apply(node, address, rules):
    """The firewall daemon's work for one source: chain and jump in one transaction, the rules in the next."""
    version = family(address)
    words = _WORDS[version]
    table, chain = f"{words['table']} qubes-firewall", _chain_name(address)
    if chain not in node.firewall_chains:
        place = "qubes-forward" if node.spec.flavour == "4.3" else "forward"
        node.nft(f"add chain {table} {chain}\nadd rule {table} {place} {words['addr']} saddr {address} jump {chain}\n")
        node.firewall_chains.add(chain)
    lines = _rule_lines(rules, version, node.spec.flavour, node.spec.dns)
    node.nft(f"flush chain {table} {chain}\n" + "".join(f"add rule {table} {chain} {line}\n" for line in lines))


def firewall_start(node):
    """Start of the firewall daemon: empty tables, then each attached qube, running or not."""
    node.firewall_chains = set()
    text = firewall_text(node.spec.flavour, node.connected)
    if node.spec.flavour == "4.3" and node.spec.dns:
        text += f"add element ip qubes-firewall dns-addr {{ {', '.join(node.spec.dns)} }}\n"
    # Chain, jump and rules of the qubes known at the start go into one text: the result is the same, sooner.
    for address, rules in node.firewall_wishes():
        version = family(address)
        words = _WORDS[version]
        table, chain = f"{words['table']} qubes-firewall", _chain_name(address)
        place = "qubes-forward" if node.spec.flavour == "4.3" else "forward"
        text += f"add chain {table} {chain}\nadd rule {table} {place} {words['addr']} saddr {address} jump {chain}\n"
        text += "".join(f"add rule {table} {chain} {line}\n"
                        for line in _rule_lines(rules, version, node.spec.flavour, node.spec.dns))
        node.firewall_chains.add(chain)
    node.nft(text)


def firewall_stop(node):
    """Clean stop of the firewall daemon: its tables are gone, forwarding stays on."""
    node.nft("delete table ip qubes-firewall\ndelete table ip6 qubes-firewall\n")
    node.firewall_chains = set()


def firewall_connected(node):
    """The list of attached qubes changed."""
    node.nft("".join(_connected_text(version, [a for a in node.connected if family(a) == version])
                     for version in (4, 6)))


def boot(node):
    """From boot to forwarding, in the platform's order: tables, firewall daemon, DNS, and only then forwarding."""
    node.nft(antispoof_text() + main_text())
    firewall_start(node)
    node.nft(dns_text(node.spec.dns))
    node.sysctl("net/ipv4/ip_forward", 1)
    if node.spec.ipv6:
        node.sysctl("net/ipv6/conf/all/forwarding", 1)


def boot_qube(node):
    """Tables of a qube that is no net qube: the same files, empty sets."""
    node.nft(antispoof_text() + main_text())


def reload(node, antispoof=False):
    """Restart of the units that load the tables: the files flush nothing, so every rule is appended once more."""
    node.nft((antispoof_text() if antispoof else "") + main_text())


def flush(node):
    """Somebody ran `nft flush ruleset`: forwarding stays on, everything else is gone."""
    node.nft("flush ruleset\n")
    node.firewall_chains = set()


def flush_and_reload(node, elements=True):
    """A flush and then everything loaded again; elements False leaves the sets of vifs empty, as restarts of the units
    do (they know nothing of vifs): qubes are cut off until their vif comes again."""
    flush(node)
    node.nft(antispoof_text() + main_text())
    firewall_start(node)
    node.nft(dns_text(node.spec.dns))
    if elements:
        for vif, addresses in node.vifs.items():
            for address in addresses:
                node.nft(elements_text("add", vif, address))


def elements_text(verb, vif, address):
    table = f"{_WORDS[family(address)]['table']} qubes"
    return (f'{verb} element {table} allowed {{ "{vif}" . {address} }}\n'
            f"{verb} element {table} downstream {{ {address} }}\n")


def downstream(node):
    """What the platform takes for addresses of the qubes behind a net qube, and drops when it comes from elsewhere."""
    found = set()
    for words in _WORDS.values():
        text = node.run(["nft", "list", "set", words["table"], "qubes", "downstream"], check=False).stdout
        _, _, elements = text.partition("elements = {")
        found.update(part.strip() for part in elements.partition("}")[0].split(",") if part.strip())
    return found


def _host_route(address):
    return f"{address}/{32 if family(address) == 4 else 128}"


def vif_online(node, vif, addresses, mac, domid):
    """A qube was attached: the platform's steps in its order. The vif exists, down, in group 0. CalledProcessError at
    the first failing step (a second online of the same vif fails at the route: "File exists")."""
    node.sysctl(f"net/ipv4/conf/{vif}/proxy_arp", 1)
    for address in addresses:
        for side in ("-s", "-d"):
            node.run(["conntrack", "-D", side, address], check=False)
        node.run(["ip", "neigh", "replace", "to", address, "dev", vif, "lladdr", mac, "nud", "permanent"])
        node.nft(elements_text("add", vif, address))
    node.run(["ip", "link", "set", "dev", vif, "group", str(VIF_GROUP), "up"])
    for address in addresses:
        node.run(["ip", "route", "add", _host_route(address), "dev", vif, "metric", str(MAX_DOMID - domid)])
    node.run(["ip", "addr", "add", f"{node.spec.ip}/32", "dev", vif])
    gateway6 = node.spec.ip6 if node.spec.ipv6 else None
    if gateway6 and not ipaddress.ip_address(gateway6).is_link_local:
        node.run(["ip", "addr", "add", f"{gateway6}/128", "dev", vif, "nodad"])
        node.sysctl(f"net/ipv6/conf/{vif}/proxy_ndp", 1)
    node.vifs[vif] = tuple(addresses)


def vif_offline(node, vif, addresses, domid):
    """The qube goes away. Elements of an address go in one transaction: where a second vif carried the same address and
    went first, `downstream` lacks it, the transaction fails and `allowed` and the route stay behind. The permanent
    neighbour and the group always stay."""
    for address in addresses:
        for side in ("-s", "-d"):
            node.run(["conntrack", "-D", side, address], check=False)
        node.nft(elements_text("delete", vif, address))
    for address in addresses:
        node.run(["ip", "route", "del", _host_route(address), "dev", vif, "metric", str(MAX_DOMID - domid)])
    node.run(["ip", "addr", "del", f"{node.spec.ip}/32", "dev", vif], check=False)
    gateway6 = node.spec.ip6 if node.spec.ipv6 else None
    if gateway6 and not ipaddress.ip_address(gateway6).is_link_local:
        node.run(["ip", "addr", "del", f"{gateway6}/128", "dev", vif], check=False)
    node.vifs.pop(vif, None)


def qube_uplink(node, iface, gateway, gateway6, mac=BACKEND_MAC):
    """eth0 of a qube: group 1, /32, permanent neighbour, on-link default route by the net qube; as ip -batch text."""
    spec = node.spec
    lines = [
        f"addr add {spec.ip}/32 dev {iface}",
        f"neigh replace to {gateway} dev {iface} lladdr {mac} nud permanent",
        f"link set dev {iface} group {UPLINK_GROUP} up",
        f"route add {gateway} dev {iface} scope link",
        f"route add default via {gateway} dev {iface} onlink",
    ]
    if spec.ip6 and gateway6:
        lines += [
            f"addr add {spec.ip6}/128 dev {iface} nodad",
            f"neigh replace to {gateway6} dev {iface} lladdr {mac} nud permanent",
            f"route add {gateway6}/128 dev {iface}",
            f"route add ::/0 via {gateway6} dev {iface} onlink",
        ]
    return "".join(shlex.join(line.split()) + "\n" for line in lines)
