"""Where torch computes: on the best device there is, or on the one that STUDIO_DEVICE names (cuda, cuda:1, mps, cpu).

On CUDA, float32 products run in TF32 and a frozen text-to-image base in bfloat16; random numbers are made on the CPU
everywhere, so that seeds mean the same. Features keep within the tolerance that tests/models/test_devices.py states.
"""

from __future__ import annotations

import os

import torch

from dtrak_core.errors import SettingsError

VARIABLE = "STUDIO_DEVICE"


def device() -> torch.device:
    """Return the device that is computed on.

    Raises:
        SettingsError: If STUDIO_DEVICE names one that is not here.
    """
    asked = os.environ.get(VARIABLE, "").strip().lower()
    if not asked:
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return _prepared(torch.device(kind))
    try:
        chosen = torch.device(asked)
    except RuntimeError:
        raise SettingsError(f"{VARIABLE} is '{asked}'. Write cuda, cuda:1, mps or cpu.") from None
    there = {"cpu": True, "mps": torch.backends.mps.is_available()}.get(
        chosen.type, chosen.type == "cuda" and (chosen.index or 0) < torch.cuda.device_count()
    )
    if not there:
        raise SettingsError(
            f"{VARIABLE} is '{asked}', but torch {torch.__version__} finds no such device here "
            f"({torch.cuda.device_count()} CUDA devices). Choose another, or leave it empty."
        )
    return _prepared(chosen)


def frozen_dtype(where: torch.device) -> torch.dtype:
    """Return the number format of weights that are not trained: bfloat16 on CUDA, else float32."""
    return torch.bfloat16 if where.type == "cuda" else torch.float32


def free_memory() -> None:
    """Give back what torch keeps of a device's memory for later, before less is asked for."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _prepared(where: torch.device) -> torch.device:
    if where.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.allow_tf32 = True
    return where
