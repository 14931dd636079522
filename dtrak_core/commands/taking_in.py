"""Commands that take in models made elsewhere, and say before what they are: bases, checkpoints, LoRA weights."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from dtrak_core import program
from dtrak_core.commands import answers, tables
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue, preview
from dtrak_core.datasets.content import by_reason
from dtrak_core.files import expanded
from dtrak_core.jobs import jobs
from dtrak_core.models import bases, looks, text_pipelines
from dtrak_core.models.settings import Frozen
from dtrak_core.settings import build

HOW: dict[looks.Takes, str] = {
    "base": "base {source} --name NAME",
    "pixels": "import-checkpoint --source {source} --name NAME --dataset DATASET",
    "lora": "import-checkpoint --source {source} --base BASE --name NAME --dataset DATASET",
}


def look(source: Annotated[str, tyro.conf.Positional], resolution: int = 32, json: Json = False) -> None:
    """Say what a model or a set of pictures is, before it is taken in.

    Of a model: family, size, what it predicts, schedule, licence. Of pictures: how many, of what labels, which columns
    of their tables tell what, and what is left out.

    Args:
        source: A model's folder, file, or name on the Hugging Face hub; or a folder of pictures, a zip, an .npz.
        resolution: Side of the square pictures.
    """
    where = _where(source)
    if looks.holds_pictures(where):
        _look_at_pictures(Path(where), source, resolution, json)
        return
    job = build(jobs.LookJob, source=where, state=looks.state_of(where))
    (artifact,) = answers.completed(job, f"Look at '{source}'")
    found = looks.read(artifact)
    how, most = HOW[found.takes].format(source=shlex.quote(source)), text_pipelines.SIDES[1]
    if found.takes == "base" and found.side > most:
        how += f" --resolution {most}"
    rest: dict[str, object] = {"assumed": list(found.assumed)} if found.assumed else {}
    say({**found.facts, **rest, "taken in by": program.command(how)}, json, tables.facts)


def _look_at_pictures(place: Path, source: str, resolution: int, json: bool) -> None:
    seen = preview.look(place, resolution)
    facts = {
        "pictures": seen.count,
        "opened": seen.opened,
        "held_out": seen.held_out or "one in ten",
        "labels": seen.labels,
        "with_caption": seen.captions,
        "contributors": seen.contributors,
        "columns": list(seen.columns),
        "taken": dict(seen.taken),
        "sizes": [f"{width} x {height}" for width, height in seen.sizes],
        "bytes": seen.disk(resolution),
        "notes": list(seen.notes),
        "left_out": {why: count for why, (count, _) in by_reason(seen.left_out).items()},
        "taken in by": program.command(f"dataset --source {shlex.quote(source)} --name NAME --resolution {resolution}"),
    }
    say(facts, json, lambda found: tables.facts({name: value for name, value in found.items() if value}))


def base(source: Annotated[str, tyro.conf.Positional], name: str, resolution: int = 0, json: Json = False) -> None:
    """Add a text-to-image model that LoRA weights are trained on; a folder's files stay where they are.

    Args:
        source: Folder of a text-to-image pipeline of diffusers, a name on the Hugging Face hub, or a single file of a
            Stable Diffusion 1, 2 or XL (.safetensors, .ckpt), of which a folder is made in the cache.
        name: What to call it.
        resolution: Side of its pictures in pixels, that of the dataset; 0 takes the model's own, of a single file 512.
    """
    job = build(jobs.BaseJob, source=_where(source), name=name, resolution=resolution)
    (artifact,) = answers.completed(job, f"Add '{name}'")
    facts = {fact: artifact.manifest[fact] for fact in ("name", "digest", "resolution", "place")}
    assumed = artifact.manifest.get("assumed")
    say(facts | ({"assumed": assumed} if assumed else {}), json, tables.facts)


def import_checkpoint(
    source: str,
    name: str,
    dataset: str = catalogue.DEFAULT,
    base: str = "",
    frozen: Frozen = "stored",
    json: Json = False,
) -> None:
    """Import a diffusers DDPM checkpoint, or LoRA weights of a text-to-image base.

    Args:
        source: A folder in diffusers' layout, a file of LoRA weights, or a name on the Hugging Face hub.
        name: What to call it.
        dataset: Name of the dataset that it was trained on.
        base: Name of the base that LoRA weights belong to.
        frozen: Hold the frozen linear layers under LoRA weights in 8 (int8) or 4 bits (nf4), in less memory.
    """
    chosen = answers.prepared(dataset)
    job = build(
        jobs.ImportJob,
        source=_where(source),
        dataset=chosen.digest,
        name=name,
        base=bases.by_name(base).digest if base else "",
        frozen=frozen,
    )
    (artifact,) = answers.completed(job, f"Import '{name}'")
    say(answers.checkpoint_of(artifact, chosen), json, tables.checkpoint)


def _where(source: str) -> str:
    """Return a path as the worker finds it, a name on the hub as it is."""
    given = expanded(source)
    return str(given.resolve()) if given.exists() else source
