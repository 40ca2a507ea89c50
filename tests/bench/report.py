# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of measurements: kept, printed as they come, written as a table of Markdown."""

import datetime
import os
import platform
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BEGIN, END = "<!-- results begin -->", "<!-- results end -->"
_HEAD = ("What", "Goal", "Measured", "Baseline of the same run", "Ratio")


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values, unit):
    """"median [least..most] unit, n"."""
    if len(values) == 1:
        return f"{number(values[0])} {unit}"
    return f"{number(statistics.median(values))} [{number(min(values))}..{number(max(values))}] {unit}, n={len(values)}"


class Report:
    """met and missed count rows with a goal."""

    def __init__(self):
        self.parts, self.met, self.missed = [], 0, []

    def part(self, title):
        self.parts.append((title, []))
        print(f"\n{title}", flush=True)

    def _row(self, what, goal, measured, baseline, ratio, good):
        if good is not None:
            self.met += good
            if not good:
                self.missed.append(what)
        mark = "" if good is None else " (met)" if good else " **(missed)**"
        row = (what, goal + mark, measured, baseline, ratio)
        self.parts[-1][1].append(row)
        text = " | ".join(cell for cell in (goal + mark, baseline and f"baseline {baseline}", ratio) if cell)
        print(f"  {what}: {measured}" + (f"   ({text})" if text else ""), flush=True)

    def row(self, what, values, unit, goal=None, baseline=None, baseline_name=""):
        """values (and baseline) are samples; the goal is for their median, at most."""
        middle = statistics.median(values)
        ratio = f"{middle / statistics.median(baseline):.3g}" if baseline and statistics.median(baseline) else ""
        self._row(what, "" if goal is None else f"≤ {goal:g} {unit}", spread(values, unit),
                  f"{baseline_name}: {spread(baseline, unit)}" if baseline else "", ratio,
                  None if goal is None else middle <= goal)

    def ratio(self, what, cost, ratio, goal, baseline_name, baseline):
        """Cost of a packet in nanoseconds; the goal is for the ratio. Each is (least, median) of many rounds."""
        self._row(what, "" if goal is None else f"≤ {goal:g} ×", f"{cost[1]:.0f} ns, least {cost[0]:.0f}",
                  f"{baseline_name}: {baseline[1]:.0f} ns, least {baseline[0]:.0f}", f"{ratio:.3f}",
                  None if goal is None else ratio <= goal)

    def rate(self, what, values, unit, ratio, goal, baseline_name, baseline):
        """The more the better; the goal is for the ratio to the baseline, at least."""
        self._row(what, f"≥ {goal:g} ×", spread(values, unit), f"{baseline_name}: {spread(baseline, unit)}",
                  f"{ratio:.3f}", ratio >= goal)

    def _sections(self):
        """Title and text of each part; where and when it was measured stands in it."""
        where = machine()
        for title, rows in self.parts:
            lines = [f"`make bench` on {where}.", "", "| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
            yield title, "\n".join(lines)

    def write(self, path):
        """Replaces the parts that were measured between the two marks of the file; the others stay."""
        with open(path, encoding="utf-8") as file:
            text = file.read()
        before, rest = text.split(BEGIN)
        old, after = rest.split(END)
        sections = {}
        for section in old.split("\n### ")[1:]:
            title, body = section.split("\n", 1)
            sections[title] = body.strip()
        sections.update(self._sections())
        whole = "".join(f"### {title}\n\n{body}\n\n" for title, body in sections.items())
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{before}{BEGIN}\n{whole}{END}{after}")


def _first_line(path, name):
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def _revision():
    with open(f"{ROOT}/version", encoding="ascii") as file:
        version = file.read().strip()
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                          check=False)
    return f"Sluice {version}" + (f" ({done.stdout.strip()})" if done.returncode == 0 else "")


def machine():
    """CPU, cores, kernel, day, revision, load at this moment."""
    model = _first_line("/proc/cpuinfo", "model name")
    return (f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, "
            f"{datetime.date.today().isoformat()}, {_revision()}; load {os.getloadavg()[0]:.1f}")
