"""Target samples: the pictures that attribution explains. No torch here.

A target is generated (`seed:3`), held out (`held-out:7`), a training example (`train:12`) or the user's own
(`upload:<digest>`). Its id names it in links and on the command line; the digest of its pixels ties its features to it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dtrak_core import store
from dtrak_core.amounts import whole
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.datasets.content import Split, prompt_of
from dtrak_core.errors import NotFoundError, SettingsError, StudioError, shortened
from dtrak_core.models import bases, checkpoints, class_names, uploads
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled, SampleSettings
from dtrak_core.settings import DIGEST, build, key_of

PICTURE = "image.png"
MOST_CLASSES = 16  # drawn in turn where nobody says which
_KINDS = {"seed": "seed", "held-out": "held-out picture", "train": "training picture"}  # in a sentence
TargetId = Annotated[str, Field(pattern=r"^(seed|held-out|train|upload):[0-9a-f]+$")]


@dataclass(frozen=True)
class Target:
    """A picture to be explained: id, pixels (H, W, 3) uint8, their digest, and what is known of it."""

    id: str
    image: np.ndarray
    pixels: str
    caption: str
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """Return what it was drawn from; else what a text-to-image model is told of it; nothing for an upload."""
        if drawing := drawing_of(self.row):
            return str((drawing.get("prompts") or [""])[0])
        return prompt_of(self.row) if "label" in self.row else ""

    @property
    def called(self) -> str:
        """Return what it is called in a sentence: `seed 3`, `held-out picture 7`, `training picture 12`."""
        return in_words(self.id)

    @property
    def mark(self) -> str:
        """Return what tells it from others in a gallery: a seed gives another picture for every prompt."""
        return f"{self.id} {self.pixels}" if self.prompt and drawing_of(self.row) else self.id

    @property
    def sampled(self) -> Sampled:
        """Return how a generated picture was drawn; the usual way for others."""
        return _way(drawing_of(self.row))


def drawing_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings a generated picture was drawn with; nothing for others, whose table may have such a text."""
    settings = row.get("settings")
    return settings if isinstance(settings, Mapping) else {}


def facts(target: Target, dataset: str, checkpoint: str) -> dict[str, Any]:
    """Return what identifies a target in answers and exported files, with the names of its dataset and checkpoint."""
    found = {"id": target.id, "caption": target.caption, "pixels": target.pixels}
    return found | {"dataset": dataset, "checkpoint": checkpoint}


def publish_sample(settings: SampleSettings, image: np.ndarray, seconds: float | None = None) -> Target:
    """Store a generated picture, with the seconds that it took where they are known, and return it as a target."""
    key = key_of("samples", settings)
    with store.computing("samples", key) as found:
        if found is None:
            store.write_bytes(store.partial("samples", key) / PICTURE, thumbnails.png(image))
            took = {} if seconds is None else {"seconds": round(seconds, 4)}
            store.publish("samples", key, settings, pixels=image_digest(image), **took)
    return _generated(store.get("samples", key))


def samples(checkpoint: str, sampled: Sampled | None = None, among: Sequence[Target] | None = None) -> list[Target]:
    """Return the stored generated pictures of a checkpoint (by digest) drawn so, by seed; None is its own way.

    Without prompts, the pictures of a text-to-image model are returned whatever their prompt and guidance. Where all
    of them (`drawn`) are at hand, they are taken `among` these.
    """
    way, found = sampled or own_way(checkpoint), drawn(checkpoint) if among is None else among
    return sorted((one for one in found if _alike(one.sampled, seed_of(one.id), way)), key=lambda t: seed_of(t.id))


def in_words(target_id: str) -> str:
    """Return what the target of an id is called in a sentence."""
    kind, _, number = target_id.partition(":")
    return "your picture" if kind == "upload" else f"{_KINDS[kind]} {number}"


def drawn(checkpoint: str) -> list[Target]:
    """Return all of them, however they were drawn: the shipped ones first, then in the order of drawing."""
    return [_generated(artifact) for artifact in _stored(checkpoint)]


def _stored(checkpoint: str) -> list[store.Artifact]:
    return [one for one in store.listing("samples") if one.settings["checkpoint"] == checkpoint]


