"""Search how layers share a KV budget, for one model and task: the `layer_ratios` of the policy `evolkv`.

    python -m benchmarks.evolve_budgets FOLDER [--model NAME] [--budget-ratio 0.1] [--texts 4] [--questions 10]
        [--group-layers 8] [--generations 10] [--seed 0] [--out NAME]

After Yu and Chai, "EvolKV" (arXiv 2509.08315), section 3: layers are searched a group at a time, each group from what
the groups before it have found, by CMA-ES; what is maximised is the score that a task gives. Differs from the paper:
ratios have a mean of 1 whatever is tried, so that all candidates keep equally much and no term for memory is needed.

The task is `shared-context` of `benchmarks.kv_quality`. Scores are kept in FOLDER: a run that was stopped goes on where
it was.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.kv_quality import ask, asking, texts
from benchmarks.results import add_rows, rows_of, settle, write_results

Score = Callable[[Sequence[float]], float]
"""What is maximised, of the ratios of all layers, whose mean is 1."""


@dataclass
class Evolution:
    """Covariance matrix adaptation (Hansen, arXiv 1604.00772): maximises a function of a few numbers, 0 at the least.

    Attributes:
        mean: where it begins, and after a generation stands.
        spread: the first step.
        random: draws the candidates.
        best: the best point that was tried, with its value.
    """

    mean: np.ndarray
    spread: float
    random: np.random.Generator
    best: tuple[float, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.mean)
        self._covariance = np.eye(size)
        self._path_spread, self._path_shape = np.zeros(size), np.zeros(size)
        self._born = 4 + int(3 * math.log(size))
        raw = math.log((self._born + 1) / 2) - np.log(np.arange(1, self._born // 2 + 1))
        self._weights = raw / raw.sum()
        self._generation = 0
        self.best = (-math.inf, self.mean)

    def step(self, value: Callable[[np.ndarray], float]) -> None:
        """One generation."""
        self._generation += 1
        scales, axes = np.linalg.eigh(self._covariance)
        scales = np.sqrt(np.maximum(scales, 1e-20))
        steps = (self.random.standard_normal((self._born, len(self.mean))) * scales) @ axes.T
        points = np.maximum(self.mean + self.spread * steps, 0)
        steps = (points - self.mean) / self.spread  # what was cut off is not learned from
        values = [value(point) for point in points]
        order = np.argsort([-each for each in values], kind="stable")
        if values[order[0]] > self.best[0]:
            self.best = (values[order[0]], points[order[0]])
        self._adapt(steps[order[: len(self._weights)]], axes @ np.diag(1 / scales) @ axes.T)

    def _adapt(self, parents: np.ndarray, whitening: np.ndarray) -> None:
        size, weights = len(self.mean), self._weights
        mass = 1 / (weights**2).sum()
        for_spread = (mass + 2) / (size + mass + 5)
        damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (size + 1)) - 1) + for_spread
        for_path = (4 + mass / size) / (size + 4 + 2 * mass / size)
        for_one = 2 / ((size + 1.3) ** 2 + mass)
        for_all = min(1 - for_one, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
        moved = weights @ parents
        self.mean = np.maximum(self.mean + self.spread * moved, 0)
        remembered = math.sqrt(for_spread * (2 - for_spread) * mass)
        self._path_spread = (1 - for_spread) * self._path_spread + remembered * whitening @ moved
        length, usual = np.linalg.norm(self._path_spread), math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        settled = length / math.sqrt(1 - (1 - for_spread) ** (2 * self._generation)) < (1.4 + 2 / (size + 1)) * usual
        self._path_shape = (1 - for_path) * self._path_shape
        if settled:
            self._path_shape += math.sqrt(for_path * (2 - for_path) * mass) * moved
        missed = 0.0 if settled else for_path * (2 - for_path)
        self._covariance = (
            (1 - for_one - for_all + for_one * missed) * self._covariance
            + for_one * np.outer(self._path_shape, self._path_shape)
            + for_all * (parents.T * weights) @ parents
        )
        self.spread *= math.exp(for_spread / damping * (length / usual - 1))


def search(score: Score, layers: int, *, group_layers: int = 8, generations: int = 10, seed: int = 0) -> list[float]:
    """The ratios of the highest score that was found, a group of layers after the other; equal ones are tried first."""
    ratios = np.ones(layers)
    highest = score(ratios.tolist())
    for start in range(0, layers, group_layers):
        group = slice(start, min(layers, start + group_layers))

        def value(point: np.ndarray, group: slice = group, others: np.ndarray = ratios) -> float:
            tried = others.copy()
            tried[group] = point
            return score(balanced(tried)) if tried.any() else -math.inf

        evolution = Evolution(ratios[group].copy(), 0.3, np.random.default_rng([seed, start]))
        for _ in range(generations):
            evolution.step(value)
        if evolution.best[0] > highest:
            highest, ratios[group] = evolution.best
            ratios = np.array(balanced(ratios))
    return balanced(ratios)


def balanced(ratios: np.ndarray) -> list[float]:
    """Ratios with a mean of 1."""
    found: list[float] = (ratios / ratios.mean()).tolist()
    return found


def main() -> None:
    """Search, print, and write the results where asked."""
    parser = asking(__doc__.partition("\n")[0], most_texts=4)  # type: ignore[union-attr]
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-ratio", type=float, default=0.1)
    parser.add_argument("--group-layers", type=int, default=8)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    said = {name: getattr(options, name) for name in ("model", "texts", "questions", "budget_ratio", "seed")}
    settle(options.folder, said)
    score = Asked(options)
    effort = {"group_layers": options.group_layers, "generations": options.generations, "seed": options.seed}
    found = search(score, score.layers, **effort)
    report = {**said, **effort, "layer_ratios": found, "score": score(found), "equal": score([1.0] * score.layers)}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


class Asked:
    """The mean score of a model's replies about some texts, with the ratios it is called with. Known ones are kept."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._path: Path = options.folder / "candidates.jsonl"
        self._known = {tuple(row["ratios"]): float(row["score"]) for row in rows_of(self._path)}
        self.layers: int = self._model(None)._loaded.layers

    def __call__(self, ratios: Sequence[float]) -> float:
        """See `Score`."""
        key = tuple(round(ratio, 6) for ratio in ratios)
        if key not in self._known:
            model = self._model(
                {"keep": {"evolkv": {"budget_ratio": self._options.budget_ratio, "layer_ratios": list(key)}}}
            )
            found = texts(self._options).items()
            rows = [row for name, task in found for row in ask(model, name, list(task.examples(model.count_tokens)))]
            self._known[key] = fmean(row["score"] for row in rows)
            add_rows(self._path, [{"ratios": list(key), "score": self._known[key]}])
            print(f"{len(self._known)} tried: {self._known[key]:.3f}", file=sys.stderr)
        return self._known[key]

    def _model(self, plan: Any) -> Any:
        from readthrough.models.local.backend import LocalModel

        return LocalModel(self._options.model, device=self._options.device, plan=plan)


if __name__ == "__main__":
    main()
