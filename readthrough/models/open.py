"""From what the user wrote after `--model` to a backend."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from readthrough import catalogue
from readthrough.errors import ConfigError
from readthrough.models.base import ModelBackend, Prices
from readthrough.spec import build, options_of, split
from readthrough.types import Event

_OPENAI, _SCRIPTED = "openai:", "scripted:"
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_URL = re.compile(r"@(?=https?://)")
_HOST_AND_PORT = re.compile(r"@[\w.-]+:[0-9]+(/|$)")


class ModelOptions(TypedDict, total=False):
    """What a model is opened with; None, or absent, leaves the default. Each kind takes what concerns it."""

    device: str | None
    dtype: str | None
    window_tokens: int | None
    api_key: str | None
    base_url: str | None
    deadline_seconds: float | None
    concurrency: int | None
    hedge_after_seconds: float | None
    prices: Prices | None
    readings: Path | None
    readings_bytes: int | None
    on_event: Callable[[Event], None] | None


def open_model(spec: str | Mapping[str, Any], **options: Unpack[ModelOptions]) -> ModelBackend:
    """The backend that `spec` names. torch is imported only for a local model.

    `openai:MODEL@URL` (the URL may be left out: `OPENAI_BASE_URL`, else OpenAI's own), `scripted:FILE.yaml`, an
    embedded model's name, a folder, a hub id, or `{backend: {field: value}}` as in YAML.

    Raises:
        UnknownNameError: no such model, backend or option; the message names the nearest.
        ConfigError: the address, the script or an option's value is not usable.
        WeightsError: the weights are not there.
    """
    known = list(ModelOptions.__annotations__)
    for option in options:
        if option not in known:
            raise catalogue.unknown("option of open_model", option, known)
    if isinstance(spec, str) and spec.startswith(_SCRIPTED):
        from readthrough.models.scripted import ScriptedModel

        return ScriptedModel.from_yaml(Path(os.path.expanduser(spec.removeprefix(_SCRIPTED))))
    backend, values = _parse(spec)
    given = {key: value for key, value in options.items() if value is not None}
    if "dtype" in given:
        given["dtype"] = _DTYPES.get(str(given["dtype"]), given["dtype"])
    if backend == "local":
        _check_local(str(values.get("name", "default")))
    fields = {field.name for field in dataclasses.fields(catalogue.find("models", backend))}
    chosen = {key: value for key, value in given.items() if key in fields and key not in values}
    model: ModelBackend = build("models", {backend: values}, chosen)
    return model


def check_spec(spec: str | Mapping[str, Any]) -> None:
    """Raise what can be known to be wrong with a spec before a model is opened; nothing is loaded.

    Raises:
        UnknownNameError: no such model, backend or option; the message names the nearest.
        ConfigError: it is neither a name nor one name with its options.
        WeightsError: it names a folder that is not there.
    """
    if isinstance(spec, str) and spec.startswith(_SCRIPTED):
        return
    backend, values = _parse(spec)
    if backend == "local":
        _check_local(str(values.get("name", "default")))
    if isinstance(spec, Mapping):
        known = options_of(catalogue.find("models", backend))
        for option in values:
            if option not in known:
                raise catalogue.unknown(f"option of model {backend!r}", option, known)


def backend_of(spec: str | Mapping[str, Any]) -> str:
    """The name in the catalogue of the backend that a spec names; nothing is loaded.

    Raises:
        ConfigError: it is neither a name nor one name with its options.
    """
    return "scripted" if isinstance(spec, str) and spec.startswith(_SCRIPTED) else _parse(spec)[0]


def check_ready(spec: str | Mapping[str, Any]) -> None:
    """Raise what is wrong with a spec, and whether its weights or script are not there, before a model is loaded.

    Weights that come as packages are converted, those of a hub fetched, as opening would.

    Raises:
        ConfigError: as `check_spec`, or the script cannot be read.
        WeightsError: the weights are not there.
    """
    from readthrough.models import weights

    check_spec(spec)
    if backend_of(spec) == "local":
        weights.resolve(str(_parse(spec)[1].get("name", "default")))
    elif isinstance(spec, str) and spec.startswith(_SCRIPTED):
        open_model(spec)


def _parse(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The backend's name in the catalogue, and the fields that the spec gives it."""
    if not isinstance(spec, str) or not spec.startswith(_OPENAI):
        name, values = split(spec, "model")
        return (name, values) if name in catalogue.names("models") else ("local", {**values, "name": name})
    model, *url = _URL.split(spec.removeprefix(_OPENAI), maxsplit=1)
    if not model or (not url and _HOST_AND_PORT.search(model)):
        raise ConfigError(f"{spec!r:.80} is no endpoint", hint="openai:MODEL@http://HOST:PORT/v1")
    return "openai", {"model": model, **({"base_url": url[0]} if url else {})}


def _check_local(name: str) -> None:
    """What can be known to be wrong before torch is imported."""
    from readthrough.models import weights

    if weights.source_of(name) == "package" and weights.info(name).task != "language":
        raise ConfigError(f"{name} makes embeddings and answers nothing", hint="leave out --model for the default")