def _way(settings: Mapping[str, Any]) -> Sampled:
    return Sampled(**{name: value for name, value in settings.items() if name in Sampled.model_fields})


def _alike(own: Sampled, seed: int, sampled: Sampled) -> bool:
    """Say whether a picture of a seed, drawn its own way, is one of those that were drawn so."""
    any_words = {} if sampled.prompts else {"prompts": own.prompts, "guidance": own.guidance}
    return own.drawing() == _drawing(seed, sampled) | any_words


def seed_of(name: str) -> int:
    """Return the seed that the id of a generated picture names."""
    return int(name.removeprefix("seed:"))


def usual(checkpoint: str) -> Sampled:
    """Return how a model with prompts drew its first pictures: guidance, and prompts that seeds took in turn.

    The turn is the shortest of those that hold for the longest time from the first picture on, so that what is drawn
    later with other words or another guidance does not change what a seed alone means. Without pictures there are no
    prompts, and the guidance is that of the base's own pipeline, as the steps are in any case.
    """
    own = own_way(checkpoint)
    ways = [(int(one.settings["seed"]), _way(one.settings)) for one in _stored(checkpoint)]
    ways = [(seed, way) for seed, way in ways if way.prompts and _alike(way, seed, own)]
    guidance, prompts = ways[0][1].guidance if ways else own.guidance, dict[int, str]()
    for seed, way in ways:
        if way.guidance == guidance:
            prompts.setdefault(seed, way.prompts[0])
    longest, best = 0, tuple[str, ...]()
    for length in range(1, len(prompts) + 1):
        turn, held = _turn(prompts, length)
        if held > longest and None not in turn:
            longest, best = held, tuple(str(prompt) for prompt in turn)
    return own.model_copy(update={"prompts": best, "guidance": guidance})


def own_way(checkpoint: str) -> Sampled:
    """Return steps and guidance of the pipeline that a text-to-image model's base is of; the usual ones of others."""
    try:
        return bases.usual(checkpoints.by_digest(checkpoint).base)
    except StudioError:  # it has no base, or none that is there
        return Sampled()


def way_of(checkpoint: Checkpoint, train: Split) -> Sampled:
    """Return how a model draws where nothing is said: as its first pictures were drawn, by prompts in turn.

    Without pictures a text-to-image model takes captions from all over the training set, a class-conditional one the
    classes that the training set has, `MOST_CLASSES` at most; one of pixels draws them without guidance.
    """
    known = usual(checkpoint.digest) if checkpoint.prompted else Sampled()
    if known.prompts or not checkpoint.prompted:
        return known
    if checkpoint.classes:
        prompts = class_names.named_by(checkpoint.classes, train.labels)[:MOST_CLASSES]
        return known.model_copy(update={"prompts": prompts} | ({} if checkpoint.base else {"guidance": 1.0}))
    return known.model_copy(update={"prompts": train.examples()})


def _turn(prompts: Mapping[int, str], length: int) -> tuple[list[str | None], int]:
    """Return the prompts that seeds take in turn, None where no seed says, and for how many of the seeds they hold."""
    turn: list[str | None] = [None] * length
    for held, (seed, prompt) in enumerate(prompts.items()):
        if turn[seed % length] not in (None, prompt):
            return turn, held
        turn[seed % length] = prompt
    return turn, len(prompts)


def together(chosen: Sequence[Target], usual: Sampled) -> Sampled:
    """Return how generated pictures, whatever their prompts, are drawn as one set: by prompts that seeds take in turn.

    Args:
        chosen: Generated pictures.
        usual: The way that is returned where all of them were drawn so. Else it is the shortest turn that gives each
            seed its own prompt.

    Raises:
        SettingsError: If two are of one seed, or of another guidance or sampler.
    """
    seeds = [seed_of(target.id) for target in chosen]
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise SettingsError(f"{seeds.count(twice[0])} of these pictures are of seed {twice[0]}. Choose one of a seed.")
    ways = {target.sampled.model_copy(update={"prompts": ()}) for target in chosen}
    if len(ways) > 1:
        said = " and ".join(sorted(f"{way.sampler.upper()} {way.sampling_steps}, {way.guidance:g}" for way in ways))
        raise SettingsError(
            f"These pictures were drawn with different samplers, steps or guidance ({said}). Choose pictures that "
            "were drawn alike."
        )
    own = dict(zip(seeds, (target.prompt for target in chosen), strict=True))
    if usual.model_copy(update={"prompts": ()}) in ways and all(usual.prompt_of(seed) == own[seed] for seed in seeds):
        return usual
    length = 1
    while _turn(own, length)[1] < len(own):
        length += 1
    prompts = tuple(prompt or chosen[0].prompt for prompt in _turn(own, length)[0])
    return ways.pop().model_copy(update={"prompts": prompts if any(prompts) else ()})


