"""Source files as a graph: an edge from each file to those that define what it uses, or that it imports.

After the repository map of aider (https://aider.chat/2023/10/22/repomap.html): names tie files together, rare and
well chosen names more than common ones, and PageRank, personalised by what is asked, ranks files and definitions.
Differs from it: a name is looked for first in the file itself, then in the files that it imports (and in what those
import, for packages that hand names on), then in its folder, and only then everywhere; names count by how few files
use them; direct imports are edges of their own.
"""

from __future__ import annotations

import builtins
import math
import os.path
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from readthrough.documents.symbols import Definition, Symbols
from readthrough.retrieval.code.imports import Files

IMPORT_WEIGHT = 0.5
PRIVATE_RATIO = 0.1
UNNAMED_RATIO = 0.1
"""How much a use counts that may be of a method whose class the file does not name: `update` may be a dict's."""
MOST_MEANT = 20
"""A name that so many definitions may be meant by says nothing."""

_NO_TARGETS = frozenset(("impl", "module", "local"))
_BUILTINS = frozenset(dir(builtins))
_FAMILIES = {"tsx": "typescript", "javascript": "typescript", "cpp": "c"}


@dataclass(frozen=True, slots=True)
class CodeFile:
    """A source file: the id of its document, the path to show, and its symbols."""

    document: str
    path: str
    language: str
    symbols: Symbols


def shared_folder(paths: Sequence[str]) -> str:
    """The folder that all paths share, empty where there is none or but one path."""
    if len(paths) < 2 or len({os.path.isabs(path) for path in paths}) > 1:
        return ""
    return os.path.commonpath([os.path.dirname(path) for path in paths])


@dataclass(frozen=True, slots=True)
class Edges:
    """What files use, `[E]` each: the file that uses, the definition (-1 for a direct import), the file of the
    definition, the weight, and the number of the name in `CodeGraph.names` (-1 for a direct import)."""

    sources: np.ndarray
    definitions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    names: np.ndarray


