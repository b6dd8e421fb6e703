"""From what the user wrote after `--embedder` to an embedder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readthrough import catalogue
from readthrough.errors import ConfigError
from readthrough.retrieval.base import Embedder
from readthrough.spec import build, split

DEFAULT = "all-minilm-l6-v2"

_URL = re.compile(r"@(?=https?://)")


def open_embedder(spec: str | Mapping[str, Any], device: str = "auto") -> Embedder:
    """The embedder that `spec` names; its weights are loaded when they are first needed.

    A name of the catalogue, `openai:MODEL@URL` (without the URL: `OPENAI_BASE_URL`, else OpenAI's own),
    `late-interaction:MODEL`, a folder or hub id of a model of sentence-transformers, or `{name: {option: value}}`.

    Raises:
        UnknownNameError: no such embedder or option; the message names the nearest.
        ConfigError: an option's value does not fit, or an address is not usable.
    """
    name, options = split(_parsed(spec), "embedder")
    embedder: Embedder = build("embedders", {name: options}, None, {"device": device})
    return embedder


def _parsed(spec: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    if not isinstance(spec, str) or spec in catalogue.names("embedders"):
        return spec
    kind, colon, model = spec.partition(":")
    if colon and kind == "openai":
        model, *url = _URL.split(model, maxsplit=1)
        if not model:
            raise ConfigError(f"{spec!r:.80} is no endpoint", hint="openai:MODEL@http://HOST:PORT/v1")
        return {"openai": {"model": model, **({"base_url": url[0]} if url else {})}}
    if colon and kind in ("late-interaction", "sentence-transformers"):
        return {kind: {"model": model}}
    if "/" in spec or Path(spec).expanduser().is_dir():
        return {"sentence-transformers": {"model": spec}}
    known = [*catalogue.names("embedders"), "openai:MODEL@URL"]
    raise catalogue.unknown("embedder", spec, known)
