# SPDX-License-Identifier: GPL-2.0-or-later
"""What lab/screen.py asks of a screen and of AT-SPI, one JSON object a line in, one a line out.

A process of its own for each screen, because both libraries connect once and for all, and because a program that ends
while it is read may take its reader along.
"""

import json
import os
import re
import sys
import warnings

import gi

gi.require_version("Atspi", "2.0")
gi.require_version("Gdk", "3.0")
gi.require_version("GdkX11", "3.0")
# pylint: disable=wrong-import-position
from gi.repository import Atspi, Gdk, GdkX11, Gio, GLib

_DEPTH, _MOST = 40, 5000


# -- pictures ----------------------------------------------------------------------------------------------------------

def _picture(window=None, area=None):
    screen = Gdk.Display.get_default()
    source = GdkX11.X11Window.foreign_new_for_display(screen, window) if window else Gdk.get_default_root_window()
    if source is None:
        raise LookupError("no such window")
    x, y, width, height = area or (0, 0, source.get_width(), source.get_height())
    picture = Gdk.pixbuf_get_from_window(source, x, y, width, height)
    if picture is None:
        raise LookupError("nothing to be seen there")
    return picture


def shot(path, window=None, area=None):
    return _picture(window, area).savev(path, "png", [], [])


def pixels(area):
    picture = _picture(area=area)
    data, stride, channels = picture.get_pixels(), picture.get_rowstride(), picture.get_n_channels()
    return [[list(data[y * stride + x * channels:][:3]) for x in range(picture.get_width())]
            for y in range(picture.get_height())]


# -- AT-SPI ------------------------------------------------------------------------------------------------------------

def atspi():
    """True when a screen reader is told to programs, so that they offer themselves to it."""
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)
    try:
        wish = GLib.Variant("(ssv)", ("org.a11y.Status", "IsEnabled", GLib.Variant("b", True)))
        bus.call_sync("org.a11y.Bus", "/org/a11y/bus", "org.freedesktop.DBus.Properties", "Set", wish, None, 0, 2000,
                      None)
        address = bus.call_sync("org.a11y.Bus", "/org/a11y/bus", "org.a11y.Bus", "GetAddress", None, None, 0, 2000,
                                None).unpack()[0]
        # Atspi ends the program when its bus is not there yet.
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        own = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        own.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "StartServiceByName",
                      GLib.Variant("(su)", ("org.a11y.atspi.Registry", 0)), None, 0, 5000, None)
        own.close_sync(None)
    except GLib.Error:
        return False
    Atspi.init()
    Atspi.set_timeout(2000, 5000)
    return True


def _states(node):
    return [state.value_nick for state in node.get_state_set().get_states()]


def _widgets(app=None, depth=_DEPTH):
    """(level, widget) of all programs (or those whose name fits), shown or not; what vanishes is passed over."""
    count = 0
    desktop = Atspi.get_desktop(0)
    stack = []
    for index in reversed(range(desktop.get_child_count())):
        program = desktop.get_child_at_index(index)
        if program and (app is None or re.search(app, program.get_name() or "")):
            stack.append((0, program))
    while stack and count < _MOST:
        level, node = stack.pop()
        try:
            node.clear_cache()
            yield level, node
            count += 1
            if level < depth:
                children = [node.get_child_at_index(index) for index in range(min(node.get_child_count(), 500))]
                stack += [(level + 1, child) for child in reversed(children) if child]
        except GLib.Error:
            continue


def _text(node):
    text = node.get_text_iface()
    if not text:
        return ""
    return Atspi.Text.get_text(text, 0, Atspi.Text.get_character_count(text))


def _told(node):
    box = node.get_component_iface()
    extents = Atspi.Component.get_extents(box, Atspi.CoordType.SCREEN) if box else None
    action = node.get_action_iface()
    return {
        "app": node.get_application().get_name(), "name": node.get_name(), "role": node.get_role_name(),
        "description": node.get_description(), "text": _text(node), "states": _states(node),
        "actions": [Atspi.Action.get_action_name(action, i)
                    for i in range(Atspi.Action.get_n_actions(action) if action else 0)],
        "box": [extents.x, extents.y, extents.width, extents.height] if extents else None,
    }


def _fitting(name, role, app, shown=True):
    for _level, node in _widgets(app):
        try:
            if role is not None and node.get_role_name() != role:
                continue
            if name is not None and not re.search(name, node.get_name() or ""):
                continue
            if shown and node.get_role_name() != "application" and "showing" not in _states(node):
                continue
        except GLib.Error:
            continue
        yield node


def find(name=None, role=None, app=None):
    found = []
    for node in _fitting(name, role, app):
        try:
            found.append(_told(node))
        except GLib.Error:
            continue
    return found


def act(name=None, role=None, app=None):
    for node in _fitting(name, role, app):
        action = node.get_action_iface()
        if action and "sensitive" in _states(node):
            return Atspi.Action.do_action(action, 0)
    return False


def fill(text, name=None, role=None, app=None):
    for node in _fitting(name, role, app):
        editable = node.get_editable_text_iface()
        if editable and "sensitive" in _states(node):
            return Atspi.EditableText.set_text_contents(editable, text)
    return False


def grab(name=None, role=None, app=None):
    return any(Atspi.Component.grab_focus(node.get_component_iface()) for node in _fitting(name, role, app))


def select(index, name=None, role=None, app=None):
    for node in _fitting(name, role, app):
        chosen = node.get_selection_iface()
        if chosen:
            return Atspi.Selection.select_child(chosen, index)
    return False


def tree(app=None):
    lines = []
    for level, node in _widgets(app):
        try:
            states = _states(node)
            if level and "showing" not in states:
                continue
            rest = "" if "sensitive" in states or not level else " (insensitive)"
            rest += " (checked)" if "checked" in states else ""
            text = _text(node)
            lines.append("  " * level + f"{node.get_role_name()} {node.get_name()!r}" +
                         (f" = {text!r}" if text and text != node.get_name() else "") + rest)
        except GLib.Error:
            continue
    return "\n".join(lines)


_ANSWERS = {function.__name__: function
            for function in (shot, pixels, atspi, find, act, fill, grab, select, tree)}


def main():
    warnings.simplefilter("ignore")  # the interfaces of Atspi are told as deprecated, the new way is not in 2.46
    Gdk.init([])
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = {"answer": _ANSWERS[question.pop("ask")](**question)}
        except Exception as error:  # pylint: disable=broad-exception-caught  # told to the test
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(1, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
