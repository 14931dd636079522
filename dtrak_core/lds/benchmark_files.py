"""A benchmark as a file to take along, and the scores that come back, known by the benchmark's digest. No torch.

The file is an .npz without objects, for S subsets, R training seeds, M counted targets, N training pictures:

    masks          bool (S, N): which training pictures each subset holds
    losses         float64 (S, R, M): loss of each target under each model, NaN where a seed is not trained
    targets        (M,): ids, like seed:0 or held-out:3
    target_pixels  (M,): digests of their pixels
    target_images  uint8 (M, H, W, C)
    benchmark      digest of all of the above and of dataset and checkpoint
    dataset, dataset_digest, checkpoint, checkpoint_digest, protocol (JSON)

What comes back is an .npz with `scores` (M, N) and `benchmark`, taken over; with `targets`, rows may be fewer or in
another order.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import program
from dtrak_core.amounts import counted
from dtrak_core.datasets import arrays
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.source_files import ZIP_ERRORS
from dtrak_core.errors import DataError, NotFoundError, words_of
from dtrak_core.lds import lds, standings, subset_models
from dtrak_core.lds.lds import Lds
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import own_scores, report
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.settings import canonical_json, digest_of

LARGEST = 2**30  # bytes that a returned file may have, and unpack to
READ = ("scores", "benchmark", "targets")


@dataclass(frozen=True, eq=False)
class BenchmarkFile:
    """What is taken along: masks (S, N), losses (S, R, M), the M counted targets, how the losses were measured."""

    dataset: Dataset
    checkpoint: Checkpoint
    settings: LdsSettings
    masks: np.ndarray
    losses: np.ndarray
    targets: tuple[Target, ...]
    protocol: Mapping[str, Any]

    @functools.cached_property
    def digest(self) -> str:
        """Return what names this benchmark: dataset, checkpoint, settings, targets, masks and losses."""
        return digest_of(
            self.dataset.digest,
            self.checkpoint.digest,
            canonical_json(self.settings),
            json.dumps([(target.id, target.pixels) for target in self.targets]),
            str(self.masks.shape),
            self.masks.tobytes(),
            self.losses.tobytes(),
        )

    def to_bytes(self) -> bytes:
        """Return the .npz."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            masks=self.masks,
            losses=self.losses,
            targets=np.array([target.id for target in self.targets]),
            target_pixels=np.array([target.pixels for target in self.targets]),
            target_images=np.stack([target.image for target in self.targets]),
            benchmark=np.array(self.digest),
            dataset=np.array(self.dataset.name),
            dataset_digest=np.array(self.dataset.digest),
            checkpoint=np.array(self.checkpoint.name),
            checkpoint_digest=np.array(self.checkpoint.digest),
            protocol=np.array(json.dumps(self.protocol)),
        )
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Returned:
    """Scores that came back, checked: the method's id, ids of the M targets, and the LDS by kind of target."""

    method: str
    targets: tuple[str, ...]
    lds: dict[str, Lds]


def of_checkpoint(dataset: Dataset, checkpoint: Checkpoint) -> BenchmarkFile:
    """Return the benchmark of a checkpoint; of several, the one of the most models.

    Raises:
        NotFoundError: If no models on subsets are stored.
    """
    stored = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)
    if not stored:
        raise NotFoundError(
            f"No models on subsets are stored for '{checkpoint.name}'. "
            f"Train them: {program.command(f'lds --checkpoint {checkpoint.name}')}."
        )
    settings = stored[0]
    known = subset_models.read(dataset, settings)
    places = [place for place, name in enumerate(settings.targets) if known.counts(name)]
    pictures = subset_models.pictures(dataset, settings)
    chosen = tuple(pictures[place] for place in places)
    losses = np.ascontiguousarray(known.losses[:, :, places], np.float64)
    told = standings.protocol(known, settings)
    return BenchmarkFile(dataset, checkpoint, settings, known.masks, losses, chosen, told)


def writer(path: Path) -> Callable[[BenchmarkFile], bytes]:
    """Return what writes a benchmark into a file of this name.

    Raises:
        SettingsError: If it is no .npz, or cannot be written.
    """
    return report.writer(path, {".npz": BenchmarkFile.to_bytes}, "a benchmark")


