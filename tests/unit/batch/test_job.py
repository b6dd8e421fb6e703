"""Jobs: names of works, what makes an answer another, and what cannot be a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from readthrough.batch.job import WHOLE, Job, Recipes, Work, name_of
from readthrough.batch.works import asks, extraction, summary
from readthrough.config import Settings
from readthrough.errors import ConfigError, UsageError
from readthrough.questions import Asked
from tests.batch_samples import WHEN, WHO, asking

FOLDER, OUT = Path("docs"), Path("out.jsonl")


def recipe(job: Job, content: str = "c", **settings: Any) -> str:
    return Recipes(job, Settings(home=Path("home"), **settings)).of("a", content)[job.works[0].id]


def test_a_work_is_named_by_what_is_wanted() -> None:
    ids = [
        Work("ask", WHO).id,
        Work("ask", WHEN).id,
        Work("summarize", WHO).id,
        Work("ask", WHO, ("Ann", "Ben")).id,
        Work("ask", WHO, ("Ben", "Ann")).id,
        Work("ask", WHO, whole=True).id,
    ]
    assert len(set(ids)) == len(ids)
    assert Work("ask", WHO, workflow="map-reduce").id == ids[0], "not by what answers it"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Work("ask", "  "),
        lambda: Work("ask", WHO, ("Ann",)),
        lambda: Work("ask", WHO, ("Ann", " ")),
        lambda: Job(FOLDER, (), OUT),
        lambda: asking(FOLDER, OUT, WHO, WHO),
        lambda: asking(FOLDER, OUT, abstain_below=3),
        lambda: asking(FOLDER, OUT, tries=0),
        lambda: asking(FOLDER, OUT, workers=-1),
        lambda: summary(focus=" "),
    ],
)
def test_what_cannot_be_a_job(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


def test_works_of_a_document_and_of_the_folder() -> None:
    works = (*asks([Asked(WHO)]), *asks([Asked(WHEN)], whole=True), summary())
    job = Job(FOLDER, works, OUT)
    assert job.works_of("a.txt") == (works[0], works[2])
    assert job.works_of(WHOLE) == (works[1],)
    assert set(Recipes(job, Settings()).of(WHOLE, "c")) == {works[1].id}


def test_recipes() -> None:
    job = asking(FOLDER, OUT)
    base = recipe(job)
    assert recipe(job) == base
    others = [
        recipe(job, "another"),
        recipe(job, model="small"),
        recipe(job, workflow="map-reduce"),
        recipe(job, workflow={"map-reduce": {"window_tokens": 512}}),
        recipe(job, index="bm25"),
        recipe(job, window_tokens=512),
        recipe(asking(FOLDER, OUT, options={"k": 3})),
        recipe(asking(FOLDER, OUT, WHEN)),
    ]
    assert len({base, *others}) == len(others) + 1
    same = [
        recipe(asking(Path("moved"), Path("elsewhere.csv"), include=("*",), tries=9, workers=2)),
        recipe(job, deadline_seconds=5.0),
        recipe(job, device="cpu"),
    ]
    assert set(same) == {base}


def test_a_key_or_password_is_no_part_of_a_recipe() -> None:
    job = asking(FOLDER, OUT)
    assert recipe(job, base_url="http://me:secret@host/v1") == recipe(job, base_url="http://host/v1")
    assert recipe(job, model={"openai": {"model": "m", "api_key": "a"}}) == recipe(
        job, model={"openai": {"model": "m", "api_key": "b"}}
    )


def test_the_jobs_options_are_not_for_works_with_a_workflow_of_their_own() -> None:
    plain, with_options = (Job(FOLDER, (summary(),), OUT, options=options) for options in ({}, {"k": 3}))
    assert recipe(plain) == recipe(with_options)


def test_a_workflows_file_counts_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text("a: 1")
    job = asking(FOLDER, OUT)
    recipes = Recipes(job, Settings(workflow=str(file)))
    before = recipes.of("a", "c")
    file.write_text("a: 2")
    assert recipes.of("a", "c") == before, "as it was when the batch began"
    assert Recipes(job, Settings(workflow=str(file))).of("a", "c") != before
    file.unlink()
    with pytest.raises(ConfigError, match=r"graph\.yaml"):
        Recipes(job, Settings(workflow=str(file)))


def test_names() -> None:
    job = asking(FOLDER, Path("somewhere/../out.jsonl"))
    assert job.name == name_of(OUT) == os.path.abspath("out.jsonl")
    name_of(Path(os.fsdecode(b"caf\xe9.jsonl"))).encode()


def test_what_a_job_says_of_itself() -> None:
    job = Job(
        FOLDER,
        (
            extraction({"type": "object", "properties": {"date": {"type": "string"}}}),
            summary(focus="boats", whole=True),
        ),
        OUT,
        include=("*.md",),
    )
    described = job.describe()
    assert described["folder"] == str(FOLDER.absolute())
    assert [(work["kind"], work["whole"]) for work in described["works"]] == [("extract", False), ("summarize", True)]
    assert described["include"] == ["*.md"]
