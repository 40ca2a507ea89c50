# SPDX-License-Identifier: GPL-2.0-or-later
"""What Salt makes of the formula's files: jinja, then YAML, then states in their order. Salt itself is in no package of
Debian; this stands for it, with the names that a template of Salt has (pillar, grains, salt, raise, the test `match`), its
jinja settings (sandboxed, undefined names are errors, `do` and loop controls), and its rules for what a state file may hold.
"""

import dataclasses
import pathlib
import re

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATES = ROOT / "salt/states"
PILLAR = ROOT / "salt/pillar"


class RenderError(Exception):
    """`Rendering SLS ... failed`: no state was run."""


class OneOfAKind(yaml.SafeLoader):
    """A key that stands twice is an error, as it is for Salt."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=deep) for key, _value in node.value]
    if len(keys) != len(set(keys)):
        raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
    return loader.construct_mapping(node, deep)


OneOfAKind.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _raise(message):
    raise TemplateError(message)


def environment(folder):
    made = SandboxedEnvironment(loader=FileSystemLoader(folder), undefined=StrictUndefined,
                                extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
    made.globals["raise"] = _raise
    made.tests["match"] = lambda text, pattern: bool(re.compile(pattern).match(text))
    return made


@dataclasses.dataclass
class State:
    """One declaration: qvm.present with its arguments. Requisites are ("cmd", "id")."""

    id: str
    function: str
    arguments: dict
    require: list
    unless: list
    onlyif: list

    @property
    def name(self):
        return self.arguments.get("name", self.id)


def _texts(value):
    return [value] if isinstance(value, str) else list(value)


def _state(identity, function, listed):
    arguments, require = {}, []
    for one in listed:
        if not isinstance(one, dict) or len(one) != 1:
            raise RenderError(f"{identity}: {function}: {one!r} is no argument with a value")
        (key, value), = one.items()
        if key in arguments:
            raise RenderError(f"{identity}: {key} stands twice")
        arguments[key] = value
    for one in arguments.pop("require", []):
        require += one.items()
    unless, onlyif = _texts(arguments.pop("unless", [])), _texts(arguments.pop("onlyif", []))
    return State(identity, function, arguments, require, unless, onlyif)


class Renderer:
    """pillar and grains as a minion has them; run(command) answers salt['cmd.run_stdout']."""

    def __init__(self, pillar, grains=None, run=None):
        self.names = {"pillar": pillar, "grains": grains or {"os_family": "RedHat"},
                      "salt": {"cmd.run_stdout": lambda command, **_options: run(command)}}
        self.environment = environment(STATES)

    def _text(self, sls):
        for path in (f"{sls.replace('.', '/')}.sls", f"{sls.replace('.', '/')}/init.sls"):
            if (STATES / path).is_file():
                return self.environment.get_template(path).render(**self.names)
        raise RenderError(f"No matching sls found for '{sls}'")

    def _load(self, sls):
        try:
            text = self._text(sls)
            return yaml.load(text, OneOfAKind) or {}
        except TemplateError as error:
            raise RenderError(f"Rendering SLS '{sls}' failed: Jinja error: {error}") from error
        except yaml.YAMLError as error:
            raise RenderError(f"Rendering SLS '{sls}' failed: {error}") from error

    def states(self, sls):
        """All states of a file and of what it includes, in the order in which they run."""
        found, seen = [], {}
        for one, identity, body in self._declared(sls, []):
            if identity in seen:
                raise RenderError(f"Detected conflicting IDs: {identity} in {one} and {seen[identity]}")
            seen[identity] = one
            for function, listed in body.items():
                found.append(_state(identity, function, listed))
        return found

    def _declared(self, sls, included):
        if sls in included:
            return
        included.append(sls)
        body = self._load(sls)
        for one in body.pop("include", []):
            yield from self._declared(one, included)
        for identity, declaration in body.items():
            yield sls, identity, declaration


def pillar_of(folder=PILLAR):
    """The pillar that lies beside the formula."""
    return yaml.load((folder / "sluice/init.sls").read_text(encoding="utf-8"), OneOfAKind)
