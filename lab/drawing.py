# SPDX-License-Identifier: GPL-2.0-or-later
"""A topology as text: what stands on each segment, and each net qube with its qubes, at most 100 columns."""

from lab.topology import Host

WIDTH = 100


def _box(lines):
    inner = max(len(line) for line in lines)
    bar = "─" * (inner + 2)
    return [f"┌{bar}┐", *(f"│ {line.ljust(inner)} │" for line in lines), f"└{bar}┘"]


def _beside(boxes, gap=2):
    height = max(map(len, boxes))
    padded = [box + [" " * len(box[0])] * (height - len(box)) for box in boxes]
    return [(" " * gap).join(row).rstrip() for row in zip(*padded)]


def _bare(addresses, keep):
    return [address.split("/")[0] for address in addresses][:keep]


def _on_segment(topology, segment):
    boxes = []
    for machine in topology.hosts + topology.netqubes:
        for link in machine.links if isinstance(machine, Host) else machine.uplinks:
            if link.segment == segment:
                name = machine.name if isinstance(machine, Host) else f"{machine.name} ({link.iface})"
                boxes.append(_box([name, *_bare(link.addresses, 2)]))
    return boxes


def _rows(boxes, gap=2):
    """Boxes in as few rows as fit."""
    rows, row, width = [], [], 0
    for box in boxes:
        if row and width + gap + len(box[0]) > WIDTH - 2:
            rows.append(row)
            row, width = [], 0
        width += len(box[0]) + (gap if row else 0)
        row.append(box)
    return [line for row in rows + [row] for line in _beside(row, gap)] if boxes else []


def draw(topology):
    lines = []
    for segment in topology.segments:
        lines += [f"═ {segment.name} ".ljust(WIDTH - 2, "═"), *_rows(_on_segment(topology, segment.name))]
    for netqube in topology.netqubes:
        children = [qube for qube in topology.netqubes + topology.qubes if qube.netvm == netqube.name]
        boxes = [_box([f"{qube.name} ({qube.vif})", *qube.addresses]) for qube in children]
        lines += [f"═ behind {netqube.name} ".ljust(WIDTH - 2, "═"), *_rows(boxes)]
    return "\n".join(lines)
