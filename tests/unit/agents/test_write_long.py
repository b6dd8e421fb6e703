"""write-long: reports, glossaries and indexes: references, files, what is left out, resuming, budgets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.writing import References, Said, form_of, section_names, subject, writing_question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.write_long import WriteLong
from readthrough.agents.workflows.writing.folder import Folder
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import ConfigError, ModelError, PromptTooLongError, ReadthroughError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Event, Limits
from tests.agent_samples import FACT, decides, shelve
from tests.library_samples import story

FACTS = [
    FACT,
    "The bell of the chapel was cast by Tom Marsh in one night.",
    "The ledger of the harbour was kept by Ida Crowe for ten years.",
]
TITLES = ["The key", "The bell", "The ledger"]
REPORT = writing_question("report", None)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A book with three facts far apart."""
    folder = tmp_path_factory.mktemp("books")
    parts = story(5, 24).split("\n\n")
    for number, fact in enumerate(FACTS):
        parts.insert(3 + 9 * number, fact)
    (folder / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return shelve(folder / "home", folder / "book.txt")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A book in which the same people meet again and again, at different places."""
    folder = tmp_path_factory.mktemp("books")
    people, at = ("Ann Weller", "Tom Marsh", "Ida Crowe", "Jon Pell"), ("chapel", "harbour", "orchard", "lighthouse")
    days = [
        f"On day {day} {people[day % 4]} met {people[(day // 4) % 4]} at the {at[day % 3]}, and they talked."
        for day in range(40)
    ]
    text = "\n\n".join(f"Chapter {day}\n\n{line}" for day, line in enumerate(days))
    (folder / "book.txt").write_text(text, encoding="utf-8")
    return shelve(folder / "home", folder / "book.txt")


def explains(request: Request) -> str:
    """The first sentence of the passages that names the term."""
    prompt = request.messages[-1].content
    term = re.search(r"Explain “(.+)”", prompt)
    named = [line for line in re.split(r"(?<=talked\.)\s+", prompt) if term and term[1].casefold() in line.casefold()]
    return f"{re.sub(r'^.*(?=On day)', '', named[0], flags=re.DOTALL)} More of it." if named else "Nothing."


def writes(request: Request) -> str:
    """Plans three sections; of a section or a term the fact that its passages hold, and something invented."""
    prompt = request.messages[-1].content
    if "Write the titles" in prompt:
        return "1. **The key**\n2. The bell:\n\n3. The ledger\nThe key\n"
    if "Summarize the text" in prompt:
        return "A summary."
    title = re.findall(r"section “(.+)”", prompt)[0]
    wanted = title.split()[-1].casefold()
    said = next((fact for fact in FACTS if wanted in fact.casefold() and fact in prompt), "Nothing.")
    return f"## {title}\n\n{title}: notes\n\n{said} [7]\n\nZebras juggled quartz xylophones."


def model(faults: dict[int, Exception] | None = None) -> ScriptedModel:
    return ScriptedModel(replies=writes, choices=decides, faults=faults or {})


def write(
    shelf: Shelf, question: str = REPORT, scripted: ScriptedModel | None = None, limits: Limits | None = None, **options
) -> tuple[Answer, Services, list[Event]]:
    events: list[Event] = []
    services = Services(scripted or model(), shelf, RunLog(), on_event=events.append, budget=Budget(limits))
    return run(WriteLong(**options), Question(question), services), services, events


def test_a_report_is_written_section_by_section_with_the_source_of_each_sentence(shelf: Shelf) -> None:
    scripted = model()
    answer, _, _ = write(shelf, scripted=scripted)
    pairs = zip(TITLES, FACTS, strict=True)
    blocks = [f"## {title}\n\n{fact}[{number}]" for number, (title, fact) in enumerate(pairs, 1)]
    assert answer.answer == "\n\n".join(blocks)
    assert [item.quote for item in answer.evidence] == FACTS
    said = [answer.answer[start:end] for start, end in sentence_spans(answer.answer)]
    for item in answer.evidence:
        assert [said[number].partition("[")[0] for number in item.supports] == [item.quote]
    prompts = [call.request.messages[-1].content for call in scripted.calls if call.kind == "complete"]
    dialogues = [prompt for prompt in prompts if "Write the section" in prompt]
    assert "(none)" in dialogues[0] and "The key; The bell" in dialogues[2] and "A summary." in dialogues[2]


def test_what_the_passages_do_not_say_is_left_out_unless_all_is_kept(shelf: Shelf) -> None:
    assert "Zebras" not in write(shelf)[0].answer
    assert write(shelf, least_gain=None)[0].answer.count("Zebras") == 1, "and nothing is said twice"


def test_a_reply_that_was_cut_goes_on_from_what_is_there(shelf: Shelf) -> None:
    def cut_first(request: Request) -> str:
        prompt = request.messages[-1].content
        if "Write the titles" in prompt or "Summarize" in prompt:
            return "The key"
        return (
            FACTS[1] if f"begins as follows; write how it goes on: {FACT}" in prompt else f"{FACT} " + "And so on " * 60
        )

    scripted = ScriptedModel(replies=cut_first, choices=decides)
    answer, _, _ = write(shelf, scripted=scripted, section_tokens=60, least_gain=None, sections=1)
    assert re.sub(r"\[\d+\]", "", answer.answer) == f"## The key\n\n{FACT}\n\n{FACTS[1]}"


def test_files_grow_with_the_text_and_name_their_sources(shelf: Shelf, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def looks(request: Request) -> str:
        seen.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
        return writes(request)

    answer, _, events = write(shelf, scripted=ScriptedModel(replies=looks, choices=decides), into=str(tmp_path / "out"))
    names = ["01-the-key.md", "02-the-bell.md", "03-the-ledger.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "report.md"]
    assert [] in seen and ["01-the-key.md", "report.md"] in seen
    whole = (tmp_path / "out" / "report.md").read_text()
    assert whole.startswith(f"# Report\n\n{answer.answer}\n\n### Sources\n\n[1] ") and whole.count("line ") == 3
    second = (tmp_path / "out" / names[1]).read_text()
    assert second.startswith("## The bell") and f"“{FACTS[1]}”" in second and FACT not in second
    assert [event.done for event in events if event.stage == "written"] == [4]


def test_a_file_that_is_there_is_not_overwritten_unless_that_is_asked(shelf: Shelf, tmp_path: Path) -> None:
    mine = tmp_path / "02-the-bell.md"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="is there already") as caught:
        write(shelf, into=str(tmp_path))
    assert caught.value.path == str(mine) and [path.name for path in tmp_path.iterdir()] == [mine.name]
    write(shelf, into=str(tmp_path), overwrite=True)
    assert mine.read_text().startswith("## The bell")


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "folder")
    own = folder.write({"a.md": "one"}, {})
    assert folder.write({"a.md": "two"}, own) != own and (folder.path / "a.md").read_text() == "two"
    assert folder.write({"a.md": "two"}, {}) == folder.write({"a.md": "two"}, own), "as it is to be: a step repeated"
    (folder.path / "a.md").write_text("by hand")
    with pytest.raises(UsageError, match="was changed"):
        folder.write({"a.md": "three"}, own)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadthroughError, match="cannot be written"):
        Folder(tmp_path / "file").check(["a.md"], {})
    assert [path.name for path in folder.path.iterdir()] == ["a.md"]


@pytest.mark.parametrize("at", [2, 7])
def test_a_run_that_failed_goes_on_with_the_step_it_was_at(shelf: Shelf, tmp_path: Path, at: int) -> None:
    whole = write(shelf, into=str(tmp_path / "whole"))[0]
    flow, runs = WriteLong(into=str(tmp_path / "out")), RunLog(tmp_path / "runs.sqlite")
    services = Services(model({at: ModelError("out of order")}), shelf, runs)
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        with pytest.raises(ModelError):
            run(flow, Question(REPORT), services, saver)
        again = Services(model(), shelf, runs, run=services.run)
        answer = resume(flow, Question(REPORT), again, saver)
    assert (answer.answer, answer.evidence) == (whole.answer, whole.evidence)
    files = {path.name: path.read_text() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == files
    assert len(again.model.calls) < whole.usage.calls


def test_a_budget_ends_it_with_what_is_written(shelf: Shelf) -> None:
    full = write(shelf)[0]
    answer, _, _ = write(shelf, limits=Limits(calls=full.usage.calls - 3))
    assert answer.stopped and "## The bell" in answer.answer and "## The ledger" not in answer.answer
    assert full.answer.startswith(answer.answer) and len(answer.evidence) == 2
    assert write(shelf, limits=Limits(calls=1))[0].abstained


def test_a_glossary_explains_the_terms_of_the_text(names: Shelf, tmp_path: Path) -> None:
    scripted = ScriptedModel(replies=explains, choices=lambda request, options: [0.95, 0.05])
    answer, _, _ = write(names, writing_question("glossary", None), scripted, terms=9, batch=2, into=str(tmp_path))
    entries = answer.answer.split("\n\n")
    assert entries == sorted(entries, key=str.casefold) and len(entries) >= 3
    assert all(re.fullmatch(r"\*\*.+\*\*: .+\.(\[\d+\])+", entry) for entry in entries)
    assert (tmp_path / "glossary.md").read_text().startswith(f"# Glossary\n\n{answer.answer}")
    assert {"Ann Weller", "Tom Marsh", "Ida Crowe", "Jon Pell"} <= set(re.findall(r"\*\*(.+)\*\*", answer.answer))
    assert not {"Ann", "Weller"} & set(re.findall(r"\*\*(.+)\*\*", answer.answer)), "the whole name has them"
    unsure = ScriptedModel(
        replies=explains, choices=lambda request, options: [0.001, 0.999], likelihoods=lambda r, t: -9
    )
    refused, _, _ = write(names, writing_question("glossary", None), unsure, terms=8)
    assert refused.abstained and not refused.evidence and refused.coverage.retrieved > 0


def test_an_index_says_where_terms_stand_and_asks_no_model(names: Shelf) -> None:
    answer, services, _ = write(names, writing_question("index", None), terms=12, places=3)
    assert not services.model.calls and answer.coverage.skipped == answer.coverage.tokens
    text = names.document(names.documents[0].id)
    lines = answer.answer.splitlines()
    assert 4 <= len(lines) <= 12 and not any(line.startswith("- Chapter") for line in lines)
    assert lines == sorted(lines, key=str.casefold)
    for line in lines:
        term, places = line.removeprefix("- ").split(": ")
        found = re.findall(r"line (\d+)\[(\d+)\]", places)
        assert 1 <= len(found) <= 3
        for where, number in found:
            item = answer.evidence[int(number) - 1]
            assert text.line_at(item.start) == item.line == int(where)
            assert term.casefold()[:3] in item.quote.casefold()


def test_the_form_is_what_the_question_names() -> None:
    assert [form_of(writing_question(form, None)) for form in ("report", "glossary", "index")] == [
        "report",
        "glossary",
        "index",
    ]
    assert form_of("Please make me a short glossary of this book") == "glossary"
    assert form_of("Who wrote the index?") == "report"
    assert subject(writing_question("report", " the keepers ")) == "the keepers" and subject(REPORT) == ""
    with pytest.raises(UsageError):
        writing_question("report", " ")
    with pytest.raises(UsageError):
        writing_question("index", "the keepers")


def test_names_of_files_stay_in_the_folder() -> None:
    names = section_names(["../../etc/passwd", "", "Über Öl / Gas", "x" * 300])
    assert names == ["01-etc-passwd.md", "02-section.md", "03-über-öl-gas.md", f"04-{'x' * 40}.md"]


def test_places_are_numbered_once() -> None:
    references = References()
    assert references.shown(Said("One.", [[0, 1, 2], [0, 5, 9]])) == "One.[1][2]"
    assert references.shown(Said("Two.", [(0, 5, 9), (0, 5, 9)])) == "Two.[2]"


def test_the_estimate_is_near_what_is_taken(shelf: Shelf, names: Shelf) -> None:
    explaining = ScriptedModel(replies=explains, choices=decides)
    for form, scripted, texts in (("report", model(), shelf), ("glossary", explaining, names), ("index", None, names)):
        question = Question(writing_question(form, None))
        services = Services(scripted or model(), texts, RunLog())
        cost = WriteLong(sections=3, terms=8).estimate(question, services)
        taken = WriteLong(sections=3, terms=8).run(question, services).usage
        assert cost.calls >= taken.calls / 2 and cost.prompt_tokens >= taken.prompt_tokens / 2
        assert (cost.calls == 0) == (form == "index")


def test_what_does_not_fit_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ConfigError, match="sections"):
        WriteLong(sections=0)
    with pytest.raises(PromptTooLongError):
        write(shelf, section_tokens=4000)
