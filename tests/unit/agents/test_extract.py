"""Extract: every kind of field, what is invented is dropped, lists over windows, budgets, models without logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import readthrough as rt
from readthrough.agents.base import Question
from readthrough.agents.reading.extracting import EXTRACT
from readthrough.agents.reading.schemas import leaves
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.spec.flow import Around, open_flow
from readthrough.agents.workflows.extract import Extract
from readthrough.errors import ConfigError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Limits
from tests.agent_samples import run, shelve
from tests.library_samples import story

LEASE = """The lease was signed on 3 June 2021 by Ann Weller, who lets the mill, and by Tom Ashe, the tenant.

The rent is £1,850.50 a month and is paid monthly. The term is seven years.

The mill stands at 12 Mill Row, Bath. Dogs and cats may be kept. Subletting is forbidden."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "landlord": {"$ref": "#/$defs/person", "description": "Who lets the mill."},
        "signed": {"type": "string", "format": "date", "description": "The day of the signature."},
        "rent": {"type": "number", "description": "The rent a month."},
        "term_years": {"type": "integer"},
        "paid": {"enum": ["weekly", "monthly"]},
        "subletting": {"type": "boolean", "description": "May the mill be sublet?"},
        "animals": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "town": {"type": "string"}},
            "required": ["town"],
        },
        "guarantor": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
        "deposit": {"type": "number"},
    },
    "required": ["landlord", "signed", "address"],
    "$defs": {"person": {"type": "string"}},
}
WRITTEN = {
    "landlord": " Ann Weller",
    "signed": "3 June 2021",
    "rent": 1850.5,
    "term_years": 7,
    "paid": "monthly",
    "animals": ["dogs", "cats", "Dogs", "horses"],
    "address.street": "12 Mill Row",
    "address.town": "Bath",
}

Written = Mapping[str, Any] | Callable[[Request], Mapping[str, Any]]


def scripted(written: Written, unsaid: Sequence[str] = (), says_yes: bool = False, **options: Any) -> ScriptedModel:
    """A model that writes values by the names of fields, and null for others.

    It finds that the text says all but what has the words of `unsaid`; of choices it takes the `monthly` one, and of
    questions to be answered with yes or no what `says_yes` says.
    """

    def replies(request: Request) -> str:
        values = written(request) if callable(written) else written
        names = (request.schema or {})["properties"]
        return json.dumps({name: values.get(name) for name in names})

    def choices(request: Request, given: Sequence[str]) -> list[float]:
        prompt = request.messages[-1].content
        if list(given) != ["Yes", "No"]:
            wanted = next((line[0] for line in prompt.splitlines() if line.endswith(". monthly")), given[0])
            return [0.9 if option == wanted else 0.1 / (len(given) - 1) for option in given]
        stated = "say the answer" in prompt
        yes = not any(word in prompt.rpartition("Question:")[2] for word in unsaid) if stated else says_yes
        return [0.99, 0.01] if yes else [0.01, 0.99]

    return ScriptedModel(replies=replies, choices=choices, **options)


def extract(folder: Path, text: str, schema: Any, model: ScriptedModel, **options: Any) -> Answer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    flow = Extract(schema=schema, index="bm25", **options)
    return run(flow, shelve(folder / "home", folder / "text.txt"), Question(EXTRACT), model)[0]


def supported(answer: Answer) -> dict[str, str]:
    """The quote of each leaf field, by its path."""
    paths = [path for path, _ in leaves(json.loads(answer.answer))]
    return {paths[number]: item.quote for item in answer.evidence for number in item.supports}


