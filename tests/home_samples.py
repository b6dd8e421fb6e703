"""A user's surroundings that touch nothing of the real ones, and a text to ask about."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest

LIGHT = "Ann keeps the light on the cliff."


class Terminal(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


def write_days(path: Path, count: int, at: int, said: Sequence[str] = (LIGHT,)) -> Path:
    """Write `count` paragraphs that are much alike, and before number `at` those of `said`."""
    days = [f"On day {day} the boats went out and came back with {day * 3} baskets of fish." for day in range(count)]
    days[at:at] = said
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(days) + "\n", encoding="utf-8")
    return path


def live_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration and library lie in `folder`, texts are found by BM25; returns the library's folder."""
    home = folder / "home"
    monkeypatch.setattr("readthrough.config.user_config_path", lambda name: folder / "user" / name)
    monkeypatch.setenv("READTHROUGH_HOME", str(home))
    monkeypatch.setenv("READTHROUGH_INDEX", "bm25")
    return home


def ask_script(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Without --model, commands ask a scripted model that knows one answer."""
    script = folder / "script.yaml"
    script.write_text(f"replies: {{'': Ann keeps the light.}}\n{more}", encoding="utf-8")
    monkeypatch.setenv("READTHROUGH_MODEL", f"scripted:{script}")
