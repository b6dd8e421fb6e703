"""Plans in the local engine: exact by default, the same with everything kept, refused before weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import readthrough as rt
from readthrough.compression.base import Choice
from readthrough.compression.patterns.sink_window import SinkWindow
from readthrough.compression.plan import Plan
from readthrough.errors import ConfigError, UnknownNameError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.open import open_model
from tests import tiny_models

LONG = Request.user(tiny_models.TEXT * 6 + " What was the ship's name?", max_tokens=24)
SHORT = Request.user("The sea?", max_tokens=12)
SPARSE = {"select": {"sink-window": {"window_tokens": 128, "dense_below_tokens": 200}}}
WHOLE = {"select": {"sink-window": {"window_tokens": 4096, "dense_below_tokens": 200}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def opened(folder: str, plan: Any = None, **options: Any) -> LocalModel:
    return LocalModel(folder, device="cpu", plan=plan, **options)


def likelihoods(model: LocalModel) -> list[float]:
    return [found.logprob for found in model.likelihood([LONG, SHORT], ["grey", "grey"])]


@pytest.mark.parametrize("forward_tokens", [2048, 256])
def test_with_everything_kept_nothing_changes(folder: str, forward_tokens: int) -> None:
    dense, whole = opened(folder), opened(folder, WHOLE, forward_tokens=forward_tokens)
    assert likelihoods(whole) == pytest.approx(likelihoods(dense), abs=1e-4)
    assert whole.complete([LONG, SHORT])[0].text == dense.complete([LONG, SHORT])[0].text


def test_a_pattern_changes_long_prompts_alone(folder: str) -> None:
    dense, sparse = opened(folder), opened(folder, SPARSE)
    (long, short), (long_sparse, short_sparse) = likelihoods(dense), likelihoods(sparse)
    assert abs(long - long_sparse) > 1e-3 and short == pytest.approx(short_sparse, abs=1e-6)
    one, two = sparse.complete([LONG])[0], opened(folder, SPARSE).complete([LONG])[0]
    assert one.text == two.text, "greedy replies are repeatable"
    assert sparse.likelihood([LONG], ["grey"])[0].logprob == pytest.approx(long_sparse, abs=1e-4), "kept KV is its own"


class Noting(SinkWindow):
    """Leaves a note in each layer, and tells what it finds."""

    told: ClassVar[list[tuple[int, list[str]]]] = []

    def choose_at(
        self, q: torch.Tensor, k: torch.Tensor, *, layer: int, scale: float, notes: dict[str, torch.Tensor]
    ) -> Choice:
        self.told.append((layer, sorted(notes)))
        notes[str(layer)] = q
        return self.choose(q, k, scale=scale)


def test_the_layers_of_a_pattern_know_of_each_other_within_a_pass(folder: str) -> None:
    plan = Plan(select=Noting(window_tokens=128, dense_below_tokens=200))
    opened(folder, plan, forward_tokens=256).likelihood([LONG, LONG], ["grey", "blue"])
    layers = [layer for layer, _ in Noting.told]
    assert layers.count(0) > 1 and all(found == [str(n) for n in range(layer)] for layer, found in Noting.told)


BLOCKS = {"select": {"block-topk": {"blocks": 1, "dense_below_tokens": 200}}}


def test_replies_do_not_depend_on_what_was_asked_before_or_beside(folder: str) -> None:
    text = tiny_models.TEXT * 8
    asked = [Request.user(f"{text} {question}", max_tokens=16) for question in ("Who?", "What was seen?", "When?")]
    alone = [opened(folder, BLOCKS, forward_tokens=256).complete([request])[0].text for request in asked]
    model = opened(folder, BLOCKS, forward_tokens=256)
    assert [reply.text for reply in model.complete(asked)] == alone, "side by side, the text computed once"
    assert [model.complete([request])[0].text for request in asked] == alone, "one after another, with kept KV"
    assert model.complete([asked[0]])[0].usage.cached_tokens > 200
    assert len(set(alone)) > 1


def test_what_answers_depend_on_names_the_plan(folder: str) -> None:
    assert opened(folder).plan_name == opened(folder, "dense").plan_name == "dense"
    assert opened(folder).identity == opened(folder, {"select": "dense"}).identity
    sparse = opened(folder, SPARSE)
    assert sparse.plan_name.startswith("select=sink-window(") and sparse.plan_name in sparse.identity
    assert opened(folder, WHOLE).identity != sparse.identity


@pytest.mark.parametrize(
    "plan", ["fast", {"selekt": "sink-window"}, {"select": {"sink-window": {"window_tokens": -1}}}]
)
def test_a_wrong_plan_is_refused_before_weights_are_looked_for(tmp_path: Path, plan: Any) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match="dense|select|window_tokens"):
        opened(str(tmp_path / "nowhere"), plan)


def test_a_plan_in_yaml(folder: str) -> None:
    model = open_model({"local": {"name": folder, "plan": SPARSE}}, device="cpu")
    assert model.plan_name.startswith("select=sink-window(")


@pytest.mark.parametrize(("plan", "state"), [(None, "read"), ({"store": {"int8": {"group": 16}}}, "compressed")])
def test_an_answer_names_the_plan_and_what_is_compressed(tmp_path: Path, plan: Any, state: str) -> None:
    folder = tiny_models.save(tmp_path / "tiny", max_position_embeddings=16384)
    text = tmp_path / "book.txt"
    text.write_text(tiny_models.TEXT * 8)
    with rt.read(text, model={"local": {"name": str(folder), "plan": plan}}, home=tmp_path / "home") as book:
        answer = book.ask("Who wrote in the book?", workflow="full-context")
    coverage = answer.to_dict()["coverage"]
    assert coverage[state] == coverage["tokens"] > 0
    assert answer.plan == ("dense" if plan is None else LocalModel(str(folder), device="cpu", plan=plan).plan_name)
