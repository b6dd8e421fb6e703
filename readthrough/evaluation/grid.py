"""The YAML file of an evaluation: tasks and systems, each with lists of options that span a grid; and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin, get_type_hints

from readthrough.agents.spec.flow import Around, read_flow
from readthrough.agents.spec.reading import at, mapping, part, unknown
from readthrough.catalogue import find, names, singular
from readthrough.config import Settings, Spec
from readthrough.errors import ConfigError, ReadthroughError
from readthrough.evaluation.base import Task
from readthrough.evaluation.systems import System
from readthrough.models.open import backend_of, check_ready
from readthrough.spec import split
from readthrough.types import Limits
from readthrough.yaml_strict import YamlFile, read

KEYS = ("tasks", "systems", "limits", "budget", "parallel")
SYSTEM_KEYS = ("workflows", "models", "indexes")
LIMIT_KEYS = ("seconds", "tokens", "calls", "abstain_below", "text_tokens")
TEXT_TOKENS = 2_000_000
"""The longest text of an example, where the file does not say."""

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Cell:
    """One task of the grid: its spec as the file has it, and the line of the file, for errors."""

    task: Task
    spec: Mapping[str, Mapping[str, Any]]
    place: str


@dataclass(frozen=True)
class Grid:
    """Every combination of a task and a system is to be answered.

    Attributes:
        path: the YAML file.
        text: what it says.
        cells: the tasks, each with one value for every option.
        systems: the systems.
        limits: the most that an answer may take.
        text_tokens: the longest text that an example may be about.
        budget_seconds: the most that the whole run may take; None for no limit.
        parallel: how many questions are asked side by side.
    """

    path: Path
    text: str
    cells: tuple[Cell, ...]
    systems: tuple[System, ...]
    limits: Limits
    text_tokens: int = TEXT_TOKENS
    budget_seconds: float | None = None
    parallel: int = 1

    @property
    def models(self) -> list[Spec]:
        """The specs of the models, each once, in order."""
        found: list[Spec] = []
        for system in self.systems:
            if system.model not in found:
                found.append(system.model)
        return found


def read_grid(path: Path, settings: Settings, given: Mapping[str, Any] | None = None) -> Grid:
    """Read and check a grid; no model is loaded.

    Args:
        path: the YAML file. Paths in it start from its folder.
        settings: give the model and the index where the file names none.
        given: `workflow`, `model` or `index` of the command line, which win over the file.

    Raises:
        ConfigError: something in it is wrong; `path` is `file:line`.
        WeightsError: a model is not there.
    """
    file = read(path)
    written = mapping(file, known=KEYS)
    for key in ("tasks", "systems"):
        if key not in written:
            raise file.error(f"the key {key!r} is missing", hint=f"a grid has the keys {', '.join(KEYS)}")
    limits = mapping(file, "limits", known=LIMIT_KEYS)
    budget = mapping(file, "budget", known=("seconds",))
    text_tokens = _number(file, int, "limits", "text_tokens") if "text_tokens" in limits else TEXT_TOKENS
    grid = Grid(
        path,
        path.read_text(encoding="utf-8-sig"),
        tuple(_cells(file, path.parent)),
        tuple(_Systems(file, path.parent, settings, given or {}).all()),
        Limits(
            seconds=_number(file, float, "limits", "seconds") if "seconds" in limits else None,
            tokens=_number(file, int, "limits", "tokens") if "tokens" in limits else None,
            calls=_number(file, int, "limits", "calls") if "calls" in limits else None,
            abstain_below=_confidence(file, limits),
        ),
        text_tokens,
        _number(file, float, "budget", "seconds") if "seconds" in budget else None,
        _number(file, int, "parallel") if "parallel" in written else 1,
    )
    for model in grid.models if grid.parallel > 1 else ():
        if backend_of(model) == "local":
            raise file.error("a model in this process answers one question at a time", "parallel", hint="parallel: 1")
    return grid


def _confidence(file: YamlFile, limits: Mapping[str, Any]) -> float | None:
    """Below which an answer is refused."""
    value = limits.get("abstain_below")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        raise file.error(f"abstain_below = {value!r:.60}: a confidence is from 0 to 1", "limits", "abstain_below")
    return None if value is None else float(value)


def _cells(file: YamlFile, folder: Path) -> Iterator[Cell]:
    seen: list[Any] = []
    for number, written in enumerate(_list(file, "tasks")):
        keys = ("tasks", number)
        for spec in _expanded(file, "tasks", written, keys):
            name, options = split(spec)
            task: Task = _part(file, "tasks", {name: _within(find("tasks", name), options, folder)}, keys)
            if spec in seen:
                raise file.error(f"the task {spec!r:.80} stands twice", *keys)
            seen.append(spec)
            yield Cell(task, {name: options}, f"{file.path}:{file.lines[keys]}")


class _Systems:
    """Reads the part `systems`."""

    def __init__(self, file: YamlFile, folder: Path, settings: Settings, given: Mapping[str, Any]) -> None:
        self._file = file
        self._folder = folder
        self._settings = settings
        self._given = {key: value for key, value in given.items() if value is not None}
        self._written = mapping(file, "systems", known=SYSTEM_KEYS)

    def all(self) -> list[System]:
        """Every workflow with every model and index.

        Raises:
            ConfigError: one of them is wrong; `path` is `file:line`.
        """
        found: list[System] = []
        models, indexes = self._models(), self._indexes()
        for number, spec in enumerate(self._values("workflow", "workflows", None)):
            keys = ("systems", "workflows", number)
            for workflow, model, index in product(self._workflows(spec, keys), models, indexes):
                if _is_file(workflow):
                    system = self._of_file(workflow, model, index, keys)
                else:
                    system = System(workflow, model, index)
                if system in found:
                    raise self._file.error(f"the workflow {spec!r:.80} stands twice", *keys)
                found.append(system)
        return found

    def _models(self) -> list[Spec]:
        found = list(self._values("model", "models", self._settings.model))
        for number, model in enumerate(found):
            keys = ("systems", "models", number)
            if not isinstance(model, str | Mapping):
                raise self._file.error(f"{model!r:.60} is no model", *keys)
            try:
                check_ready(model)
            except ConfigError as error:
                raise at(self._file, error, *keys) from error
        return found

    def _indexes(self) -> list[str]:
        found = list(self._values("index", "indexes", self._settings.index))
        for number, index in enumerate(found):
            if index not in names("indexes"):
                raise unknown(self._file, "index", str(index), names("indexes"), "systems", "indexes", number)
        return found

    def _workflows(self, spec: object, keys: Keys) -> Iterator[str | dict[str, Any]]:
        """The workflows that a spec stands for; a file stands for itself."""
        if _is_file(spec):
            yield spec
            return
        for each in _expanded(self._file, "workflows", spec, keys):
            _part(self._file, "workflows", each, keys)
            name, options = split(each)
            yield {name: options} if options else name

    def _values(self, setting: str, key: str, default: object) -> Sequence[Any]:
        if setting in self._given:
            return [self._given[setting]]
        if key not in self._written and default is not None:
            return [default]
        return _list(self._file, "systems", key)

    def _of_file(self, spec: str, model: Spec, index: str, keys: Keys) -> System:
        """A workflow of a file: its own model holds where the grid names none, and its own index likewise."""
        chosen = {
            setting
            for setting, key in (("model", "models"), ("index", "indexes"))
            if setting in self._given or key in self._written
        }
        try:
            written = read(self._folder / spec)
        except ConfigError as error:
            raise self._file.error(f"{spec}: {error.message}", *keys) from error
        flow = read_flow(written, Around(index, frozenset(chosen)))
        content = dict(written.value)
        workflow = {Path(spec).name: content} if "graph" in content else content
        system = System(workflow, model, flow.settings.get("index", index), Path(spec).name)
        if "model" in chosen or not _names_model(content):
            return system
        return replace(system, model=flow.settings.get("model", model), own_models=True)


def _is_file(spec: object) -> TypeGuard[str]:
    return isinstance(spec, str) and spec.endswith((".yaml", ".yml"))


def _part(file: YamlFile, point: str, spec: object, keys: Keys) -> Any:
    """The part that a spec describes, with every error at its line."""
    try:
        return part(file, point, spec, *keys)
    except ConfigError as error:
        raise error if error.path else at(file, error, *keys) from error


def _names_model(value: object) -> bool:
    """Whether a file's content names a model anywhere."""
    if isinstance(value, Mapping):
        return "model" in value or any(map(_names_model, value.values()))
    return isinstance(value, list) and any(map(_names_model, value))


