"""The folder of an embedding model: found, looked over before anything of it is loaded, and told from all others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from readthrough.errors import WeightsError, needed
from readthrough.models.weights import hub_folder

# sentence-transformers imports whatever class a model's modules.json names; these are its own, and run no other code
_MODULES = frozenset(
    ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "StaticEmbedding", "MultiVectorMask")
)
_PYLATE_DENSE = "pylate.models.Dense.Dense"
_WITHOUT_WEIGHTS = frozenset(("Pooling", "Normalize", "MultiVectorMask"))
_SAMPLES = 256
_SAMPLE_BYTES = 4096


def find_folder(model: str) -> Path:
    """The folder of a model that is a folder or a hub id; what the hub gave before is not asked for again.

    Raises:
        WeightsError: neither is there.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise WeightsError(f"there is no embedder {model!r}", hint="name a folder, a hub id, or see `list embedders`")
    try:
        kept = hub_folder(model, local=True)
        if any((kept / name).is_file() for name in ("config.json", "modules.json")) and any(
            kept.rglob("*.safetensors")
        ):
            return kept
    except WeightsError:  # not there yet
        return hub_folder(model)
    return hub_folder(model)


def check_modules(folder: Path) -> list[str]:
    """The names of the classes that a model in sentence-transformers' form is made of, in order.

    Raises:
        WeightsError: it is of another form, names a class of its own, or has weights in a form that can run code.
    """
    modules = read_settings(folder / "modules.json")
    if modules is None:
        raise WeightsError(
            "no modules.json: this is no model of sentence-transformers", path=str(folder), hint="name one that is"
        )
    try:
        parts = [(str(module["type"]), folder / module["path"]) for module in modules]
    except (KeyError, TypeError) as error:
        raise WeightsError(f"modules.json cannot be read: {error}", path=str(folder)) from error
    names = []
    for kind, path in parts:
        name = kind.rpartition(".")[2]
        if not (kind.startswith("sentence_transformers.") and name in _MODULES) and kind != _PYLATE_DENSE:
            raise WeightsError(f"it needs the class {kind}", path=str(folder), hint="code of models is never run")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise WeightsError(f"a part of it lies elsewhere: {path}", path=str(folder))
        if name not in _WITHOUT_WEIGHTS and not any(path.glob("*.safetensors")):
            hint = "other formats can run code and are refused"
            raise WeightsError("no *.safetensors for a part of the model", path=str(path), hint=hint)
        names.append(name)
    return names


def read_settings(path: Path) -> Any:
    """What a JSON file of a model holds, None where it is not there.

    Raises:
        WeightsError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WeightsError(f"{path.name} cannot be read: {error}", path=str(path)) from error


def fingerprint(folder: Path) -> str:
    """What tells the model in a folder from all others, wherever it lies: 12 letters.

    Settings and vocabularies count whole; of weights 256 places of 4 KB in each file, and its size: training changes
    them everywhere, and to read all of them at each start would take seconds.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".safetensors", ".json", ".txt", ".model", ".metadata") or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            step = max(_SAMPLE_BYTES, size // _SAMPLES) if path.suffix == ".safetensors" else _SAMPLE_BYTES
            for start in range(0, size, step):
                file.seek(start)
                digest.update(file.read(min(step, _SAMPLE_BYTES)))
    return digest.hexdigest()[:12]


@contextmanager
def quietly() -> Iterator[None]:
    """Without the bars and tables that transformers prints while it loads: progress is the caller's to show."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def library() -> Any:
    """sentence-transformers, imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    with needed("sentence-transformers", "'readthrough[embedder]'"):
        import sentence_transformers
    return sentence_transformers
