"""Bring scores of one's own into the app; take the benchmark along that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.api import judging
from dtrak_core.api.inputs import Wanted, chosen_checkpoint, chosen_dataset, chosen_targets, chosen_way
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.files import expanded
from dtrak_core.lds import benchmark_files
from dtrak_core.lds.benchmark_files import Returned
from dtrak_core.methods import own_scores
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled


def add_scores(
    name: str,
    scores: Any,
    targets: Wanted | Sequence[Wanted],
    dataset: Dataset | str,
    checkpoint: Checkpoint | str | None = None,
    sampled: Sampled | None = None,
) -> str:
    """Store scores of one's own; from then on they are a method for these targets, on every page and in every command.

    They are known by the dataset's digest and by the targets' ids and pixels: for anything else they are refused in a
    sentence. Scores that are given later under the same name take it over.

    Args:
        name: What they are called: lower-case letters, digits, '.', '_' and '-', at most 40.
        scores: Finite numbers (M, N): row by target, column by training index; positive: helps.
        targets: The M targets: those of an explanation or a benchmark, or seeds, ids and pictures as for `explain`.
        dataset: The training set of N pictures, or its name.
        checkpoint: The model, where targets are named by seeds.
        sampled: How pictures of seeds are drawn.

    Returns:
        The method's id, `own:NAME@KEY`, which means these very scores; `own:NAME` means the newest of the name.

    Raises:
        DataError: If scores have another shape or type, or a value is not finite.
        NotFoundError: If a dataset, checkpoint or target is not known.
        SettingsError: If the name cannot be used.
    """
    of = chosen_dataset(dataset)
    by = None if checkpoint is None else chosen_checkpoint(checkpoint, of)
    how = chosen_way(sampled, of, by)
    chosen = chosen_targets(targets, of, by, how, engine=False, shown=False)
    return own_scores.Named(name, own_scores.add(name, scores, chosen, of).key).id


def export_benchmark(path: str | Path, checkpoint: Checkpoint | str, dataset: Dataset | str | None = None) -> str:
    """Write what attributions of a model are judged by to an .npz: masks, losses, targets (`lds.benchmark_files`).

    Args:
        path: The file.
        checkpoint: The model, or its name.
        dataset: Its training set, or the name of that; None looks it up.

    Returns:
        The benchmark's digest, which scores of it have to name.

    Raises:
        NotFoundError: If no models on subsets are stored.
        SettingsError: If the file is no .npz, or cannot be written.
    """
    file = expanded(path)
    write, found = benchmark_files.writer(file), judging.stored(checkpoint, dataset)
    store.write_bytes(file, write(found))
    return found.digest


def add_scores_file(
    name: str, path: str | Path, checkpoint: Checkpoint | str, dataset: Dataset | str | None = None
) -> Returned:
    """Make the scores of a file a method, as `add_scores` does, and judge them.

    Args:
        name: What they are called: lower-case letters, digits, '.', '_' and '-', at most 40.
        path: An .npz with `scores` (M, N) and `benchmark`, the digest of the exported one; with `targets`, ids of its
            rows, they may be fewer or in another order.
        checkpoint: The model, or its name.
        dataset: Its training set, or the name of that; None looks it up.

    Returns:
        The method's id, the targets, and the LDS by kind of target.

    Raises:
        DataError: If the file cannot be read, or its scores are of another benchmark or shape, or not finite.
        NotFoundError: If there is no such file, or no models on subsets are stored.
        SettingsError: If the name cannot be used.
    """
    return benchmark_files.take_back(name, expanded(path), judging.stored(checkpoint, dataset))
