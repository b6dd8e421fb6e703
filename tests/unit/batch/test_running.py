"""Runs of batches in this process: what is asked, of what, and what is not asked again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from readthrough.batch.files import files_of
from readthrough.batch.job import WHOLE, Job, Work
from readthrough.batch.open import QUESTIONS_AT_ONCE, open_table
from readthrough.batch.running import Listener, workers_of
from readthrough.batch.table import Changes, Result
from readthrough.batch.works import asks, summary
from readthrough.config import Settings
from readthrough.documents.loaders.text import TextLoader
from readthrough.errors import ConfigError, LibraryError, UsageError
from readthrough.models.scripted import ScriptedModel
from readthrough.questions import Asked
from readthrough.types import Event, Limits
from tests.batch_samples import (
    SAID,
    WHEN,
    WHO,
    asking,
    counts,
    go,
    lasting,
    lights,
    rows,
    said,
    scripted,
    write_folder,
    write_script,
)
from tests.document_samples import pdf_bytes, save_docx
from tests.schemas import ANSWER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "docs", lights(4))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return scripted(tmp_path / "home")


def test_every_document_is_asked_once(folder: Path, settings: Settings, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    events: list[Event] = []
    listener = Listener(events.append, lambda work, result: heard.append((result.path, work.question)))
    job = asking(folder, tmp_path / "out.jsonl", WHO, WHEN)
    done = go(job, settings, listener)
    assert (done.counts, done.asked, done.failed, done.partial) == ({"done": 4}, 8, 0, False)
    assert done.changes == Changes(new=4)
    assert said(job.out) == {(name, question): SAID for name in lights(4) for question in (WHO, WHEN)}
    assert sorted(heard) == sorted(said(job.out))
    assert done.usage.calls == sum(row["usage"]["calls"] for row in rows(job.out)) > 0
    assert [event.done for event in events if event.stage == "batch"][-1] == 4
    for row in rows(job.out):
        assert row.keys() - {"document", "kind"} == set(ANSWER["properties"])
        assert row["evidence"], "the scripted answer stands on what is there"
        assert {item["document"] for item in row["evidence"]} == {row["document"]}
    again = go(job, settings)
    assert (again.counts, again.asked, again.usage.calls, again.changes) == ({"done": 4}, 0, 0, Changes())


def test_new_edited_and_removed_files(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = asking(folder, tmp_path / "out.jsonl")
    go(job, settings)
    write_folder(folder, {"light001.txt": "Ben keeps it now. The boats stayed.", "new.txt": "Ann keeps the light."})
    (folder / "light002.txt").unlink()
    done = go(job, settings)
    assert (done.changes, done.asked) == (Changes(1, 1, 1), 2)
    assert {name for name, _ in said(job.out)} == {"light000.txt", "light001.txt", "light003.txt", "new.txt"}
    write_folder(folder, {"light002.txt": lights(4)["light002.txt"]})
    os.utime(folder / "light000.txt")
    done = go(job, settings)
    assert (done.changes, done.asked) == (Changes(changed=1), 0), "what comes back has its answers"
    assert len(rows(job.out)) == 5


def test_questions_are_added_and_taken_away(folder: Path, settings: Settings, tmp_path: Path) -> None:
    one, two = asking(folder, tmp_path / "out.jsonl", WHO), asking(folder, tmp_path / "out.jsonl", WHEN, WHO)
    go(one, settings)
    assert go(two, settings).asked == 4
    assert [row["question"] for row in rows(two.out)] == [WHEN, WHO] * 4
    assert go(one, settings).asked == 0
    assert [row["question"] for row in rows(one.out)] == [WHO] * 4
    assert go(two, settings).asked == 0


def test_another_model_is_asked_anew(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = asking(folder, tmp_path / "out.jsonl")
    go(job, settings)
    other = settings.model_copy(update={"model": f"scripted:{write_script(tmp_path / 'other.yaml', {'': 'Ben.'})}"})
    assert go(job, other).asked == 4
    assert set(said(job.out).values()) == {"Ben."}


def test_what_is_not_sure_enough_is_refused(folder: Path, settings: Settings, tmp_path: Path) -> None:
    go(asking(folder, tmp_path / "out.jsonl"), settings)
    assert not any(row["abstained"] for row in rows(tmp_path / "out.jsonl"))
    work = (*asking(folder, tmp_path / "out.jsonl").works, summary())
    go(Job(folder, work, tmp_path / "out.jsonl", abstain_below=1.0), settings)
    found = rows(tmp_path / "out.jsonl")
    assert {(row["kind"], row["abstained"]) for row in found} == {("ask", True), ("summarize", False)}
    assert not any(row["evidence"] for row in found if row["kind"] == "ask")


def test_the_same_content_is_asked_once(tmp_path: Path, settings: Settings) -> None:
    text = lights(1)["light000.txt"]
    folder = write_folder(tmp_path / "docs", {f"copy{number}.txt": text for number in range(6)})
    job = asking(folder, tmp_path / "out.jsonl", workers=4)
    done = go(job, settings)
    assert done.asked == 6
    assert len({row["run"] for row in rows(job.out)}) == 1
    paid = [row for row in rows(job.out) if row["usage"]["calls"]]
    assert len(paid) == 1
    assert done.usage.calls == paid[0]["usage"]["calls"]
    for row in rows(job.out):
        assert {item["document"] for item in row["evidence"]} == {row["document"]}
    elsewhere = asking(folder, tmp_path / "other.csv")
    assert go(elsewhere, settings).usage.calls == 0, "nor for another batch"


def test_an_answer_that_names_its_document_is_no_other_ones(tmp_path: Path) -> None:
    settings = scripted(tmp_path / "home", {"": "It says so in a.txt."})
    folder = write_folder(tmp_path / "docs", {"a.txt": "Ann keeps the light.", "b.txt": "Ann keeps the light."})
    done = go(asking(folder, tmp_path / "out.jsonl"), settings)
    assert done.usage.calls > 0
    assert all(row["usage"]["calls"] for row in rows(tmp_path / "out.jsonl"))


def test_files_that_cannot_be_read(tmp_path: Path, settings: Settings) -> None:
    mixed = {"a.txt": "Ann keeps the light.", "broken.pdf": pdf_bytes([["x"]])[:60], "empty.txt": "", "x.bin": b"\0\1"}
    folder = write_folder(tmp_path / "docs", mixed)
    (folder / "whole.pdf").write_bytes(pdf_bytes([["Ann keeps the light."]]))
    save_docx(folder / "fine.docx")
    (folder / "link").symlink_to(folder / "a.txt")
    job = asking(folder, tmp_path / "out.jsonl", WHO)
    done = go(job, settings)
    assert done.counts == {"done": 3, "failed": 2, "skipped": 1}, "an empty text is a document that failed"
    assert sum(done.counts.values()) == len([item for item in files_of(job) if hasattr(item, "content")])
    assert {row["document"]: row["error"]["type"] for row in rows(job.out) if "error" in row} == {
        "broken.pdf": "DocumentError",
        "empty.txt": "NotTextError",
    }
    assert rows(job.out)[1]["error"]["path"] == "broken.pdf", "paths begin in the folder"
    assert go(job, settings).asked == 0, "they are not read again"
    (folder / "broken.pdf").write_bytes(pdf_bytes([["Ann keeps the light. Mended."]]))
    assert go(job, settings).counts == {"done": 4, "failed": 1, "skipped": 1}


def test_a_loader_that_breaks_costs_one_document(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = TextLoader.load

    def breaks(self: TextLoader, path: Path, name: str) -> object:
        if path.name == "light001.txt":
            raise ZeroDivisionError("a mistake of the loader")
        return load(self, path, name)

    monkeypatch.setattr(TextLoader, "load", breaks)
    job = asking(folder, tmp_path / "out.jsonl")
    assert go(job, settings).counts == {"done": 3, "failed": 1}
    assert said(job.out)["light001.txt", WHO] == "ZeroDivisionError"
    assert "traceback" not in job.out.read_text()


def test_a_model_that_breaks_costs_one_answer(folder: Path, tmp_path: Path) -> None:
    settings = scripted(tmp_path / "home", {"Light [013]": SAID})
    job = asking(folder, tmp_path / "out.jsonl")
    done = go(job, settings)
    assert (done.counts, done.failed, done.lost, done.partial) == ({"done": 4}, 1, 0, True)
    assert said(job.out)["light002.txt", WHO] == "ModelError"
    assert go(job, settings).asked == 0, "it would fail again"
    table = open_table(settings)
    assert table.retry(job.name) == 1
    table.close()
    scripted(tmp_path / "home")
    assert go(job, settings).failed == 0


def test_what_is_wrong_for_all_ends_the_batch(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = asking(folder, tmp_path / "out.jsonl", options={"colour": 3})
    with pytest.raises(ConfigError, match="colour"):
        go(job, settings)
    assert counts(job, settings) == {"waiting": 4}, "no document is to blame"


def test_a_file_that_changes_while_the_batch_runs(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from readthrough.batch import running

    opened = running.opened

    def edited(*arguments: object) -> object:
        write_folder(folder, {"light001.txt": "Ben keeps it. Nobody looked since the hash was taken."})
        return opened(*arguments)  # type: ignore[arg-type]

    job = asking(folder, tmp_path / "out.jsonl")
    monkeypatch.setattr(running, "opened", edited)
    done = go(job, settings)
    assert done.counts == {"done": 3, "failed": 1}
    assert "changed while the batch ran" in rows(job.out)[1]["error"]["message"]
    monkeypatch.undo()
    done = go(job, settings)
    assert (done.counts, done.asked) == ({"done": 4}, 1)


# The folder as a whole


def of_the_folder(folder: Path, out: Path) -> Job:
    return Job(folder, tuple(asks([Asked(WHO)], whole=True)), out)


def test_a_question_of_the_folder(tmp_path: Path, settings: Settings) -> None:
    folder = write_folder(tmp_path / "docs", {**lights(3), "broken.pdf": pdf_bytes([["x"]])[:60]})
    job = of_the_folder(folder, tmp_path / "out.jsonl")
    done = go(job, settings)
    assert done.counts == {"done": 3, "failed": 1}, "the broken one costs nothing but itself"
    (row,) = rows(job.out)
    assert (row["document"], row["answer"]) == (WHOLE, SAID)
    assert {item["document"] for item in row["evidence"]} <= set(lights(3))
    assert go(job, settings).asked == 0
    write_folder(folder, lights(1, start=7))
    assert go(job, settings).asked == 1, "it is another folder"


def test_documents_and_folder_together(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = Job(folder, (*asks([Asked(WHO)]), *asks([Asked(WHO)], whole=True)), tmp_path / "out.jsonl")
    assert go(job, settings).asked == 5
    assert len(rows(job.out)) == 5


def test_a_folder_of_which_nothing_can_be_read(tmp_path: Path, settings: Settings) -> None:
    folder = write_folder(tmp_path / "docs", {"broken.pdf": pdf_bytes([["x"]])[:60]})
    done = go(of_the_folder(folder, tmp_path / "out.jsonl"), settings)
    assert (done.counts, done.partial) == ({"failed": 1}, True)
    assert said(tmp_path / "out.jsonl") == {(WHOLE, WHO): "InputError"}


def test_an_empty_folder(tmp_path: Path, settings: Settings) -> None:
    job = asking(write_folder(tmp_path / "docs", {}), tmp_path / "out.jsonl")
    done = go(job, settings)
    assert (done.counts, done.partial, rows(job.out)) == ({}, False, [])


# Others


def test_a_summary(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = Job(folder, (summary(50),), tmp_path / "out.jsonl", include=("*0.txt",))
    go(job, settings)
    assert [(row["document"], row["kind"]) for row in rows(job.out)] == [("light000.txt", "summarize")]


def test_a_budget_ends_an_answer_which_the_next_run_goes_on_with(
    folder: Path, settings: Settings, tmp_path: Path
) -> None:
    short = asking(folder, tmp_path / "out.jsonl", document_limits=Limits(calls=1))
    done = go(short, settings)
    assert (done.counts, done.failed, done.partial) == ({"done": 4}, 4, True)
    before = {row["document"]: row["run"] for row in rows(short.out)}
    assert all(row["stopped"] for row in rows(short.out))
    done = go(asking(folder, tmp_path / "out.jsonl"), settings)
    assert done.failed == 0
    assert {row["document"]: row["run"] for row in rows(short.out)} == before


def test_the_table_moves_with_the_folder(folder: Path, settings: Settings, tmp_path: Path) -> None:
    job = asking(folder, tmp_path / "out.jsonl")
    go(job, settings)
    before = lasting(rows(job.out))
    shutil.move(folder, tmp_path / "moved")
    assert go(asking(tmp_path / "moved", job.out), settings).asked == 0
    assert lasting(rows(job.out)) == before


def test_a_worker_of_other_settings_does_not_mix_in(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process began the batch anew with another model: this one must not answer for that one."""
    from readthrough.batch import running

    job = asking(folder, tmp_path / "out.jsonl")
    begin = running.enter

    def overtaken(job: Job, table: object, mine: Settings) -> Changes:
        begin(job, table, mine)  # type: ignore[arg-type]
        return begin(job, table, mine.model_copy(update={"model": "small"}))  # type: ignore[arg-type]

    monkeypatch.setattr(running, "enter", overtaken)
    with pytest.raises(UsageError, match="another process"):
        go(job, settings)
    assert rows(job.out) == []
    assert counts(job, settings) == {"waiting": 4}