def test_fields_of_every_kind_with_their_sentences(tmp_path: Path) -> None:
    model = scripted(WRITTEN, unsaid=["guarantor", "deposit"])
    answer = extract(tmp_path, LEASE, SCHEMA, model)
    assert answer.answer == (
        '{"landlord":"Ann Weller","signed":"2021-06-03","rent":1850.5,"term_years":7,"paid":"monthly",'
        '"subletting":false,"animals":["dogs","cats"],"address":{"street":"12 Mill Row","town":"Bath"},'
        '"guarantor":null}'
    )
    Draft202012Validator(SCHEMA).validate(json.loads(answer.answer))
    assert not answer.abstained and answer.stopped is None and 0.5 < (answer.confidence or 0) < 1
    quotes = supported(answer)
    assert quotes["landlord"] == quotes["signed"] == LEASE.partition("\n\n")[0]
    assert quotes["rent"] == quotes["paid"] == "The rent is £1,850.50 a month and is paid monthly."
    assert quotes["term_years"] == "The term is seven years."
    assert quotes["animals[0]"] == quotes["animals[1]"] == "Dogs and cats may be kept."
    assert quotes["address.town"] == "The mill stands at 12 Mill Row, Bath."
    assert "guarantor" not in quotes and set(quotes) == {
        path for path, value in leaves(json.loads(answer.answer)) if value is not None
    }
    assert all(item.verified for item in answer.evidence)
    assert answer.coverage.read == answer.coverage.tokens


def test_what_the_text_does_not_say_is_never_told(tmp_path: Path) -> None:
    invented = {
        "landlord": "Zorro",
        "signed": "4 June 2021",
        "rent": 999,
        "term_years": 8,
        "animals": ["horses"],
        "address.street": "Baker Street",
        "address.town": "Paris",
        "guarantor": "Nobody",
        "deposit": 1,
    }
    answer = extract(tmp_path, LEASE, SCHEMA, scripted(invented, unsaid=["paid", "sublet"]))
    assert json.loads(answer.answer) == {"landlord": None, "signed": None, "address": {"town": None}, "guarantor": None}
    assert answer.abstained and answer.evidence == ()


def test_a_text_in_other_words_counts_half(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"tenant": {"type": "string"}}}
    said, other = (
        extract(tmp_path / name, LEASE, schema, scripted({"tenant": name}))
        for name in ("Tom Ashe, the tenant", "the tenant Tom Ashe")
    )
    assert said.confidence is not None and other.confidence == pytest.approx(0.5)
    assert supported(said) == supported(other) == {"tenant": LEASE.partition("\n\n")[0]}


def test_what_is_hardly_said_is_looked_for_again_where_the_value_stands(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"rent": {"type": "number"}}}
    looks: list[str] = []

    def model(again: float) -> ScriptedModel:
        made = scripted({"rent": 1850.5})

        def choices(request: Request, given: Sequence[str]) -> list[float]:
            looks.append(request.messages[-1].content)
            yes = again if "Ann Weller" not in looks[-1] else 0.6
            return [yes, 1 - yes]

        made.choices = choices
        made.likelihoods = lambda request, text: -10.0
        return made

    text = LEASE.replace("\n\nThe mill", "\n\n" + "The river is high. " * 20 + "\n\nThe mill")
    assert json.loads(extract(tmp_path / "yes", text, schema, model(0.97)).answer) == {"rent": 1850.5}
    assert len(looks) == 2 and len(looks[1]) < len(looks[0])
    assert json.loads(extract(tmp_path / "no", text, schema, model(0.6)).answer) == {}


ITEMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "boats": {
            "type": "array",
            "description": "The boats in the harbour.",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "crates": {"type": "integer"}},
                "required": ["name"],
            },
        }
    },
    "required": ["boats"],
}
NAMES = [
    f"{first} {second}" for first in ("Amber", "Copper", "Silver") for second in ("Gull", "Heron", "Kestrel", "Owl")
]
BOATS = "\n\n".join(
    f"The {name} came in with {number + 3} crates of herring. " + "The wind fell and the tide turned at noon. " * 6
    for number, name in enumerate(NAMES)
)


def writes_boats(request: Request) -> dict[str, Any]:
    """All boats that the prompt names, one that it does not, and one twice."""
    prompt = request.messages[-1].content
    found = [{"name": name, "crates": at + 3} for at, name in enumerate(NAMES) if name in prompt]
    return {"items": [*found, {"name": "Flying Dutchman", "crates": 99}, *found[:1]]}


