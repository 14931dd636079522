"""What was found out about a model that is not taken in yet (recognising.py). No torch here."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dtrak_core.settings import Digest, Settings, digest_of
from dtrak_core.store import Artifact

Takes = Literal["base", "pixels", "lora"]
KIND = "looks"
PICTURES, WEIGHTS = (".zip", ".npz", ".npy"), (".safetensors", ".bin", ".pt", ".ckpt")
MODEL = ("model_index.json", "config.json", "adapter_config.json", "unet", "unet_ema", "transformer", "scheduler")
OF_TRAINING = "checkpoint-"  # how the folders begin that a training writes on its way
HUB_SECONDS = 600  # for which what a hub said is held


class LookSettings(Settings):
    """A source that was looked at, in the state that its files had."""

    source: str
    state: Digest


@dataclass(frozen=True)
class Recognised:
    """What a source is.

    `takes` says how it is taken in: as a base, as a network of pixels of a dataset, or as LoRA weights of a base.
    `facts` are by heading, `assumed` is what the files leave open, `side` that of its pictures where they say it,
    `disk` the bytes that it takes in the cache.
    """

    takes: Takes
    facts: dict[str, str]
    assumed: tuple[str, ...] = ()
    side: int = 0
    disk: int = 0

    def told(self) -> dict[str, Any]:
        """Return it as facts of a manifest."""
        return {**asdict(self), "assumed": list(self.assumed)}


def read(artifact: Artifact) -> Recognised:
    """Return what a look found out."""
    told = {one.name: artifact.manifest[one.name] for one in fields(Recognised)}
    return Recognised(**told | {"assumed": tuple(told["assumed"])})


def meant(source: str) -> str:
    """Return the single file that a folder holds beside its .yaml and nothing else; any other source as it is."""
    folder = Path(source)
    held = sorted(folder.iterdir()) if folder.is_absolute() and folder.is_dir() else []
    files = [path for path in held if path.suffix in (".safetensors", ".ckpt")]
    return str(files[0]) if len(files) == 1 and {path.suffix for path in held} == {files[0].suffix, ".yaml"} else source


def holds_pictures(source: str) -> bool:
    """Say whether a source is a set of pictures rather than a model, by the names of its files."""
    path = Path(source)
    if path.is_file():
        return path.suffix.lower() in PICTURES
    held = list(path.iterdir()) if path.is_dir() else []
    models = (one.suffix in WEIGHTS or one.name in MODEL or one.name.startswith(OF_TRAINING) for one in held)
    return bool(held) and not any(models)


def state_of(source: str) -> str:
    """Return 16 hex digits that change when the files of a source do; of a name on the hub, every ten minutes."""
    path = Path(source)
    if not path.exists():
        return digest_of(str(int(time.time() / HUB_SECONDS)))
    held = sorted(path.rglob("*")) if path.is_dir() else [path, path.with_suffix(".yaml")]
    stats = [(str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in held if one.is_file()]
    return digest_of(json.dumps(stats))
