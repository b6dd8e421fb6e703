"""From a spec, `name` or `{name: {field: value}}`, to a part of the catalogue with its options set."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from readthrough.catalogue import find, names, singular, unknown
from readthrough.errors import ConfigError

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+?)(?=^ {4}\w+: |\Z)", re.MULTILINE | re.DOTALL)


class OptionError(ConfigError):
    """An option's value does not fit; `keys` lead to it."""

    def __init__(
        self, message: str, *, path: str | None = None, hint: str | None = None, keys: tuple[str | int, ...] = ()
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.keys = keys


def split(spec: object, what: str = "part") -> tuple[str, dict[str, Any]]:
    """The name and the options of a spec.

    Raises:
        ConfigError: `spec` is neither a name nor one name with its options.
    """
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, options = next(iter(spec.items()))
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, dict(options or {})
    raise ConfigError(f"{what}: expected a name or {{name: {{option: value}}}}, not {spec!r:.80}")


def names_file(spec: object) -> bool:
    """Whether a workflow's spec names a YAML file: by its ending, or because there is such a file."""
    if not isinstance(spec, str) or spec in names("workflows"):
        return False
    try:
        return spec.endswith((".yaml", ".yml")) or Path(spec).expanduser().is_file()
    except (OSError, RuntimeError):  # too long for a name, or a home of nobody: no file in any case
        return False


def options_of(part: Any) -> list[str]:
    """The names of the options of a part's class."""
    return [field.name for field in dataclasses.fields(part) if field.init]


def described(part: type) -> dict[str, str]:
    """What the docstrings of a class and of those that it is made from say of its attributes."""
    texts = [inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2] for base in part.__mro__]
    found = (pair for text in reversed(texts) for pair in _ATTRIBUTE.findall(text))
    return {name: " ".join(said.split()) for name, said in found}


def build(
    point: str, spec: object, options: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Any:
    """The part of `point` that `spec` names, made with its options.

    `options` win over the spec's own; `defaults` stand in where nothing is said and the part has such an option.

    Raises:
        UnknownNameError: no such part, or it has no such option; the message names the nearest.
        OptionError: an option's value does not fit.
    """
    what = singular(point)
    name, values = split(spec, what)
    part = find(point, name)
    usual = {option: value for option, value in (defaults or {}).items() if option in options_of(part)}
    return make(part, f"{what} {name!r}", {**usual, **values, **(options or {})}, name)


def make(part: Any, what: str, values: Mapping[str, Any], name: str) -> Any:
    """A part of a class with its options set; messages call it `what`, and its options `name.option`.

    Raises:
        UnknownNameError: it has no such option; the message names the nearest.
        OptionError: an option's value does not fit.
    """
    known = options_of(part)
    for option in values:
        if option not in known:
            raise unknown(f"option of {what}", option, known)
    try:
        return TypeAdapter(part).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in (name, *first["loc"]))
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise OptionError(f"{where} = {first['input']!r:.80}: {message}", keys=first["loc"]) from error
