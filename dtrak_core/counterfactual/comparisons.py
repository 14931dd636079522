"""Comparisons of removals as pages and command line read them: entries, medians, verdicts. No torch here.

A finished comparison is one artifact; one under way is read from what its job has stored so far.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.amounts import counted, ranges_of
from dtrak_core.counterfactual import encoders, entries, removals, verdicts
from dtrak_core.counterfactual.entries import Entry, label, of_size
from dtrak_core.counterfactual.removal_sets import is_shared
from dtrak_core.counterfactual.removals import FLOOR, IDENTITY, RANDOM, Wanted
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.counterfactual.verdicts import Verdict
from dtrak_core.datasets import catalogue, thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError
from dtrak_core.methods import crediting
from dtrak_core.models import checkpoints
from dtrak_core.models.targets import PICTURE, Target, find_sample
from dtrak_core.settings import build, key_of
from dtrak_core.store import Artifact

ENTRIES, IMAGES, ORIGINALS = "entries.json", "images.npy", "originals.npy"


@dataclass(frozen=True)
class Comparison:
    """All entries that are there; `expected` says how many there will be, 0 while that is not known.

    `crossed` says that every model draws every target. It is not so in comparisons from before that was the rule:
    there each model drew the target that it was named for, and `stored` are other settings than `settings` now has.
    """

    key: str
    settings: CounterfactualSettings
    stored: Mapping[str, Any]
    name: str
    entries: tuple[Entry, ...]
    expected: int
    originals: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)
    crossed: bool = True

    @property
    def finished(self) -> bool:
        """Say whether all entries are there."""
        return 0 < len(self.entries) == self.expected


def read(settings: CounterfactualSettings) -> Comparison:
    """Return a comparison, finished or as far as it has come; without entries if it was never begun."""
    settings = encoders.settled(settings)
    key = key_of("comparisons", settings)
    if (finished := store.find("comparisons", key)) is not None:
        return _open(finished)
    try:
        dataset = catalogue.by_digest(settings.dataset, settings.facts)
        wanted = removals.plan(dataset, checkpoints.by_digest(settings.checkpoint, settings.dataset), settings)
    except NotFoundError:  # scores are still being computed
        wanted = []
    found = [entry_of(w, settings) for w in wanted]
    own = {target: find_sample(removals.sample_of(target, settings)) for target in settings.targets}
    originals = {name: target.image for name, target in own.items() if target is not None}
    there = tuple(e for e in found if e is not None)
    return Comparison(key, settings, settings.model_dump(mode="json"), "", there, len(wanted), originals)


def listing(dataset: Dataset, checkpoint: str) -> list[Comparison]:
    """Return the finished comparisons of a checkpoint, by its digest: shipped first, with most methods, then newest.

    Those that leaned on other contributors or families than the dataset's, or did not say on which, are left out.
    """
    return [_open(artifact) for artifact in _listed(dataset, checkpoint)]


def first(dataset: Dataset, checkpoint: str, target: Target | None = None) -> str:
    """Return the key of the first of `listing`, or of the first of this picture, which opens none; else nothing."""
    found = _listed(dataset, checkpoint)
    if target is not None:
        found = [a for a in found if is_of(build(CounterfactualSettings, **a.settings), target)]
    return next((artifact.key for artifact in found), "")


def is_of(settings: CounterfactualSettings, target: Target) -> bool:
    """Say whether a comparison is of this very picture: another way to draw makes another one of the same seed."""
    if target.id not in settings.targets:
        return False
    drawn = find_sample(removals.sample_of(target.id, settings))
    return drawn is not None and drawn.pixels == target.pixels


def _listed(dataset: Dataset, checkpoint: str) -> list[Artifact]:
    wanted = {"dataset": dataset.digest, "checkpoint": checkpoint}
    found = [a for a in store.listing("comparisons") if wanted.items() <= a.settings.items() and _holds(a, dataset)]

    def worth(artifact: Artifact) -> tuple[bool, bool, int, str]:
        late = "take_over" in artifact.settings  # details alone: behind those that draw all anew
        methods = len(artifact.settings["methods"]) if artifact.shipped else 0
        return artifact.shipped, not late, methods, artifact.manifest["date"]

    return sorted(found, key=worth, reverse=True)


def by_name(name: str) -> Comparison:
    """Return the newest finished comparison of this name or key, or raise NotFoundError listing all."""
    known = store.listing("comparisons")
    for artifact in sorted(known, key=lambda a: a.manifest["date"], reverse=True):
        if name in (artifact.manifest["name"], artifact.key):
            return _open(artifact)
    names = ", ".join(dict.fromkeys(f"{a.manifest['name']} ({a.key})" for a in known)) or "none yet"
    raise NotFoundError(f"There is no comparison '{name}'. There are: {names}.")


def outdated(dataset: Dataset, checkpoint: str, name: str) -> Comparison | None:
    """Return the newest comparison of this name or key that `listing` leaves out, None where there is none."""
    wanted = {"dataset": dataset.digest, "checkpoint": checkpoint}
    found = [a for a in store.listing("comparisons") if wanted.items() <= a.settings.items() and not _holds(a, dataset)]
    named = [a for a in found if name in (a.manifest["name"], a.key)]
    return _open(max(named, key=lambda a: a.manifest["date"])) if named else None


def changed(comparison: Comparison) -> str:
    """Say in a sentence that contributors or families, on which its removals leaned, are different now; else nothing.

    Asked is the newest dataset of each name with these pictures: where one has them still, nothing has changed.
    """
    settings = comparison.settings
    if not removals.needs_facts(settings.methods, settings.group):
        return ""
    if not settings.facts:
        return (
            f"The comparison '{comparison.name}' is from before comparisons kept which contributors and families "
            "they leaned on, so its removals may be those of another table than today's. Compare again."
        )
    now = catalogue.newest_of(settings.dataset)
    if not now or settings.facts in [one.facts for one in now]:
        return ""
    names = " and ".join(f"'{one.name}'" for one in now)
    return (
        f"Contributors or families of {names} have changed since the comparison '{comparison.name}' was made: its "
        "removals are those of the table before. Compare again for today's."
    )


def measures(comparison: Comparison) -> tuple[str, ...]:
    """Return the measures that its entries have: those of latents only for text-to-image models."""
    return entries.measures_of(comparison.entries)


def taken(comparison: Comparison, size: int | None = None) -> str:
    """Return in words how many pictures its removals really took: a contributor's are as many as they are.

    None takes all sizes asked for together.
    """
    counts = _counts(comparison, size)
    return ", ".join(f"{count:,}" for count in counts) if len(counts) < 4 else f"{counts[0]:,} to {counts[-1]:,}"


def protocol(comparison: Comparison, size: int, pictures: int) -> str:
    """Say what was taken for one size asked for, beside how many control models, and with which training seeds.

    Args:
        comparison: The comparison; one under way is told as far as it has come.
        size: One of the numbers of pictures asked for.
        pictures: Number of training pictures.
    """
    counts, own = _counts(comparison, size), of_size(comparison.entries, size)
    first = "No removal has been trained yet."
    if counts:
        shares = dict.fromkeys(crediting.percent(count / pictures) for count in (counts[0], counts[-1]))
        first = f"Removed: {taken(comparison, size)} of {pictures:,} training pictures ({' to '.join(shares)})."
    beside = []
    for arm, what in ((RANDOM, "without random pictures"), (FLOOR, "with nothing removed (noise floor)")):
        if models := {(e.removed, e.draw) for e in own if e.method == arm}:
            beside.append(f"{counted(len(models), 'model')} {what}")
    told = [counted(len(comparison.settings.targets), "target"), *beside]
    if seeds := {e.train_seed for e in own if e.method != IDENTITY and e.train_seed is not None}:
        told.append(f"training seed{'s' * (len(seeds) > 1)} {ranges_of(seeds)}")
    return f"{first} {', '.join(told)}."


def _counts(comparison: Comparison, size: int | None) -> list[int]:
    found = comparison.entries if size is None else of_size(comparison.entries, size)
    return sorted({len(e.removed) for e in found if e.removed})


def about(bars: Sequence[Wanted]) -> str:
    """Return what a model is trained for, in words: the method of its bars, and the target that it was named for."""
    names = list(dict.fromkeys(bar.owner for bar in bars))
    return label(bars[0].method) + (f" for {' and '.join(names)}" if names[0] else "")


def medians(comparison: Comparison, size: int | None = None) -> dict[str, dict[str, Any]]:
    """Return the medians of each arm for one size asked for, as `entries.medians` does; None takes the largest."""
    return entries.medians(of_size(comparison.entries, size or max(comparison.settings.remove)))


def unjudged(comparison: Comparison) -> str:
    """Say why no removal of a comparison can be judged, in any measure; nothing where some can."""
    if not comparison.crossed:
        return verdicts.BEFORE
    if not comparison.finished:
        return verdicts.UNFINISHED
    return verdicts.too_few(len(comparison.settings.targets))


def statistics(comparison: Comparison, size: int | None = None, measure: str = "l2") -> dict[str, Verdict]:
    """Return the verdict on each removal in one measure, for one size asked for; None takes the largest.

    A comparison that is under way, or from before every model drew every target, has verdicts that say so.
    """
    size = size or max(comparison.settings.remove)
    if not (comparison.crossed and comparison.finished):
        return verdicts.without(comparison.entries, size, unjudged(comparison))
    count = len(measures(comparison))
    return verdicts.verdicts(comparison.entries, comparison.settings.targets, size, measure, count)


def sentences(
    comparison: Comparison, size: int | None = None, quoted: Callable[[str], str] = str
) -> dict[str, list[str]]:
    """Return for each measure what `statistics` say in words, a sentence a removal; methods' names are `quoted`."""
    return {
        measure: [
            verdicts.sentence(method, one, measure, quoted)
            for method, one in statistics(comparison, size, measure).items()
        ]
        for measure in measures(comparison)
    }


