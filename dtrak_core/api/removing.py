"""Remove training pictures, train again, draw the same seeds: comparisons as the library runs and shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.api import showing
from dtrak_core.api.inputs import (
    chosen_checkpoint,
    chosen_dataset,
    chosen_names,
    chosen_way,
    listed_targets,
    whole_numbers,
)
from dtrak_core.api.working import done
from dtrak_core.counterfactual import badges, comparisons, contrasts, removals
from dtrak_core.counterfactual.badges import Badge
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.contrasts import Contrast
from dtrak_core.counterfactual.entries import Entry, label, of_size
from dtrak_core.counterfactual.settings import Group
from dtrak_core.counterfactual.verdicts import Verdict
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError, shortened
from dtrak_core.jobs.job_kinds import CounterfactualJob
from dtrak_core.models import descriptions
from dtrak_core.models import targets as known_targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import DIFFUSION_STEPS, Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build

SHOWN = 3  # targets whose pictures are shown


@dataclass(frozen=True, eq=False, repr=False)
class Removals:
    """A finished comparison: what retrained models make of M targets, each with the seed of the original.

    `entries` hold the pictures: of each target, arm (method, random, noise_floor, identity) and model the picture
    (H, W, 3) uint8 with its distance from the original: l2 of pixels in [-1, 1], cosine of embeddings, change of the
    denoising loss. Larger l2, smaller cosine, larger change: the removal did more.
    """

    comparison: Comparison

    @property
    def name(self) -> str:
        """Return what the comparison is called."""
        return self.comparison.name

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return one entry for each picture."""
        return self.comparison.entries

    def medians(self, size: int | None = None) -> dict[str, dict[str, Any]]:
        """Return for each arm the median over targets of each measure, with its 95 % interval (None below 6 targets).

        `size` is one of the numbers of pictures asked for; None takes the largest.
        """
        return comparisons.medians(self.comparison, size)

    def verdicts(self, measure: str = "l2", size: int | None = None) -> dict[str, Verdict]:
        """Return for each method whether its removals are special to the target, and beyond random removals.

        `specific_p` is exact up to 8 targets, else over 10,000 permutations of which model belongs to which target;
        `beyond` is the difference to random removals of equal size, with its interval.
        """
        return comparisons.statistics(self.comparison, size, measure)

    def badges(self, size: int | None = None) -> dict[str, Badge]:
        """Return for each method whether it is beyond chance in any measure, counting that there are several."""
        return badges.badges(self.comparison, size)

    def contrasts(self, size: int | None = None) -> dict[str, list[Contrast]]:
        """Return by measure how much more one method's removals change their targets than another's, for each two.

        `p` is two-sided, of the signs of the targets' differences: exact up to 12 targets, else over 10,000 draws.
        """
        return contrasts.contrasts(self.comparison, size)

    def sentences(self, size: int | None = None) -> dict[str, list[str]]:
        """Return the verdicts in words, for each measure one sentence a method."""
        return comparisons.sentences(self.comparison, size)

    def __repr__(self) -> str:
        """Return in a line what was compared."""
        settings = self.comparison.settings
        return f"Removals({self.name}: {counted(len(settings.targets), 'target')}, {', '.join(settings.methods)})"

    def _repr_html_(self) -> str:
        """Return medians, verdicts and pictures, for a notebook."""
        size = max(self.comparison.settings.remove)
        rows = [
            {"arm": label(arm)} | {name: row[name] for name in comparisons.measures(self.comparison)}
            for arm, row in self.medians().items()
        ]
        told = f"<div><b>{escape(badges.headline(self.comparison))}</b></div>"
        told += "".join(f"<div>{escape(line)}</div>" for lines in self.sentences().values() for line in lines)
        shown = [self._pictures(target, size) for target in self.comparison.settings.targets[:SHOWN]]
        caption = f"{self.name}: {comparisons.taken(self.comparison)} pictures removed, medians over targets"
        return f"<div>{showing.table(rows, caption)}{told}{''.join(shown)}</div>"

    def _pictures(self, target: str, size: int) -> str:
        original = self.comparison.originals.get(target)
        drawn = [] if original is None else [showing.picture(original, f"{target}, the original", target)]
        first: dict[str, np.ndarray] = {}
        for entry in of_size(self.entries, size):
            if entry.target == target:
                first.setdefault(label(entry.method), entry.image)
        drawn += [showing.picture(image, f"{target}, {arm}", arm) for arm, image in first.items()]
        return f"<div>{''.join(drawn)}</div>"


