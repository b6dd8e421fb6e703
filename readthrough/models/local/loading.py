"""Loading a causal language model and its tokenizer from a folder, and refusing those the engine cannot run."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging as progress

from readthrough.compression.plan import Plan
from readthrough.errors import ConfigError, ModelError, WeightsError
from readthrough.models.local.allocation import reuse_freed_memory
from readthrough.models.local.attention import ATTENTION, register
from readthrough.models.local.packing import pack_linears
from readthrough.models.local.plans import Trained, fit_plan, reach_notices
from readthrough.models.local.quantised import WeightForm, check_weights, quantise_linears

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
DEVICES = ("auto", "cpu", "cuda", "mps")
LAYER_TYPES = ("full_attention", "sliding_attention")
DENSE_PLAN = Plan()
SINK_FAMILIES = frozenset({"gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash"})
"""Model types whose softmax has a learned sink; their configs do not say so."""
_ELSEWHERE = "serve this model with another program and name it as openai:MODEL@URL"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to run: weights, tokenizer, the ids that end a reply, the longest input.

    `form` says which weights a pass computes with, `fingerprint` which files they come from, `plan` how attention is
    computed, with the lengths that it takes from the model, `notices` what to say of it.
    """

    model: Any
    tokenizer: Any
    eos_ids: frozenset[int]
    window_tokens: int
    vocabulary: int
    device: torch.device
    form: WeightForm = field(default_factory=WeightForm)
    fingerprint: str = ""
    plan: Plan = DENSE_PLAN
    notices: tuple[str, ...] = ()

    @property
    def device_name(self) -> str:
        """The kind of device; of a GPU which one: others round differently."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def layers(self) -> int:
        """How many layers attend."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def attention_scale(self) -> float:
        """What the first layer's attention scores are multiplied with."""
        found = (module for module in self.model.modules() if hasattr(module, "layer_idx"))
        return next(float(module.scaling) for module in found if isinstance(getattr(module, "scaling", None), float))

    @property
    def inverse_frequencies(self) -> torch.Tensor:
        """Those of the model's rotary positions, `[R]`: channels i and R + i turn together.

        Raises:
            ModelError: the model has no such positions, several kinds of them, or pairs channels otherwise.
        """
        rotary = [module for module in self.model.modules() if hasattr(module, "inv_freq")]
        if len(rotary) == 1:
            frequencies: torch.Tensor = rotary[0].inv_freq
            at = torch.ones(1, 1, dtype=torch.long, device=self.device)
            cosines = rotary[0](frequencies[None], at)[0].flatten()
            half = len(cosines) // 2
            if half == len(frequencies) and torch.equal(cosines[:half], cosines[half:]):
                return frequencies
        raise cannot_move(self.model)


def cannot_move(model: Any) -> ModelError:
    """The error of a plan that moves the positions of a model which does not let them be moved."""
    return ModelError(f"the positions of {type(model).__name__} cannot be moved", hint="choose another plan")


