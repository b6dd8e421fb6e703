"""Settings, and where each came from.

Order: command-line flag, environment `READTHROUGH_*`, `./readthrough.yaml`, `config.yaml` in the user's
configuration folder, default. An unknown or repeated name anywhere is an error that names the nearest right one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from platformdirs import user_config_path, user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from readthrough.catalogue import nearest
from readthrough.errors import ConfigError
from readthrough.yaml_strict import YamlFile, read

ENV_PREFIX = "READTHROUGH_"
# Read elsewhere, because they must hold before settings are loaded.
ENV_OTHERS = frozenset({"READTHROUGH_CACHE", "READTHROUGH_DEBUG"})
LOCAL_FILE = "readthrough.yaml"

Spec = str | dict[str, dict[str, Any] | None]
"""A part by name, or `{name: {field: value}}`."""

_LOGIN = re.compile(r"(https?://)[^/@\s]*@")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


class Settings(BaseModel):
    """All settings; the description of a field is what `config show` says of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Spec = Field("qwen2.5-coder-1.5b-instruct", description="model: name, folder, hub id or openai:MODEL@URL")
    workflow: Spec = Field("retrieve", description="workflow that answers")
    index: str = Field("hybrid", description="index that finds chunks")
    embedder: Spec = Field(
        "all-minilm-l6-v2", description="embedder: name, folder, hub id, late-interaction:MODEL or openai:MODEL@URL"
    )
    store: Spec = Field("files", description="where vectors are kept: files, pgvector or qdrant")
    database: str | None = Field(
        None, description="where batches and checkpoints are kept, if not at home: postgresql://user@host/database"
    )
    chunker: Spec | None = Field(None, description="how texts are split; by their kind where left out")
    home: Path = Field(default_factory=lambda: user_data_path("readthrough"), description="folder of the library")
    device: str = Field("auto", description="device of a local model: auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="number type of a local model")
    encoding: str | None = Field(None, description="encoding of text files, where guessing fails")
    ocr: str | None = Field(
        None,
        pattern=r"^[\w/]+(\+[\w/]+)*$",
        description="languages, such as eng+deu, in which pages of PDFs without text are recognised",
    )
    as_of: str | None = Field(None, description="position after which nothing is read: chapter 12, p. 120, 40%")
    base_url: str | None = Field(None, description="address of the endpoint for openai: models")
    deadline_seconds: float = Field(600.0, gt=0, description="total time for one call of an endpoint")
    window_tokens: int | None = Field(None, gt=0, description="window of the model, where it cannot be found out")
    size_limit_bytes: int = Field(20 * 1024**3, gt=0, description="size the library is pruned to")
    readings_bytes: int = Field(
        10 * 1024**3, ge=0, description="most that a local model's readings take on disk, 0 for none"
    )

    keep_replies: bool = Field(True, description="keep what a model said, so that the same is not asked again")

    @property
    def readings(self) -> Path:
        """The folder of a local model's readings: the KV of texts that it has read."""
        return self.home / "readings"

    def to_keep(self) -> dict[str, Any]:
        """What must be set again to open the same texts and model later, as plain values; never a key or password."""
        left_out = {"workflow", "home", "store", "database", "size_limit_bytes", "readings_bytes", "keep_replies"}
        kept = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        return {name: _without_secrets(value) for name, value in kept.items()}

    @field_validator("home", mode="after")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("database", mode="after")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and holds_password(url):  # no ValueError: that one's message would show it
            hint = "leave it out and set PGPASSWORD, or use ~/.pgpass"
            raise ConfigError("the address of the database holds a password", hint=hint)
        if url is not None and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("the address of a database begins with postgresql://")
        return url

    @field_validator("size_limit_bytes", "readings_bytes", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        return parse_size_bytes(value) if isinstance(value, str) else value


def holds_password(url: str) -> bool:
    """Whether the address of a server holds a password: settings are shown and kept, it has no place in them."""
    login, at, _ = url.partition("://")[2].partition("@")
    return bool(at and ":" in login) or "password=" in url.partition("?")[2]


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return _LOGIN.sub(r"\1", value)
    if isinstance(value, dict):
        return {name: _without_secrets(inner) for name, inner in value.items() if "key" not in str(name).lower()}
    return value


class Overrides(TypedDict, total=False):
    """Settings as keyword arguments; None means not given."""

    model: Any
    workflow: Any
    index: str | None
    embedder: Any
    store: Any
    database: str | None
    chunker: Any
    home: str | Path | None
    device: str | None
    dtype: str | None
    encoding: str | None
    ocr: str | None
    as_of: str | None
    base_url: str | None
    deadline_seconds: float | None
    window_tokens: int | None
    size_limit_bytes: int | str | None
    readings_bytes: int | str | None
    keep_replies: bool | None


@dataclass(frozen=True)
class LoadedSettings:
    """Settings with the origin of each: `flag`, `READTHROUGH_X`, `file:line` or `default`."""

    settings: Settings
    origins: dict[str, str]


@dataclass(frozen=True)
class _Source:
    """One place that settings come from: its values, and the origin of each."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


def parse_size_bytes(text: str) -> int:
    """`20 GB`, `500M` or `1.5GiB` as bytes; all units are powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 20GB")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))


def load_settings(overrides: Overrides | None = None, environ: Mapping[str, str] | None = None) -> LoadedSettings:
    """All settings from all sources.

    Raises:
        ConfigError: an unknown or repeated name, or a value that does not fit; `path` is where it stands.
    """
    sources = list(_sources(overrides or {}, os.environ if environ is None else environ))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for source in reversed(sources):
        for name, value in source.values.items():
            if name not in Settings.model_fields:
                raise _unknown(name, source.origins[name])
            values[name] = value
            origins[name] = source.origins[name]
    try:
        return LoadedSettings(Settings(**values), origins)
    except ValidationError as error:
        raise _invalid(error, origins) from error


def user_config_file() -> Path:
    """The settings file in the user's configuration folder."""
    return user_config_path("readthrough") / "config.yaml"


def _sources(overrides: Overrides, environ: Mapping[str, str]) -> Iterator[_Source]:
    """The sources, strongest first."""
    given = {name: value for name, value in overrides.items() if value is not None}
    yield _Source(given, dict.fromkeys(given, "flag"))
    variables = {key: value for key, value in environ.items() if key.startswith(ENV_PREFIX) and key not in ENV_OTHERS}
    names = {key: key.removeprefix(ENV_PREFIX).lower() for key in variables}
    yield _Source(
        {names[key]: value for key, value in variables.items() if value},
        {names[key]: key for key in variables},
    )
    for path in (Path(LOCAL_FILE), user_config_file()):
        if path.exists():
            yield _file_source(read(path))


def _file_source(file: YamlFile) -> _Source:
    if file.value is None:
        return _Source({}, {})
    if not isinstance(file.value, dict):
        raise file.error("settings are `name: value` lines")
    origins = {name: f"{file.path}:{file.lines[(name,)]}" for name in file.value}
    return _Source(file.value, origins)


def _unknown(name: str, origin: str) -> ConfigError:
    known = list(Settings.model_fields)
    close = nearest(name, known)
    upper = origin.startswith(ENV_PREFIX)
    if close is None:
        hint = f"known: {', '.join(known)}"
    else:
        hint = f"did you mean {ENV_PREFIX + close.upper() if upper else close!r}?"
    return ConfigError(f"unknown setting {name!r}", path=origin, hint=hint)


def _invalid(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    first = error.errors()[0]
    name = str(first["loc"][0])
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return ConfigError(f"{name} = {first['input']!r:.80}: {message}", path=origins[name])
