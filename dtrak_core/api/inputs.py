"""What the library works on: training sets, checkpoints and targets, from memory or from the store by name."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from dtrak_core import store
from dtrak_core.amounts import counted, whole
from dtrak_core.api.working import bar, done
from dtrak_core.datasets import catalogue, memory, thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError, NotFoundError, SettingsError, shortened
from dtrak_core.jobs.job_kinds import ImportJob, SampleJob
from dtrak_core.methods import set_scores
from dtrak_core.models import checkpoints, descriptions, ways
from dtrak_core.models import targets as known_targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build

Wanted: TypeAlias = int | str | Target | np.ndarray | Image.Image  # one target, as the user names it


def dataset(
    images: Any,
    labels: Any = None,
    contributors: Sequence[str | None] | None = None,
    captions: Sequence[str | None] | None = None,
    held_out: Any = None,
    name: str = "mine",
) -> Dataset:
    """Return a training set: pictures from memory, which are stored by their pixels, or what is stored by name.

    Row i of all scores is picture i. Nothing is held out of what is given.

    Args:
        images: Pictures, square, 8 to 512 pixels a side, at least 8: an array or torch tensor (N, H, W, 3) or
            (N, 3, H, W) (grey ones (N, H, W)), uint8 or floats in [0, 1]; or a list of Pillow's images or of arrays.
            Or a string: the name of a stored dataset, such as "openmoji-people".
        labels: One whole number or text for each picture, or one-hot rows; None for none.
        contributors: Who made each picture; None for one that is not known.
        captions: What each picture shows, for text-to-image models.
        held_out: Pictures that are not trained on, in any of the forms above; an empty array or list is none.
        name: What the dataset is called: lower-case letters, digits, '.', '_' and '-', at most 40.

    Raises:
        DataError: If pictures, labels or texts have another shape, type or scale; the sentence names them.
        SettingsError: If the name cannot be used, or more than a name is given for a stored dataset.
        NotFoundError: If no dataset of this name is stored.
    """
    if not isinstance(images, str):
        return catalogue.load(memory.keep(images, labels, contributors, captions, held_out, name))
    if any(one is not None for one in (labels, contributors, captions, held_out)) or name != "mine":
        raise SettingsError(f"'{images}' names a stored dataset, which has labels of its own. Give the name alone.")
    if images == catalogue.DEFAULT and not any(a.manifest["name"] == images for a in store.listing("datasets")):
        return catalogue.load(catalogue.prepare(DatasetSettings()))
    return catalogue.by_name(images)


def checkpoint(
    unet: Any, scheduler: Any = None, dataset: Dataset | str | None = None, name: str = "mine"
) -> Checkpoint:
    """Return a checkpoint: a network of diffusers from memory, which is stored by its weights, or a stored one by name.

    Args:
        unet: A diffusers UNet2DModel of pictures of the dataset's size, as `unet(x_t, t)`, that predicts what its
            scheduler says: noise, picture, v or flow; its weights are copied as float32. Or a string: the name of a
            stored checkpoint, such as "demo" or "demo@50".
        scheduler: The diffusers scheduler that it was trained with (DDPM's, DDIM's or one of their kind;
            of a flow a FlowMatchEulerDiscreteScheduler).
        dataset: What it was trained on, or the name of that; with the name of a stored checkpoint it may be left out.
        name: What the checkpoint is called.

    Raises:
        DataError: If it is another kind of network or scheduler, or of another size than the dataset's pictures.
        NotFoundError: If no checkpoint of this name is stored.
        SettingsError: If the dataset or the scheduler is not given, or the name cannot be used.
    """
    of = chosen_dataset(dataset) if dataset is not None else None
    if isinstance(unet, str):
        if scheduler is not None:
            raise SettingsError(f"'{unet}' names a stored checkpoint, which has a scheduler of its own. Leave it out.")
        return checkpoints.by_name(unet, None if of is None else of.digest)
    if of is None:
        raise SettingsError("A network from memory needs the dataset that it was trained on. Give dataset=.")
    for what, part in (("network", unet), ("scheduler", scheduler)):
        if not hasattr(part, "save_pretrained") or not hasattr(part, "config"):
            raise SettingsError(
                f"The {what} is of type {type(part).__name__}; expected one of diffusers: a UNet2DModel with its "
                "DDPMScheduler, say."
            )
    build(ImportJob, source=name, dataset=of.digest, name=name)  # refuses a name that cannot be used
    from dtrak_core.models import importing

    with tempfile.TemporaryDirectory() as place, bar(f"Store '{name}'", False) as on_progress:
        folder = Path(place) / name
        unet.save_pretrained(folder / "unet")
        scheduler.save_pretrained(folder / "scheduler")
        run = importing.import_checkpoint(str(folder), of, name, on_progress)
    return checkpoints.of_run(run)[-1]


def chosen_dataset(given: Dataset | str) -> Dataset:
    """Return a dataset that is given as such or by name.

    Raises:
        SettingsError: If it is something else.
    """
    if isinstance(given, Dataset):
        return given
    if not isinstance(given, str):
        raise SettingsError(f"The dataset is of type {type(given).__name__}; expected one of api.dataset, or its name.")
    return dataset(given)


def chosen_checkpoint(given: Checkpoint | str, of: Dataset | None = None) -> Checkpoint:
    """Return a checkpoint that is given as such or by name; with a dataset, only one that learned from it.

    Raises:
        SettingsError: If it learned from another dataset, or is something else.
    """
    if isinstance(given, str):
        return checkpoints.by_name(given, None if of is None else of.digest)
    if not isinstance(given, Checkpoint):
        raise SettingsError(
            f"The checkpoint is of type {type(given).__name__}; expected one of api.checkpoint, or its name."
        )
    if of is not None and given.dataset != of.digest:
        raise SettingsError(
            f"Checkpoint '{given.name}' learned from the dataset with digest {given.dataset}, '{of.name}' has "
            f"{of.digest}. Give both of one."
        )
    return given


def chosen_way(sampled: Sampled | None, of: Dataset, by: Checkpoint | None) -> Sampled:
    """Return how seeds are drawn: as is said, and what `sampled` does not say as the model draws.

    Raises:
        SettingsError: If the model does not take the prompts or the guidance.
    """
    return sampled or Sampled() if by is None else ways.completed(of, by, sampled or Sampled())


def all_drawn(of: Dataset, by: Checkpoint, sampled: Sampled | None) -> list[Target]:
    """Return all stored pictures that a checkpoint drew as is said, by seed; without `sampled` its own way.

    Raises:
        SettingsError: If there is none.
    """
    prompts = () if sampled is None else sampled.prompts
    found = set_scores.drawn(by.digest, prompts=prompts, sampled=chosen_way(sampled, of, by))
    if not found:
        how = None if sampled is None else chosen_way(sampled, of, by)
        told = descriptions.undrawn(by, repr(by.name), how, prompts)
        raise SettingsError(f"{told} Name targets, like [0, 1].")
    return found


def whole_numbers(given: Any, name: str) -> tuple[int, ...]:
    """Return whole numbers, Python's or numpy's, that are given alone or several.

    Raises:
        SettingsError: If one is something else.
    """
    listed = list(given) if hasattr(given, "__iter__") and not isinstance(given, str | bytes | Mapping) else [given]
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise SettingsError(f"{name} is {shortened(repr(one))}; give a whole number, or several in a list.")
    return tuple(map(int, listed))


def whole_number(given: Any, name: str) -> int:
    """Return the one whole number, Python's or numpy's, that is given.

    Raises:
        SettingsError: If it is something else.
    """
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise SettingsError(f"{name} is {shortened(repr(given))}; give a whole number.")
    return int(given)


def chosen_names(given: Any, name: str) -> tuple[str, ...]:
    """Return names that are given alone or several.

    Raises:
        SettingsError: If one is something else.
    """
    listed = list(given) if hasattr(given, "__iter__") and not isinstance(given, str) else [given]
    for one in listed:
        if not isinstance(one, str):
            raise SettingsError(f"{name} is {shortened(repr(one))}; give a name, or several in a list.")
    return tuple(listed)


def first_of_each(targets: Sequence[Target]) -> list[int]:
    """Return the places of targets that differ in id, pixels or prompt: given again, one tells nothing more."""
    places: dict[tuple[str, str, str], int] = {}
    for place, target in enumerate(targets):
        places.setdefault((target.id, target.pixels, target.prompt), place)
    return list(places.values())


def each_once(
    given: Wanted | Sequence[Wanted] | None, of: Dataset, by: Checkpoint, way: Sampled | None, engine: bool, shown: bool
) -> list[Target]:
    """Return each target once, as `chosen_targets` does; all that were drawn where none are named (`all_drawn`)."""
    if given is None:
        return all_drawn(of, by, way)
    found = chosen_targets(given, of, by, chosen_way(way, of, by), engine, shown)
    return [found[place] for place in first_of_each(found)]


def chosen_targets(
    wanted: Wanted | Sequence[Wanted], of: Dataset, by: Checkpoint | None, sampled: Sampled, engine: bool, shown: bool
) -> list[Target]:
    """Return targets in order, generating those of seeds that are not stored.

    Args:
        wanted: A seed, an id (`seed:3`, `held-out:7`, `train:12`), a target, a picture of one's own, or several.
        of: The training set.
        by: The checkpoint that generates seeds; None where there is none.
        sampled: How it generates them.
        engine: Whether the engine generates.
        shown: Whether a bar is drawn.

    Raises:
        DataError: If a picture has another shape, type or scale.
        NotFoundError: If there is no such target.
        SettingsError: If nothing is named, or an id has another form.
    """
    listed = listed_targets(wanted)
    names = [f"seed:{one}" if isinstance(one, int | np.integer) else one for one in listed]
    if by is not None:
        _generate([one for one in names if isinstance(one, str)], by, sampled, engine, shown)
    return [_target(one, of, by, sampled) for one in names]


def listed_targets(wanted: Any) -> list[Any]:
    """Return what targets are named by, one or several, as a list.

    Raises:
        SettingsError: If nothing is named, or something names no target.
    """
    alone = (int, str, bytes, Mapping, Set, Target, Image.Image)  # what has no order is no list either
    if isinstance(wanted, alone) or getattr(wanted, "ndim", None) in (0, 3):
        wanted = [wanted]
    listed = list(wanted) if hasattr(wanted, "__iter__") else [wanted]
    if not listed:
        raise SettingsError("No target was given. Name one: a seed, an id like held-out:7, or a picture.")
    for one in listed:
        if isinstance(one, bool | float | bytes | Mapping | Set) or one is None:
            raise SettingsError(
                f"{one!r} is not a target. Give a seed (3), an id (seed:3, held-out:7, train:12), or a picture."
            )
    return listed


def _generate(names: Sequence[str], by: Checkpoint, sampled: Sampled, engine: bool, shown: bool) -> None:
    numbers = [whole(one.removeprefix("seed:")) for one in names if one.startswith("seed:")]
    seeds = [number for number in numbers if number is not None]
    lacking = [
        seed
        for seed in dict.fromkeys(seeds)
        if known_targets.find_sample(known_targets.sample_settings(by.digest, seed, sampled)) is None
    ]
    if lacking:
        checkpoints.check_drawing(by, sampled)
        job = build(SampleJob, checkpoint=by.digest, seeds=tuple(lacking), **sampled.drawing())
        done(job, f"Generate {counted(len(lacking), 'picture')}", engine, shown)


def _target(one: Any, of: Dataset, by: Checkpoint | None, sampled: Sampled) -> Target:
    if isinstance(one, Target):
        return one
    if isinstance(one, str):
        if one.startswith("seed:") and by is None:
            raise NotFoundError(f"'{one}' needs the checkpoint that generated it. Give checkpoint=.")
        return known_targets.resolve(of, "" if by is None else by.digest, one, sampled)
    pictures, _ = memory.stacked([one], "targets")
    side = of.settings.resolution
    if pictures.shape[1:3] != (side, side):
        raise DataError(
            f"A target is {pictures.shape[2]} x {pictures.shape[1]}, the pictures of '{of.name}' are {side} x {side}. "
            "Crop and resize it."
        )
    return known_targets.keep_upload(of, thumbnails.png(pictures[0]), "picture from memory")