def _expanded(file: YamlFile, point: str, spec: object, keys: Keys) -> Iterator[dict[str, dict[str, Any]]]:
    """The specs that a spec stands for: one for each combination of the values that its options list."""
    try:
        name, options = split(spec, singular(point))
        hints = get_type_hints(find(point, name))
    except ReadthroughError as error:
        raise at(file, error, *keys) from error
    axes: list[list[Any]] = []
    for option, value in options.items():
        spans = isinstance(value, list) and (not _takes_list(hints.get(option)) or _is_nested(value))
        if spans and not value:
            raise file.error(f"{name}.{option} lists nothing", *keys, name, option)
        axes.append(value if spans else [value])
    for values in product(*axes):
        yield {name: dict(zip(options, values, strict=True))}


def _takes_list(hint: Any) -> bool:
    """Whether an option of this type is itself a list: then a list of lists spans the grid."""
    kind = get_origin(hint) or hint
    if isinstance(kind, type) and issubclass(kind, list | tuple | set | frozenset | Sequence) and kind is not str:
        return True
    return any(map(_takes_list, get_args(hint)))


def _is_nested(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(each, list) for each in value)


def _within(part: Any, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Options whose paths start from `folder`."""
    hints = get_type_hints(part)
    paths = {field.name for field in fields(part) if Path in (hints[field.name], *get_args(hints[field.name]))}
    return {
        option: folder / Path(value).expanduser() if option in paths and isinstance(value, str) else value
        for option, value in options.items()
    }


def _list(file: YamlFile, *keys: str) -> list[Any]:
    value = file.value
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, list) or not value:
        raise file.error(f"{keys[-1]!r} must be a list with at least one item", *keys, hint=f"{keys[-1]}: [...]")
    return value


def _number(file: YamlFile, kind: type, *keys: str) -> Any:
    """A positive number; one of `kind` float may also be whole."""
    value = file.value
    for key in keys:
        value = value[key]
    fits = isinstance(value, int | float) and not isinstance(value, bool) and (kind is float or isinstance(value, int))
    if not fits or value <= 0:
        raise file.error(f"{keys[-1]} = {value!r:.60}: must be a positive number", *keys)
    return kind(value)
