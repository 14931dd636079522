"""Text-to-image models that LoRA weights are trained on: which there are, and where their folders lie. No torch here.

A base is a diffusers pipeline folder of a known family, known by the digest of its parts. One that was made here lies
in the store; the user's own, or one from a hub, stays where it is and is only noted. Before it is used, its files are
compared with the note.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from dtrak_core import program, store
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StudioError
from dtrak_core.models import text_families, text_pipelines
from dtrak_core.models.model_files import config_of
from dtrak_core.models.settings import DIFFUSION_STEPS, PREDICTIONS, Layers, Prediction, Sampled
from dtrak_core.progress import Count
from dtrak_core.settings import Digest, Settings, canonical_json, digest_of, key_of

INSIDE = "pipeline"  # where a base that is stored here lies in its artifact
GET_ONE = (
    f"Take one in with: {program.command('base lambdalabs/miniSD-diffusers --name minisd')} (the paper's, 4 GB), or "
    "give any text-to-image pipeline of diffusers, or a Stable Diffusion's single file"
)


class BaseSettings(Settings):
    """A note of a text-to-image model: the digest of its parts; and where it is another's, its name and its folder.

    The same model may be noted under several names and in several places.
    """

    digest: Digest
    name: str = Field(default="", exclude_if=lambda value: not value)
    place: str = Field(default="", exclude_if=lambda value: not value)


@dataclass(frozen=True)
class Base:
    """A text-to-image model: name, digest, the pipeline's folder, and the side of its pictures in pixels."""

    name: str
    digest: str
    folder: Path
    resolution: int


def listing() -> list[Base]:
    """Return the bases there are, the shipped one first."""
    return [_base(artifact) for artifact in _notes()]


def by_digest(digest: str) -> Base:
    """Return the base of this digest.

    Raises:
        NotFoundError: If there is none, or its folder has gone.
        DataError: If its files are no longer what they were when it was taken in.
        StoreError: If it lies in the store and is damaged.
    """
    noted = [artifact for artifact in _notes() if artifact.settings["digest"] == digest]
    if not noted:
        raise NotFoundError(f"No base has the digest {digest}. {GET_ONE}.")
    for artifact in reversed(noted[1:]):  # of several places, the first that still holds it will do
        with contextlib.suppress(StudioError):
            return _unchanged(artifact)
    return _unchanged(noted[0])


def by_name(name: str) -> Base:
    """Return the newest base of this name; the errors are those of `by_digest`."""
    known = _notes()
    matching = [artifact for artifact in known if artifact.manifest["name"] == name]
    if not matching:
        if not known:
            raise NotFoundError(f"There is no text-to-image base yet. {GET_ONE}.")
        names = ", ".join(dict.fromkeys(artifact.manifest["name"] for artifact in known))
        raise NotFoundError(f"There is no base '{name}'; there are: {names}. {GET_ONE}.")
    return _unchanged(matching[-1])


def has_blocks(digest: str) -> bool:
    """Say whether LoRA weights of a base may go to other layers than its attention's; the errors are `by_digest`'s."""
    base = by_digest(digest)
    family = text_families.of(base.folder, base.name)
    return family.layers != family.targets


def layers(digest: str, chosen: Layers = "attention") -> tuple[str, ...]:
    """Return the layers that LoRA weights of a base go to: its attention's projections, or all of its blocks' layers.

    Raises:
        SettingsError: If all are asked of a base that gives its attention alone; the others are those of `by_digest`.
    """
    if not digest:
        return text_families.ATTENTION
    base = by_digest(digest)
    family = text_families.of(base.folder, base.name)
    if chosen == "all" and family.layers == family.targets:
        raise SettingsError(
            f"LoRA weights on all layers are for a U-Net; the denoiser of '{base.name}' is a transformer, of which the "
            "attention is trained. Leave layers out."
        )
    return family.layers if chosen == "all" else family.targets


def process(digest: str) -> tuple[Prediction, int]:
    """Return what a base's denoiser predicts, and the timesteps of its noise schedule, both from its scheduler.

    The errors are those of `by_digest`.
    """
    base = by_digest(digest)
    config = text_pipelines.scheduler_of(base.folder, base.name)
    flows, betas = text_families.of(base.folder, base.name).flows, config.get("trained_betas")
    steps = len(betas) if isinstance(betas, list) else int(config.get("num_train_timesteps") or DIFFUSION_STEPS)
    return "flow" if flows else PREDICTIONS[str(config.get("prediction_type") or "epsilon")], steps


def usual(digest: str) -> Sampled:
    """Return how a base's own pipeline draws where nobody says: sampling steps, and how far prompts are followed."""
    base = by_digest(digest)
    family = text_families.of(base.folder, base.name)
    return family.usual(config_of(base.folder / family.part / "config.json", base.folder, base.name))


def chosen(name: str, resolution: int) -> Base:
    """Return the base of this name; without a name the first that draws pictures of this many pixels a side.

    Raises:
        SettingsError: If it does not draw such pictures, or none does.
    """
    if name:
        found = by_name(name)
        if reason := unfit(found, resolution):
            raise SettingsError(reason)
        return found
    known = listing()
    if not known:
        return by_name(name)
    fitting = [base for base in known if base.resolution == resolution]
    if not fitting:
        raise SettingsError(none_fits(known, resolution))
    return by_digest(fitting[0].digest)


def unfit(base: Base, resolution: int) -> str:
    """Say in a sentence why a base cannot learn from pictures of this many pixels a side; nothing where it can."""
    if base.resolution == resolution:
        return ""
    return (
        f"The base '{base.name}' draws pictures of {base.resolution} pixels, the dataset has {resolution}. "
        f"Prepare the dataset at {base.resolution} pixels, or take the base in at {resolution} with --resolution."
    )


