"""What of a finished build ships, and how: arrays and tables packed, of a training's weights the last alone."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtrak_core import files, store
from dtrak_core.kinds import KINDS
from dtrak_core.lds.subset_models import LEVELS

PACKED = ("datasets", "predictions", "scores", "comparisons")  # kinds whose arrays and tables are read whole


def ship(artifact: Path, kind: str, to: Path) -> None:
    """Copy an artifact's folder as it ships: small.

    Arrays and tables of kinds that are read whole are packed (xz) and marked so in the manifest (`Artifact.read`);
    of what a training kept on its way, the weights stay behind, and its manifest still names their digests, by which
    what was computed with them is found. So do losses by timestep.
    """
    shutil.copytree(artifact, to)
    told = json.loads((to / store.MANIFEST).read_bytes())
    if kind == "subset-losses" and told["files"].pop(LEVELS, None):
        (to / LEVELS).unlink()
    if kind in PACKED:
        for name in told["files"]:
            if name.endswith((".npy", ".json")):
                _pack(to / name, told["files"][name])
    if kind == "checkpoints":
        for step in told.get("steps", ()):
            if step["share"] != 100:
                step["left_out"] = True
                for path in (to / step["folder"]).rglob("*.safetensors"):
                    path.unlink()
                    del told["files"][path.relative_to(to).as_posix()]
    told["bytes"] = sum(one["bytes"] for one in told["files"].values())
    store.write_json(to / store.MANIFEST, told)


def _pack(path: Path, facts: dict[str, Any]) -> None:
    """Pack a file, and write into its facts what the manifest has to say of it."""
    path.write_bytes(lzma.compress(path.read_bytes(), preset=9))
    facts |= {"bytes": path.stat().st_size, "crc32": files.crc32(path), "packed": "xz"}


def put(
    building: Path, kinds: Iterable[str], to: Path, left_out: Collection[tuple[str, str]] = frozenset()
) -> list[str]:
    """Ship the artifacts of a build into a folder; return their places in it.

    Args:
        building: The folder of the build.
        kinds: Those that ship.
        to: The folder, which is made where it is lacking.
        left_out: Artifacts that do not ship, by kind and key.
    """
    made = []
    for kind in kinds:
        for artifact in sorted((building / kind).glob("*")):
            if artifact.suffix == "" and (kind, artifact.name) not in left_out:  # neither a lock nor unfinished
                (to / kind).mkdir(parents=True, exist_ok=True)
                ship(artifact, kind, to / kind / artifact.name)
                made.append(f"{kind}/{artifact.name}")
    return made


def listed(folder: Path, name: str) -> list[str]:
    """Return the places that a list in a demo's folder names, none where it is not there."""
    path = folder / name
    found: list[str] = json.loads(path.read_bytes()) if path.is_file() else []
    return found


def publish(building: Path, final: Path, left_out: set[tuple[str, str]], others: str) -> None:
    """Put what ships in the place of the old demo, at once; what another demo has put there stays.

    Args:
        building: The folder of the build, or a link to it; it is left as it was.
        final: The demo's folder.
        left_out: Artifacts that do not ship, by kind and key.
        others: Name of the list, in the demo's folder, of what another demo has put there.
    """
    with replacing(final) as fresh:
        put(building, KINDS, fresh, left_out)
        for place in listed(final, others):
            shutil.copytree(final / place, fresh / place)
        if (final / others).is_file():
            shutil.copy2(final / others, fresh / others)


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Give a new folder, and put it in the place of the demo's folder, at once, when all is written into it."""
    fresh, old = final.with_name("demo.new"), final.with_name("demo.old")
    if old.is_dir() and not final.exists():  # a build before was stopped between the two renamings at the end
        old.rename(final)
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    if final.is_dir():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def clear(building: Path) -> None:
    """Take away the folder of a finished build; of one elsewhere the link, and whoever made that keeps the folder."""
    if building.is_symlink():
        building.unlink()
    else:
        shutil.rmtree(building)
