"""Read YAML strictly: no duplicate keys, no aliases, no tags, bounded, and every value knows its line.

Scalars follow YAML 1.2: only `true` and `false` are truth values (`no` and `on` are text), and a number with a
leading zero, which older readers take for octal, is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from readthrough.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64

Keys = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+\Z")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class YamlFile:
    """The value of a YAML file, and the line of each of its keys and items.

    Attributes:
        value: what the file says; None for an empty one.
        path: the file, as errors name it.
        lines: the line (from 1) of the value that the keys lead to.
    """

    value: Any
    path: str
    lines: dict[Keys, int] = field(default_factory=dict)

    def error(self, message: str, *keys: str | int, hint: str | None = None) -> ConfigError:
        """A ConfigError that points to the line of `keys`, or of the nearest part around them."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return ConfigError(message, path=f"{self.path}:{self.lines.get(keys, 1)}", hint=hint)


def read(path: Path) -> YamlFile:
    """Read the YAML file at `path`.

    Raises:
        ConfigError: it cannot be read, or is not strict YAML; `path` is `file:line`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", path=f"{path}:{line}") from error
    return parse(text, str(path))


def parse(text: str, path: str = "<yaml>") -> YamlFile:
    """Parse YAML text; `path` is the name for errors.

    Raises:
        ConfigError: the text is not strict YAML; `path` is `file:line`.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES} bytes", path=path)
    try:
        _check_events(text, path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else path
        raise ConfigError(f"is not valid YAML: {error.problem or error.context}", path=where) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"is not valid YAML: {str(error).splitlines()[0]}", path=path) from error
    lines: dict[Keys, int] = {(): 1}
    value = None if node is None else _build(node, (), lines, path)
    return YamlFile(value, path, lines)


def _check_events(text: str, path: str) -> None:
    """Refuse what composing could not survive: depth and aliases. Parsing events does not recurse."""
    depth = 0
    documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"the alias *{event.anchor} is not allowed", path=where, hint="write the value again")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError("holds a second document", path=where, hint="remove the line `---`")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            raise ConfigError(f"the tag {event.tag} is not allowed", path=where, hint="write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"is nested deeper than {MAX_DEPTH} levels", path=where)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: str) -> Any:
    lines[keys] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, keys, lines, path)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*keys, index), lines, path) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path)
    raise TypeError(f"unknown YAML node {node!r}")


def _mapping(node: yaml.MappingNode, keys: Keys, lines: dict[Keys, int], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise ConfigError("a key must be text", path=f"{path}:{line}", hint="put it in quotes")
        if key in found:
            first = lines[(*keys, key)]
            raise ConfigError(f"the key {key!r} stands twice", path=f"{path}:{line}", hint=f"first on line {first}")
        found[key] = _build(value_node, (*keys, key), lines, path)
        lines[(*keys, key)] = line
    return found


def _scalar(node: yaml.ScalarNode, path: str) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted or a block: text, whatever it looks like
        return text
    if text in _WORDS:
        return _WORDS[text]
    where = f"{path}:{node.start_mark.line + 1}"
    if _LEADING_ZERO.match(text):
        raise ConfigError(f"the number {text} has a leading zero", path=where, hint="write it without, or in quotes")
    if not _NUMBER.match(text):
        return text
    if not isfinite(float(text)):
        raise ConfigError("the number is out of range", path=where)
    return int(text) if _INTEGER.match(text) else float(text)
