"""Scores of slates on one scale."""

from __future__ import annotations

import math
import random

import pytest

from readthrough.retrieval.trees.calibration import calibrated


def test_shifted_slates_give_back_what_lies_under_them() -> None:
    chance = random.Random(2)
    latent = {item: chance.gauss(0, 2) for item in range(60)}
    slates = []
    for start in range(0, 60, 6):
        inside = [*range(start, start + 6), *([start - 1] if start else [])]
        scale = math.log(sum(math.exp(latent[item]) for item in inside))
        slates.append({item: latent[item] - scale for item in inside})
    found = calibrated(slates)
    errors = [(found[item] - found[0]) - (latent[item] - latent[0]) for item in latent]
    assert max(map(abs, errors)) < 0.1, "log-probabilities of choices among slates that share one item"
    raw = {item: score for slate in slates for item, score in slate.items()}
    assert max(abs((raw[item] - raw[0]) - (latent[item] - latent[0])) for item in latent) > 1, "as they were given"


def test_slates_that_share_nothing_keep_their_scores() -> None:
    assert calibrated([{"a": -1.0, "b": -2.0}, {"c": -3.0}]) == pytest.approx({"a": -1, "b": -2, "c": -3})
    assert calibrated([]) == {} and calibrated([{}]) == {}


def test_what_does_not_agree_is_averaged() -> None:
    found = calibrated([{"a": 0.0, "b": -1.0}, {"a": 0.0, "b": -3.0}])
    assert found["a"] - found["b"] == pytest.approx(2)
