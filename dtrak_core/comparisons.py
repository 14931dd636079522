"""Comparisons of removals as pages and command line read them: entries, medians, tests, exports. No torch here.

A finished comparison is one artifact; one under way is read from what its job has stored so far.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dtrak_core import checkpoints, datasets, removals, spreadsheet, store, thumbnails
from dtrak_core.datasets import Dataset
from dtrak_core.errors import NotFoundError
from dtrak_core.methods import METHODS
from dtrak_core.metrics import Paired, interval, paired
from dtrak_core.removal_settings import CounterfactualSettings
from dtrak_core.removals import BOTTOM, CONTRIBUTOR, FLOOR, IDENTITY, RANDOM, Wanted
from dtrak_core.settings import build, key_of
from dtrak_core.store import Artifact
from dtrak_core.targets import PICTURE, find_sample

ENTRIES, IMAGES, ORIGINALS = "entries.json", "images.npy", "originals.npy"
MEASURES = ("l2", "cosine", "loss_change")
LATENT_L2, LATENT = "latent_l2", "Euclidean distance of the unscaled latent modes; larger = changed more"
_LABELS = {IDENTITY: "Nothing removed", FLOOR: "Noise floor", RANDOM: "Random", BOTTOM: "Lowest scores"}


@dataclass(frozen=True)
class Entry:
    """One retrained model's picture of one target, and how far it is from the original.

    `size` is the number asked for, `removed` the training indices left out (none for identity and noise floor);
    `image` (H, W, 3) uint8. Larger l2, smaller cosine and larger loss change: the removal did more.
    """

    target: str
    method: str
    draw: int
    size: int
    removed: tuple[int, ...]
    image: np.ndarray
    l2: float
    cosine: float
    loss_change: float
    latent_l2: float | None = None  # text-to-image models alone


@dataclass(frozen=True)
class Comparison:
    """All entries that are there; `expected` says how many there will be, 0 while that is not known."""

    settings: CounterfactualSettings
    name: str
    entries: tuple[Entry, ...]
    expected: int
    originals: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the key of its artifact."""
        return key_of("comparisons", self.settings)


def read(settings: CounterfactualSettings) -> Comparison:
    """Return a comparison, finished or as far as it has come; without entries if it was never begun."""
    stored = store.find("comparisons", key_of("comparisons", settings))
    if stored is not None:
        return _open(stored)
    try:
        dataset = datasets.by_digest(settings.dataset, settings.facts)
        wanted = removals.plan(dataset, checkpoints.by_digest(settings.checkpoint, settings.dataset), settings)
    except NotFoundError:  # scores are still being computed
        wanted = []
    found = [entry_of(w, settings) for w in wanted]
    own = {target: find_sample(removals.sample_of(target, settings)) for target in settings.targets}
    originals = {name: target.image for name, target in own.items() if target is not None}
    return Comparison(settings, "", tuple(e for e in found if e is not None), len(wanted), originals)


def listing(dataset: Dataset, checkpoint: str) -> list[Comparison]:
    """Return the finished comparisons of a checkpoint, by its digest: shipped first, then newest.

    Those that leaned on other contributors or families than the dataset's, or did not say on which, are left out.
    """
    wanted = {"dataset": dataset.digest, "checkpoint": checkpoint}
    found = [a for a in store.listing("comparisons") if wanted.items() <= a.settings.items() and _holds(a, dataset)]
    return [_open(a) for a in sorted(found, key=lambda a: (a.shipped, a.manifest["date"]), reverse=True)]


def by_name(name: str) -> Comparison:
    """Return the newest finished comparison of this name or key, or raise NotFoundError listing all."""
    known = store.listing("comparisons")
    for artifact in sorted(known, key=lambda a: a.manifest["date"], reverse=True):
        if name in (artifact.manifest["name"], artifact.key):
            return _open(artifact)
    names = ", ".join(dict.fromkeys(f"{a.manifest['name']} ({a.key})" for a in known)) or "none yet"
    raise NotFoundError(f"There is no comparison '{name}'. There are: {names}.")


def measures(comparison: Comparison) -> tuple[str, ...]:
    """Return the measures that its entries have: those of latents only for text-to-image models."""
    latent = bool(comparison.entries) and all(entry.latent_l2 is not None for entry in comparison.entries)
    return (*MEASURES, LATENT_L2) if latent else MEASURES


def label(method: str) -> str:
    """Return what a removal is called: a control's words, a method's label, or whose pictures were taken out."""
    if method.startswith(CONTRIBUTOR):
        return f"Without {method.removeprefix(CONTRIBUTOR)}"
    return _LABELS.get(method) or METHODS[method].label


def about(bars: Sequence[Wanted]) -> str:
    """Return what a model is trained for, in words: the method of its bars, and the target if it is one."""
    names = {bar.target for bar in bars}
    return label(bars[0].method) + (f" for {bars[0].target}" if len(names) == 1 else "")


def of_size(entries: Sequence[Entry], size: int) -> list[Entry]:
    """Return the entries to show beside each other for one size: removals of it, and the controls without removal."""
    return [e for e in entries if e.size in (0, size)]


