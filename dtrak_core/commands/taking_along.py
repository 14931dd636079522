"""Commands that take a benchmark along and bring scores back: benchmark export, scores add."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import store
from dtrak_core.commands import answers, tables
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue
from dtrak_core.lds import benchmark_files
from dtrak_core.methods import report
from dtrak_core.models import checkpoints


def benchmark_export(
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")],
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    json: Json = False,
) -> None:
    """Write what attributions of a model are judged by to an .npz: masks of subsets, measured losses, target pictures.

    Args:
        out: The file.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
    """
    write = benchmark_files.writer(out)
    of = answers.prepared(dataset)
    found = benchmark_files.of_checkpoint(of, checkpoints.by_name(checkpoint, of.digest))
    store.write_bytes(out, write(found))
    subsets, seeds, count = found.losses.shape
    facts = {"benchmark": found.digest, "subsets": subsets, "train_seeds": seeds, "targets": count}
    say({**facts, "training_pictures": found.masks.shape[1], "file": str(out)}, json, tables.facts)


def scores_add(
    file: tyro.conf.Positional[Path],
    name: str,
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Make the scores of an .npz a method, own:NAME, and judge them by the LDS.

    The file holds 'scores', a row for each target of an exported benchmark and a column for each training picture, and
    'benchmark', the digest of that benchmark.

    Args:
        file: The .npz.
        name: What the scores are called.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        out: The answer as a file: .json.
    """
    write = None if out is None else report.writer(out, {".json": _to_json}, "an answer")
    of = answers.prepared(dataset)
    benchmark = benchmark_files.of_checkpoint(of, checkpoints.by_name(checkpoint, of.digest))
    found = benchmark_files.take_back(name, file, benchmark)
    judged: dict[str, Any] = {
        words: {"lds": one.mean, "low": one.low, "high": one.high, "targets": len(one.per_target)}
        for words, one in found.lds.items()
    }
    document = {"method": found.method, "benchmark": benchmark.digest, "lds": judged}
    if out is not None and write is not None:
        store.write_bytes(out, write(document))
    say(document, json, lambda _: "\n".join(benchmark_files.sentences(found)))


def _to_json(document: Mapping[str, Any]) -> bytes:
    return dumps(document, indent=1).encode()
