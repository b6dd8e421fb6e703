"""The Python interface with real files, a real library, real graphs and a scripted model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import readthrough as rt
from readthrough.errors import ConfigError, EmptyShelfError, InputError, MissingPathError, UnknownNameError, UsageError
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Event
from tests.code_samples import write_repository
from tests.home_samples import live_in, write_days


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_days(tmp_path / "texts" / "book.txt", 100, 50)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path, monkeypatch)


def scripted() -> ScriptedModel:
    return ScriptedModel({"": "Ann keeps the light."})


def test_ask(path: Path) -> None:
    with rt.read(path, model=scripted()) as book:
        answer = book.ask("  Who keeps the light? ")
        assert answer.question == "Who keeps the light?"
        assert str(answer) == "Ann keeps the light."
        for item in answer.evidence:
            assert book.text[item.start : item.end] == item.quote
        assert "Ann keeps the light" in book.search("keeps the light", k=1)[0].chunk.text
        assert "book.txt" in book._repr_html_()
        assert "1 documents" in repr(book)
        assert book.document(book.documents[0].id).text == book.text


def test_map(tmp_path: Path, path: Path) -> None:
    with rt.read(write_repository(tmp_path / "repository")) as book:
        made = book.map("How is the barometer read?", tokens=80)
        assert made.files[0].path.endswith("storm.py")
        assert "read_barometer" in str(made)
        assert made.tokens <= 80
    with rt.read(path) as book, pytest.raises(InputError, match="source code"):
        book.map()


def test_ask_inside_a_running_loop(path: Path) -> None:
    async def cell() -> tuple[str, list[str]]:
        with rt.read(path, model=scripted()) as book:
            now = book.ask("Who keeps the light?")
            both = await asyncio.gather(book.aask("Who keeps the light?"), book.aask("Who keeps the light now?"))
            return str(now), [str(answer) for answer in both]

    assert asyncio.run(cell()) == ("Ann keeps the light.", ["Ann keeps the light."] * 2)


def test_workflow_and_options(path: Path) -> None:
    with rt.read(path, model=scripted(), workflow="chain-of-agents") as book:
        assert book.ask("Who?").workflow == "chain-of-agents"
        assert book.ask("Who?", workflow={"chain-of-agents": {"message_tokens": 64}}).coverage.unread == 0
        with pytest.raises(UnknownNameError, match="did you mean 'message_tokens'"):
            book.ask("Who?", mesage_tokens=64)
        with pytest.raises(ConfigError, match="message_tokens = 'many'"):
            book.ask("Who?", message_tokens="many")
        with pytest.raises(UnknownNameError, match="'retrieve'"):
            book.ask("Who?", workflow="retreive")
        with pytest.raises(ConfigError, match="expected a name"):
            book.ask("Who?", workflow={"retrieve": {}, "chain-of-agents": {}})


def test_streaming_and_events(path: Path) -> None:
    events: list[Event] = []
    pieces: list[str] = []
    with rt.read(path, model=scripted(), on_event=events.append) as book:
        answer = book.ask("Who keeps the light?", on_text=pieces.append)
    assert "".join(pieces).strip() == answer.answer
    assert "load" in {event.stage for event in events}


def test_a_given_model_stays_open_and_an_own_one_is_shared(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("replies: {'': Ann keeps the light.}\n")
    given = scripted()
    with rt.read(path, model=given) as book:
        assert book.model is given
    with rt.read(path, model=f"scripted:{script}") as book:
        assert book.model is book.model
        assert str(book.ask("Who keeps the light?")) == "Ann keeps the light."


def test_bytes(path: Path) -> None:
    with rt.read("-", stdin=path.read_bytes(), model=scripted()) as book:
        assert book.text == path.read_text()


def test_folders_and_what_is_skipped(path: Path) -> None:
    (path.parent / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    with rt.read(path.parent, model=scripted()) as book:
        assert [entry.path for entry in book.documents] == [str(path)]
        assert [Path(file.path).name for file in book.skipped] == ["broken.pdf"]
        assert book.ask("Who keeps the light?").skipped_files == book.skipped
        assert "broken.pdf" in book._repr_html_()


def test_bad_input(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text"):
        rt.read()
    with pytest.raises(MissingPathError):
        rt.read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyShelfError):
        rt.read(tmp_path / "empty")
    with pytest.raises(ConfigError, match="did you mean 'device'"):
        rt.read(path, devise="cpu")  # type: ignore[call-arg]
    with rt.read(path, model=scripted()) as book:
        with pytest.raises(UsageError, match="empty"):
            book.ask(" ")
        with pytest.raises(UsageError, match="choices"):
            book.ask("Which?", choices=["Ann"])
        with pytest.raises(UsageError):
            book.search("")
        with pytest.raises(UsageError):
            book.search("x", k=0)


def test_exports() -> None:
    assert set(rt.__all__) <= set(dir(rt))
    assert all(getattr(rt, name) is not None for name in rt.__all__)
    with pytest.raises(AttributeError, match="reed"):
        rt.reed  # noqa: B018


def test_as_of_a_position(path: Path, tmp_path: Path) -> None:
    fact = path.read_text().index("Ann keeps")
    with rt.read(path, model=scripted()) as book:
        for workflow in ("retrieve", "full-context"):
            answer = book.ask("Who keeps the light?", workflow=workflow, as_of="40%")
            assert answer.as_of is not None and answer.as_of.end < fact
            assert all(item.end <= answer.as_of.end for item in answer.evidence)
        cost = book.estimate("Who keeps the light?", workflow="full-context", as_of="40%")
        assert cost.prompt_tokens < book.estimate("Who keeps the light?", workflow="full-context").prompt_tokens / 2
        assert book.ask("Who keeps the light?").as_of is None
        with pytest.raises(InputError, match="no section"):
            book.ask("Who?", as_of="chapter 12")
    file = tmp_path / "flow.yaml"
    file.write_text("workflow: retrieve\nas_of: 40%\n")
    with rt.read(path, model=scripted(), workflow=str(file)) as book:
        assert book.ask("Who keeps the light?").as_of is not None
        assert not any("Ann keeps" in hit.chunk.text for hit in book.search("Ann keeps the light"))
        assert "Ann keeps" not in book.text
    file.write_text("workflow: retrieve\nas_of: 40\n")
    with pytest.raises(ConfigError, match="a position is text"):
        rt.read(path, model=scripted(), workflow=str(file))
    with rt.read(path, model=scripted(), as_of="50%") as book:
        assert book.ask("Who?", as_of="60%").as_of.position == "60%"
