"""What tests of comparisons share: comparisons made up of numbers, and one of them stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dtrak_core import store
from dtrak_core.counterfactual import comparisons, entries
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.settings import build, key_of

TARGETS = tuple(f"seed:{i}" for i in range(6))
BLACK = np.zeros((2, 2, 3), np.uint8)
Removal = tuple[str, str, int, tuple[int, ...]]  # method, owner, size asked for, removed


def named(owners: Sequence[str] = TARGETS, method: str = "d-trak", size: int = 3) -> list[Removal]:
    """Return a removal of three pictures for each target."""
    return [(method, owner, size, tuple(range(10 * i, 10 * i + 3))) for i, owner in enumerate(owners)]


def controls(count: int, size: int = 3, asked: int = 3) -> list[Removal]:
    """Return random removals, all of one size."""
    return [("random", "", asked, tuple(range(1000 + 20 * i, 1000 + 20 * i + size))) for i in range(count)]


def compared(
    removals: Sequence[Removal],
    values: Mapping[int, np.ndarray] | np.ndarray,
    targets: Sequence[str] = TARGETS,
    seeds: Sequence[int] = (43,),
    missing: int = 0,
    **where: str,
) -> Comparison:
    """Return a comparison in which removal i does values[i] to the targets, by l2 and loss; the cosine is 1 less it.

    Args:
        removals: What was removed.
        values: What each removal does to each target, the mean over seeds.
        targets: The targets.
        seeds: Training seeds of every removal.
        missing: How many of the last entries are not there yet.
        where: Digests of dataset and checkpoint.
    """
    found = [Entry(t, "identity", 0, 0, (), BLACK, 0.0, 1.0, 0.0, train_seed=42) for t in targets]
    drawn: dict[tuple[str, str, int, int], int] = {}
    for i, (method, owner, size, removed) in enumerate(removals):
        for seed in seeds:
            draw = drawn.setdefault((method, owner, size, len(removed)), 0)
            drawn[method, owner, size, len(removed)] += 1
            for j, target in enumerate(targets):
                value = float(values[i][j]) + (seed - float(np.mean(seeds)))
                found.append(
                    Entry(target, method, draw, size, removed, BLACK, value, 1 - value, value, None, owner, seed)
                )
    settings = build(
        CounterfactualSettings,
        **{"dataset": "0" * 16, "checkpoint": "1" * 16} | where,
        targets=tuple(targets),
        methods=tuple(dict.fromkeys(r[0] for r in removals if r[0] not in ("random", "bottom"))),
        remove=tuple(sorted({r[2] for r in removals})),
        train_seeds=len(seeds),
    )
    there = found[: len(found) - missing]
    originals = dict.fromkeys(targets, BLACK)
    return Comparison(
        key_of("comparisons", settings),
        settings,
        settings.model_dump(mode="json"),
        "try",
        tuple(there),
        len(found),
        originals,
    )


def publish(comparison: Comparison, name: str) -> store.Artifact:
    """Store a comparison as its job does."""
    folder = store.partial("comparisons", comparison.key)
    store.write_json(folder / comparisons.ENTRIES, [entries.facts(entry) for entry in comparison.entries])
    store.write_array(folder / comparisons.IMAGES, np.stack([entry.image for entry in comparison.entries]))
    store.write_array(folder / comparisons.ORIGINALS, np.stack(list(comparison.originals.values())))
    return store.publish("comparisons", comparison.key, comparison.settings, name=name)
