"""Estimates of batches: a sample of all sizes, of what is open, and nothing is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.batch.estimating import estimate, sample
from readthrough.batch.job import Job
from readthrough.batch.works import asks
from readthrough.questions import Asked
from tests.batch_samples import WHEN, WHO, asking, go, lights, scripted, write_folder
from tests.document_samples import pdf_bytes


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [
        (0, 8, []),
        (1, 8, [0]),
        (3, 8, [0, 1, 2]),
        (8, 8, list(range(8))),
        (9, 3, [1, 4, 7]),
        (100, 4, [12, 37, 62, 87]),
        (10, 1, [5]),
    ],
)
def test_a_sample_is_of_all_sizes(count: int, most: int, chosen: list[int]) -> None:
    assert sample([str(number) for number in range(count)], most) == [str(number) for number in chosen]


def test_what_is_open_is_estimated(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", {**lights(10), "broken.pdf": pdf_bytes([["x"]])[:60]})
    settings = scripted(tmp_path / "home")
    one, two = asking(folder, tmp_path / "out.jsonl", WHO), asking(folder, tmp_path / "out.jsonl", WHO, WHEN)
    first = estimate(one, settings)
    assert (first.documents, first.answers) == (11, 11)
    assert first.sample in (7, 8), "a broken one says nothing"
    assert first.cost.calls >= 10 and first.cost.prompt_tokens > 0
    assert not one.out.exists(), "nothing was answered"
    assert estimate(two, settings).answers == 22
    go(one, settings)
    more = estimate(two, settings)
    assert (more.documents, more.answers) == (11, 12), "what has its answer is not asked again"
    assert more.cost.calls <= 1.3 * first.cost.calls
    assert estimate(one, settings).to_dict()["documents"] == 1, "the broken one is tried again, as it was asked anew"


def test_questions_of_the_folder_are_estimated_from_all_that_can_be_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", {**lights(3), "broken.pdf": pdf_bytes([["x"]])[:60]})
    job = Job(folder, tuple(asks([Asked(WHO)], whole=True)), tmp_path / "out.csv")
    expected = estimate(job, scripted(tmp_path / "home"))
    assert expected.answers == 1
    assert expected.cost.calls > 0


def test_nothing_is_open(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "docs", {})
    expected = estimate(asking(folder, tmp_path / "out.jsonl"), scripted(tmp_path / "home"))
    assert (expected.documents, expected.answers, expected.cost.calls, expected.money) == (0, 0, 0, None)
