# SPDX-License-Identifier: GPL-2.0-or-later
"""doc/troubleshooting.md has every message of ours that asks for something (messages.py), but for those below, which say
all there is to say themselves."""

import messages
import pytest
from shown import ROOT

# Words of a message, and why the page does not need it.
NEED_NONE = {
    "is an IPv4 address written as IPv6": "says what to write instead",
    "no arguments; see --help": "wrong use",
    "; see --help": "wrong use",
    "%s; see --help": "wrong use",
    "Armed in part only": "an option for tests",
    "%s: %s: %s": "folder, file and one of the findings, which are on the page",
    "Give the %s for": "says what to give",
    "deletes the stored secrets": "says what it does",
}


def page():
    text = (ROOT / "doc/troubleshooting.md").read_text(encoding="utf-8").replace("`", "").replace("\\|", "|")
    return " ".join(text.split())


def missing(message, text):
    return [piece for piece in message.pieces if piece not in text]


def test_every_message_that_asks_for_something_is_on_the_page():
    text = page()
    wrong = [f"{message.file}:{message.line}: {missing(message, text)}" for message in messages.asking()
             if missing(message, text) and not any(part in message.text for part in NEED_NONE)]
    assert not wrong, f"{len(wrong)} messages are not in doc/troubleshooting.md:\n" + "\n".join(wrong)


def test_the_sources_are_really_read():
    found = messages.asking()
    assert len(found) > 120
    texts = [message.text for message in found]
    for sample in ("Parts of the seal were gone and have been put back",                 # a line of log_warning()
                   "Cannot bring the kernel in line (%s); tried again",                  # of log_error()
                   "the net qube %s on the way of %s does not run: start %s",            # a reason
                   "Profile %s needs you: %s. Sealed"):                                  # of log_event()
        assert sample in texts, sample


@pytest.mark.parametrize("text, asks", [
    ("Next: systemctl status qubes-vpn", True), ("the address is in use: give it another one", True),
    ("%s is served by %s", False), ("QubesDB can be read again", False)])
def test_what_asks_is_told_apart(text, asks):
    assert bool(messages.ASKS.search(text)) is asks


def test_a_new_message_would_be_noticed():
    message = messages.Message("x.c", 1, "The frobnicator of %s is bent: put it straight")
    assert missing(message, page())
