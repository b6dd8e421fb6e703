"""A chunker by its spec: its options are the parameters of its class that take a plain value."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter, ValidationError

from readthrough.catalogue import find, unknown
from readthrough.documents.base import Chunker
from readthrough.errors import ConfigError
from readthrough.spec import split

_PLAIN: dict[str, Any] = {"int": int, "int | None": int | None, "bool": bool, "str": str, "float": float}


def chunker_options(name: str) -> dict[str, tuple[Any, Any]]:
    """The options of a chunker: the type and the default of each.

    Raises:
        UnknownNameError: no such chunker.
    """
    parameters = inspect.signature(find("chunkers", name)).parameters.values()
    return {
        each.name: (_PLAIN[str(each.annotation)], each.default)
        for each in parameters
        if str(each.annotation) in _PLAIN and each.default is not inspect.Parameter.empty
    }


def open_chunker(spec: object) -> Chunker:
    """The chunker that `spec` names, made with its options.

    Raises:
        UnknownNameError: no such chunker or option.
        ConfigError: a value does not fit.
    """
    name, values = split(spec, "chunker")
    known = chunker_options(name)
    for option, value in values.items():
        if option not in known:
            raise unknown(f"option of chunker {name!r}", option, list(known))
        try:
            TypeAdapter(known[option][0]).validate_python(value, strict=True)
        except ValidationError as error:
            raise ConfigError(f"{name}.{option} = {value!r:.80}: {error.errors()[0]['msg']}") from error
    chunker: Chunker = find("chunkers", name)(**values)
    return chunker
