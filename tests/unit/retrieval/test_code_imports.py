"""Which files an import means, in every language."""

from __future__ import annotations

import pytest

from readthrough.documents.grammars.base import Import
from readthrough.retrieval.code.imports import Files

PYTHON = [
    "app/__init__.py",
    "app/tower.py",
    "app/sea/__init__.py",
    "app/sea/storm.py",
    "lib/app/tower.py",
    "shapes.pyi",
    "types.py",
]
SCRIPTS = [
    "src/a.ts",
    "src/lamp.ts",
    "src/lib/index.tsx",
    "src/lib/util.js",
    "src/old.js",
    "src/types.d.ts",
    "b/lamp.js",
]
JAVA = ["s/coast/Tower.java", "s/coast/lamp/Lamp.java", "s/coast/lamp/Oil.java", "t/coast/lamp/Lamp.java"]
GO = ["cmd/main.go", "pkg/lamp/a.go", "pkg/lamp/b.go", "pkg/lamp/notes.md", "other/lamp/c.go", "fmt/f.go"]
RUST = ["src/lib.rs", "src/sea/mod.rs", "src/sea/storm.rs", "src/lamp.rs", "src/lamp/oil.rs", "big-sea/src/lib.rs"]
C = ["src/a.c", "src/tower.h", "src/tower.c", "include/sea/storm.hpp", "include/sea/storm.cpp", "src/sub/b.c"]

CASES = [
    ("python", PYTHON, "app/tower.py", ("app.sea.storm",), ["app/sea/storm.py"]),
    ("python", PYTHON, "app/tower.py", ("app.sea", "storm"), ["app/sea/storm.py", "app/sea/__init__.py"]),
    ("python", PYTHON, "app/tower.py", (".sea", "Gale"), ["app/sea/__init__.py"]),
    ("python", PYTHON, "app/tower.py", (".", "sea"), ["app/sea/__init__.py", "app/__init__.py"]),
    ("python", PYTHON, "app/sea/storm.py", ("..", "tower"), ["app/tower.py", "app/__init__.py"]),
    ("python", PYTHON, "app/sea/storm.py", ("....up", "tower"), []),
    ("python", PYTHON, "lib/x.py", ("app.tower", "Tower"), ["lib/app/tower.py"]),
    ("python", PYTHON, "app/x.py", ("app.tower", "Tower"), ["app/tower.py"]),
    ("python", PYTHON, "app/x.py", ("shapes",), ["shapes.pyi"]),
    ("python", PYTHON, "app/x.py", ("os.path", "join"), []),
    ("python", PYTHON, "app/x.py", ("types", "NoneType"), []),
    ("python", [*PYTHON, "a/b/lamp.py", "a/lamp.py", "b/lamp.py"], "a/x.py", ("lamp",), ["a/lamp.py"]),
    ("typescript", SCRIPTS, "src/a.ts", ("./lamp", "Lamp"), ["src/lamp.ts"]),
    ("typescript", SCRIPTS, "src/a.ts", ("./lamp.js",), ["src/lamp.ts"]),
    ("javascript", SCRIPTS, "src/lib/util.js", ("..//old.js",), ["src/old.js"]),
    ("tsx", SCRIPTS, "src/lib/index.tsx", ("../types",), ["src/types.d.ts"]),
    ("typescript", SCRIPTS, "src/a.ts", ("./lib",), ["src/lib/index.tsx"]),
    ("typescript", SCRIPTS, "src/a.ts", ("@/lib/util",), ["src/lib/util.js"]),
    ("typescript", SCRIPTS, "src/a.ts", ("lamp",), []),
    ("typescript", SCRIPTS, "src/a.ts", ("../../../x",), []),
    ("java", JAVA, "s/coast/Tower.java", ("coast.lamp.Lamp", "Lamp"), ["s/coast/lamp/Lamp.java"]),
    ("java", JAVA, "t/coast/X.java", ("coast.lamp.Lamp", "Lamp"), ["t/coast/lamp/Lamp.java"]),
    ("java", JAVA, "s/coast/Tower.java", ("coast.lamp.*",), ["s/coast/lamp/Lamp.java", "s/coast/lamp/Oil.java"]),
    ("java", JAVA, "s/coast/X.java", ("coast.lamp.Lamp.Wick", "Wick"), ["s/coast/lamp/Lamp.java"]),
    ("java", JAVA, "s/coast/X.java", ("java.util.List", "List"), []),
    ("go", GO, "cmd/main.go", ("example.com/coast/pkg/lamp",), ["pkg/lamp/a.go", "pkg/lamp/b.go"]),
    ("go", GO, "other/x.go", ("example.com/other/lamp",), ["other/lamp/c.go"]),
    ("go", GO, "cmd/main.go", ("fmt",), []),
    ("rust", RUST, "src/lib.rs", ("mod lamp",), ["src/lamp.rs"]),
    ("rust", RUST, "src/lib.rs", ("mod sea",), ["src/sea/mod.rs"]),
    ("rust", RUST, "src/lamp.rs", ("mod oil",), ["src/lamp/oil.rs"]),
    ("rust", RUST, "src/lamp.rs", ("crate::sea::storm", "Gale"), ["src/sea/storm.rs"]),
    ("rust", RUST, "src/sea/storm.rs", ("super", "Wave"), ["src/sea/mod.rs"]),
    ("rust", RUST, "src/sea/storm.rs", ("super::super::lamp::oil", "Oil"), ["src/lamp/oil.rs"]),
    ("rust", RUST, "src/lamp.rs", ("self::oil", "Oil"), ["src/lamp/oil.rs"]),
    ("rust", RUST, "src/lamp.rs", ("big_sea", "Wave"), ["big-sea/src/lib.rs"]),
    ("rust", RUST, "src/lamp.rs", ("std::fmt", "Debug"), []),
    ("c", C, "src/a.c", ("tower.h",), ["src/tower.h", "src/tower.c"]),
    ("cpp", C, "src/sub/b.c", ("../tower.h",), ["src/tower.h", "src/tower.c"]),
    ("cpp", C, "src/a.c", ("<sea/storm.hpp>",), ["include/sea/storm.hpp", "include/sea/storm.cpp"]),
    ("c", C, "src/a.c", ("<stdio.h>",), []),
]


@pytest.mark.parametrize(("language", "paths", "path", "made", "expected"), CASES)
@pytest.mark.parametrize("root", ["", "/home/ann/"])
def test_files_of_an_import(
    language: str, paths: list[str], path: str, made: tuple[str, ...], expected: list[str], root: str
) -> None:
    listed = [root + each for each in dict.fromkeys([*paths, path])]
    found = Files(listed).resolve(listed.index(root + path), language, Import(made[0], made[1:], 1))
    assert [listed[number] for number in found] == [root + each for each in expected]


def test_a_file_does_not_import_itself() -> None:
    assert Files(["a/b.py"]).resolve(0, "python", Import("a.b", (), 1)) == []


def test_a_language_without_a_resolver() -> None:
    assert Files(["a.rb", "b.rb"]).resolve(0, "ruby", Import("b", (), 1)) == []