def medians(comparison: Comparison, size: int | None = None) -> dict[str, dict[str, Any]]:
    """Return for each method the median over targets of each measure, with its bootstrap interval and n.

    Several draws of one target count as their mean, so that every target weighs the same.

    Args:
        comparison: The comparison.
        size: Number removed; None takes the largest.
    """
    shown = of_size(comparison.entries, size or max(comparison.settings.remove))
    found: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(e.method for e in shown):
        row: dict[str, Any] = {}
        for measure in measures(comparison):
            values = list(_by_target(shown, method, measure).values())
            row |= {measure: float(np.median(values)), f"{measure}_interval": list(interval(values))}
        found[method] = row | {"n": len(values), "entries": sum(e.method == method for e in shown)}
    return found


def statistics(comparison: Comparison, size: int | None = None, measure: str = "l2") -> dict[str, Paired]:
    """Return each method against random removal, paired by target (mean over draws), in one measure."""
    shown = of_size(comparison.entries, size or max(comparison.settings.remove))
    random = _by_target(shown, RANDOM, measure)
    found = {}
    for method in dict.fromkeys(e.method for e in shown if e.method not in (RANDOM, IDENTITY)):
        ours = _by_target(shown, method, measure)
        both = [target for target in ours if target in random]
        if both:
            found[method] = paired([ours[t] for t in both], [random[t] for t in both])
    return found


def document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain JSON values: settings, medians, tests against random, every entry."""
    finished = len(comparison.entries) == comparison.expected
    return {
        "name": comparison.name,
        "key": comparison.key,
        "finished": finished,
        "encoder": comparison.settings.encoder,
        "measures": {
            "l2": "Euclidean distance of the pictures in [-1, 1]; larger = the removal changed the picture more",
            "cosine": f"cosine of the {comparison.settings.encoder} embeddings; smaller = changed more",
            "loss_change": "change of the target's denoising loss; larger = the model knows the target less",
        }
        | ({"latent_l2": LATENT} if LATENT_L2 in measures(comparison) else {}),
        "medians": medians(comparison),
        "against_random": {
            measure: {name: dataclasses.asdict(test) for name, test in statistics(comparison, measure=measure).items()}
            for measure in measures(comparison)
        },
        "settings": comparison.settings.model_dump(mode="json"),
        "entries": [facts(entry) for entry in comparison.entries],
        "made": dict(comparison.facts),
    }


def to_csv(comparison: Comparison) -> bytes:
    """Return the entries as CSV, the removed indices separated by spaces."""
    told, lines = measures(comparison), []
    for e in comparison.entries:
        values = [getattr(e, name) for name in told]
        removed = " ".join(map(str, e.removed))
        lines.append([e.target, e.method, e.draw, e.size, len(e.removed), *values, removed])
    return spreadsheet.to_csv(["target", "method", "draw", "size", "removed_count", *told, "removed"], lines)


def facts(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain JSON values, without its picture."""
    found = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry) if f.name != "image"}
    if entry.latent_l2 is None:
        del found[LATENT_L2]
    return found | {"removed": list(entry.removed)}


def entry_of(wanted: Wanted, settings: CounterfactualSettings) -> Entry | None:
    """Return one bar of a plan, or None where it has not been computed."""
    artifact = store.find("outcomes", key_of("outcomes", removals.outcome_of(wanted, settings)))
    if artifact is None:
        return None
    told = artifact.manifest
    image = thumbnails.decode(artifact.file(PICTURE).read_bytes())
    where = (wanted.target, wanted.method, wanted.draw, wanted.asked, wanted.removed)
    return Entry(*where, image, told["l2"], told["cosine"], told["loss_change"], told.get("latent_l2"))


def _open(artifact: Artifact) -> Comparison:
    settings = build(CounterfactualSettings, **artifact.settings)
    rows = json.loads(artifact.file(ENTRIES).read_bytes())
    images, originals = artifact.array(IMAGES), artifact.array(ORIGINALS)
    entries = tuple(
        Entry(**(row | {"removed": tuple(row["removed"])}), image=np.asarray(image))
        for row, image in zip(rows, images, strict=True)
    )
    own = {target: np.asarray(image) for target, image in zip(settings.targets, originals, strict=True)}
    made = {name: artifact.manifest[name] for name in ("date", "versions", "bytes")} | {"shipped": artifact.shipped}
    return Comparison(settings, artifact.manifest["name"], entries, len(entries), own, made)


def _holds(artifact: Artifact, dataset: Dataset) -> bool:
    """Say whether a comparison's removal sets are still those that the dataset's rows give."""
    settings = artifact.settings
    leans = removals.needs_facts(settings["methods"], settings.get("group", "none"))
    held: str = settings.get("facts", "")
    return held == (dataset.facts if leans else "")


def _by_target(entries: Sequence[Entry], method: str, measure: str) -> dict[str, float]:
    """Return the mean over draws of one measure for each target of a method."""
    values: dict[str, list[float]] = {}
    for entry in entries:
        if entry.method == method:
            values.setdefault(entry.target, []).append(getattr(entry, measure))
    return {target: float(np.mean(found)) for target, found in values.items()}
