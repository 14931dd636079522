"""Target samples: the pictures that attribution explains. No torch here.

A target is generated (`seed:3`), held out (`held-out:7`), a training example (`train:12`) or
the user's own (`upload:<digest>`). Its id names it in links and on the command line; the
digest of its pixels ties its features to the very picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dtrak_core import store, thumbnails
from dtrak_core.datasets import Dataset, Split, image_digest
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.images import open_picture
from dtrak_core.settings import (
    Digest,
    FeatureSettings,
    Sampled,
    SampleSettings,
    Settings,
    TargetFeatureSettings,
    TargetSide,
    build,
    key_of,
)
from dtrak_core.splits import prompt_of

PICTURE = "image.png"
TargetId = Annotated[str, Field(pattern=r"^(seed|held-out|train|upload):[0-9a-f]+$")]


class UploadSettings(Settings):
    """An uploaded picture, by the digest of its pixels after cropping and resizing."""

    pixels: Digest


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
        """Return what a text-to-image model is told of it: its prompt or caption; nothing for an upload."""
        if "settings" in self.row:
            return str((self.row["settings"].get("prompts") or [""])[0])
        return prompt_of(self.row) if "label" in self.row else ""

    @property
    def mark(self) -> str:
        """Return what tells it from others in a gallery: a seed gives another picture for every prompt."""
        return f"{self.id} {self.pixels}" if self.prompt and "settings" in self.row else self.id

    @property
    def how(self) -> Sampled:
        """Return how a generated picture was drawn; the usual way for others."""
        given = {name: value for name, value in self.row.get("settings", {}).items() if name in Sampled.model_fields}
        return Sampled(**given)


def facts(target: Target, dataset: str, checkpoint: str) -> dict[str, Any]:
    """Return what identifies a target in answers and exported files, with the names of its dataset and checkpoint."""
    found = {"id": target.id, "caption": target.caption, "pixels": target.pixels}
    return found | {"dataset": dataset, "checkpoint": checkpoint}


def publish_sample(settings: SampleSettings, image: np.ndarray) -> Target:
    """Store a generated picture and return it as a target."""
    key = key_of("samples", settings)
    if store.find("samples", key) is None:
        store.write_bytes(store.partial("samples", key) / PICTURE, thumbnails.png(image))
        store.publish("samples", key, settings, pixels=image_digest(image))
    return _generated(store.get("samples", key))


def samples(checkpoint: str, how: Sampled = Sampled()) -> list[Target]:  # noqa: B008 - frozen
    """Return the stored generated pictures of a checkpoint (by digest) that were drawn so, by seed.

    Without prompts, the pictures of a text-to-image model are returned whatever their prompt and guidance.
    """
    found = []
    for artifact in store.listing("samples"):
        if artifact.settings["checkpoint"] == checkpoint:
            own = SampleSettings(**artifact.settings)
            wanted = sample_settings(checkpoint, own.seed, how)
            if not how.prompts:
                wanted = wanted.model_copy(update={"prompts": own.prompts, "guidance": own.guidance})
            if own == wanted:
                found.append(artifact)
    return [_generated(a) for a in sorted(found, key=lambda a: a.settings["seed"])]


def usual(checkpoint: str) -> Sampled:
    """Return how a text-to-image model's stored pictures were drawn: guidance, and the prompts that seeds took in turn.

    Pictures of another guidance, or whose prompts follow no such turn, are not of this way. Without pictures there are
    no prompts.
    """
    drawn = [target for target in samples(checkpoint) if target.prompt]
    if not drawn:
        return Sampled()
    guidance = Counter(target.how.guidance for target in drawn).most_common(1)[0][0]
    words: dict[int, str] = {}
    for target in drawn:
        if target.how.guidance == guidance:
            words.setdefault(int(target.id.removeprefix("seed:")), target.prompt)
    for length in range(1, len(words) + 1):
        turn: dict[int, str] = {}
        follows = all(turn.setdefault(seed % length, prompt) == prompt for seed, prompt in words.items())
        if follows and len(turn) == length:
            return Sampled(prompts=tuple(turn[place] for place in range(length)), guidance=guidance)
    return Sampled(prompts=(next(iter(words.values())),), guidance=guidance)


def sample_settings(checkpoint: str, seed: int, how: Sampled) -> SampleSettings:
    """Return the settings of the picture of a seed, with the sampler that a job's or comparison's settings name."""
    drawn = how.drawing()
    if how.prompts:
        drawn |= {"prompts": (how.prompt_of(seed),), "seeds_a_prompt": 1}
    return build(SampleSettings, checkpoint=checkpoint, seed=seed, **drawn)


def find_sample(settings: SampleSettings) -> Target | None:
    """Return one generated picture, or None where it is not stored."""
    artifact = store.find("samples", key_of("samples", settings))
    return None if artifact is None else _generated(artifact)


def feature_target(features: FeatureSettings, target: Target, side: TargetSide) -> TargetFeatureSettings:
    """Return the settings under which a target's feature is stored."""
    return TargetFeatureSettings(features=features, target=target.id, pixels=target.pixels, **side.model_dump())


def resolve(
    dataset: Dataset,
    checkpoint: str,
    target_id: str,
    how: Sampled = Sampled(),  # noqa: B008 - frozen
) -> Target:
    """Return the target of this id; `how` says how a generated one was drawn.

    Raises:
        SettingsError: If the id is not of a known form.
        NotFoundError: If there is no such picture; the message says which there are.
    """
    kind, _, rest = target_id.partition(":")
    if kind == "upload" and rest:
        return _upload(rest)
    if kind not in ("seed", "held-out", "train") or not rest.isdecimal():
        raise SettingsError(
            f"'{target_id}' is not a target. Write seed:3 (generated), held-out:7, train:12, or upload:<digest>."
        )
    number = int(rest)
    if kind == "seed":
        found = find_sample(sample_settings(checkpoint, number, how))
        if found is None:
            told = f" for '{how.prompt_of(number)}'" if how.prompts else ""
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
    image = open_picture(data, name, dataset.settings.resolution)
    settings = build(UploadSettings, pixels=image_digest(image))
    key = key_of("uploads", settings)
    if store.find("uploads", key) is None:
        store.write_bytes(store.partial("uploads", key) / PICTURE, thumbnails.png(image))
        store.publish("uploads", key, settings, name=name)
    return _upload(settings.pixels)


def _upload(pixels: str) -> Target:
    artifact = store.find("uploads", key_of("uploads", build(UploadSettings, pixels=pixels)))
    if artifact is None:
        raise NotFoundError(f"No uploaded picture has the digest {pixels}. Upload it again.")
    image = thumbnails.decode(artifact.file(PICTURE).read_bytes())
    return Target(f"upload:{pixels}", image, pixels, artifact.manifest["name"])


def _generated(artifact: store.Artifact) -> Target:
    image = thumbnails.decode(artifact.file(PICTURE).read_bytes())
    seed, prompts = artifact.settings["seed"], artifact.settings.get("prompts") or ()
    caption = f"{prompts[0]}, seed {seed}" if prompts else f"seed {seed}"
    return Target(f"seed:{seed}", image, artifact.manifest["pixels"], caption, {"settings": artifact.settings})
