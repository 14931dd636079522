"""Commands that take in models made elsewhere: bases of LoRA weights, checkpoints, LoRA weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dtrak_core.commands import answers, tables
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue
from dtrak_core.jobs import jobs
from dtrak_core.models import bases
from dtrak_core.models.settings import Frozen
from dtrak_core.settings import build


def base(source: Annotated[str, tyro.conf.Positional], name: str, resolution: int = 0, json: Json = False) -> None:
    """Add a text-to-image model that LoRA weights are trained on; a folder's files stay where they are.

    Args:
        source: Folder of a text-to-image pipeline of diffusers, a name on the Hugging Face hub, or a single file of a
            Stable Diffusion 1, 2 or XL (.safetensors, .ckpt), of which a folder is made in the cache.
        name: What to call it.
        resolution: Side of its pictures in pixels, that of the dataset; 0 takes the model's own, of a single file 512.
    """
    given = Path(source)
    where = str(given.resolve()) if given.exists() else source
    job = build(jobs.BaseJob, source=where, name=name, resolution=resolution)
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
    folder, chosen = Path(source), answers.prepared(dataset)
    job = build(
        jobs.ImportJob,
        source=str(folder.resolve()) if folder.exists() else source,
        dataset=chosen.digest,
        name=name,
        base=bases.by_name(base).digest if base else "",
        frozen=frozen,
    )
    (artifact,) = answers.completed(job, f"Import '{name}'")
    say(answers.checkpoint_of(artifact, chosen), json, tables.checkpoint)
