"""Reading parts out of a YAML file, so that every error names file, line and the nearest right name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from readthrough.catalogue import find, nearest, singular
from readthrough.errors import ConfigError, ReadthroughError
from readthrough.spec import OptionError, build, options_of, split
from readthrough.yaml_strict import YamlFile


def mapping(file: YamlFile, *keys: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """The mapping that `keys` lead to, empty where it is left out; `known` are the keys it may have.

    Raises:
        ConfigError: it is something else, or has another key.
    """
    value = file.value
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        what = f"{keys[-1]!r}" if keys else "the file"
        raise file.error(f"{what} must be a mapping, `key: value`, not {value!r:.60}", *keys)
    for key in value:
        if known is not None and key not in known:
            where = f" under {keys[-1]!r}" if keys else ""
            raise unknown(file, f"key{where}", key, known, *keys, key)
    return dict(value)


def unknown(file: YamlFile, what: str, name: str, known: Iterable[str], *keys: str | int) -> ConfigError:
    """An error for a name that is not among `known`, at its line, with the nearest one as its hint."""
    names = list(known)
    close = nearest(name, names)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(names)}"
    return file.error(f"unknown {what} {name!r}", *keys, hint=hint)


def at(file: YamlFile, error: ReadthroughError, *keys: str | int) -> ConfigError:
    """`error` as one that points to the line of `keys`."""
    return file.error(error.message, *keys, hint=error.hint)


def part(file: YamlFile, point: str, value: object, *keys: str | int, defaults: Mapping[str, Any] | None = None) -> Any:
    """The part of `point` that `value`, which stands at `keys`, describes.

    Raises:
        ConfigError: no such part or option, or a value that does not fit; at the line where it stands.
    """
    what = singular(point)
    try:
        name, options = split(value, what)
        known = options_of(find(point, name))
    except ConfigError as error:
        raise at(file, error, *keys) from error
    for option in options:
        if option not in known:
            raise unknown(file, f"option of {what} {name!r}", option, known, *keys, name, option)
    try:
        made = build(point, value, defaults=defaults)
    except OptionError as error:
        raise at(file, error, *keys, name, *error.keys) from error
    for option, given in options.items():
        taken = getattr(made, option)
        # Text that looks like a number, or a truth value in place of one, would be taken for it.
        if isinstance(given, str | bool) and isinstance(taken, int | float) and type(taken) is not type(given):
            right = "true or false" if isinstance(taken, bool) else "a number"
            raise file.error(f"{name}.{option} = {given!r:.80}: must be {right}", *keys, name, option)
    return made
