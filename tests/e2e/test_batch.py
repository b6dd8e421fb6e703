"""`readthrough batch` from a shell: what it prints where, what it writes, how it ends, and what it asks again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.batch_samples import SAID, WHEN, WHO, lights, rows, write_folder
from tests.document_samples import (
    docx_entries,
    docx_paragraph,
    encrypted_pdf_bytes,
    epub_entries,
    pdf_bytes,
    zip_bytes,
)
from tests.e2e.conftest import Run

LIGHT = "Ann keeps the light on the cliff. The boats went out at dawn."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of mixed kinds, some of them broken."""
    return write_folder(
        tmp_path / "docs",
        {
            **lights(2),
            "notes/page.md": f"# Cliff\n\n{LIGHT} A page.\n",
            "notes/page.html": f"<html><body><h1>Cliff</h1><p>{LIGHT} A web page.</p></body></html>",
            "notes/tool.py": f'def keeper():\n    """{LIGHT}"""\n    return "Ann"\n',
            "book.epub": zip_bytes(epub_entries({"a.xhtml": f"<p>{LIGHT} A book.</p>"})),
            "letter.docx": zip_bytes(docx_entries(docx_paragraph(f"{LIGHT} A letter."))),
            "paper.pdf": pdf_bytes([[f"{LIGHT} A paper."]]),
            "broken/cut.pdf": pdf_bytes([["cut"]])[:80],
            "broken/locked.pdf": encrypted_pdf_bytes(),
            "broken/cut.docx": zip_bytes(docx_entries(docx_paragraph("cut")))[:120],
            "broken/none.epub": zip_bytes({"mimetype": "application/epub+zip"}),
            "picture.png": b"\x89PNG\r\n\x1a\n\0\0\0\0",
        },
    )


DONE, BROKEN, ALL = 8, 4, 13


def lost(lines: list[dict[str, Any]]) -> set[str]:
    return {line["document"] for line in lines if "error" in line}


def test_a_folder_of_mixed_kinds(run: Run, folder: Path, tmp_path: Path) -> None:
    out = folder / "results.jsonl"
    arguments = ["batch", "run", folder, "-q", WHO, "-q", WHEN, "--out", out]
    done = run(*arguments)
    assert done.returncode == 3, done.stderr
    assert done.stdout == f"{DONE} of {ALL} documents done, {2 * DONE} answers now; {out}\n"
    lines = rows(out)
    assert len(lines) == 2 * (DONE + BROKEN)
    assert lost(lines) == {"broken/cut.pdf", "broken/locked.pdf", "broken/cut.docx", "broken/none.epub"}
    for name in lost(lines):
        assert f"failed {name}: " in done.stderr
    assert "readthrough batch retry" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr

    again = json.loads(run(*arguments, "--json", "--quiet").stdout)
    assert (again["answers"], again["calls"], again["new"], again["changed"], again["gone"]) == (0, 0, 0, 0, 0)
    assert again["documents"] == {"done": DONE, "failed": BROKEN, "skipped": 1}
    assert rows(out) == lines

    write_folder(folder, {"light000.txt": f"{LIGHT} It was edited.", "new.md": f"{LIGHT} It is new."})
    (folder / "light001.txt").unlink()
    (folder / "broken/cut.pdf").write_bytes(pdf_bytes([[f"{LIGHT} Mended."]]))
    third = json.loads(run(*arguments, "--json").stdout)
    assert (third["answers"], third["new"], third["changed"], third["gone"]) == (6, 1, 2, 1)
    assert third["documents"] == {"done": DONE + 1, "failed": BROKEN - 1, "skipped": 1}
    assert "light001.txt" not in {line["document"] for line in rows(out)}

    status = json.loads(run("batch", "status", out, "--json").stdout)
    assert status["documents"] == third["documents"]
    assert {each["document"] for each in status["errors"]} == lost(rows(out))
    assert all(each["error"]["message"] for each in status["errors"])
    plain = run("batch", "status")
    assert plain.stdout.splitlines()[0] == str(out)
    assert "failed broken/cut.docx: " in plain.stdout
    assert run("batch", "retry", out).stdout.startswith("3 documents wait to be tried again")
    assert json.loads(run("batch", "status", "--json").stdout)["documents"]["waiting"] == 3
    assert run(*arguments).returncode == 3
    home = tmp_path / "home"
    assert os.stat(home).st_mode & 0o777 == 0o700
    for path in home.glob("*.sqlite*"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_the_folder_as_a_whole_from_yaml(run: Run, folder: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    text = {
        "folder": "docs",
        "out": "out.csv",
        "exclude": ["broken/", "*.png"],
        "folder_questions": [WHO],
        "questions": [{"question": WHEN, "choices": ["at dawn", "at dusk"]}],
        "limits": {"document": {"calls": 50}},
    }
    job.write_text(json.dumps(text))
    expected = json.loads(run("batch", "run", job, "--dry-run", "--json").stdout)
    assert (expected["documents"], expected["answers"]) == (DONE + 1, DONE + 1)
    assert expected["calls"] >= DONE and expected["tokens"] > 0 and expected["money"] is None
    assert not (tmp_path / "out.csv").exists()
    said = run("batch", "run", job, "--dry-run").stdout
    assert said.startswith(f"{DONE + 1} documents, {DONE + 1} answers: about ")
    done = run("batch", "run", job)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == DONE + 2
    assert lines[1].startswith(f".,ask,{WHO},{SAID},")
    wrong = run("batch", "run", job, "--workers", "3")
    assert wrong.returncode == 2
    assert "--workers is not for here" in wrong.stderr
    job.write_text(json.dumps({**text, "exlude": []}, indent=1))
    wrong = run("batch", "run", job)
    assert wrong.returncode == 4
    assert f"{job}:" in wrong.stderr and "did you mean 'exclude'?" in wrong.stderr


def test_the_small_model_answers(run: Run, tmp_path: Path) -> None:
    """Nothing scripted: the embedded model, the embedder, both indexes, over two short documents."""
    folder = write_folder(
        tmp_path / "docs",
        {
            "cliff.txt": "Ann Weller keeps the light on the cliff. Her brother mends the nets.",
            "harbour.txt": "Ben Fisher runs the ferry in the harbour. The ferry is painted green.",
        },
    )
    out = tmp_path / "out.jsonl"
    real = {"READTHROUGH_MODEL": "small", "READTHROUGH_INDEX": "hybrid"}
    questions = ["-q", "Who keeps the light on the cliff?", "-q", "Who runs the ferry in the harbour?"]
    done = run("batch", "run", folder, *questions, "--out", out, extra=real)
    assert done.returncode == 0, done.stderr
    told = {(line["document"], line["question"]): line for line in rows(out)}
    assert len(told) == 4
    assert "Ann" in told["cliff.txt", questions[1]]["answer"]
    assert "Ben" in told["harbour.txt", questions[3]]["answer"]
    assert {item["document"] for item in told["cliff.txt", questions[1]]["evidence"]} == {"cliff.txt"}
    assert json.loads(run("batch", "run", folder, *questions, "--out", out, "--json", extra=real).stdout)["calls"] == 0
