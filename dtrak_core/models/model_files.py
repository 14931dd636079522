"""The files of a network as diffusers and transformers lay them out: its config, and which of them hold the weights.

Nothing is opened beyond a file's head here, so that a folder can be judged without torch; `weights` reads what is
chosen here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core.errors import DataError, NotFoundError

DIFFUSERS = ("diffusion_pytorch_model", "diffusion_pytorch_model")  # stems of .safetensors and of .bin
TRANSFORMERS = ("model", "pytorch_model")
VARIANTS = ("", "fp32", "ema", "fp16", "bf16")  # in the order in which they are taken
LORA = "pytorch_lora_weights.safetensors"
POINTER = b"version https://git-lfs"
OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a network's weights: several where they are sharded; and their variant ("" or "fp16")."""

    paths: tuple[Path, ...]
    variant: str


def config_of(path: Path, folder: Path, source: str) -> dict[str, Any]:
    """Return the JSON of a diffusers folder's file; `source` is what the user calls the folder.

    Raises:
        NotFoundError: If there is no such file.
        DataError: If it is not a JSON object.
    """
    name = path.relative_to(folder).as_posix()
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"'{source}' has no {name}. Give the folder of a diffusers pipeline.") from None
    refuse_stand_in(path, name, source)
    try:
        found = json.loads(data)
    except ValueError:
        raise DataError(f"{name} of '{source}' is not JSON. Get the file again.") from None
    if not isinstance(found, dict):
        raise DataError(f"{name} of '{source}' is not a JSON object. Get the file again.")
    return found


def find_weights(folder: Path, source: str, stems: tuple[str, str] = DIFFUSERS) -> WeightFiles:
    """Return which files of a network's folder hold its weights, by the rules of diffusers.

    Sharded weights (an index) come before a single file, .safetensors before .bin. Where the plain weights are
    missing, a variant is taken: fp32, ema, fp16, bf16, else the first by name.

    Args:
        folder: The network's own folder, unet/ say.
        source: What the user calls the model.
        stems: How the files' names begin: `DIFFUSERS` or `TRANSFORMERS`.

    Raises:
        NotFoundError: If there are none, or a shard is missing.
        DataError: If an index is damaged.
    """
    ranked = []
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in held:
        for ending, stem in zip(("safetensors", "bin"), stems, strict=True):
            # Variants are written in both orders: .fp16.safetensors, and .safetensors.index.fp16.json.
            parts = path.name.removeprefix(f"{stem}.").split(".")
            index = {"index", "json"} <= set(parts)
            if path.name.startswith(f"{stem}.") and ending in parts and (index or parts[-1] == ending):
                variant = ".".join(part for part in parts if part not in ("index", "json", ending))
                order = VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
                ranked.append((order, ending != "safetensors", not index, variant, path))
    if not ranked:
        others = [path.name for path in held if path.suffix in OTHER_WEIGHTS]
        names = f"{stems[0]}.safetensors nor {stems[1]}.bin"
        hint = f" If {others[0]} holds them, rename it to {_renamed(others[0], stems)}." if others else ""
        raise NotFoundError(f"'{source}' has no weights: neither {names} in {folder.name}/.{hint}")
    _, _, single, variant, path = min(ranked)
    return WeightFiles((path,) if single else _shards(path, source), variant)


def refuse_stand_in(path: Path, name: str, source: str) -> None:
    """Refuse a file that stands for another: a Git LFS pointer, a broken link, a web page, nothing at all."""
    try:
        with path.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise DataError(
            f"{name} of '{source}' cannot be read ({error.strerror}): a broken link, or not yours to read. Copy the "
            "file itself."
        ) from None
    if head.startswith(POINTER):
        raise DataError(
            f"{name} of '{source}' is a Git LFS pointer, not the file itself. Run git lfs pull in its folder, and "
            "import it again."
        )
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{name} of '{source}' is a web page, not the file itself. Download the file again.")
    if not head:
        raise DataError(f"{name} of '{source}' is empty. Get the file again.")


def refuse_damaged(path: Path, source: str) -> None:
    """Refuse a weight file that is a stand-in, or whose .safetensors header does not fit its length.

    Raises:
        DataError: With what it is and what to do.
    """
    refuse_stand_in(path, path.name, source)
    if path.suffix != ".safetensors":
        return
    try:
        ends = [value["data_offsets"][1] for name, value in header(path).items() if name != "__metadata__"]
        with path.open("rb") as opened:
            begin = 8 + int.from_bytes(opened.read(8), "little")
        whole = begin + max(ends, default=0) == path.stat().st_size
    except (ValueError, TypeError, KeyError, IndexError):
        whole = False
    if not whole:
        raise damaged(path, source)


def header(path: Path) -> dict[str, Any]:
    """Return the header of a .safetensors file: its weights' places by name, and `__metadata__`.

    Raises:
        ValueError: If there is none.
    """
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        head = opened.read(length) if 8 + length <= path.stat().st_size else b""
    found = json.loads(head)
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    return found


def damaged(path: Path, source: str) -> DataError:
    """Return the error of a weight file that cannot be read."""
    return DataError(
        f"{path.name} of '{source}' is damaged: it was cut off, or is no .{path.name.rsplit('.', 1)[-1]} file. "
        "Download or copy it again."
    )


def _shards(index: Path, source: str) -> tuple[Path, ...]:
    names = config_of(index, index.parent, source).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f"{index.name} of '{source}' names no files (weight_map). Get the file again.")
    paths = tuple(index.parent / name for name in sorted(set(names.values())))
    if outside := [p.name for p in paths if p.parent != index.parent]:
        raise DataError(f"{index.name} of '{source}' names {outside[0]} outside its folder. Get the file again.")
    if missing := [p.name for p in paths if not p.is_file()]:
        raise NotFoundError(
            f"'{source}' lacks {len(missing)} of the {len(paths)} files of its weights, {missing[0]} first. "
            "Download or copy them too."
        )
    return paths


def _renamed(name: str, stems: tuple[str, str]) -> str:
    return f"{stems[0]}.safetensors" if name.endswith(".safetensors") else f"{stems[1]}.bin"