def test_a_mistake_in_the_main_thread_ends_the_workers(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from readthrough.batch.leases import Leases

    job = asking(folder, tmp_path / "out.jsonl", workers=1)
    calls = [0]

    def breaks(self: Leases, name: str) -> None:
        calls[0] += 1
        if calls[0] > 1:
            raise LibraryError("the disk is gone", path="somewhere")

    def slow(self: ScriptedModel, request: object) -> str:
        import time

        time.sleep(0.3)
        return SAID

    monkeypatch.setattr(Leases, "free_the_dead", breaks)
    monkeypatch.setattr("readthrough.batch.running._POLL_SECONDS", 0.01)
    monkeypatch.setattr(ScriptedModel, "_reply", slow)
    with pytest.raises(LibraryError, match="the disk is gone"):
        go(job, settings)
    assert counts(job, settings)["waiting"] >= 2


def test_the_number_of_workers(folder: Path, tmp_path: Path) -> None:
    questions = [str(number) for number in range(QUESTIONS_AT_ONCE)]
    assert workers_of(asking(folder, tmp_path / "o.csv"), Settings(model="small")) == QUESTIONS_AT_ONCE
    assert workers_of(asking(folder, tmp_path / "o.csv", *questions), Settings(model="small")) == 1
    assert workers_of(asking(folder, tmp_path / "o.csv"), Settings(model="openai:m@http://h/v1")) > 1
    assert workers_of(asking(folder, tmp_path / "o.csv", workers=7), Settings(model="small")) == 7


def test_results_that_are_no_longer_wanted_are_no_failures(folder: Path, tmp_path: Path) -> None:
    settings = scripted(tmp_path / "home", {"keeps the light.*Who": SAID, "(?s)Who": SAID})
    both, one = asking(folder, tmp_path / "out.jsonl", WHO, WHEN), asking(folder, tmp_path / "out.jsonl", WHO)
    assert go(both, settings).failed == 4
    done = go(one, settings)
    assert (done.failed, done.partial) == (0, False)


def test_names_that_are_no_text(tmp_path: Path, settings: Settings) -> None:
    folder = write_folder(tmp_path / os.fsdecode(b"d\xe9p\xf4t"), {os.fsdecode(b"caf\xe9.txt"): "Ann keeps the light."})
    job = asking(folder, tmp_path / "out.jsonl")
    assert go(job, settings).counts == {"done": 1}
    (row,) = rows(job.out)
    assert row["document"] == r"caf\xe9.txt"
    assert {item["document"] for item in row["evidence"]} == {r"caf\xe9.txt"}


def test_the_work_of_a_result_is_told() -> None:
    assert Result("a", Work("ask", WHO).id, "r", "open").current
