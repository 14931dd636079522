"""The number format that products in a network are taken in. No torch here.

Products in bfloat16 (by autocast), with weights, sums, projections and kernels in float32 or float64, are faster on
processors with units for it, and scores stay what they are (benchmarks/precision.py). On a GPU
float32 products run in TF32, and bfloat16 won nothing for features (docs/scale.md).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Literal

from dtrak_core.models.settings import Precision

VARIABLE = "STUDIO_DEVICE"  # as in devices.py
Asked = Literal["auto", "float32", "bfloat16"]


def resolved(asked: Asked) -> Precision:
    """Return the format that is meant: `auto` means that of this machine. It becomes part of a model's settings."""
    if asked != "auto":
        return asked
    return "bfloat16" if _on_processor() and _has_units(Path("/proc/cpuinfo")) else "float32"


def _on_processor() -> bool:
    named = os.environ.get(VARIABLE, "").strip().lower()
    return named == "cpu" if named else not Path("/proc/driver/nvidia/version").exists()


@functools.lru_cache(maxsize=1)
def _has_units(facts: Path) -> bool:
    """Say whether Linux lists the processor's products of bfloat16; other systems do not say, and take float32."""
    try:
        lines = facts.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags
