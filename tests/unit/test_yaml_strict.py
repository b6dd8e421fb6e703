from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.errors import ConfigError
from readthrough.yaml_strict import MAX_BYTES, parse, read


def test_values_and_lines() -> None:
    file = parse("model: small\nlimits:\n  rounds: 4\n  ratio: 0.5\nedges: [start -> find,\n  {b: null}]\n")
    assert file.value == {
        "model": "small",
        "limits": {"rounds": 4, "ratio": 0.5},
        "edges": ["start -> find", {"b": None}],
    }
    assert file.lines[("limits", "rounds")] == 3
    assert file.lines[("edges", 1, "b")] == 6
    assert file.error("no", "limits", "ratio", "deeper").path == "<yaml>:4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: true", {"a": True}),
        ("a: '012'", {"a": "012"}),
        ("a: 0", {"a": 0}),
        ("a: -3", {"a": -3}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 0.5", {"a": 0.5}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2026-11-22", {"a": "2026-11-22"}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert parse(text).value == value


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' stands twice"),
        ("a:\n  - {b: 1,\n     b: 2}", 3, "'b' stands twice"),
        ("a: &x [1]\nb: *x", 2, "alias"),
        ("a: !!python/object/apply:os.system ['true']", 1, "tag"),
        ("a: !!python/name:os.system", 1, "tag"),
        ("a: !include x", 1, "tag"),
        ("[" * 20_000, 1, "deeper"),
        ("\n" + "- " * 20_000 + "x", 2, "deeper"),
        ("a: 1\nb: 012", 2, "leading zero"),
        ("a: " + "9" * 5000, 1, "out of range"),
        ("a: " + "0" * 5000, 1, "leading zero"),
        ("a: 1e999", 1, "out of range"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: [1,", 1, "not valid YAML"),
        ("a:\n\t- b", 2, "not valid YAML"),
        ("true: 1", 1, "key must be text"),
        ("1: 1", 1, "key must be text"),
        ("? [a]\n: 1", 1, "key must be text"),
    ],
)
def test_refused_with_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text, "settings.yaml")
    assert caught.value.path == f"settings.yaml:{line}"


def test_alias_bomb_is_refused_unexpanded() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(ConfigError, match="alias"):
        parse(bomb)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a: \xff", "UTF-8"), (b"a: \x00", "not valid YAML"), (b"#" * (MAX_BYTES + 1), "larger")],
)
def test_bytes_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert (caught.value.path or "").startswith(str(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.yaml")
