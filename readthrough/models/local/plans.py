"""What a plan asks of a model: checked, and its positions set, before weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from readthrough.compression.base import Positions
from readthrough.compression.plan import Plan
from readthrough.compression.positions.bounds import notices
from readthrough.compression.selecting import ModelShape
from readthrough.compression.store import FULL
from readthrough.errors import ConfigError
from readthrough.kernels.rotary import Yarn, linear_frequencies, plain_frequencies, yarn_frequencies


def head_width(text: Any) -> int:
    """The channels of one attention head, by a model's text configuration."""
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def fit_plan(plan: Plan, config: Any, folder: Path) -> Plan:
    """Set what a plan changes in a model's configuration; the plan, with the lengths that it takes from the model.

    Raises:
        ConfigError: the model cannot do what the plan says; the message says why.
    """
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(text, "sliding_window", None)
    if plan.moment is not None and slides:
        _refuse(plan, folder, "has layers with a sliding window, whose KV cannot be compressed")
    if plan.positions is not None and plan.positions.alone and slides:
        _refuse(plan, folder, "has layers with a sliding window, which know no other positions")
    if plan.join is not None:
        if slides:
            _refuse(plan, folder, "has layers with a sliding window, whose KV cannot be joined")
        if (plan.join.compared_layer or 0) >= text.num_hidden_layers:
            _refuse(plan, folder, f"has {text.num_hidden_layers} layers only")
    width = head_width(text)
    if plan.store != FULL:
        for scheme in (plan.store.keys, plan.store.values):
            whole = 1 if scheme is None else max(8 // scheme.bits, plan.store.group if scheme.axis == "token" else 1)
            if width % whole:
                _refuse(plan, folder, f"has heads of {width} channels, which are no whole groups of {whole}")
    plan = _shaped(plan, text, folder)
    return plan if plan.positions is None else replace(plan, positions=_move(plan, plan.positions, text, folder))


def _shaped(plan: Plan, text: Any, folder: Path) -> Plan:
    """The plan, with what its parts take from the model's shape."""
    heads = int(text.num_attention_heads)
    key_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    shape = ModelShape(folder.name, int(text.num_hidden_layers), heads, key_heads)
    try:
        keep = None if plan.keep is None else plan.keep.fitted(shape)
        decode = None if plan.decode is None else plan.decode.fitted(shape)
    except ValueError as error:
        _refuse(plan, folder, str(error))
    return replace(plan, keep=keep, decode=decode)


def _move(plan: Plan, positions: Positions, text: Any, folder: Path) -> Positions:
    rope = dict(getattr(text, "rope_parameters", None) or {})
    if rope.get("rope_type") != "default" or rope.get("partial_rotary_factor", 1) != 1:
        _refuse(plan, folder, f"has positions of its own: {rope or 'none that turn'}")
    trained = int(text.max_position_embeddings)
    try:
        positions = positions.fitted(trained)
    except ValueError as error:
        _refuse(plan, folder, str(error))
    text.rope_parameters = positions.rope(rope, trained, head_width(text))
    text.max_position_embeddings = positions.window_tokens(trained)
    return positions


@dataclass(frozen=True, slots=True)
class Trained:
    """The rotary settings and the length of text that a model was trained with."""

    rope: dict[str, Any]
    tokens: int

    @classmethod
    def of(cls, config: Any) -> Trained:
        """Those of a configuration, before a plan changes it."""
        text = config.get_text_config()
        return cls(dict(getattr(text, "rope_parameters", None) or {}), int(getattr(text, "max_position_embeddings", 0)))


def reach_notices(plan: Plan, config: Any, trained: Trained) -> list[str]:
    """What to say of a plan that was fitted to this configuration, where its positions go beyond the model's base."""
    if plan.positions is None:
        return []
    text = config.get_text_config()
    used, reach = dict(text.rope_parameters), plan.positions.reach_tokens(trained.tokens)
    before, now = (_frequencies(rope, head_width(text), trained.tokens) for rope in (trained.rope, used))
    return notices(before, now, trained.tokens, reach)


def _frequencies(rope: dict[str, Any], width: int, trained_tokens: int) -> torch.Tensor:
    base, kind, factor = float(rope["rope_theta"]), rope.get("rope_type"), float(rope.get("factor", 1))
    if kind == "linear":
        return linear_frequencies(width, base, factor).inverse
    if kind == "yarn":
        return yarn_frequencies(width, base, Yarn(factor, trained_tokens)).inverse
    return plain_frequencies(width, base).inverse


def _refuse(plan: Plan, folder: Path, reason: str) -> NoReturn:
    raise ConfigError(f"this model cannot follow the plan {plan.name!r}: it {reason}", path=str(folder))