def dataset_of(comparison: Comparison) -> Dataset | None:
    """Return the dataset whose pictures were removed, None where it is no longer stored as it was."""
    try:
        return catalogue.by_digest(comparison.settings.dataset, comparison.settings.facts)
    except NotFoundError:
        return None


def entry_of(wanted: Wanted, settings: CounterfactualSettings) -> Entry | None:
    """Return one bar of a plan, or None where it has not been computed."""
    artifact = store.find("outcomes", key_of("outcomes", removals.outcome_of(wanted, settings)))
    if artifact is None:
        return None
    told = artifact.manifest
    image = thumbnails.decode(artifact.file(PICTURE).read_bytes())
    where = (wanted.target, wanted.method, wanted.draw, wanted.asked, wanted.removed)
    distances = (told["l2"], told["cosine"], told["loss_change"], told.get("latent_l2"))
    return Entry(*where, image, *distances, owner=wanted.owner, train_seed=wanted.train_seed)


def _open(artifact: Artifact) -> Comparison:
    """Open a finished comparison. The last few stay in memory: pages ask for all of a checkpoint at every click."""
    return _opened(artifact.key, artifact.path, (artifact.path / store.MANIFEST).stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _opened(key: str, _path: Path, _written: int) -> Comparison:
    artifact = store.get("comparisons", key)
    settings = build(CounterfactualSettings, **artifact.settings)
    crossed = "train_seeds" in artifact.settings
    rows = json.loads(artifact.read(ENTRIES))
    images, originals = artifact.array(IMAGES), artifact.array(ORIGINALS)
    found = []
    for row, image in zip(rows, images, strict=True):
        shared = row["method"] in (IDENTITY, FLOOR, RANDOM) or is_shared(row["method"])
        owner = {} if crossed or shared else {"owner": row["target"]}
        found.append(Entry(**row | owner | {"removed": tuple(row["removed"])}, image=np.asarray(image)))
    own = {target: np.asarray(image) for target, image in zip(settings.targets, originals, strict=True)}
    made = {name: artifact.manifest[name] for name in ("date", "versions", "bytes")} | {"shipped": artifact.shipped}
    name = artifact.manifest["name"]
    where = (artifact.key, settings, artifact.settings, name, tuple(found), len(found), own, made)
    return Comparison(*where, crossed=crossed)


def _holds(artifact: Artifact, dataset: Dataset) -> bool:
    """Say whether a comparison's removal sets are still those that the dataset's rows give."""
    settings = artifact.settings
    leans = removals.needs_facts(settings["methods"], settings.get("group", "none"))
    held: str = settings.get("facts", "")
    return held == (dataset.facts if leans else "")
