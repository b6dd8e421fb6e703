"""How sure an answer is: the probability that it is right, from signs that are noted in the run log with every answer.

The signs of a written answer: `stated` (the log-odds that the material states the answer, see `looking`), `answer` (the
mean log-probability of the answer's tokens after the material) and `gain` (how much of that the material added: less
the same without it). Of a choice there is one, `best`: the log-odds of the option that was taken. What they say of
being right is a logistic regression for each model; `readthrough eval calibrate` fits it. A model without one is taken
at its word: the confidence is the probability that the material states the answer, or that of the option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from readthrough.agents.runs.services import Services
from readthrough.errors import BudgetError
from readthrough.models.base import Completion, Request
from readthrough.models.weights import ALIASES

SURE = "how sure is the answer?"
"""What the run log calls the signs."""

_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Fitted:
    """A logistic regression: the bias, and a weight for each sign."""

    bias: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def probability(self, signs: Mapping[str, float]) -> float | None:
        """The probability of being right; None where a sign is lacking, or none was fitted."""
        if not self.weights or not self.weights.keys() <= signs.keys():
            return None
        total = self.bias + sum(weight * signs[name] for name, weight in self.weights.items())
        return round(1 / (1 + math.exp(-max(-60.0, min(60.0, total)))), 4)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the signs of one model say: `written` of answers that it wrote, `chosen` of options that it took."""

    written: Fitted = Fitted()
    chosen: Fitted = Fitted()

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON-ready values."""
        return {"written": asdict(self.written), "chosen": asdict(self.chosen)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> Calibration:
        """The calibration whose `to_dict` gave `values`."""
        return cls(Fitted(**values["written"]), Fitted(**values["chosen"]))


# Fitted to the forty questions of benchmarks/draw_40.json (docs/log.md): the small model's with every workflow, the
# default model's with `retrieve`, which took too few options to fit them.
_CHOSEN = Fitted(1.38, {"best": 1.31})
SHIPPED = {
    "qwen2.5-coder-0.5b-instruct": Calibration(Fitted(-3.49, {"stated": 0.38}), _CHOSEN),
    "qwen2.5-coder-1.5b-instruct": Calibration(Fitted(-3.22, {"stated": 0.93}), _CHOSEN),
}


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), of a probability that is kept off 0 and 1."""
    bounded = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(bounded / (1 - bounded))


def sure_of_writing(services: Services, stated: float, completion: Completion, bare: Request) -> float:
    """The confidence of an answer that was written; `bare` asks the same without the material."""
    signs = {"stated": log_odds(stated)}
    if completion.mean is not None and completion.text:
        signs["answer"] = completion.mean
        without = _without(services, bare, completion.text)
        if without is not None:
            signs["gain"] = signs["answer"] - without
    return _noted(services, _calibration(services).written, signs, stated)


def sure_of_choice(services: Services, best: float) -> float:
    """The confidence of an option that was taken with the probability `best`."""
    return _noted(services, _calibration(services).chosen, {"best": log_odds(best)}, best)


def _noted(services: Services, fitted: Fitted, signs: Mapping[str, float], plain: float) -> float:
    services.decide(SURE, **signs)
    found = fitted.probability(signs)
    return round(plain, 4) if found is None else found


def _without(services: Services, bare: Request, text: str) -> float | None:
    """The mean log-probability of an answer without the material; None where no budget is left to ask for it."""
    if services.budget.ending or "logits" not in services.model.capabilities:
        return None
    try:
        return services.likelihood([bare], [text])[0].mean
    except BudgetError:
        return None  # the answer is there: it is not lost for a sign


def _calibration(services: Services) -> Calibration:
    name = ALIASES.get(services.model.name, services.model.name)
    return services.calibrations.get(name) or SHIPPED.get(name) or Calibration()