def test_items_are_found_in_every_window_and_told_once_in_order(tmp_path: Path) -> None:
    model = scripted(writes_boats)
    answer = extract(tmp_path, f"{BOATS}\n\nThe Amber Gull slept.", ITEMS, model, window_tokens=300, parallel=2)
    assert json.loads(answer.answer) == {"boats": [{"name": name, "crates": at + 3} for at, name in enumerate(NAMES)]}
    quotes = supported(answer)
    for at, name in enumerate(NAMES):
        assert name in quotes[f"boats[{at}].name"] and f" {at + 3} crates" in quotes[f"boats[{at}].crates"]
    assert answer.coverage.read == answer.coverage.tokens and not answer.abstained
    assert len([call for call in model.calls if call.kind == "complete"]) > 3


def test_a_window_with_more_items_than_a_reply_holds_is_divided(tmp_path: Path) -> None:
    answer = extract(tmp_path, BOATS, ITEMS, scripted(writes_boats), list_tokens=120)
    assert [boat["name"] for boat in json.loads(answer.answer)["boats"]] == NAMES
    assert answer.stopped is None and answer.coverage.read == answer.coverage.tokens


def test_a_reply_that_is_cut_for_good_is_told(tmp_path: Path) -> None:
    answer = extract(
        tmp_path, LEASE.replace("Ann Weller", " and ".join(NAMES)), ITEMS, scripted(writes_boats), list_tokens=60
    )
    boats = json.loads(answer.answer)["boats"]
    assert 0 < len(boats) < len(NAMES) and answer.stopped == "list_tokens=60" and not answer.resumable
    schema = {"type": "object", "properties": {"landlord": {"type": "string"}}}
    answer = extract(tmp_path / "value", LEASE, schema, scripted(WRITTEN), value_tokens=5)
    assert (answer.answer, answer.abstained, answer.stopped) == ("{}", True, "value_tokens=5")
    schema = {"type": "object", "properties": {"animals": SCHEMA["properties"]["animals"]}}
    many = scripted({"animals": ["dogs", "cats", "unicorns", "dragons"]})
    answer = extract(tmp_path / "list", LEASE, schema, many, list_tokens=16)
    assert (answer.answer, answer.stopped) == ('{"animals":["dogs","cats"]}', "list_tokens=16")


def test_no_items_are_an_empty_list_or_none(tmp_path: Path) -> None:
    boats = ITEMS["properties"]["boats"]
    forms = [
        (ITEMS, {"boats": []}),
        ({**ITEMS, "required": []}, {}),
        ({"type": "object", "properties": {"boats": {**boats, "type": ["array", "null"]}}}, {"boats": None}),
        ({"type": "object", "properties": {"boats": {**boats, "minItems": 1}}, "required": ["boats"]}, {"boats": []}),
    ]
    for number, (schema, expected) in enumerate(forms):
        answer = extract(tmp_path / str(number), LEASE, schema, scripted({"items": []}))
        assert json.loads(answer.answer) == expected and answer.abstained


def test_fields_of_a_long_text_are_filled_in_from_passages(tmp_path: Path) -> None:
    parts = story(3, 80).split("\n\n")
    parts[20:20], parts[60:60] = [LEASE.split("\n\n")[0]], [LEASE.split("\n\n")[1]]
    schema = {**SCHEMA, "properties": {key: SCHEMA["properties"][key] for key in ("landlord", "rent")}, "required": []}
    model = scripted(WRITTEN)
    answer = extract(tmp_path, "\n\n".join(parts), schema, model, passage_tokens=400)
    assert json.loads(answer.answer) == {"landlord": "Ann Weller", "rent": 1850.5}
    assert set(supported(answer)) == {"landlord", "rent"}
    coverage = answer.coverage
    assert (
        0 < coverage.retrieved <= 800 and coverage.read == 0 and coverage.unread == coverage.tokens - coverage.retrieved
    )
    written = [call.request.messages[-1].content for call in model.calls if call.kind == "complete"]
    assert "3 June 2021" in written[0] and "1,850.50" in written[1]


