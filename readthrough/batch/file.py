"""The YAML file of a batch: folder, questions, model and limits in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from readthrough.agents.spec.reading import mapping, unknown
from readthrough.batch.job import Engine, Job, Work
from readthrough.batch.works import asks, extraction, summary
from readthrough.config import Overrides
from readthrough.errors import ConfigError, ReadthroughError
from readthrough.questions import asked, read_questions
from readthrough.spec import names_file
from readthrough.types import Limits
from readthrough.yaml_strict import YamlFile, read

_READING = ("index", "embedder", "chunker", "encoding", "ocr", "as_of")
_SETTINGS = ("workflow", "model", *_READING, "device", "dtype", "database")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Summary(_Model):
    words: int | None = Field(default=None, gt=0)
    focus: str | None = None


class _Bounds(_Model):
    seconds: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    calls: int | None = Field(default=None, gt=0)
    cost: float | None = Field(default=None, gt=0)


class _Limits(_Model):
    document: _Bounds = _Bounds()
    all: _Bounds = _Bounds()


class _File(_Model):
    """The keys of the file."""

    folder: str
    out: str
    include: list[str] = []
    exclude: list[str] = []
    recursive: bool = True
    questions: str | list[Any] = []
    folder_questions: str | list[Any] = []
    extract: str | dict[str, Any] | None = None
    summarize: _Summary | None = None
    options: dict[str, Any] = {}
    limits: _Limits = _Limits()
    abstain_below: float | None = Field(default=None, ge=0, le=1)
    tries: int = Field(default=3, gt=0)
    workers: int = Field(default=0, ge=0)
    engine: Engine = "threads"
    gpus_a_worker: float | None = Field(default=None, ge=0)
    workflow: str | dict[str, Any] | None = None
    model: str | dict[str, Any] | None = None
    index: str | None = None
    embedder: str | dict[str, Any] | None = None
    chunker: str | dict[str, Any] | None = None
    encoding: str | None = None
    ocr: str | None = None
    as_of: str | None = None
    device: str | None = None
    dtype: str | None = None
    database: str | None = None

    @field_validator("summarize", mode="before")
    @classmethod
    def _plainly(cls, value: object) -> object:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class Read:
    """What a file says: the job, and the settings it is done with."""

    job: Job
    overrides: Overrides = field(default_factory=dict)  # type: ignore[assignment]  # a TypedDict without keys


def read_job(path: Path) -> Read:
    """Read a batch from YAML; paths in it start from its folder.

    Raises:
        ConfigError: something in it is wrong; `path` is `file:line`.
        InputError: its file of questions, or its schema, cannot be read.
    """
    file = read(path)
    mapping(file, known=_File.model_fields)
    try:
        said = _File.model_validate(file.value or {})
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            *around, key = first["loc"]
            raise unknown(file, f"key under {around[-1]!r}", str(key), _keys(around), *first["loc"]) from error
        raise _wrong(file, first) from error
    works = tuple(_works(said, path.parent, file))
    if not works:
        raise file.error("there is nothing to do", hint="give it questions, folder_questions, extract or summarize")
    job = Job(
        folder=path.parent / said.folder,
        works=works,
        out=path.parent / said.out,
        include=tuple(said.include),
        exclude=tuple(said.exclude),
        recursive=said.recursive,
        options=said.options,
        document_limits=Limits(**said.limits.document.model_dump()),
        limits=Limits(**said.limits.all.model_dump()),
        abstain_below=said.abstain_below,
        tries=said.tries,
        workers=said.workers,
        engine=said.engine,
        gpus_a_worker=said.gpus_a_worker,
    )
    given: dict[str, Any] = {name: getattr(said, name) for name in _SETTINGS if getattr(said, name) is not None}
    if isinstance(said.workflow, str) and names_file(str(path.parent / said.workflow)):
        given["workflow"] = str(path.parent / said.workflow)
    return Read(job, given)  # type: ignore[arg-type]  # the names are those of Overrides


def _wrong(file: YamlFile, found: Mapping[str, Any]) -> ConfigError:
    """A value that does not fit, in the words of pydantic; where several kinds would fit, these name no single one."""
    keys = list(found["loc"])
    if found["type"] != "missing":
        while keys and tuple(keys) not in file.lines:
            keys.pop()
    where = ".".join(str(key) for key in keys)
    what = found["msg"] if len(keys) == len(found["loc"]) else f"cannot be {found['input']!r:.80}"
    return file.error(f"{where}: {what}", *keys)


def _keys(around: list[str | int]) -> list[str]:
    """The keys that may stand there."""
    known: dict[str, type[BaseModel]] = {"summarize": _Summary, "limits": _Limits, "document": _Bounds, "all": _Bounds}
    return list(known[str(around[-1])].model_fields) if around[-1] in known else []


def _works(said: _File, folder: Path, file: YamlFile) -> list[Work]:
    works: list[Work] = []
    for key, whole in (("questions", False), ("folder_questions", True)):
        given = getattr(said, key)
        if isinstance(given, str):
            works += asks(read_questions(folder / given), whole)
        else:
            works += asks([_question(file, value, key, number) for number, value in enumerate(given)], whole)
    if said.extract is not None:
        schema = said.extract if isinstance(said.extract, Mapping) else str(folder / said.extract)
        works.append(extraction(schema))
    if said.summarize is not None:
        works.append(summary(said.summarize.words, said.summarize.focus))
    return works


def _question(file: YamlFile, value: Any, key: str, number: int) -> Any:
    try:
        return asked(value, file.path)
    except ReadthroughError as error:
        raise file.error(error.message, key, number, hint=error.hint) from error