class CodeGraph:
    """The source files of one shelf. Files and definitions are known by their numbers."""

    def __init__(self, files: Sequence[CodeFile]) -> None:
        self.files = tuple(files)
        self.definitions: list[Definition] = []
        self.file_of: list[int] = []
        self.first: list[int] = []
        for number, file in enumerate(self.files):
            self.first.append(len(self.definitions))
            self.definitions += file.symbols.definitions
            self.file_of += [number] * len(file.symbols.definitions)
        self._paths = Files([file.path for file in self.files])
        self._folders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number in range(len(self.files)):
            self._folders[self._paths.beside(number)].append(number)
        self._looked: dict[int, tuple[frozenset[int], ...]] = {}
        self._numbers = {file.document: number for number, file in enumerate(self.files)}

    def number(self, document: str) -> int | None:
        """The file of a document, None where that is no source code."""
        return self._numbers.get(document)

    def of_file(self, file: int) -> range:
        """The definitions of a file."""
        return range(self.first[file], self.first[file] + len(self.files[file].symbols.definitions))

    def innermost(self, file: int, start: int, end: int) -> list[int]:
        """The definitions of a file that the span `[start, end)` holds some of, without those around such a one."""
        held = [each for each in self.of_file(file) if self._starts(each) < end and start < self._ends(each)]
        return [
            one
            for one in held
            if not any(
                other != one and self._starts(one) <= self._starts(other) and self._ends(other) <= self._ends(one)
                for other in held
            )
        ]

    def _starts(self, number: int) -> int:
        return self.definitions[number].start

    def _ends(self, number: int) -> int:
        return self.definitions[number].end

    def shown_path(self, file: int) -> str:
        """The path of a file below the folder that all files share; the name of an only one."""
        path = self.files[file].path
        return os.path.relpath(path, self._folder) if self._folder else path

    @cached_property
    def _folder(self) -> str:
        paths = [file.path for file in self.files]
        return shared_folder(paths) if len(paths) > 1 else os.path.dirname(paths[0])

    @cached_property
    def imported(self) -> list[tuple[int, ...]]:
        """The files that each file imports, in order."""
        found: list[tuple[int, ...]] = []
        for number, file in enumerate(self.files):
            resolved = (self._paths.resolve(number, file.language, made) for made in file.symbols.imports)
            found.append(tuple(dict.fromkeys(chain.from_iterable(resolved))))
        return found

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], dict[int, list[int]]]:
        """Definitions by family of languages and name, then file; prototypes only where nothing else has the name."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, made in enumerate(self.definitions):
            if made.kind not in _NO_TARGETS:
                found[self._family(self.file_of[number]), made.name].append(number)
        by_file: dict[tuple[str, str], dict[int, list[int]]] = {}
        for key, numbers in found.items():
            bodies = [number for number in numbers if self.definitions[number].kind != "prototype"]
            by_file[key] = {}
            for number in bodies or numbers:
                by_file[key].setdefault(self.file_of[number], []).append(number)
        return by_file

    def _family(self, file: int) -> str:
        language = self.files[file].language
        return _FAMILIES.get(language, language)

    def meant(self, file: int, name: str) -> list[int]:
        """The definitions that `name` may mean in a file, from the nearest place that has any; [] for too many."""
        family = self._family(file)
        found = self._by_name.get((family, name))
        if found is None:
            return []
        if file in found:
            return found[file]
        if family == "python" and name in _BUILTINS and name not in self._taken[file]:
            return []
        near = next((held for place in self._places(file) if (held := place & found.keys())), found.keys())
        if len(near) > MOST_MEANT:
            return []
        meant = [number for each in sorted(near) for number in found[each]]
        return meant if len(meant) <= MOST_MEANT else []

    def _places(self, file: int) -> tuple[frozenset[int], ...]:
        """Where else the definition of a name is looked for: what the file imports, what that imports, its folder."""
        if file not in self._looked:
            imported = frozenset(self.imported[file])
            further = frozenset(chain.from_iterable(self.imported[each] for each in imported))
            beside = frozenset(self._folders[self._paths.beside(file)])
            self._looked[file] = (imported, further, beside)
        return self._looked[file]

    @cached_property
    def _taken(self) -> list[frozenset[str]]:
        """The names that each file imports by name."""
        return [frozenset(name for made in file.symbols.imports for name in made.names) for file in self.files]

    @cached_property
    def rarity(self) -> dict[str, float]:
        """How telling each name is that is used: 1 where one file uses it, towards 0 where all do."""
        users = Counter(name for file in self.files for name in file.symbols.references)
        most = math.log1p(len(self.files))
        return {name: math.log1p(len(self.files) / count) / most for name, count in users.items()}

    def weight(self, name: str, uses: int) -> float:
        """How strongly so many uses of a name tie a file to its definition."""
        private = name.startswith("_") and not name.endswith("__")
        return math.sqrt(uses) * self.rarity.get(name, 1.0) * (PRIVATE_RATIO if private else 1.0)

    @cached_property
    def names(self) -> list[str]:
        """The names that are used and defined, in order of their numbers in `edges`."""
        return sorted({name for file in self.files for name in file.symbols.references} & {n for _, n in self._by_name})

    @cached_property
    def edges(self) -> Edges:
        """All edges between different files, and a file's uses of what it defines itself."""
        numbers = {name: number for number, name in enumerate(self.names)}
        rows = [row for file in range(len(self.files)) for row in self._edges_of(file, numbers)]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        whole = [np.array(column, dtype=np.int64) for column in (columns[0], columns[1], columns[2], columns[4])]
        return Edges(whole[0], whole[1], whole[2], np.array(columns[3], dtype=np.float64), whole[3])

    def _edges_of(self, file: int, numbers: dict[str, int]) -> Iterator[tuple[int, int, int, float, int]]:
        for target in self.imported[file]:
            yield file, -1, target, IMPORT_WEIGHT, -1
        for name, uses in self.files[file].symbols.references.items():
            if name in numbers:
                meant = self.meant(file, name)
                weight = self.weight(name, uses) / max(1, len(meant))
                for number in meant:
                    ratio = 1.0 if self.may_be_meant(file, number) else UNNAMED_RATIO
                    yield file, number, self.file_of[number], ratio * weight, numbers[name]

    def may_be_meant(self, file: int, number: int) -> bool:
        """Whether a file that uses a name of a definition shows that it knows what the definition belongs to."""
        made = self.definitions[number]
        known = made.kind != "method" or len(made.path) < 2 or file == self.file_of[number]
        return known or made.path[-2] in self.files[file].symbols.references
