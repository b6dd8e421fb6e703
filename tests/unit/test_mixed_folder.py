"""The folder that the benchmark of batches reads: every kind reads back right, every broken file is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.batch_folder import check
from benchmarks.broken_files import BROKEN, write_broken
from benchmarks.mixed_files import WRITERS, fits_pdf, pdf
from benchmarks.mixed_folder import make
from benchmarks.watching import Watched, watch
from readthrough.documents.load import load
from readthrough.documents.sandbox import Sandbox
from readthrough.errors import InputError
from tests.document_samples import long_text

PARAGRAPHS = [
    "Élodie said: “The café’s naïve façade – it’s 40 € a night…” and left.",
    "A line with <angle> & ampersand, and a formula a_b*c that is no markup.",
    "The keeper is named Ann. " * 40,
] * 20


@pytest.mark.parametrize("kind", WRITERS)
def test_a_kind_reads_back_as_it_was_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"one.{kind}"
    path.write_bytes(WRITERS[kind]("The title", PARAGRAPHS))
    read = load(path).text.split()
    for paragraph in PARAGRAPHS[:3]:
        assert " ".join(paragraph.split()) in " ".join(read)
    assert Counter(" ".join(PARAGRAPHS).split()) - Counter(read) == Counter()


def test_a_pdf_has_pages_and_says_what_it_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "one.pdf").write_bytes(pdf("The title", PARAGRAPHS))
    assert len(load(tmp_path / "one.pdf").pages) > 5
    assert fits_pdf("“Élodie’s – 40 €…”") and not fits_pdf("漢字")


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_file_is_refused_with_a_reason(number: int, tmp_path: Path) -> None:
    path = tmp_path / write_broken(tmp_path, number)
    with Sandbox() as sandbox, pytest.raises(InputError) as caught:
        load(path, sandbox=sandbox)
    assert caught.value.message


def test_a_batch_over_the_folder(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "topics.txt").write_text(long_text()[:90_000])
    (tmp_path / "texts" / "rows.jsonl").write_text(json.dumps({"id": "a", "text": long_text()[90_000:200_000]}) + "\n")
    folder = tmp_path / "mixed"
    made = make(tmp_path / "texts", folder, whole=7, broken=3, seed=0)
    assert {file.kind for file in made} == {*WRITERS, "py", ""}
    script, rows = tmp_path / "script.yaml", tmp_path / "rows.jsonl"
    script.write_text("replies: {'.': 'It is not said.'}\n")
    given = ["--model", f"scripted:{script}", "--index", "bm25", "--home", str(tmp_path / "home")]
    watched = watch(["batch", "run", str(folder), "-q", "Who is it?", "--out", str(rows), *given], tmp_path)
    manifest = [vars(file) for file in made]
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    report, wrong = check(manifest, lines, watched)
    assert wrong == [] and report["answered"] == 7 and len(report["reported"]) == 3
    assert watched.peak_bytes > 20e6 and watched.cpu_seconds > 0.1
    short, wrong = check(manifest, lines[1:], Watched(0, 1.0, 1, 1.0, "", ""))
    assert len(wrong) == 2 and short["exit_code"] == 0