def load(
    folder: Path, dtype: str = "auto", device: str = "auto", weights: str = "full", plan: Plan = DENSE_PLAN
) -> Loaded:
    """Load the model in `folder` (config.json, safetensors, tokenizer). Runs no code from the folder.

    Args:
        folder: a folder as `save_pretrained` writes it.
        dtype: `auto` (the weights' own), `bf16`, `fp16` or `fp32`.
        device: `auto` (CUDA or MPS where there is one), `cpu`, `cuda` or `mps`.
        weights: `full`, or what decode passes on a processor use: `int8` or `int4`.
        plan: how attention is to be computed.

    Raises:
        ConfigError: an unknown dtype, device or kind of weights, a device that is not there, or a plan that the model
            cannot follow.
        WeightsError: files are missing or broken.
        ModelError: the model has parts that the engine does not compute, or torch has no kernels for the weights.
    """
    target = pick_device(device)
    check_weights(weights, target)
    reuse_freed_memory()
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", hint=f"known: auto, {', '.join(DTYPES)}")
    settings = _read_config(folder)
    kind = _model_class(folder, settings)
    register()
    try:
        config = kind.config_class.from_pretrained(folder, local_files_only=True)
        check_supported(config, folder)
        trained, plan = Trained.of(config), fit_plan(plan, config, folder)  # in this order: the plan changes the config
        with _quiet():
            model = kind.from_pretrained(
                folder,
                config=config,
                dtype=DTYPES.get(dtype, "auto"),
                attn_implementation=ATTENTION,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
        tokenizer = _tokenizer(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WeightsError(f"cannot load the model: {error}", path=str(folder)) from error
    model = model.to(target).eval().requires_grad_(False)
    loaded = replace(describe(model, tokenizer), fingerprint=fingerprint(folder), plan=plan)
    loaded = replace(loaded, notices=tuple(reach_notices(plan, config, trained)))
    if weights == "full":
        pack_linears(model)
        return loaded
    return replace(loaded, form=quantise_linears(model, weights))


def fingerprint(folder: Path) -> str:
    """What tells the weights in a folder from all others on this machine, without reading them.

    Fine-tunes of one model differ neither in size nor in header, and the time of writing can be copied. That of the
    last change to a file cannot be set: files that are copied, moved or changed get a new fingerprint.
    """
    said = []
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        found = path.stat()
        said.append(f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}")
    return "\n".join(said)


def describe(model: Any, tokenizer: Any) -> Loaded:
    """What the engine needs to know about a model whose attention is `ATTENTION`."""
    text_config = model.config.get_text_config()
    eos: set[int] = set()
    # a model that emits its padding token has nothing more to say; some configs name only one of its ends
    given = getattr(model.generation_config, "eos_token_id", None)
    for found in (given, tokenizer.eos_token_id, tokenizer.pad_token_id):
        eos.update([found] if isinstance(found, int) else found or [])
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        eos_ids=frozenset(eos),
        window_tokens=int(getattr(text_config, "max_position_embeddings", 0) or 2048),
        vocabulary=int(text_config.vocab_size),
        device=model.device,
    )


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: an unknown name, or a device that is not there.
    """
    if name not in DEVICES:
        raise ConfigError(f"unknown device {name!r}", hint=f"known: {', '.join(DEVICES)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there[name]:
        raise ConfigError(f"no {name} device here", hint="use device 'cpu' or 'auto'")
    return torch.device(name)


def check_supported(config: Any, folder: Path) -> None:
    """Raise ModelError where a model's layers are more than plain causal (or sliding-window) attention."""
    text = config.get_text_config()
    problems = [f"{kind} layers" for kind in sorted({*(getattr(text, "layer_types", None) or ())} - {*LAYER_TYPES})]
    if getattr(text, "attn_logit_softcapping", None):
        problems.append("soft-capped attention")
    if text.model_type in SINK_FAMILIES:
        problems.append("attention sinks")
    if getattr(text, "num_kv_shared_layers", 0):
        problems.append("layers that share their KV")
    if getattr(text, "is_encoder_decoder", False):
        problems.append("an encoder")
    rope = getattr(text, "rope_parameters", None) or {}
    scalings = {str(entry.get("rope_type")) for entry in (rope, *rope.values()) if isinstance(entry, dict)}
    problems += [f"{kind} rope scaling" for kind in sorted(scalings & {"dynamic", "longrope"})]
    if problems:
        raise ModelError(
            f"the local engine does not compute {' and '.join(problems)} ({text.model_type})",
            path=str(folder),
            hint=_ELSEWHERE,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bar: progress is the caller's to show."""
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            progress.enable_progress_bar()  # type: ignore[no-untyped-call]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read config.json: {error}", path=str(folder)) from error
    if not isinstance(settings, dict):
        raise WeightsError("config.json holds no object", path=str(folder))
    return settings


def _model_class(folder: Path, settings: dict[str, Any]) -> Any:
    """The class named in config.json, imported alone: the automatic classes import every family they know."""
    transformers = importlib.import_module("transformers")
    for name in settings.get("architectures") or ():
        kind = getattr(transformers, name, None)
        if kind is None or not name.endswith(("ForCausalLM", "LMHeadModel")):
            continue
        if getattr(kind, "_is_stateful", False):
            raise ModelError(
                f"{name} keeps a recurrent state: it has not the attention and KV of single tokens in every layer that "
                "paging, plans and readings work on",
                path=str(folder),
                hint=_ELSEWHERE,
            )
        if not getattr(kind, "_supports_attention_backend", False):
            raise ModelError(f"{name} does not take an attention function", path=str(folder), hint=_ELSEWHERE)
        return kind
    raise ModelError(
        f"no causal language model is named in config.json (architectures: {settings.get('architectures')})",
        path=str(folder),
        hint="transformers has no such class without running code from the folder, which is never done",
    )


def _tokenizer(folder: Path) -> Any:
    transformers = importlib.import_module("transformers")
    if (folder / "tokenizer.json").exists():
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
