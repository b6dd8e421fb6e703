from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from readthrough.cli.session import SETTINGS
from readthrough.config import Overrides, Settings, load_settings, parse_size_bytes, user_config_file
from readthrough.errors import ConfigError


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: tmp_path / "user" / name)
    yield


def write_user(text: str) -> Path:
    path = user_config_file()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_defaults() -> None:
    loaded = load_settings(environ={})
    assert loaded.settings.model == "qwen2.5-coder-1.5b-instruct"
    assert loaded.settings.workflow == "retrieve"
    assert set(loaded.origins) == set(Settings.model_fields)
    assert set(loaded.origins.values()) == {"default"}


def test_order_of_sources() -> None:
    user = write_user("model: from-user\nindex: bm25\ndevice: cpu\ndtype: float32\n")
    Path("readthrough.yaml").write_text("\nmodel: from-folder\nindex: vectors\ndevice: cuda\n")
    environ = {"READTHROUGH_MODEL": "from-environment", "READTHROUGH_INDEX": "hybrid"}
    loaded = load_settings({"model": "from-flag"}, environ)
    assert (loaded.settings.model, loaded.origins["model"]) == ("from-flag", "flag")
    assert (loaded.settings.index, loaded.origins["index"]) == ("hybrid", "READTHROUGH_INDEX")
    assert (loaded.settings.device, loaded.origins["device"]) == ("cuda", "readthrough.yaml:4")
    assert (loaded.settings.dtype, loaded.origins["dtype"]) == ("float32", f"{user}:4")


def test_none_and_empty_are_not_given() -> None:
    loaded = load_settings({"model": None}, {"READTHROUGH_MODEL": ""})
    assert loaded.origins["model"] == "default"


def test_a_part_with_options() -> None:
    Path("readthrough.yaml").write_text("workflow: {retrieve: {k: 3}}\n")
    assert load_settings(environ={}).settings.workflow == {"retrieve": {"k": 3}}


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("model: a\nworkflw: b", 2, "unknown setting 'workflw'", "did you mean 'workflow'?"),
        ("model: a\nmodel: b", 2, "stands twice", "first on line 1"),
        ("\n\ndtype: int9", 3, "dtype = 'int9'", None),
        ("deadline_seconds: -1", 1, "deadline_seconds", None),
        ("size_limit_bytes: many", 1, "not a size", None),
        ("- a", 1, "lines", None),
    ],
)
def test_files_that_are_wrong(text: str, line: int, message: str, hint: str | None) -> None:
    Path("readthrough.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(environ={})
    assert caught.value.path == f"readthrough.yaml:{line}"
    assert hint is None or caught.value.hint == hint


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"READTHROUGH_MODLE": "x"}, "READTHROUGH_MODEL"),
        ({"READTHROUGH_DTYPE": "x"}, "READTHROUGH_DTYPE: dtype"),
        ({"READTHROUGH_WINDOW_TOKENS": "x"}, "READTHROUGH_WINDOW_TOKENS: window_tokens"),
    ],
)
def test_environment_that_is_wrong(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=environ)
    assert message in str(caught.value)


def test_variables_read_elsewhere_are_fine() -> None:
    load_settings(environ={"READTHROUGH_DEBUG": "1", "READTHROUGH_CACHE": "/x", "OTHER": "y"})


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("20 GB", 20 * 1024**3), ("1.5KiB", 1536), ("7", 7), ("3m", 3 * 1024**2), ("1t", 1024**4)]
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes
    environ = {"READTHROUGH_SIZE_LIMIT_BYTES": text, "READTHROUGH_READINGS_BYTES": text}
    settings = load_settings(environ=environ).settings
    assert (settings.size_limit_bytes, settings.readings_bytes) == (size_bytes, size_bytes)


def test_readings_lie_in_the_home_and_can_be_turned_off(tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path}, {"READTHROUGH_READINGS_BYTES": "0"}).settings
    assert settings.readings == tmp_path / "readings" and settings.readings_bytes == 0
    assert "readings_bytes" not in settings.to_keep()


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings({"home": "~/texts"}, {}).settings.home == tmp_path / "texts"


def test_names_agree_everywhere() -> None:
    assert set(Overrides.__annotations__) == set(Settings.model_fields)
    assert set(SETTINGS) <= set(Settings.model_fields)
