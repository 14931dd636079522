"""Write the tables of docs/speed.md and docs/scale.md that stand between marks, from benchmarks/results.

    python benchmarks/tables.py

A mark is a line `<!-- name -->`, its end `<!-- /name -->`; tables of times end with the state of the machine that they
were measured in. What was not measured has no row, and a table without any stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dtrak_core import files
from dtrak_core.methods.methods import METHODS

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
Report = dict[str, Any]


def main() -> None:
    for place, tables in PLACES.items():
        text = (PROJECT / place).read_text()
        for name, (source, table) in tables.items():
            if not (RESULTS / source).exists():
                continue
            report = json.loads((RESULTS / source).read_text())
            between = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
            if lines := table(report):
                new = f"<!-- {name} -->\n{lines}<!-- /{name} -->"
                text = between.sub(lambda _, new=new: new, text)  # type: ignore[misc]
        files.write_bytes(PROJECT / place, text.encode())


def small_network(report: Report) -> str:
    """Return what a step and a feature's draw of the demo's network cost."""
    exact, half, theirs = report["features"], report.get("features_bfloat16", []), report["authors"]
    columns = [*((one, one) for one in exact), *zip(half, exact if half else [], strict=True)]  # each with its float32
    heads = [f"{name}, {one['timesteps']} timesteps" for name, each in (("float32", exact), ("bfloat16", half))
             for one in each]  # fmt: skip
    rows = [
        ("a training step, ms a picture", [f"{one['training_step_ms']:.2f}" for one, _ in columns]),
        ("a feature's draw with its projection to 4,096, ms", [f"{one['feature_ms']:.2f}" for one, _ in columns]),
        ("the draw over a training step of its format",
         [f"{one['feature_over_training_step']:.2f}" for one, _ in columns]),
        ("the draw over a training step in float32",
         [f"{one['feature_ms'] / base['training_step_ms']:.2f}" for one, base in columns]),
        ("of the draw, the projection", [f"{one['projection_share']:.1%}" for one, _ in columns]),
    ]  # fmt: skip
    if "times_ours" in theirs:
        ours = [f"{theirs['times_ours']:.0f}", ""]
        ours += [f"{theirs['times_ours_bfloat16']:.0f}", ""] if half else []
        rows.append(("the authors' way (vmap, dense Gaussian projection) over ours", ours))
    machine = report["machine"]
    return table(["", *heads], rows) + state(report["date"], machine["threads"], report["load_before"])


def paper_network(report: Report) -> str:
    """Return what the paper's CIFAR network costs."""
    paper = report["paper"]
    if "float32" not in paper:
        return ""
    formats, theirs = [paper["float32"], paper["bfloat16"]], paper["authors"]
    base = formats[0]["training_step_s_a_picture"]
    rows = [
        ("a training step, s a picture", [f"{one['training_step_s_a_picture']:.3f}" for one in formats]),
        (f"a feature of {paper['timesteps']} timesteps, projected to {paper['proj_dim']:,}, s",
         [f"{one['feature_s']:.2f}" for one in formats]),
        ("its draw over a training step of its format",
         [f"{one['feature_over_training_step']:.2f}" for one in formats]),
        ("its draw over a training step in float32",
         [f"{one['feature_s'] / paper['timesteps'] / base:.2f}" for one in formats]),
        ("of the feature, the projection", [f"{one['sparse_share_of_feature']:.1%}" for one in formats]),
    ]  # fmt: skip
    if "feature_s" in theirs:
        rows.append((f"the authors' way, {theirs['feature_s']:,.0f} s, over ours",
                     [f"{theirs[f'times_ours_{name}']:.0f}" for name in ("float32", "bfloat16")]))  # fmt: skip
    return table(["", "float32", "bfloat16"], rows) + state(paper["date"], paper["threads"], paper["load"])


def number_format(report: Report) -> str:
    """Return what bfloat16 saves, and what it changes in answers and trainings."""
    quality, losses = report["quality"], report["trainings"]
    rows = [
        (f"{what} of the {name}, over a training step in float32",
         [f"{report[name][f'{what}, {kind} / training step, float32']:.2f}" for kind in losses])
        for name in ("network of the demo", "LoRA weights of the text-to-image demo", "CIFAR network of the paper")
        for what in ("training step", "feature")
    ]  # fmt: skip
    for method in quality:
        found, ranks = quality[method], quality[method]["rank correlation"]
        values = [f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in found["lds"].values()]
        label = METHODS[method].label
        rows.append((f"LDS of {label}", values))
        told = f"{ranks['mean']:.4f} ({ranks['least']:.4f})"
        rows.append((f"rank correlation of {label} with float32's, mean (least) over targets", ["", told]))
    rows.append(("final loss of a training, three seeds", [", ".join(f"{one:.4f}" for one in each)
                                                          for each in losses.values()]))  # fmt: skip
    return table(["", "float32", "bfloat16"], rows)


def beside_others(report: Report) -> str:
    """Return what each way of waiting costs alone, beside a busy process, and beside it niced."""
    ways = list(dict.fromkeys(row["way"] for row in report["rows"]))
    kinds = {"step_ms": "training step, ms", "feature_ms": "feature's draw, ms", "picture_ms": "picture drawn, ms"}
    known = {name: head for name, head in kinds.items() if name in report["rows"][0]}
    rows = []
    for way in ways:
        own = [row for row in report["rows"] if row["way"] == way]
        rows.append((way, [" / ".join(f"{row[name]:.3g}" for row in own) for name in known]))
    worst = ", ".join(f"{value:.1f} ({name.replace('_', ' ')})" for name, value in report["times_alone"].items())
    told = (
        f"\nAs shipped, at most as many times what it costs alone: {worst}. Measured {report['date']}, with a load of "
        f"{report['load_before']:.1f} in the minute before.\n"
    )
    return table(["", *known.values()], rows) + told


def growth(report: Report) -> str:
    """Return what scoring takes as the training set grows."""
    rows = []
    for one in report["rows"]:
        exact = f"{one['solve_seconds']:.0f} ({one['passes']})"
        held = f"{one['peak_gb']:.1f} GB", f"{one['disk_gb']:.2f} GB"
        agreed = f"{one['rank_correlation']:.3f}", f"{one['top_50_shared']:.2f}"
        got = f"{one['cores']:.2f}"
        rows.append((f"{one['n']:,}", [one["form"], f"{one['seconds']:.0f}", exact, *held, *agreed, got]))
    heads = [
        "kernel",
        "s",
        "exact, s (passes)",
        "peak memory",
        "disk",
        "rank correlation",
        "top 50 shared",
        "cores had",
    ]
    return table(["N", *heads], rows)


def table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    lines = [heads, ["---"] * len(heads), *([name, *cells] for name, cells in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def state(date: str, threads: int, load: float) -> str:
    return f"\nMeasured {date} with {threads} thread{'s' if threads > 1 else ''} on 2 cores, load before {load:.1f}.\n"


PLACES: dict[str, dict[str, tuple[str, Callable[[Report], str]]]] = {
    "docs/speed.md": {
        "small-network": ("features.json", small_network),
        "paper-network": ("features.json", paper_network),
        "number-format": ("precision.json", number_format),
        "beside-others": ("contention.json", beside_others),
    },
    "docs/scale.md": {"scale": ("scale.json", growth)},
}

if __name__ == "__main__":
    main()
