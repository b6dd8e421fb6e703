"""From what a file imports to the files that are meant. What is not among the files (libraries) resolves to none.

Paths are compared from their ends, since where a search path begins is not known: `import coast.tower` is every
`.../coast/tower.py`, of several the one nearest to the importing file.
"""

from __future__ import annotations

import posixpath
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from readthrough.documents.grammars.base import Import

Parts = tuple[str, ...]

INDEXED_PARTS = 3
"""How much of the ends of paths is looked up at once."""

_SCRIPTS = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")
_C_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".m", ".mm")
_ROOT_MODULES = ("mod", "lib", "main")


class Files:
    """The paths of source files, to be found by their ends. A file is its number in `paths`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._parts = [_parts(path) for path in paths]
        self._by_end: dict[Parts, list[int]] = defaultdict(list)
        self._by_folder: dict[str, list[int]] = defaultdict(list)
        self._by_parts: dict[Parts, int] = {}
        self._ending: dict[tuple[Parts, Parts], list[int]] = {}
        for number, parts in enumerate(self._parts):
            for length in range(1, min(len(parts), INDEXED_PARTS) + 1):
                self._by_end[parts[-length:]].append(number)
            self._by_folder[parts[-2] if len(parts) > 1 else ""].append(number)
            self._by_parts[parts] = number

    def resolve(self, number: int, language: str, imported: Import) -> list[int]:
        """The files that an import of file `number` means, without the file itself."""
        resolver = _RESOLVERS.get(language)
        found = resolver(self, self._parts[number], imported) if resolver else ()
        return [each for each in dict.fromkeys(found) if each != number]

    def beside(self, number: int) -> Parts:
        """The folder of a file."""
        return self._parts[number][:-1]

    def at(self, *parts: str) -> list[int]:
        """The file at exactly this path, if there is one."""
        number = self._by_parts.get(_normal(parts))
        return [] if number is None else [number]

    def ending(self, parts: Sequence[str], near: Parts) -> list[int]:
        """The file whose path ends so; of several the one that shares most of its path with `near`."""
        end = tuple(parts)
        key = (end, near[:-1])
        if key not in self._ending:
            ending = self._by_end.get(end[-INDEXED_PARTS:], ())
            fitting = [each for each in ending if self._parts[each][-len(end) :] == end]
            self._ending[key] = self._nearest(fitting, near)[:1]
        return self._ending[key]

    def inside(self, folder: Sequence[str], near: Parts, suffix: str) -> list[int]:
        """The files with a suffix in the folder whose path ends so; of several folders the nearest to `near`."""
        end = tuple(folder)
        fitting = [
            each
            for each in self._by_folder.get(end[-1] if end else "", ())
            if self._parts[each][:-1][-len(end) :] == end and self._parts[each][-1].endswith(suffix)
        ]
        nearest = self._nearest(fitting, near)
        return [each for each in nearest if self._parts[each][:-1] == self._parts[nearest[0]][:-1]]

    def _nearest(self, found: Sequence[int], near: Parts) -> list[int]:
        if len(found) < 2:
            return list(found)
        folder = near[:-1]
        return sorted(found, key=lambda each: (-_shared(self._parts[each], folder), len(self._parts[each])))


def _shared(one: Parts, other: Parts) -> int:
    """How many folders two paths share from their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((depth for depth, (part, its) in pairs if part != its), min(len(one), len(other)))


def _parts(path: str) -> Parts:
    return _normal(path.replace("\\", "/").split("/"))


def _normal(parts: Sequence[str]) -> Parts:
    return tuple(part for part in posixpath.normpath("/".join(parts)).split("/") if part not in ("", "."))


def _python(files: Files, path: Parts, imported: Import) -> Iterator[int]:
    """A module is a file, a package its `__init__.py`; a name may be a module of it. Of the library none."""
    dots = len(imported.module) - len(imported.module.lstrip("."))
    names = [part for part in imported.module[dots:].split(".") if part]
    if dots:
        base = (*path[: len(path) - dots], *names)
        for name in imported.names:
            yield from _module(files.at, (*base, name))
        yield from _module(files.at, base)
        return

    def ending(*parts: str) -> list[int]:
        return files.ending(parts, path)

    if names[0] in sys.stdlib_module_names:
        return
    for name in imported.names:
        yield from _module(ending, (*names, name))
    yield from _module(ending, names)


def _module(find: Callable[..., list[int]], parts: Sequence[str]) -> list[int]:
    if not parts:
        return find("__init__.py")
    for suffix in (".py", ".pyi"):
        found = find(*parts[:-1], parts[-1] + suffix) or find(*parts, "__init__" + suffix)
        if found:
            return found
    return []


def _script(files: Files, path: Parts, imported: Import) -> list[int]:
    """A relative path, or one from the root of the sources (also written `@/` or `~/`), with its suffix left out."""
    module = imported.module
    if module.startswith("."):
        return _with_suffix(files.at, (*path[:-1], *module.split("/")))
    parts = [part for part in module.split("/") if part not in ("@", "~", "")]
    if len(parts) < 2 and module[:2] not in ("@/", "~/"):
        return []  # a package

    def ending(*parts: str) -> list[int]:
        return files.ending(parts, path)

    return _with_suffix(ending, parts)


