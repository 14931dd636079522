"""Numbers that the paper measured, for comparison beside one's own; always shown as the paper's.

Zheng et al. 2024 (D-TRAK, ICLR), as printed in its authors' notebooks `*/methods/std.ipynb`: LDS in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["held-out", "generated"]
SETTING = "CIFAR-2, 5,000 pictures, 64 subsets, 3 seeds"

# method -> kind of target -> number of timesteps (0: none are used) -> LDS in percent, CIFAR-2
LDS: Mapping[str, Mapping[Kind, Mapping[int, float]]] = {
    "raw-pixel-dot": {"held-out": {0: 7.77}, "generated": {0: 4.89}},
    "raw-pixel-cosine": {"held-out": {0: 7.87}, "generated": {0: 5.44}},
    "clip-dot": {"held-out": {0: 6.51}, "generated": {0: 3.00}},
    "clip-cosine": {"held-out": {0: 8.54}, "generated": {0: 4.01}},
    "gradient-dot": {"held-out": {10: 5.14, 100: 5.07}, "generated": {10: 2.80, 100: 4.03}},
    "gradient-cosine": {"held-out": {10: 5.08, 100: 4.89}, "generated": {10: 2.78, 100: 3.92}},
    "tracin-cp": {"held-out": {10: 6.26, 100: 5.47}, "generated": {10: 3.76, 100: 3.70}},
    "gas": {"held-out": {10: 5.78, 100: 5.15}, "generated": {10: 3.34, 100: 3.30}},
    "journey-trak": {"held-out": {}, "generated": {10: 7.73, 100: 12.21}},
    "relative-if": {"held-out": {10: 11.20, 100: 23.43}, "generated": {10: 5.86, 100: 15.91}},
    "renormalised-if": {"held-out": {10: 10.89, 100: 21.46}, "generated": {10: 5.69, 100: 14.65}},
    "trak": {"held-out": {10: 11.42, 100: 23.59}, "generated": {10: 5.78, 100: 15.87}},
    "d-trak": {"held-out": {10: 26.79, 100: 33.74}, "generated": {10: 18.82, 100: 25.67}},
    "trak-ensemble": {"held-out": {10: 13.27, 100: 27.98}, "generated": {10: 7.08, 100: 20.12}},
    "d-trak-ensemble": {"held-out": {10: 27.77, 100: 34.88}, "generated": {10: 20.59, 100: 27.30}},
}

# Damping on the authors' scale -> LDS as a fraction, 100 timesteps, CIFAR-2
DAMPING: Mapping[str, Mapping[Kind, tuple[tuple[float, float], ...]]] = {
    "trak": {
        "held-out": (
            (0.1, 0.197), (1, 0.202), (5, 0.213), (10, 0.221), (20, 0.230), (50, 0.238), (100, 0.240), (200, 0.237),
            (500, 0.222), (1e3, 0.206), (2e3, 0.188), (5e3, 0.164), (1e4, 0.147), (1e5, 0.088), (1e6, 0.056),
        ),
        "generated": (
            (0.1, 0.143), (1, 0.146), (5, 0.152), (10, 0.156), (20, 0.161), (50, 0.161), (100, 0.158), (200, 0.150),
            (500, 0.135), (1e3, 0.121), (2e3, 0.109), (5e3, 0.097), (1e4, 0.089), (1e5, 0.059), (1e6, 0.042),
        ),
    },
    "d-trak": {
        "held-out": (
            (100, 0.018), (200, 0.310), (500, 0.331), (1e3, 0.340), (2e3, 0.342), (5e3, 0.338), (1e4, 0.331),
            (2e4, 0.321), (5e4, 0.302), (1e5, 0.284), (2e5, 0.264), (5e5, 0.235), (1e6, 0.212), (5e6, 0.166),
        ),
        "generated": (
            (100, 0.012), (200, 0.244), (500, 0.256), (1e3, 0.260), (2e3, 0.258), (5e3, 0.247), (1e4, 0.237),
            (2e4, 0.224), (5e4, 0.205), (1e5, 0.188), (2e5, 0.172), (5e5, 0.150), (1e6, 0.134), (5e6, 0.103),
        ),
    },
}  # fmt: skip
