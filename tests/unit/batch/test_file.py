"""The YAML file of a batch: all that it may say, and that whatever is wrong is found with its line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from readthrough.batch.file import read_job
from readthrough.batch.job import Work
from readthrough.errors import ConfigError, InputError, UsageError
from readthrough.types import Limits
from tests.batch_samples import WHEN, WHO

START = "folder: docs\nout: out.jsonl\nquestions: [Who]\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(dedent(text))
    return path


def test_all_that_it_may_say(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text(f"{WHEN}\n")
    (tmp_path / "graph.yaml").write_text("nodes: {}\n")
    read = read_job(
        written(
            tmp_path,
            f"""\
            folder: docs
            out: results/out.csv
            include: ["*.md"]
            exclude: ["draft*"]
            recursive: false
            questions:
              - {WHO}
              - question: Which?
                choices: [Ann, Ben]
            folder_questions: more.txt
            extract:
              type: object
              properties: {{date: {{type: string}}}}
            summarize:
              words: 80
              focus: boats
            options:
              k: 3
            limits:
              document: {{seconds: 9.5, tokens: 900, calls: 9}}
              all: {{calls: 99}}
            abstain_below: 0.3
            tries: 5
            workers: 2
            workflow: graph.yaml
            model: small
            index: bm25
            encoding: cp1252
            device: cpu
            """,
        )
    )
    job = read.job
    assert (job.folder, job.out) == (tmp_path / "docs", tmp_path / "results/out.csv")
    assert (job.include, job.exclude, job.recursive) == (("*.md",), ("draft*",), False)
    assert job.works[:3] == (Work("ask", WHO), Work("ask", "Which?", ("Ann", "Ben")), Work("ask", WHEN, whole=True))
    assert [work.kind for work in job.works[3:]] == ["extract", "summarize"]
    assert (job.document_limits, job.limits) == (Limits(9.5, 900, 9), Limits(calls=99))
    assert (dict(job.options), job.abstain_below, job.tries, job.workers) == ({"k": 3}, 0.3, 5, 2)
    assert read.overrides == {
        "workflow": str(tmp_path / "graph.yaml"),
        "model": "small",
        "index": "bm25",
        "encoding": "cp1252",
        "device": "cpu",
    }


def test_the_least_that_it_must_say(tmp_path: Path) -> None:
    read = read_job(written(tmp_path, "folder: docs\nout: out.jsonl\nsummarize: true\n"))
    assert [work.kind for work in read.job.works] == ["summarize"]
    assert (read.job.limits, read.job.tries, read.job.workers, read.overrides) == (Limits(), 3, 0, {})
    read = read_job(written(tmp_path, START + "summarize: false\nworkflow: map-reduce\n"))
    assert len(read.job.works) == 1
    assert read.overrides == {"workflow": "map-reduce"}


@pytest.mark.parametrize(
    ("text", "line", "match", "hint"),
    [
        ("", 1, "folder", ""),
        ("[1]", 1, "mapping", ""),
        ("folder: docs\nquestions: [Who]\n", 1, "out", ""),
        (START + "incldue: [a]\n", 4, "unknown key 'incldue'", "'include'"),
        (START + "limits:\n  document:\n    call: 3\n", 6, "unknown key under 'document' 'call'", "'calls'"),
        (START + "limits:\n  documents: {}\n", 5, "unknown key under 'limits' 'documents'", "'document'"),
        (START + "summarize:\n  wrods: 3\n", 5, "unknown key under 'summarize' 'wrods'", "'words'"),
        (START + "tries: 0\n", 4, "tries", ""),
        (START + "abstain_below: 3\n", 4, "abstain_below", ""),
        (START + "tries: many\n", 4, "tries", ""),
        (START + "workers: -1\n", 4, "workers", ""),
        (START + "recursive: 1\n", 4, "recursive", ""),
        (START + "include: '*.md'\n", 4, "include", ""),
        (START + "include: [1]\n", 4, "include", ""),
        (START + "limits:\n  all:\n    seconds: -3\n", 6, "seconds", ""),
        (START + "limits:\n  all:\n    calls: 2.5\n", 6, "calls", ""),
        (START + "summarize:\n  words: 0\n", 5, "words", ""),
        (START + "summarize: 3\n", 4, "summarize", ""),
        (START + "extract: 3\n", 4, "extract", ""),
        (START + "options: 3\n", 4, "options", ""),
        (START + "model: 3\n", 4, "model", ""),
        (START + "out: again.csv\n", 4, "twice", ""),
        ("folder: docs\nout: o.jsonl\nquestions:\n  - Who\n  - 3\n", 5, "not a question", "choices"),
        ("folder: docs\nout: o.jsonl\nquestions: 3\n", 3, "questions", ""),
        ("folder: docs\nout: o.jsonl\nquestions: []\n", 1, "nothing to do", "summarize"),
        ("folder: docs\nout: o.jsonl\nfolder_questions:\n  - question: Who?\n    choice: [a]\n", 4, "question", ""),
        (START + "index: 3\n", 4, "index", ""),
        ("folder: 3\nout: o.jsonl\nsummarize: true\n", 1, "folder", ""),
    ],
)
def test_what_is_wrong_is_found_with_its_line(tmp_path: Path, text: str, line: int, match: str, hint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=match) as caught:
        read_job(path)
    assert caught.value.path == f"{path}:{line}"
    assert hint in (caught.value.hint or "")
    assert ".str" not in caught.value.message and ".dict" not in caught.value.message


@pytest.mark.parametrize("works", ["questions: [Who, Who]", "questions: ['  ']", "summarize: {focus: ' '}"])
def test_works_that_cannot_be_done(tmp_path: Path, works: str) -> None:
    path = written(tmp_path, f"folder: docs\nout: out.jsonl\n{works}\n")
    with pytest.raises((ConfigError, UsageError)):
        read_job(path)


def test_its_file_of_questions_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="questions") as caught:
        read_job(written(tmp_path, "folder: docs\nout: out.jsonl\nquestions: nowhere.txt\n"))
    assert caught.value.path == str(tmp_path / "nowhere.txt")


def test_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_job(tmp_path / "nowhere.yaml")
