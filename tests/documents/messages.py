# SPDX-License-Identifier: GPL-2.0-or-later
"""What our programs tell a person, out of the C sources: strings of calls that log a warning or an error, and all others
that say what to do."""

import dataclasses
import re

from shown import ROOT

LITERAL = r'"(?:[^"\\]|\\.)*"'
TOKEN = re.compile(rf"/\*.*?\*/|'(?:[^'\\]|\\.)'|{LITERAL}(?:\s*(?:PRI\w+|JSON_INTEGER_FORMAT|{LITERAL}))*|\w+|\S", re.S)
CONVERSION = re.compile(r"%(?:%|[-+ #0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|z|j|t)?[a-zA-Z])|%")
# Words by which a message asks for something.
ASKS = re.compile(
    r"\b(Next|Now|See|see): |Run \\|\bqubes-vpn (use|import|set-secret|delete)\b|\bsystemctl \w|\bjournalctl \b|\bqvm-\w|"
    r"qubes-vpn-forwarding (on|check)|\bsee --help|"
    r"[:;,.(] (give|attach|remove|restart|change|start|chown|chmod|make|install|publish|look at|put|use|expose|rename|copy|set|"
    r"write|another|shut|try again|report|wait)\b|\b(Shut down|Try again|Restart|Restarting|Start|Set|Put|Give)\b|\bhelps\b|"
    r"\bNeeds (root|CAP)|\bIt needs CAP|\bmust exist|\bneeds (you|root)")
LOGS = ("log_error", "log_warning")
# Usage texts and what the window and the terminal of the desktop ask step by step.
LEFT_OUT = ("src/desktop/configurator/", "src/desktop/tray/")
# Findings about a line of a provider's file: qubes-vpn-profiles(5) has each directive.
PROFILE = "src/vpn/profile/"


@dataclasses.dataclass(frozen=True)
class Message:
    file: str
    line: int
    text: str

    @property
    def pieces(self):
        """Its fixed parts of more than two words; all of them if there is none."""
        plain = self.text.replace("\\n", "\n").replace('\\"', '"')
        parts = [" ".join(part.split()).strip(" .,;:()\"'") for whole in CONVERSION.split(plain)
                 for part in whole.split("\n")]
        return [part for part in parts if len(part.split()) > 2] or [part for part in parts if part]


def _plain(literals):
    return "".join(one[1:-1] for one in re.findall(LITERAL, literals))


def _of_file(path):
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    call, depth = None, 0
    for found in TOKEN.finditer(text):
        token = found[0]
        if token in LOGS:
            call, depth = "open", 0
        elif token == "log_event":
            call, depth = "event", 0
        elif call == "event" and token in ("LOG_WARNING", "LOG_ERR"):
            call = "open"
        elif token == "(":
            depth += call is not None
        elif token == ")":
            depth -= call is not None
            if call is not None and depth == 0:
                call = None
        elif token.startswith('"'):
            message = _plain(token)
            if len(message.split()) > 2 and not message.lstrip().startswith("{") and "--help" not in message[40:]:
                yield call == "open", Message(name, text[:found.start()].count("\n") + 1, message)


def all_messages():
    """(told to the journal as a warning or an error, Message)"""
    for path in sorted((ROOT / "src").rglob("*.c")):
        name = str(path.relative_to(ROOT))
        if not name.startswith((*LEFT_OUT, PROFILE)):
            yield from _of_file(path)


def asking():
    return [message for logged, message in all_messages() if logged or ASKS.search(message.text)]