def sample_settings(checkpoint: str, seed: int, sampled: Sampled) -> SampleSettings:
    """Return the settings of the picture of a seed, with the sampler that a job's or comparison's settings name."""
    return build(SampleSettings, checkpoint=checkpoint, seed=seed, **_drawing(seed, sampled))


def _drawing(seed: int, sampled: Sampled) -> dict[str, Any]:
    own = {"prompts": (sampled.prompt_of(seed),), "seeds_a_prompt": 1} if sampled.prompts else {}
    return sampled.drawing() | own


def find_sample(settings: SampleSettings) -> Target | None:
    """Return one generated picture, or None where it is not stored."""
    artifact = store.find("samples", key_of("samples", settings))
    return None if artifact is None else _generated(artifact)


def resolve(
    dataset: Dataset,
    checkpoint: str,
    target_id: str,
    sampled: Sampled = Sampled(),  # noqa: B008 - frozen
) -> Target:
    """Return the target of this id; `sampled` says how a generated one was drawn.

    Raises:
        SettingsError: If the id is not of a known form.
        NotFoundError: If there is no such picture; the message says which there are.
    """
    kind, _, rest = target_id.partition(":")
    if kind == "upload" and re.fullmatch(DIGEST, rest):
        return _upload(uploads.opened(rest))
    number = whole(rest)
    if kind not in ("seed", "held-out", "train") or number is None:
        raise SettingsError(
            f"'{shortened(target_id)}' is not a target. Write seed:3 (generated), held-out:7, train:12, or "
            "upload:<digest>."
        )
    if kind == "seed":
        found = find_sample(sample_settings(checkpoint, number, sampled))
        if found is None:
            told = f" for '{sampled.prompt_of(number)}'" if sampled.prompts else ""
            raise NotFoundError(f"The picture of seed {number}{told} has not been generated with this checkpoint.")
        return found
    return of_split(dataset.held_out if kind == "held-out" else dataset.train, kind, number)


def of_split(split: Split, kind: Literal["held-out", "train"] | str, number: int) -> Target:
    """Return a held-out picture or a training example as a target."""
    if number >= len(split.images):
        raise NotFoundError(f"{kind}:{number} does not exist: there are {len(split.images)}, numbered from 0.")
    image, row = np.asarray(split.images[number]), split.rows[number]
    return Target(f"{kind}:{number}", image, image_digest(image), row["name"] or row["label"], row)


def keep_upload(dataset: Dataset, data: bytes, name: str) -> Target:
    """Store a user's picture, cropped and resized as the dataset's were, and return it as a target.

    Raises:
        DataError: If it is not a picture, or a decompression bomb.
    """
    return _upload(uploads.keep(dataset, data, name))


def _upload(artifact: store.Artifact) -> Target:
    pixels = artifact.settings["pixels"]
    image = thumbnails.decode(artifact.file(uploads.PICTURE).read_bytes())
    return Target(f"upload:{pixels}", image, pixels, artifact.manifest["name"])


def _generated(artifact: store.Artifact) -> Target:
    image = _pixels(artifact.file(PICTURE), artifact.manifest["pixels"])
    seed, prompts = artifact.settings["seed"], artifact.settings.get("prompts") or ()
    caption = f"{prompts[0]}, seed {seed}" if prompts else f"seed {seed}"
    return Target(f"seed:{seed}", image, artifact.manifest["pixels"], caption, {"settings": artifact.settings})


@functools.lru_cache(maxsize=128)
def _pixels(file: Path, _digest: str) -> np.ndarray:
    """Return a generated picture, from memory where it was read before: a page lists all of them at every look."""
    image = thumbnails.decode(file.read_bytes())
    image.setflags(write=False)
    return image
