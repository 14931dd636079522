"""Features in parts: layers and noise levels kept apart, so that each can be turned up or down afterwards.

A feature is cut into blocks: for each of `BANDS` shares of the schedule, for each half of the draws in it (every other
one), for each group of layers g, a projection of its own of that group's gradient:

    φ(x) = [ P_g  (1/T) Σ_{t in band b, half h} ∇_{θ_g} f(x, t, ε_t) ]_{b, h, g}        shape (BANDS, 2, G, K_g)

What is kept apart can be put together with any weights w (layers) and u (noise levels):

    φ_wu(x) = [ w_g Σ_b u_b Σ_h φ_bhg(x) ]_g                                            shape (G K_g,)

With all weights 1 that is the plain feature under a projection with G blocks on its diagonal; with one half of the
draws it says how far a ranking repeats. A group is a top-level part of the network, in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from dtrak_core.errors import SettingsError
from dtrak_core.features import draws
from dtrak_core.features.fader_layout import BANDS, HALVES, PARTS, part_of, refusal
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.projection import Projector
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser, tracked_parameters


def groups(denoiser: Denoiser) -> dict[str, slice]:
    """Return each group of layers by name, with its range of parameters."""
    found: dict[str, slice] = {}
    start = 0
    for name, parameter in tracked_parameters(denoiser.network):
        first, *rest = name.split(".")
        group = f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first
        begin = found[group].start if group in found else start
        start += parameter.numel()
        found[group] = slice(begin, start)
    return found


def width(denoiser: Denoiser, settings: FeatureSettings) -> int:
    """Return the length of a feature in parts."""
    return PARTS * sum(widths(denoiser, settings))


def widths(denoiser: Denoiser, settings: FeatureSettings) -> list[int]:
    """Return the length of each group's block."""
    return [p.width for p, _ in projectors(denoiser, settings)]


def by_parts(
    denoiser: Denoiser,
    x0: Tensor,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    memory: Tensor,
    condition: Condition = NOTHING,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number and the gradient (B, P) of each part of the pictures x0 (B, C, H, W) that has a draw.

    Args:
        denoiser: The network.
        x0: Pictures in model space.
        sample_ids: One id a picture.
        settings: Draws and function.
        memory: Memory of shape (B, P) that each part overwrites.
        condition: What the network is told of each picture.
    """
    grid = draws.timesteps(settings.timestep_strategy, settings.num_timesteps, denoiser.process.steps)
    for band in range(len(BANDS)):
        for half in range(HALVES):
            mine = grid[part_of(grid, band, half, denoiser.process.steps)]
            if len(mine):
                gradients = per_example_gradients(
                    denoiser, x0, sample_ids, settings, out=memory, grid=mine, condition=condition
                )
                gradients *= len(mine) / len(grid)
                yield band * HALVES + half, gradients


def projectors(denoiser: Denoiser, settings: FeatureSettings) -> list[tuple[Projector, slice]]:
    """Return each group's projection and its range of parameters; the groups share `proj_dim` alike.

    Raises:
        SettingsError: If the features are not projected.
    """
    if reason := refusal(settings):
        raise SettingsError(reason)
    ranges = groups(denoiser)
    share = max(1, settings.proj_dim // len(ranges))
    sizes = [where.stop - where.start for where in ranges.values()]
    return [
        (Projector(settings.projection, min(share, size), settings.proj_seed + number, size), where)
        for number, (size, where) in enumerate(zip(sizes, ranges.values(), strict=True))
    ]