def _with_suffix(find: Callable[..., list[int]], parts: Sequence[str]) -> list[int]:
    *folder, name = _normal(parts) or ("",)
    stem, dot, suffix = name.rpartition(".")
    names = [name, *(name + each for each in _SCRIPTS)]
    if dot and suffix in ("js", "jsx", "mjs", "cjs"):  # TypeScript names what it will be compiled to
        names += [f"{stem}.{suffix.replace('js', 'ts')}", f"{stem}.tsx"]
    for each in names:
        if found := find(*folder, each):
            return found
    for each in _SCRIPTS:
        if found := find(*folder, name, "index" + each):
            return found
    return []


def _java(files: Files, path: Parts, imported: Import) -> list[int]:
    """A class is the file of its name; a class inside of another is in the other's."""
    names = imported.module.split(".")
    if names[-1] == "*":
        return files.inside(names[:-1], path, ".java")
    return files.ending((*names[:-1], names[-1] + ".java"), path) or (
        files.ending((*names[:-2], names[-2] + ".java"), path) if len(names) > 2 else []
    )


def _go(files: Files, path: Parts, imported: Import) -> list[int]:
    """A package is a folder: the one that ends as the longest part of the path. Of the standard library none."""
    parts = imported.module.split("/")
    if "." not in parts[0]:
        return []
    for cut in range(1, len(parts)):
        if found := files.inside(parts[cut:], path, ".go"):
            return found
    return []


def _rust(files: Files, path: Parts, imported: Import) -> list[int]:
    """`mod a;` is `a.rs` or `a/mod.rs` below the module; a path of `use` is a module, or an item of one."""
    if imported.module.startswith("mod "):
        return _rust_module(files, (*_rust_folder(path), imported.module[4:]))
    names = [*imported.module.split("::"), *imported.names]
    root, *rest = names
    if root == "crate":
        base = _crate(files, path)
    elif root == "self":
        base = _rust_folder(path)
    elif root == "super":
        base = _rust_folder(path)[:-1]
        while rest and rest[0] == "super":
            base, rest = base[:-1], rest[1:]
    else:
        found = _rust_longest(files, _rust_folder(path), names)
        found = found or _rust_longest(files, _crate(files, path), names)
        return found or _other_crate(files, path, root, rest)
    return _rust_longest(files, base, rest) or _rust_module(files, base)


def _rust_folder(path: Parts) -> Parts:
    """Where the modules of a file stand: beside `mod.rs` and the roots, else in the folder of its name."""
    stem = path[-1].removesuffix(".rs")
    return path[:-1] if stem in _ROOT_MODULES else (*path[:-1], stem)


def _crate(files: Files, path: Parts) -> Parts:
    """The folder of the crate's root: the nearest above with a `lib.rs` or `main.rs`."""
    for depth in range(len(path) - 1, -1, -1):
        if files.at(*path[:depth], "lib.rs") or files.at(*path[:depth], "main.rs"):
            return path[:depth]
    return path[:-1]


def _rust_longest(files: Files, base: Parts, names: Sequence[str]) -> list[int]:
    for length in range(len(names), 0, -1):
        if found := _rust_module(files, (*base, *names[:length])):
            return found
    return []


def _rust_module(files: Files, parts: Parts) -> list[int]:
    if parts and (found := files.at(*parts[:-1], parts[-1] + ".rs")):
        return found
    for root in _ROOT_MODULES:
        if found := files.at(*parts, root + ".rs"):
            return found
    return []


def _other_crate(files: Files, path: Parts, crate: str, names: Sequence[str]) -> list[int]:
    for folder in {crate, crate.replace("_", "-")}:
        for root in files.ending((folder, "src", "lib.rs"), path):
            return _rust_longest(files, files.beside(root), names) or [root]
    return []


def _c(files: Files, path: Parts, imported: Import) -> list[int]:
    """The header, beside the file or at the end of a path, and the source file of the header's name beside it."""
    parts = imported.module.strip("<>").split("/")
    found = [] if imported.module.startswith("<") else files.at(*path[:-1], *parts)
    found = found or files.ending([part for part in parts if part not in ("..", ".")], path)
    for header in list(found):
        folder, name = files.beside(header), parts[-1]
        for suffix in _C_SOURCES:
            found += files.at(*folder, name[: name.rfind(".")] + suffix if "." in name else name + suffix)
    return found


_RESOLVERS: dict[str, Callable[[Files, Parts, Import], Iterator[int] | list[int]]] = {
    "python": _python,
    "javascript": _script,
    "typescript": _script,
    "tsx": _script,
    "java": _java,
    "go": _go,
    "rust": _rust,
    "c": _c,
    "cpp": _c,
}
