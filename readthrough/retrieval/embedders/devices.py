"""Where an embedder computes, and in which numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from readthrough.errors import ConfigError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA or MPS where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"the device {name!r} is not there: {str(error).splitlines()[0]}", hint="auto or cpu"
        ) from error
    return device


def pick_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """The dtype of a name; `auto` is bfloat16 where that is quick, float32 elsewhere."""
    import torch

    if name != "auto":
        found: torch.dtype = getattr(torch, name)
        return found
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU does so in hardware (AMX or AVX512-BF16: three times as quick as fp32)."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