def none_fits(known: Sequence[Base], resolution: int) -> str:
    """Say which sizes there are where no base draws pictures of this many pixels a side."""
    sizes = ", ".join(f"'{base.name}' {base.resolution}" for base in known)
    return (
        f"No base draws pictures of {resolution} pixels, as the dataset has them; there are, in pixels: {sizes}. "
        "Prepare the dataset at one of these sizes, or take in a base of the dataset's."
    )


def inspected(folder: Path, on_progress: Count) -> tuple[str, int]:
    """Return the digest of a pipeline's parts, and the side of its pictures.

    Args:
        folder: A diffusers pipeline folder.
        on_progress: Called with the files read and their number.

    Raises:
        NotFoundError: If a part is missing; the sentence names the file.
        DataError: If it is not a text-to-image model of a known family.
    """
    side, _ = text_pipelines.judged(folder, folder.name)
    return digest_at(folder, on_progress), side


def publish(
    name: str, digest: str, resolution: int, place: Path | None, assumed: Sequence[str] = (), at: int = 0
) -> store.Artifact:
    """Note a base anew; without a place its pipeline lies in the unfinished artifact already, as `INSIDE`.

    `assumed` is what its files left open, in words; `at` as in `digest_at`.
    """
    facts: dict[str, object] = {
        "name": name,
        "digest": digest,
        "resolution": resolution,
        "assumed": list(assumed),
        "at": at,
    }
    if place is None:
        settings = BaseSettings(digest=digest)
        with store.computing("bases", key_of("bases", settings)) as found:
            return found or store.publish("bases", key_of("bases", settings), settings, place="", **facts)
    where = place.resolve()
    settings = BaseSettings(digest=digest, name=name, place=str(where))
    key = key_of("bases", settings)
    store.delete("bases", key)  # an older note of the same: this one is the newest of its name, with today's times
    with store.computing("bases", key) as found:
        if found is not None:
            return found
        store.partial("bases", key)
        facts["drawn_alike"] = text_pipelines.drawn_alike(where, name)
        return store.publish("bases", key, settings, place=str(where), stats=_stats(where), noted=time.time(), **facts)


def drawn_alike(digest: str) -> bool:
    """Say whether a base's pictures have always been drawn as they are now; no where its files cannot be read."""
    try:
        return _drawn_alike(digest)
    except StudioError:
        return False


@functools.lru_cache(maxsize=64)
def _drawn_alike(digest: str) -> bool:
    own = [one.manifest for one in _notes() if one.settings["digest"] == digest]
    noted = [facts["drawn_alike"] for facts in own if "drawn_alike" in facts]
    if noted:  # the files may be away
        return bool(noted[0])
    base = by_digest(digest)
    return text_pipelines.drawn_alike(base.folder, base.name)


def _notes() -> list[store.Artifact]:
    """Return what is noted: the shipped first, then by the time of taking in, which dates tell to the second alone."""
    return sorted(store.listing("bases"), key=lambda a: (not a.shipped, a.manifest["date"], a.manifest.get("noted", 0)))


def _base(artifact: store.Artifact) -> Base:
    facts = artifact.manifest
    folder = Path(facts["place"]) if facts["place"] else artifact.path / INSIDE
    return Base(facts["name"], artifact.settings["digest"], folder, facts["resolution"])


def _unchanged(artifact: store.Artifact) -> Base:
    """Return a noted base after making sure that its files are what they were."""
    base, facts = _base(artifact), artifact.manifest
    if not facts["place"]:
        for name in facts["files"]:
            artifact.file(name)
        return base
    if not (base.folder / "model_index.json").is_file():
        raise NotFoundError(
            f"The base '{base.name}' is no longer at {base.folder}. Put it back, or take it in again from where it is "
            "now."
        )
    try:
        stats, at = _stats(base.folder), facts.get("at", 0)
        same = stats == facts.get("stats") or _digest_of_state(base.folder, canonical_json(stats), at) == base.digest
    except StudioError:  # a part is missing now
        same = False
    if not same:
        raise DataError(
            f"The files of the base '{base.name}' at {base.folder} have changed since it was added, so what was "
            "made with it does not belong to them. Put them back, or add them as a base of another name."
        )
    return base


def _stats(folder: Path) -> dict[str, list[int]]:
    """Return size and time of change of each file that makes a pipeline what it is."""
    found = {path.relative_to(folder).as_posix(): path.stat() for path in text_pipelines.files(folder)}
    return {name: [facts.st_size, facts.st_mtime_ns] for name, facts in found.items()}


@functools.lru_cache(maxsize=16)
def _digest_of_state(folder: Path, stats: str, at: int) -> str:
    """Return the digest of a pipeline's parts, once for each state of its files."""
    return digest_at(folder, lambda done, total: None, at)


def digest_at(folder: Path, on_progress: Count, at: int = 0) -> str:
    """Return the digest of a pipeline's parts; `on_progress` is called with the files read and their number.

    `at` is the side of its pictures where that is not the model's own: at another size it is another base.
    """
    sums: list[bytes | str] = [f"at {at} pixels"] if at else []
    paths = text_pipelines.files(folder)
    for number, path in enumerate(paths):
        on_progress(number, len(paths))
        with path.open("rb") as opened:
            sums += [path.relative_to(folder).as_posix(), hashlib.file_digest(opened, "sha256").hexdigest()]
    return digest_of(*sums)
