# SPDX-License-Identifier: GPL-2.0-or-later
"""What a document shows: command lines with their place and the output shown behind them, links, anchors.

Commands stand in blocks fenced with ```sh PLACE [status=N] [profile=up] (status: of the last command), whose output may follow in
a block fenced with ```text (each of its lines is among the lines of the output; … stands for anything); and in blocks
indented by four spaces, with "$ " in front where output is among them.
"""

import dataclasses
import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORD = re.compile(r"[a-z][a-z0-9_.+-]*")


@dataclasses.dataclass
class Command:
    document: str
    line: int
    text: str
    place: str = ""           # "" where the document does not say
    status: int | None = None  # that the document names; None: any that is no failure
    options: tuple = ()
    output: list = dataclasses.field(default_factory=list)      # lines shown behind it
    group: list = dataclasses.field(default_factory=list)       # all commands of its block

    @property
    def words(self):
        """Without comment and without sudo."""
        return self.text.removeprefix("sudo ").split()

    def __str__(self):
        return f"{self.document}:{self.line}: {self.place or '?'}$ {self.text}"


def documents():
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "doc").rglob("*.md"))]


def others():
    """Documents for those who change it: their links are followed."""
    return [*sorted(path.name for path in ROOT.glob("*.md") if path.name != "README.md"), "lab/README.md", "salt/README.md",
            "tests/system/README.md"]


def read(document):
    return (ROOT / document).read_text(encoding="utf-8")


def _uncommented(text):
    return re.sub(r"(^|\s{2,})#.*$", "", text).rstrip()


def _joined(lines):
    """(number, text): lines that end with a backslash, or in an open quotation, go on."""
    number, text = None, ""
    for at, line in lines:
        piece = _uncommented(line)
        if not piece and not text:
            continue
        number = number or at
        text = f"{text} {piece.strip()}".strip()
        if text.endswith("\\"):
            text = text[:-1].rstrip()
            continue
        if text.count("'") % 2 == 0:
            yield number, text
            number, text = None, ""
    if text:
        yield number, text


def _blocks(document):
    """(kind, info, [(line number, text)]) with kind fence or indented."""
    lines = read(document).splitlines()
    at, blank = 0, True
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            info, start = line[3:].strip(), at + 1
            at = next(n for n in range(start, len(lines)) if lines[n].startswith("```"))
            yield "fence", info, [(n + 1, lines[n]) for n in range(start, at)]
        elif line.startswith("    ") and blank:
            start = at
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            block = [(n + 1, lines[n]) for n in range(start, at) if lines[n].strip()]
            margin = min(len(text) - len(text.lstrip()) for _, text in block)   # within a list it is deeper
            yield "indented", "", [(n, text[margin:]) for n, text in block]
            blank = True
            continue
        blank = not line.strip() or line.startswith("```")
        at += 1


def is_program(word):
    if "/" in word and (ROOT / word).is_file():
        return True
    return bool(WORD.fullmatch(word)) and (word.startswith(("qvm-", "qubes")) or shutil.which(word) is not None)


def _fenced(document, info, lines):
    words = info.split()
    options = dict(word.split("=", 1) for word in words[2:])
    group = []
    for number, text in _joined(lines):
        group.append(Command(document, number, text, words[1] if len(words) > 1 else "", 0, tuple(options.items())))
    if group:
        group[-1].status = int(options.get("status", 0))
    for one in group:
        one.group = group
    return group


def _indented(document, lines):
    if any(text.startswith("$ ") for _, text in lines):
        group = []
        for number, text in lines:
            if text.startswith("$ "):
                group.append(Command(document, number, _uncommented(text[2:])))
            elif group:
                group[-1].output.append(text)
        return group
    first = lines[0][1].strip().removeprefix("sudo ").split()
    if not first or not is_program(first[0]):
        return []
    return [Command(document, number, text) for number, text in _joined(lines)]


def commands(document):
    found = []
    for kind, info, lines in _blocks(document):
        if kind == "indented" and lines:
            found += _indented(document, lines)
        elif info.split()[:1] == ["sh"]:
            found += _fenced(document, info, lines)
        elif info.split()[:1] == ["text"] and found and found[-1].group:
            found[-1].output += [text for _, text in lines if text.strip()]
    return found


def spans(document):
    """(line, text) of inline code that begins with a program of ours and has more than its name."""
    fenced = False
    for number, line in enumerate(read(document).splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced and not line.startswith("    "):
            for text in re.findall(r"`([^`]+)`", line):
                yield number, text


def links(document):
    """(line, target) of links and images."""
    fenced = False
    for number, line in enumerate(read(document).splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced:
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                yield number, target
            for target in re.findall(r"""<(?:img|source|a)\b[^>]*?(?:src|srcset|href)=["']([^"']+)""", line):
                yield number, target


def anchors(path):
    """As the forges make them of headings."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = re.sub(r"[`*_]", "", line.lstrip("#").strip()).lower()
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found
