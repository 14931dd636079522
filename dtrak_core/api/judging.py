"""Judge scores by retraining: the linear datamodeling score, and the stored models that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.api import showing
from dtrak_core.api.inputs import chosen_checkpoint, chosen_dataset
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, NotFoundError, SettingsError, words_of
from dtrak_core.lds import benchmark_files, standing_words, standings
from dtrak_core.lds import lds as measure
from dtrak_core.lds.benchmark_files import BenchmarkFile
from dtrak_core.lds.lds import Chance
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target


@dataclass(frozen=True, eq=False, repr=False)
class Lds:
    """The linear datamodeling score of some scores.

    `value` is the mean over targets of `per_target` (M,), each a Spearman correlation in [-1, 1]. `low` and `high` are
    the ends of its 95 % interval (BCa, by bootstrap over the `subsets`), None below 8 subsets or 6 targets. `chance` is
    what the same predictions give where subsets are permuted: std, low and high of the central 95 %, and p.
    `noise_floor` is the LDS that a perfect attribution could reach, `noise_floor_interval` the ends of its 95 %
    interval; both are None where fewer than 8 subsets have losses of two training seeds.
    """

    value: float
    low: float | None
    high: float | None
    per_target: np.ndarray
    chance: Chance
    noise_floor: float | None
    noise_floor_interval: tuple[float, float] | None
    subsets: int

    def __repr__(self) -> str:
        """Return in a line the value and what it is of."""
        return f"Lds({self.value:.3f}: {counted(self.subsets, 'subset')}, {counted(len(self.per_target), 'target')})"

    def _repr_html_(self) -> str:
        """Return the numbers as a table, for a notebook."""
        between = None if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"
        by_chance = f"{self.chance.low:.3f} to {self.chance.high:.3f}"
        row = {"LDS": self.value, "95 % interval": between, "by chance": by_chance, "p": self.chance.p}
        counts = f"{counted(self.subsets, 'subset')}, {counted(len(self.per_target), 'target')}"
        floor = {"noise_floor": self.noise_floor, "noise_floor_interval": self.noise_floor_interval}
        return showing.table([row | {"a perfect attribution": standing_words.attainable(floor) or None}], counts)


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """The stored models of an LDS, each trained on a random part of the training set, and what they lose on M targets.

    `masks`, bool (S, N), says which training examples subset s holds; `losses`, float64 (S, R, M), is the denoising
    loss of each target under the model of each subset and training seed, NaN where that is not trained. Held-out
    targets that are training pictures too are left out, as on the Benchmark page.
    """

    dataset: Dataset
    checkpoint: Checkpoint
    targets: tuple[Target, ...]
    masks: np.ndarray
    losses: np.ndarray
    settings: LdsSettings

    def lds(self, scores: np.ndarray) -> Lds:
        """Return the LDS of scores (M, N) for its targets; see `lds`."""
        return lds(scores, self.masks, self.losses)

    def __repr__(self) -> str:
        """Return in a line what was measured."""
        return f"Benchmark({self._about()})"

    def _about(self) -> str:
        subsets, seeds, count = self.losses.shape
        of = f"{counted(count, 'target')} of {self.checkpoint.name}"
        return f"{counted(subsets, 'subset')}, {counted(seeds, 'training seed')}, {of}"

    def _repr_html_(self) -> str:
        """Return what was measured and the target pictures, for a notebook."""
        drawn = "".join(showing.picture(t.image, f"Target {t.id}: {t.caption}", t.id) for t in self.targets[:16])
        return f"<div>{self._about()}<br>{drawn}</div>"


def lds(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray) -> Lds:
    """Return the linear datamodeling score: do summed scores predict what training on a subset does?

        g(z, S)  = - Σ_{i in S} score(z, i)                                      predicted loss, up to a constant
        LDS(z)   = Spearman correlation over subsets S of g(z, S) and the loss of z under models trained on S
        LDS      = mean over targets z

    Park et al. (2023), section 2, with the sign of our scores: a positive one lowers the loss. Losses of several seeds
    are averaged; from two on, in at least 8 subsets, the noise floor is √(R r / (1 + (R - 1) r)), r the correlation
    between seeds (Spearman and Brown), its interval that of r by leaving out one subset at a time.

    Args:
        scores: Scores of M targets for N training examples, finite numbers (M, N).
        masks: Which examples each of S subsets holds, bool or 0 and 1, (S, N); at least 3 subsets.
        losses: Losses, (S, M), or (S, R, M) for R training seeds with NaN where one is not trained.

    Raises:
        DataError: If shapes do not agree, or a value is not finite.
        SettingsError: If there are fewer than 3 subsets.
    """
    values, inside, measured = numbers(scores, "scores"), numbers(masks, "masks"), numbers(losses, "losses")
    _check_shapes(values, inside, measured)
    by_seed = measured if measured.ndim == 3 else measured[:, None]
    guess, mean = measure.predicted(values, inside == 1), np.nanmean(by_seed, axis=1)
    found = measure.judge(guess, mean)
    floor = measure.noise_floor(by_seed)
    chance = measure.by_chance(guess, mean)
    value, ends = (None, None) if floor is None else (floor.value, (floor.low, floor.high))
    return Lds(found.mean, found.low, found.high, found.per_target, chance, value, ends, found.subsets)


def benchmark(
    checkpoint: Checkpoint | str,
    dataset: Dataset | str | None = None,
    targets: Literal["generated", "held-out"] = "generated",
) -> Benchmark:
    """Return what is stored for judging attributions of a checkpoint: masks, losses and target pictures.

    Where several questions were measured, the one of the most models is meant.

    Args:
        checkpoint: The model, or its name.
        dataset: Its training set, or the name of that; None looks it up.
        targets: Which targets: pictures that the model generated, or held-out ones.

    Raises:
        NotFoundError: If no models are stored, or none measured such targets.
        SettingsError: If `targets` is neither.
    """
    if targets not in list(standings.KINDS):  # compared, not looked up: it may be what has no hash
        raise SettingsError(f"targets is {targets!r}; expected 'generated' or 'held-out'.")
    found = stored(checkpoint, dataset)
    begin = f"{standings.KINDS[targets]}:"
    places = [place for place, target in enumerate(found.targets) if target.id.startswith(begin)]
    if not places:
        raise NotFoundError(f"The models on subsets of '{found.checkpoint.name}' measured no {targets} targets.")
    chosen = tuple(found.targets[place] for place in places)
    losses = found.losses[:, :, places]
    return Benchmark(found.dataset, found.checkpoint, chosen, found.masks, losses, found.settings)


def stored(checkpoint: Checkpoint | str, dataset: Dataset | str | None) -> BenchmarkFile:
    """Return the benchmark of a checkpoint and its training set, each given as such or by name, with all targets.

    Raises:
        NotFoundError: If no models are stored.
    """
    given = None if dataset is None else chosen_dataset(dataset)
    by = chosen_checkpoint(checkpoint, given)
    return benchmark_files.of_checkpoint(given or catalogue.by_digest(by.dataset), by)


def numbers(values: Any, name: str) -> np.ndarray:
    """Return numbers that the user gave, an array or a tensor, as float64."""
    try:
        found = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (ValueError, TypeError, RuntimeError) as error:  # a tensor's type may be one that numpy does not know
        how = f"Convert it with {name}.float()" if hasattr(values, "detach") else "Give one of numbers"
        raise DataError(f"{name} cannot be read as an array ({words_of(error)}). {how}.") from None
    if found.dtype.kind not in "biuf":
        raise DataError(f"{name} is of type {found.dtype}; expected numbers. Convert it.")
    return found.astype(np.float64)


def _check_shapes(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray) -> None:
    """Refuse arrays that do not go together.

    Raises:
        DataError: With the shapes that were given and expected.
    """
    if scores.ndim != 2 or masks.ndim != 2 or losses.ndim not in (2, 3) or 0 in (*scores.shape, *masks.shape):
        raise DataError(
            f"scores, masks and losses have the shapes {scores.shape}, {masks.shape} and {losses.shape}; expected "
            "(M, N), (S, N), and (S, M) or (S, R, M)."
        )
    if scores.shape[1] != masks.shape[1]:
        raise DataError(
            f"scores are of {scores.shape[1]:,} training examples, masks of {masks.shape[1]:,}. Take both from one "
            "dataset."
        )
    if len(losses) != len(masks) or losses.shape[-1] != len(scores):
        raise DataError(
            f"losses have the shape {losses.shape}; for {len(masks)} subsets and {len(scores)} targets expected "
            f"({len(masks)}, {len(scores)}) or ({len(masks)}, R, {len(scores)})."
        )
    if not np.isfinite(scores).all():
        raise DataError("scores holds values that are not finite. Replace them.")
    if not np.isin(masks, (0, 1)).all():
        raise DataError("masks holds other values than 0 and 1, or True and False. Say which examples are in.")
    measured = ~np.isnan(losses) if losses.ndim == 3 else np.ones((len(losses), 1, len(scores)), bool)
    if not measured.any(1).all() or np.isinf(losses).any() or (losses.ndim == 2 and np.isnan(losses).any()):
        raise DataError("losses holds values that are not finite, or a target without any. Leave that subset out.")
    if (measured.any(2) != measured.all(2)).any():
        raise DataError(
            "losses holds NaN for some targets of a seed alone; NaN says that a subset was not trained with that seed. "
            "Set all targets of it to NaN."
        )