def test_a_model_without_logits_is_asked_for_fields_together(tmp_path: Path) -> None:
    model = scripted({**WRITTEN, "paid": "monthly", "subletting": False, "address.town": "the row of Bath"})
    model.capabilities = frozenset({"schema"})
    answer = extract(tmp_path, LEASE, SCHEMA, model)
    value = json.loads(answer.answer)
    assert value["landlord"] == "Ann Weller" and value["paid"] == "monthly" and value["subletting"] is False
    assert value["guarantor"] is None and "deposit" not in value
    assert [call.kind for call in model.calls] == ["complete", "complete"]
    assert answer.confidence == 0.5, "the town is said in other words"
    assert supported(answer)["paid"] == "The rent is £1,850.50 a month and is paid monthly."
    assert supported(answer)["subletting"] in LEASE


def test_a_budget_ends_it_with_the_fields_so_far(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(LEASE)
    services = Services(scripted(WRITTEN), shelve(tmp_path / "home", tmp_path / "text.txt"), RunLog())
    services.budget = Budget(Limits(calls=14))
    flow = Extract(schema=SCHEMA, index="bm25", parallel=2)
    answer = flow.run(Question(EXTRACT), services)
    value = json.loads(answer.answer)
    assert value["landlord"] == "Ann Weller" and value["address"] == {"town": None} and "term_years" not in value
    assert answer.stopped == "max_calls=14" and answer.abstained and answer.usage.calls <= 14


def test_the_run_log_has_a_probability_a_field(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(LEASE)
    services = Services(scripted(WRITTEN, ["guarantor"]), shelve(tmp_path / "home", tmp_path / "text.txt"), RunLog())
    schema = {**SCHEMA, "required": [*SCHEMA["required"], "deposit"]}
    answer = Extract(schema=schema, index="bm25").run(Question(EXTRACT), services)
    noted = {
        each["what"]: each for step in services.runs.steps(answer.run) for each in step.decisions if "what" in each
    }
    assert 0 < noted["landlord is 'Ann Weller'"]["confidence"] <= 1
    assert "deposit was not found, and the schema requires it" in noted
    sure = [each["confidence"] for what, each in noted.items() if " is " in what and "confidence" in each]
    assert answer.confidence == pytest.approx(min(sure), abs=1e-4)


def test_a_schema_is_a_mapping_a_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lease.schema.json"
    file.write_text(json.dumps(SCHEMA))
    for given in (SCHEMA, json.dumps(SCHEMA), str(file)):
        assert Extract(schema=given).options()["schema"] == SCHEMA
    (tmp_path / "lease.yaml").write_text(f"workflow:\n  extract:\n    schema: {file}\n")
    flow = open_flow(str(tmp_path / "lease.yaml"), Around()).workflow
    assert isinstance(flow, Extract) and flow.schema == SCHEMA
    with rt.read(_written(tmp_path), model=scripted(WRITTEN), home=tmp_path / "home", index="bm25") as book:
        assert json.loads(book.extract(file).answer)["landlord"] == "Ann Weller"
        assert book.extract(SCHEMA).answer == book.ask(EXTRACT, workflow={"extract": {"schema": str(file)}}).answer


def test_choices_and_a_schema_exclude_each_other(tmp_path: Path) -> None:
    model = scripted({})
    with pytest.raises(UsageError, match="enum"):
        run(Extract(schema=SCHEMA), shelve(tmp_path, _written(tmp_path)), Question("Who?", ("Ann", "Tom")), model)
    assert model.calls == []


@pytest.mark.parametrize("option", ["k", "passage_tokens", "window_tokens", "value_tokens", "list_tokens", "parallel"])
def test_options_have_a_range(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        Extract(**{option: 0})  # type: ignore[arg-type]


def _written(folder: Path) -> Path:
    (folder / "lease.txt").write_text(LEASE)
    return folder / "lease.txt"