def counterfactual(
    name: str = "comparison",
    dataset: Dataset | str | None = None,
    checkpoint: Checkpoint | str | None = None,
    targets: int | str | Target | Sequence[int | str | Target] | None = None,
    methods: Sequence[str] = ("d-trak",),
    remove: int | Sequence[int] | None = None,
    *,
    group: Group = "none",
    random_draws: int = 2,
    train_seeds: int = 1,
    floor_models: int = 1,
    take_over: int = DIFFUSION_STEPS,
    bottom: bool = True,
    sampled: Sampled | None = None,
    engine: bool = False,
    progress: bool = True,
) -> Removals:
    """Return a comparison of removals: the stored one of a name, or one that is run with these targets.

    Each arm is trained with the same training seeds, none of them the original's, and every trained model draws every
    target. Beside the removals that methods name stand random ones of equal size, nothing removed with other training
    seeds (noise floor), and nothing removed with the original's (identity).

    Args:
        name: The comparison's name; with nothing else, the finished one that is opened.
        dataset: The training set, or its name.
        checkpoint: The model, or its name; it was trained here.
        targets: Seeds, their ids (`seed:3`), or generated pictures that were drawn as `sampled` says.
        methods: Ids of methods; `own:NAME` for scores of `add_scores`; `contributor:NAME` for all of one's pictures;
            `pictures:3,17-19` for these training pictures; `same:family`, `same:contributor` or `same:label` for all
            training pictures that share what is known of the target by its prompt.
        remove: Numbers of pictures removed; None takes 20 % of what the model learned from.
        group: Remove whole families, contributors or labels of the top pictures.
        random_draws: Random removals of equal size, at least 1.
        train_seeds: Training seeds of every arm, at least 1.
        floor_models: Models with nothing removed, each of another seed; as many as the training seeds at least.
        take_over: Timestep of 1,000 below which the retrained models draw, and the original above.
        bottom: Whether the lowest scores of the first method are removed too.
        sampled: How pictures of seeds are drawn.
        engine: Whether the engine computes, in processes of its own; else this process does.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If there is no such comparison, dataset, checkpoint or method.
        SettingsError: If something is missing or cannot work.
    """
    if dataset is None and checkpoint is None and targets is None:
        return Removals(comparisons.by_name(name))
    if dataset is None or checkpoint is None or targets is None:
        raise SettingsError(
            "A comparison needs a dataset, a checkpoint and targets. Give all three, or only the name of a finished "
            "one."
        )
    of = chosen_dataset(dataset)
    by = chosen_checkpoint(checkpoint, of)
    how = chosen_way(sampled, of, by)
    names = tuple(_generated(one, by, how) for one in listed_targets(targets))
    taken = round(0.2 * descriptions.learned_from(by, len(of.train.rows))) if remove is None else remove
    asked: Mapping[str, Any] = {
        "targets": names,
        "remove": whole_numbers(taken, "remove"),
        "group": group,
        "random_draws": random_draws,
        "train_seeds": train_seeds,
        "floor_models": floor_models,
        "take_over": take_over,
        "bottom": bottom,
    } | how.drawing()
    wanted = chosen_names(methods, "methods")
    removals.check(of, wanted, group, "Choose another group, or none.")
    settings = removals.settings_for(of, by, wanted, asked)
    done(
        build(CounterfactualJob, settings=settings, name=name),
        f"Compare removals for {counted(len(names), 'target')}",
        engine,
        progress,
    )
    return Removals(comparisons.read(settings))


def _generated(target: Any, by: Checkpoint, how: Sampled) -> str:
    """Return the id of a generated target that is named by its seed, its id or itself, as it is drawn again."""
    name = target.id if isinstance(target, Target) else target
    name = f"seed:{name}" if isinstance(name, int | np.integer) else name
    if not isinstance(name, str) or not name.startswith("seed:"):
        told = name if isinstance(name, str) else "A picture of one's own"
        raise SettingsError(f"{told} was not generated. Choose generated targets, like 3 or seed:3.")
    if isinstance(target, Target):
        _check_same(target, by, how)
    return name


def _check_same(target: Target, by: Checkpoint, how: Sampled) -> None:
    """Refuse a picture that is another one than its seed gives in the comparison."""
    wanted = known_targets.sample_settings(by.digest, known_targets.seed_of(target.id), how)
    drawn = known_targets.find_sample(wanted)
    if drawn is not None and drawn.pixels == target.pixels:
        return
    if known_targets.drawing_of(target.row).get("checkpoint") != by.digest:
        raise SettingsError(
            f"The picture of {target.id} was not drawn by '{by.name}', whose own is compared. Give its seed alone."
        )
    if drawn is not None or target.sampled.drawing() != wanted.drawing():
        was, will = (f"{descriptions.way(one, by)}{_words(one)}" for one in (target.sampled, wanted))
        raise SettingsError(
            f"The picture of {target.id} was drawn by {was}; this comparison draws it by {will}. Say with sampled= how "
            "it was drawn: target.sampled tells."
        )


def _words(drawn: Sampled) -> str:
    """Return what a picture is drawn from, where there is a prompt."""
    return f" for '{shortened(drawn.prompts[0])}' at guidance {drawn.guidance:g}" if drawn.prompts else ""
