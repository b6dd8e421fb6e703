"""Extraction with the small real model, and from a shell: the example of the README."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator

import readthrough as rt
from readthrough.agents.reading.schemas import leaves
from tests.e2e.conftest import Run
from tests.schemas import ANSWER, ERROR, checked

FOLDER = Path(__file__).parents[2] / "examples" / "extract"
LEASE, SCHEMA = FOLDER / "lease.txt", FOLDER / "lease.schema.json"


def test_the_small_model_fills_in_the_example(small_model, tmp_path: Path) -> None:
    with rt.read(LEASE, model=small_model, home=tmp_path / "home", index="bm25") as book:
        answer = book.extract(SCHEMA)
    value = json.loads(answer.answer)
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(value)
    assert value["landlord"] == "Harbour Estates plc" and value["signed"] == "2021-06-03"
    assert value["yearly_rent"] == 18500 and value["guarantor"] is None
    assert {"name": "deposit", "amount": 4625} in value["payments"]
    paths = leaves(value)
    quotes = {paths[number]: item.quote for item in answer.evidence for number in item.supports}
    assert "£18,500" in quotes["yearly_rent", 18500] and "3rd day of June" in quotes["signed", "2021-06-03"]
    assert {leaf for leaf in paths if leaf[1] is not None} == set(quotes)
    assert not answer.abstained and answer.coverage.unread == 0


def test_from_a_shell(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "extract.yaml"
    script.write_text(
        "replies:\n"
        "  'Fill in[^-]*- landlord': '{\"landlord\": \"Harbour Estates plc\"}'\n"
        "  'Fill in[^-]*- tenant': '{\"tenant\": null}'\n"
        "  'Fill in[^-]*- signed': '{\"signed\": \"3rd day of June, 2021\"}'\n"
        "  'Fill in[^-]*- yearly_rent': '{\"yearly_rent\": 18500}'\n"
        "  'Fill in[^-]*- guarantor': '{\"guarantor\": null}'\n"
        "  'List every': '{\"items\": []}'\n"
        "choices: {'Yes or No': 'Yes', 'monthly': 'B'}\n"
    )
    arguments = ("ask", "Extract the data.", LEASE, "--workflow", "extract", "--json", "--quiet")
    done = run(*arguments, "-o", f"schema={SCHEMA}", extra={"READTHROUGH_MODEL": f"scripted:{script}"})
    assert done.returncode == 0, done.stderr
    answer = checked(done.stdout, ANSWER)
    filled = '{"landlord":"Harbour Estates plc","tenant":null,"signed":"2021-06-03","yearly_rent":18500'
    assert answer["answer"].startswith(filled) and answer["abstained"], "the tenant is required"
    refused = run(*arguments, "-o", 'schema={"type": "array", "items": {"type": "string"}}')
    assert refused.returncode == 4
    assert "describes no object" in checked(refused.stdout, ERROR)["error"]["message"]
    assert run(*arguments, "-o", "schema=none.json").returncode == 4