def take_back(name: str, data: bytes | Path, of: BenchmarkFile) -> Returned:
    """Make the scores of a returned file a method, `own:NAME`, and judge them.

    Args:
        name: What they are called, see `own_scores.add`.
        data: The .npz, or its path.
        of: The benchmark that they must be of.

    Raises:
        DataError: If the file cannot be read, or its scores are of another benchmark, of unknown targets, of another
            shape, or not finite.
        SettingsError: If the name cannot be used.
    """
    given = _opened(data)
    if "scores" not in given:
        raise DataError(
            f"The file holds no array 'scores', but {', '.join(sorted(given)) or 'nothing'}. "
            "Save it with numpy.savez(file, scores=scores, benchmark=benchmark)."
        )
    if "benchmark" not in given:
        raise DataError(
            "The file does not say of which benchmark its scores are. Save 'benchmark' of the exported file with them."
        )
    if (said := "".join(np.ravel(given["benchmark"]).astype(str)[:1])) != of.digest:
        raise DataError(
            f"These scores are of the benchmark {_short(said)}, not of the one of '{of.checkpoint.name}' on "
            f"'{of.dataset.name}' ({of.digest}). Export that, score it, and bring the scores back."
        )
    there = {target.id: place for place, target in enumerate(of.targets)}
    ids = [str(one) for one in np.ravel(given["targets"])] if "targets" in given else list(there)
    if not ids:
        raise DataError("The file's 'targets' name no target. Give the ids of the rows of 'scores'.")
    if unknown := [one for one in ids if one not in there]:
        raise DataError(f"'{_short(unknown[0])}' is no target of the benchmark. Take ids from its array 'targets'.")
    chosen = [of.targets[there[one]] for one in ids]
    artifact = own_scores.add(name, given["scores"], chosen, of.dataset)
    values = np.asarray(artifact.array("scores.npy"))
    judged = {}
    for words, begin in standings.KINDS.items():
        own = [row for row, one in enumerate(ids) if one.startswith(f"{begin}:")]
        if own and len(of.masks) >= lds.LEAST:
            losses = np.nanmean(of.losses[:, :, [there[ids[row]] for row in own]], axis=1)
            judged[words] = lds.evaluate(values[own], of.masks, losses)
    return Returned(own_scores.Named(name, artifact.key).id, tuple(ids), judged)


def _opened(data: bytes | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz; of those that do not concern us the names alone. Nothing is unpickled.

    A header that claims more than follows it is refused before anything is allocated (datasets/arrays.py).
    """
    if isinstance(data, Path):
        if not data.is_file():
            raise NotFoundError(f"There is no file '{data}'. Give an .npz with scores.")
        if (size := data.stat().st_size) > LARGEST:
            raise DataError(f"'{data}' has {size:,} bytes; at most {LARGEST:,} are taken. Bring fewer targets.")
        data = data.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            there = arrays.members(archive)
            if (size := sum(one.file_size for one in archive.infolist())) > LARGEST:
                raise DataError(
                    f"The file unpacks to {size:,} bytes; at most {LARGEST:,} are taken. Bring fewer targets."
                )
            return {
                name: arrays.read_member(archive, one) if name in READ else np.empty(0) for name, one in there.items()
            }
    except (OSError, *ZIP_ERRORS) as error:
        raise DataError(f"The file is no .npz of plain arrays ({words_of(error)}). Save it with numpy.savez.") from None


def _short(said: str) -> str:
    return said if len(said) <= 40 else f"{said[:40]}…"


def sentences(found: Returned) -> list[str]:
    """Say what came of scores that were brought, one sentence for each kind of target."""
    told = [f"{counted(len(found.targets), 'target')} taken as {found.method.partition('@')[0]}."]
    for words, one in found.lds.items():
        ends = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
        told.append(
            f"LDS on {counted(len(one.per_target), f'{words} target')}: {one.mean:.3f}{ends}, {one.subsets} subsets."
        )
    return told
