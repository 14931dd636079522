"""Scores from a model output function that the user writes. Nothing of it is stored: a function has no key.

    φ(x) = P (1/T) Σ_t ∇_θ f(f_θ(x_t, t), ε_t, x_0, t)        scores as the method's own (methods/gradient_scores.py)

f is the user's (prediction, noise, x0, t) -> one value a draw; the prediction f_θ is what the network puts out, be it
noise, picture, v or flow. D-TRAK is f = mean of its squares, TRAK of a network of noise that of (prediction - noise)²
(Zheng et al. 2024, section 3; Park et al. 2023, section 3). The features of all training pictures are held in memory
as float64, N K numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features import batches, draws, kernel, projected
from dtrak_core.features.features import projectors_of
from dtrak_core.features.model_outputs import Output
from dtrak_core.features.settings import FeatureSettings, target_name
from dtrak_core.methods import agreement, fader_scores, gradient_scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.gradient_scores import Scored
from dtrak_core.methods.methods import Method
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.targets import Target
from dtrak_core.progress import Progress


@dataclass(frozen=True, eq=False)
class OwnScores:
    """Scores (M, N), λ and effective rank; repeatability (M,), NaN for a single draw; steady (N,) of each target."""

    scored: Scored
    repeatability: np.ndarray
    steady: tuple[np.ndarray | None, ...]


def check(method: Method) -> None:
    """Refuse a method that a function of one's own cannot be put into.

    Raises:
        SettingsError: If it has no gradients, several models, or a target side of its own.
    """
    plain = family_of(method).job == "features" and not method.models and method.shares == (100,)
    if not plain or method.residual or method.generated_only:
        raise SettingsError(
            f"An output function of one's own cannot be put into {method.label}. Choose a method of one model's "
            "gradients: d-trak, trak, relative-if, renormalised-if, gradient-dot or gradient-cosine."
        )


def compute(
    output: Output,
    method: Method,
    dataset: Dataset,
    denoiser: Denoiser,
    settings: FeatureSettings,
    targets: Sequence[Target],
    damping: float | None,
    rank_share: float | None,
    on_progress: Progress,
) -> OwnScores:
    """Score every training example for every target by the gradients of an output function.

    Each half of the draws (every other timestep) is featurised apart and gives a ranking of its own; their mean is the
    feature. So how far a ranking repeats, the Spearman correlation of the halves' scores, costs no gradient.

    Args:
        output: The function.
        method: Damping, lengths and weights are those of this method, one that `check` lets pass.
        dataset: The training set.
        denoiser: The checkpoint's network.
        settings: Timesteps, noise and projection; the model output is not looked at.
        targets: What is explained.
        damping: λ, or None.
        rank_share: Effective rank over N, or None; neither takes the method's own.
        on_progress: Called with the gradients done and their number.

    Raises:
        SettingsError: If the function does not give one finite value a draw that depends on that draw's prediction.
    """
    checked = _checked(output, denoiser)
    grid = draws.timesteps(settings.timestep_strategy, settings.num_timesteps, denoiser.process.steps)
    halves = [grid[0::2], grid[1::2]] if len(grid) > 1 else [grid]
    train, rows = dataset.train, len(dataset.train.images)
    total, before = (rows + len(targets)) * len(grid), 0
    sides = []
    for images, ids, prompts in (
        (train.images, [f"train:{i}" for i in range(rows)], [denoiser.told(row) for row in train.rows]),
        (
            np.stack([t.image for t in targets]),
            [target_name(t.id) for t in targets],
            [denoiser.told(t.row) for t in targets],
        ),
    ):
        each = []
        for half in halves:

            def computed(done: int, before: int = before, each: int = len(half)) -> None:
                on_progress(before + done * each, total, "gradients", "")

            made = batches.gradients(denoiser, images, ids, settings, computed, prompts=prompts, grid=half, own=checked)
            each.append(projected.rows(projectors_of(denoiser, settings), made, len(images), 1).astype(np.float64))
            before += len(images) * len(half)
        sides.append(each)
    weights = [len(half) / len(grid) for half in halves]
    whole = [np.tensordot(weights, np.stack(each), 1) for each in sides]
    found = _scored(method, whole[0], whole[1], damping, rank_share)
    if len(halves) == 1:
        return OwnScores(found, np.full(len(targets), np.nan), (None,) * len(targets))
    # As in certainty.py, either half is damped by its own kernel to the rank that the whole has.
    share = None if found.effective_rank is None else found.effective_rank / rows
    first, second = (_scored(method, a, b, None, share).values for a, b in zip(*sides, strict=True))
    steady = tuple(fader_scores.ends_shared(pair) for pair in zip(first, second, strict=True))
    return OwnScores(found, agreement.rank_correlation(first, second), steady)


def _scored(
    method: Method, train: np.ndarray, own: np.ndarray, damping: float | None, rank_share: float | None
) -> Scored:
    """Return the scores of features Φ (N, K) and φ (M, K), all in float64."""
    cross = own @ train.T
    if not method.reads_kernel:
        return Scored(cross, None, None)
    none = np.empty((len(train), 0))
    found = kernel.Kernel(np.empty(0), none, none, np.linalg.norm(train, axis=1))
    if method.damped:
        if min(train.shape) > kernel.LARGEST:
            raise SettingsError(
                f"{len(train):,} pictures' features of {train.shape[1]:,} numbers are too many for an output function "
                f"of one's own. Choose a proj_dim of at most {kernel.LARGEST:,}."
            )
        found = kernel.in_memory(train)
        if not len(found.eigenvalues):
            raise SettingsError("All gradients of the output function are zero, so nothing is ranked by them.")
    return gradient_scores.of_products(method, found, cross, np.linalg.norm(own, axis=1), damping, rank_share)


def _checked(output: Output, denoiser: Denoiser) -> Output:
    """Return the function with each of its answers checked, after a trial of two draws.

    The trial tells whether a draw's value depends on the other draws beside it: gradients of pictures that share a pass
    could then not be told apart.
    """
    random = torch.Generator().manual_seed(0)
    prediction, noise, x0 = (torch.randn(2, *denoiser.shape, generator=random).to(denoiser.weight) for _ in range(3))
    t = torch.tensor([denoiser.process.steps // part for part in (100, 2)], device=denoiser.weight.device)

    def checked(prediction: Tensor, noise: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        values = output(prediction, noise, x0, t)
        if not isinstance(values, Tensor):
            raise SettingsError(
                f"The output function returned a {type(values).__name__}; expected a tensor of one value a draw, "
                f"shape ({len(t)},)."
            )
        if values.shape != t.shape or not values.is_floating_point():
            raise SettingsError(
                f"The output function returned {str(values.dtype).removeprefix('torch.')}{list(values.shape)} for "
                f"{len(t)} draws; expected one real value a draw, shape ({len(t)},). Take the mean over each draw's "
                "own elements, such as prediction.flatten(1).square().mean(1)."
            )
        if not bool(values.isfinite().all()):
            raise SettingsError("The output function returned a value that is not finite. Let it avoid that.")
        if prediction.requires_grad and not values.requires_grad:
            raise SettingsError(
                "The output function's values do not depend on the prediction, so they have no gradient."
            )
        return values

    with torch.enable_grad():
        both = checked(prediction.requires_grad_(), noise, x0, t).detach()
        alone = torch.cat([checked(prediction[i : i + 1], noise[i : i + 1], x0[i : i + 1], t[i : i + 1]).detach()
                           for i in range(2)])  # fmt: skip
    if not torch.allclose(both, alone, rtol=1e-4, atol=1e-6 * float(both.abs().max())):
        raise SettingsError(
            f"The output function gives two draws {both.tolist()} together and {alone.tolist()} one by one; expected "
            "the same. Let each draw's value depend on that draw alone, and on nothing random."
        )
    return checked
