"""Gist-lookup: pages and their pauses, gists once a document, looking up by scores, and what ends it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.gist_lookup import GistLookup
from readthrough.agents.workflows.gists.gisting import Page
from readthrough.agents.workflows.gists.looking_up import rank_by_choice
from readthrough.agents.workflows.gists.paging import Pager
from readthrough.errors import ModelError, PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, decides, final, run, says_what_it_reads, shelve, write_book
from tests.library_samples import open_library

small = partial(GistLookup, least_tokens=90, page_tokens=220, gist_tokens=24, batch=2, enough_above=None)
FLOW = small()
ASKED = Question(QUESTION)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": says_what_it_reads, "choices": decides, **options})


def services(shelf: Shelf, scripted: ScriptedModel, **options: object) -> Services:
    return Services(scripted, shelf, RunLog(), **options)


def gists(scripted: ScriptedModel) -> int:
    """How many gists were written."""
    shown = [call.request.messages[-1].content for call in scripted.calls if call.kind == "complete" and call.result]
    return sum("should remember of this page" in prompt for prompt in shown)


def remembered(flow: GistLookup, shelf: Shelf, scripted: ScriptedModel | None = None) -> list[Page]:
    return flow._gister.pages(services(shelf, scripted or model()))


def prompts(scripted: ScriptedModel, words: str) -> list[str]:
    shown = [call.request.messages[-1].content for call in scripted.calls]
    return [prompt for prompt in shown if words in prompt]


def test_pages_hold_every_chunk_once_and_end_where_the_next_is_least_alike(shelf: Shelf) -> None:
    run(FLOW, shelf, ASKED, model())
    pages, tokens = remembered(FLOW, shelf), shelf.count_tokens(model())
    assert [chunk for page in pages for chunk in page.chunks] == shelf.chunk_ids()
    sizes = [sum(tokens[chunk] for chunk in page.chunks) for page in pages]
    assert len(pages) > 5 and all(90 <= size <= 220 for size in sizes[:-1]) and sizes[-1] <= 220
    vectors = dict(zip(shelf.chunk_ids(), shelf.vectors(shelf.chunk_ids()), strict=True))
    decided = 0
    for page in pages[:-1]:
        alike, total = {}, 0
        rest = [chunk for chunk in tokens if chunk >= page.chunks[0]]
        for one, other in pairwise(rest):
            total += tokens[one]
            if 90 <= total <= 220:
                alike[one] = float(vectors[one] @ vectors[other])
        assert page.chunks[-1] == min(alike, key=alike.__getitem__)
        decided += len(alike) > 1
    assert decided > 3


def test_a_new_section_is_a_pause(tmp_path: Path) -> None:
    sections = [f"# Part {number}\n\n" + f"Something of {number} happens here and there. " * 22 for number in range(5)]
    (tmp_path / "book.md").write_text("\n\n".join(sections))
    shelf = shelve(tmp_path / "home", tmp_path / "book.md")
    flow = small(page_tokens=400)
    run(flow, shelf, Question("What happens in Part 3?"), model())
    text = shelf.document(shelf.documents[0].id).text
    starts = [shelf.get(page.chunks[:1])[0].start for page in remembered(flow, shelf)]
    assert len(starts) == 5 and all(text[start:].lstrip().startswith("# Part") for start in starts)


def marks(request: Request, options: list[str]) -> list[float]:
    """Names the first mark by itself, and a little less so where a lamp is told of before another."""
    prompt = request.messages[-1].content
    if "natural to pause" not in prompt:
        return decides(request, options)
    told = next((n for n in range(len(options)) if re.search(rf"lamp[^<]*<{n + 1}>", prompt)), 0)
    shares = [0.6 if n == 0 else 0.1 for n in range(len(options))]
    shares[told] += 0.3
    return [share / sum(shares) for share in shares]


def test_a_pause_is_chosen_and_what_is_named_without_a_text_is_taken_off(shelf: Shelf) -> None:
    flow = small(pause="choice", batch=1, page_tokens=300)
    asked = model(choices=marks)
    run(flow, shelf, ASKED, asked)
    pages = remembered(flow, shelf, asked)
    assert [chunk for page in pages for chunk in page.chunks] == shelf.chunk_ids()
    shown = prompts(asked, "natural to pause")
    assert sum(prompt.startswith("...") for prompt in shown) == len(shown) // 2 > 3
    told = [page for page in pages[:-1] if "lamp" in shelf.get(page.chunks[-1:])[0].text]
    assert len(told) > len(pages) // 2
    votes = model(choices=marks)
    votes.capabilities = frozenset({"schema"})
    run(flow, shelve(Path(shelf.documents[0].path).parent / "endpoint", Path(shelf.documents[0].path)), ASKED, votes)
    assert not any(prompt.startswith("...") for prompt in prompts(votes, "natural to pause"))


def test_long_texts_are_paged_in_several_places_at_once(shelf: Shelf) -> None:
    pager = Pager("choice", 30, 60)
    asked = services(shelf, model(choices=marks))
    pages = pager.first_pages(asked, [shelf.chunk_ids()], 4)
    assert len(pages) == 4 and pages[0][0] == shelf.chunk_ids()[0]
    assert len({chunk for page in pages for chunk in page}) == sum(map(len, pages))
    assert len(pager.first_pages(asked, [shelf.chunk_ids()[:9]], 4)) == 1, "what is short is not divided"


def test_a_second_question_writes_no_gist(shelf: Shelf) -> None:
    before = FLOW.estimate(ASKED, services(shelf, model()))
    first, asked, _ = run(FLOW, shelf, ASKED, model())
    after = FLOW.estimate(ASKED, services(shelf, model()))
    written = gists(asked)
    assert written == len(remembered(FLOW, shelf)) > 5
    assert abs(before.calls - after.calls - written) <= written // 4
    assert before.completion_tokens > after.completion_tokens and before.prompt_tokens > after.prompt_tokens
    assert asked.calls and 0.5 < len(asked.calls) / before.calls < 2
    again, asked, _ = run(FLOW, shelf, ASKED, model())
    assert gists(asked) == 0 and final(again) == final(first)
    _, asked, _ = run(replace(FLOW, gist_tokens=30), shelf, ASKED, model())
    assert gists(asked) > 5, "gists of another length are other gists"


def test_a_document_that_is_added_is_gisted_alone(tmp_path: Path) -> None:
    book, other = write_book(tmp_path / "books"), tmp_path / "other.txt"
    other.write_text("Bob Marsh counted the lamps of the harbour. " * 12)
    library = open_library(tmp_path / "home")
    run(FLOW, library.shelve([book]), ASKED, model())
    _, asked, _ = run(FLOW, library.shelve([book, other]), ASKED, model())
    assert gists(asked) == 1


def test_a_page_as_short_as_its_gist_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(FACT)
    shelf = shelve(tmp_path / "home", tmp_path / "one.txt")
    _, asked, _ = run(FLOW, shelf, ASKED, model())
    assert gists(asked) == 0 and [page.gist for page in remembered(FLOW, shelf)] == [FACT]


def test_where_nothing_is_written_the_beginning_is_the_gist(shelf: Shelf) -> None:
    run(FLOW, shelf, ASKED, model(replies=lambda request: " "))
    text = shelf.document(shelf.documents[0].id).text
    pages = remembered(FLOW, shelf)
    assert pages[0].gist and text.startswith(pages[0].gist)


@pytest.mark.parametrize("goes_on", ["resume", "ask again"])
def test_gisting_that_was_cut_short_repeats_one_step_at_most(shelf: Shelf, tmp_path: Path, goes_on: str) -> None:
    home = open_library(tmp_path / "another home")
    whole, asked, _ = run(FLOW, home.shelve([shelf.documents[0].path]), ASKED, model())
    runs, needed = RunLog(tmp_path / "runs.sqlite"), gists(asked)
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        first, second = model(faults={5: ModelError("gone")}), model()
        begun = Services(first, shelf, runs)
        with pytest.raises(ModelError):
            run_with(FLOW, ASKED, begun, saver)
        assert gists(first) == 5
        if goes_on == "resume":
            answer = resume(FLOW, ASKED, Services(second, shelf, runs, begun.run), saver)
        else:
            answer = run_with(FLOW, ASKED, Services(second, shelf, runs), saver)
    assert final(answer) == final(whole)
    assert gists(second) == needed - 4, "a batch of two"


def test_what_is_looked_up_is_retrieved_or_skipped_and_the_rest_gisted(shelf: Shelf) -> None:
    answer, asked, _ = run(small(pages=2, passage_tokens=120), shelf, ASKED, model())
    pages, tokens = remembered(FLOW, shelf), shelf.count_tokens(asked)
    sizes = [sum(tokens[chunk] for chunk in page.chunks) for page in pages]
    fact = next(n for n, page in enumerate(pages) if any(FACT in chunk.text for chunk in shelf.get(page.chunks)))
    coverage = answer.coverage
    assert 0 < coverage.retrieved <= 120 and coverage.retrieved + coverage.skipped in {sizes[fact] + n for n in sizes}
    assert coverage.gisted == coverage.tokens - coverage.retrieved - coverage.skipped and coverage.unread == 0


def test_the_best_passages_of_the_pages_are_read_or_pages_in_full(shelf: Shelf) -> None:
    _, asked, _ = run(small(passage_tokens=100), shelf, ASKED, model())
    last = asked.calls[-1].request.messages[-1].content
    assert "[1]" in last and "[3]" not in last and FACT in last
    answer, asked, _ = run(small(passage_tokens=None), shelf, ASKED, model())
    last = asked.calls[-1].request.messages[-1].content
    assert "[3]" in last and "[4]" not in last and FACT in last and answer.coverage.skipped == 0
    tokens, pages = shelf.count_tokens(asked), remembered(FLOW, shelf)
    assert answer.coverage.retrieved > 2 * min(sum(tokens[chunk] for chunk in page.chunks) for page in pages)


def test_one_after_another_ends_where_a_page_states_it(shelf: Shelf) -> None:
    flow = small(lookup="sequential", enough_above=0.9, index=None, pages=4)
    answer, _, events = run(flow, shelf, ASKED, model())
    assert sum(event.stage == "look up" for event in events) == 1 and "Ann Weller" in answer.answer
    _, asked, events = run(replace(flow, enough_above=1.0), shelf, ASKED, model())
    assert sum(event.stage == "look up" for event in events) == 4
    weighed = [call.request.messages[-1].content for call in asked.calls if call.kind == "likelihood"]
    assert any(FACT in prompt and "Nothing about it." in prompt for prompt in weighed), "behind what was read before"


def test_gists_around_are_read_with_the_pages(shelf: Shelf) -> None:
    _, asked, _ = run(small(memory_tokens=24, pages=1, passage_tokens=None), shelf, ASKED, model())
    last = asked.calls[-1].request.messages[-1].content
    assert FACT in last and 1 <= last.count("Nothing about it.") <= 3
    _, asked, _ = run(small(memory_tokens=10**6, pages=1, passage_tokens=None), shelf, ASKED, model())
    everything = asked.calls[-1].request.messages[-1].content
    assert everything.count("Nothing about it.") == len(remembered(FLOW, shelf)) - 1
    numbers = re.findall(r"^\[(\d+)\]", everything, re.MULTILINE)
    assert numbers == [str(number + 1) for number in range(len(remembered(FLOW, shelf)))]


def picks(words: str):
    """Of numbered pages the one with these words, or else 0; the rest as `decides`."""

    def choose(request: Request, options: list[str]) -> list[float]:
        prompt = request.messages[-1].content
        if "should be read in full" not in prompt:
            return decides(request, options)
        found = re.search(rf"\[(\d+)\] [^\[]*{words}", prompt.split("Read in full so far")[0])
        wanted = f"{found[1]}]" if found else "0]"
        return [float(option == wanted) for option in options]

    return choose


@pytest.mark.parametrize("room_tokens", [60, 200, 5000])
def test_gists_are_chosen_from_in_rounds(shelf: Shelf, room_tokens: int) -> None:
    made = {page: f"Page {page} tells of {'the walrus' if page == 13 else 'nothing much'}." for page in range(20)}
    asked = model(choices=picks("walrus"))
    ranked = rank_by_choice(services(shelf, asked), "Where is the walrus?", made, "", room_tokens)
    assert ranked[0] == 13 and sorted(ranked) == list(range(20))
    assert len(asked.calls) == 2 if room_tokens == 5000 else len(asked.calls) > 2
    none = model(choices=picks("zebra"))
    assert rank_by_choice(services(shelf, none), "Where is it?", made, "", 5000) != []
    assert rank_by_choice(services(shelf, none), "Where is it?", made, "What is known.", 5000) == []
    assert rank_by_choice(services(shelf, none), "Where is it?", {}, "", 5000) == []


def test_an_endpoint_without_logits_chooses_page_by_page(shelf: Shelf) -> None:
    asked = model(choices=picks("Ann Weller"))
    asked.capabilities = frozenset({"schema"})
    asked.likelihood = partial(ModelBackend.likelihood, asked)
    answer, _, events = run(small(index=None, pages=3), shelf, ASKED, asked)
    assert "Ann Weller" in answer.answer and FACT in answer.evidence[0].quote
    assert sum(event.stage == "look up" for event in events) == 2, "then it says that no page is needed"


@pytest.mark.parametrize("calls", [3, 7, 30])
def test_a_budget_that_ends_it_leaves_an_answer(shelf: Shelf, calls: int) -> None:
    """While gists are written passages of the index are read; they are kept all the same."""
    asked = model()
    flow = small(lookup="sequential", pages=6, index="bm25", enough_above=1.0)
    begun = services(shelf, asked, budget=Budget(Limits(calls=calls + 4)))
    answer = flow.run(ASKED, begun)
    assert answer.stopped == f"max_calls={calls + 4}" and len(asked.calls) <= calls + 4
    assert "Ann Weller" in answer.answer and FACT in answer.evidence[0].quote
    _, again, _ = run(flow, shelf, ASKED, model())
    assert gists(again) == max(0, len(remembered(flow, shelf)) - gists(asked))
    assert answer.coverage.gisted > 0 and sum(asdict(answer.coverage).values()) == 2 * answer.coverage.tokens


def test_choices_are_answered_from_all_pages(shelf: Shelf) -> None:
    answer, asked, _ = run(small(enough_above=0.9), shelf, Question(QUESTION, ("Bob Marsh", "Ann Weller")), model())
    assert answer.answer in ("Bob Marsh", "Ann Weller") and not prompts(asked, "Does the text above say")


def test_what_cannot_be_is_refused(shelf: Shelf) -> None:
    for wrong in ({"batch": 0}, {"pages": 0}, {"gist_tokens": 0}, {"page_tokens": 10}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GistLookup(**wrong)
    asked = model(window_tokens=1500)
    with pytest.raises(PromptTooLongError, match="1200 tokens of text"):
        run(small(page_tokens=1200, passage_tokens=None), shelf, ASKED, asked)
    assert asked.calls == []
