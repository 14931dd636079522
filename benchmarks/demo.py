"""Write the tables of README.md and docs/findings.md that are of the shipped demo, from what ships, between marks.

    python benchmarks/demo.py            after a rebuild of the demo; half a minute, nothing is trained

A mark is a line `<!-- name -->`, its end `<!-- /name -->`. Every number is what pages and command line give of the same
store: LDS with its interval (95 %, BCa over subsets), verdicts on removals by permutation.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = os.environ.get("DEMO_TABLES_CACHE") or tempfile.mkdtemp()  # nothing but what ships

from dtrak_core import files
from dtrak_core.counterfactual import comparisons, contrasts, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import label as arm_label
from dtrak_core.counterfactual.verdicts import Verdict
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import portraits, schools
from dtrak_core.lds import frontier, known_answers, predictions, recipes, standing_words, standings, subset_models
from dtrak_core.lds.frontier import Value
from dtrak_core.lds.lds import Lds
from dtrak_core.lds.recipes import Recipe
from dtrak_core.methods import fader_scores, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.gradient_scores import RANK_SHARES
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.settings import DIFFUSION_STEPS
from dtrak_core.progress import quiet
from dtrak_core.statistics import permutations

PROJECT = Path(__file__).resolve().parent.parent
DATASET = catalogue.by_name(catalogue.DEFAULT)
CHECKPOINT = checkpoints.by_name(portraits.NAME, DATASET.digest)
MEASURED = subset_models.of_checkpoint(DATASET.digest, CHECKPOINT.digest)[0]
KNOWN = subset_models.read(DATASET, MEASURED)
KINDS = standings.KINDS
DIGITS = {"l2": 2, "cosine": 3, "loss_change": 4}  # of what removals are measured by
FIRST = ("d-trak", "trak", "raw-pixel-cosine")  # README's rows


def main() -> None:
    for place, tables in PLACES.items():
        text = (PROJECT / place).read_text()
        for name, make in tables.items():
            between = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
            if between.search(text) and (lines := make()):
                text = between.sub(lambda _, new=f"<!-- {name} -->\n{lines}<!-- /{name} -->": new, text)  # type: ignore[misc]
        files.write_bytes(PROJECT / place, text.encode())


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def within(value: Lds | Value | None) -> str:
    if value is None:
        return ""
    mean = value.lds if isinstance(value, Value) else value.mean
    if value.low is None or value.high is None:
        return number(mean)
    return f"{number(mean)} ({number(value.low)} to {number(value.high)})"


def lds(recipe: Recipe, kind: str, place: int | None = None) -> Lds | None:
    """Return the LDS of a recipe on targets of a kind, None where it predicts none of them or is not stored."""
    found = predictions.find(recipe, MEASURED)
    if found is None or not predictions.of_kind(found, KNOWN, MEASURED, kind)[0]:
        return None
    return predictions.evaluated(found, KNOWN, MEASURED, kind, place)


def both(recipe: Recipe, place: int | None = None, intervals: bool = True) -> list[str]:
    found = [lds(recipe, kind, place) for kind in KINDS.values()]
    return [within(one) if intervals else "" if one is None else number(one.mean) for one in found]


def of_methods(made: list[Recipe], more: Sequence[list[str]] = ()) -> str:
    """Return recipes beside each other and further rows: best on held-out targets first, those without any last."""
    rows = [[recipes.label(one), *both(one)] for one in made if predictions.find(one, MEASURED) is not None]
    rows = sorted([*rows, *more], key=lambda row: -float(row[2].split(" ")[0].replace("−", "-") or -1))
    return table(["method", "generated targets", "held-out targets"], rows)


def fitted() -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for row in standings.retraining_rows(KNOWN, MEASURED):
        found.setdefault(row["label"], []).append(f"{number(row['lds'])} (p = {row['by_chance']['p']:.3f})")
    return [[name, *values] for name, values in found.items()]


def usual(squared: bool = False) -> list[Recipe]:
    own = portraits.shipped_recipes(DATASET, CHECKPOINT)[0]
    return [recipes.build_recipe(one, squared=True) for one in own] if squared else own


def few() -> list[Recipe]:
    return [recipes.with_timesteps(one, recipes.FEW) for one in usual() if one.features is not None]


def facts() -> str:
    """Return in sentences what an LDS can be at most here, and what chance gives."""
    told = standings.kinds(KNOWN, MEASURED)
    floors = {words: standing_words.attainable(one) for words, one in told.items()}
    made = standings.rows([p for one in usual() if (p := predictions.find(one, MEASURED))], KNOWN, MEASURED)
    ends = {
        words: [max(abs(row["by_chance"][end]) for end in ("low", "high")) for row in made if row["targets"] == words]
        for words in told
    }
    limits = " and ".join(f"{floors[words]} on {words} targets" for words in told if floors[words])
    chance = " and ".join(
        f"±{min(each):.2f} to ±{max(each):.2f} on {words} targets" for words, each in ends.items() if each
    )
    counts = " and ".join(f"{one['count']} {words}" for words, one in told.items())
    return (
        f"{counts} targets. A perfect attribution could reach {limits}, by the agreement of two training seeds. By "
        f"chance, where subsets are permuted under a method's own predictions, 95 % of values lie within {chance}, by "
        "method.\n"
    )


def line(name: recipes.Sweep, head: str, place: Callable[[Recipe], str], intervals: bool = False) -> str:
    """Return a sweep whose lines stand side by side: for each place the LDS of each line, by kind."""
    made = recipes.sweep(name, DATASET, CHECKPOINT)
    if not made:
        return ""
    rows: dict[str, list[str]] = {}
    for points in made.values():
        for one in points:
            rows.setdefault(place(one), []).extend(both(one, intervals=intervals))
    rows = {where: values for where, values in rows.items() if any(values)}
    names = [METHODS[words].label if words in METHODS else words for words in made]
    heads = [f"{words}{', ' if words else ''}{kind}" for words in names for kind in KINDS]
    return table([head, *heads], [[where, *values] for where, values in rows.items()])


def shares() -> dict[str, str]:
    return {one.digest: str(one.share) for one in checkpoints.of_run(CHECKPOINT.run)}


def mixtures() -> str:
    made = recipes.sweep("mixtures", DATASET, CHECKPOINT)
    rows = [[train, str(one.target_output), *both(one)] for train, points in made.items() for one in points]
    return table(["training side", "target side", *KINDS], rows)


def weights() -> str:
    made = recipes.sweep("weights", DATASET, CHECKPOINT)
    rows = [[str(one.model_output), words, *both(one)] for words, points in made.items() for one in points]
    rows.sort(key=lambda row: recipes.WEIGHED_OUTPUTS.index(row[0]))  # type: ignore[arg-type]
    return table(["output", "noise levels weighed", *KINDS], rows) if made else ""


def damping() -> str:
    usual = {method: recipes.usual(DATASET, CHECKPOINT, method) for method in recipes.ENDS}
    rows = []
    shared = {m: fader_scores.mean_agreement(m, one.features) for m, one in usual.items() if one.features is not None}
    for place, share in enumerate(RANK_SHARES):
        cells = []
        for method, one in usual.items():
            cells += both(one, place, intervals=False)
            own = shared[method]
            cells.append("" if own is None else f"{own[1][place]:.2f}")
        rows.append([f"{share:.0%}", *cells])
    heads = [f"{METHODS[method].label}, {what}" for method in usual for what in (*KINDS, "halves share")]
    return table(["effective rank", *heads], rows)


def ensembles() -> str:
    names = ("d-trak", "d-trak-ensemble", "trak", "trak-ensemble")
    rows = []
    for name in names:
        one = recipes.usual(DATASET, CHECKPOINT, name)
        rows.append([METHODS[name].label, *both(recipes.with_timesteps(one, recipes.FEW)), *both(one)])
    heads = [f"{count} timesteps, {kind}" for count in (recipes.FEW, portraits.TIMESTEPS) for kind in KINDS]
    return table(["method", *heads], rows)


def medians() -> str:
    found = comparisons.by_name(portraits.NAME)
    rows = [[arm_label(arm), *(number(told[name], count) for name, count in DIGITS.items())]
            for arm, told in comparisons.medians(found).items()]  # fmt: skip
    return table(["removed", "pixel l2", "cosine (EfficientNet-Lite0)", "change of the target's loss"], rows)


def verdict_rows() -> str:
    """Return for each measure and method of the plain comparison: own, others, p, difference from random."""
    return judged([comparisons.by_name(portraits.NAME)])


def between() -> str:
    """Return how much more one method's removals change their own targets than another's, for each two."""
    found = contrasts.contrasts(comparisons.by_name(portraits.NAME))
    rows = []
    for each in zip(*found.values(), strict=True):
        cells = [
            f"{number(one.difference, DIGITS[measure])} ({one.p:.2g})" for measure, one in zip(found, each, strict=True)
        ]
        rows.append([f"{arm_label(each[0].method)} − {arm_label(each[0].other)}", *cells])
    return table(["difference (p)", *found], rows)


def over_levels() -> str:
    """Return the verdicts of the comparisons over the timestep at which the retrained models take over."""
    names = reversed(portraits.taken_over(DATASET, CHECKPOINT))
    drawn = [measure for measure in DIGITS if measure != "loss_change"]  # the loss does not depend on who draws
    return judged([comparisons.by_name(name) for name in names], drawn)


def twice() -> str:
    """Return the verdicts at τ = 1,000 by both trainings of the same removals, and by the mean of the two."""
    first, second = (comparisons.by_name(name) for name in (portraits.NAME, portraits.TAKE_OVERS[DIFFUSION_STEPS]))
    kept = {entry.method for entry in second.entries}
    one = [entry for entry in first.entries if entry.method in kept]
    told = [{(e.method, e.removed, e.target, e.loss_change) for e in each} for each in (one, second.entries)]
    if told[0] == told[1]:  # `make demo` trains each removal once
        return "Both comparisons are of one training: the second has to be trained in a store of its own.\n"
    later = 1 + max(entry.train_seed or 0 for entry in one)  # another training is as another seed
    two = [replace(entry, train_seed=(entry.train_seed or 0) + later) for entry in second.entries]
    rows = []
    for measure in DIGITS:
        for method in second.settings.methods:
            found = [
                verdicts.verdicts(entries, first.settings.targets, portraits.REMOVED, measure)[method]
                for entries in (one, two, one + two)
            ]
            rows.append([measure, arm_label(method), *map(p_of, found), beyond(found[2], measure)])
    heads = ["p, first training", "p, second", "p, mean of both", "beyond random, mean of both"]
    return table(["measure", "removed", *heads], rows)


def of_subjects() -> str:
    """Return the verdict on removing the two pictures of a drawn picture's subject, in the text-to-image demo."""
    return judged([comparisons.by_name("subjects")])


def of_schools() -> str:
    """Return the verdict on removing all pictures of a drawn picture's school."""
    return judged([comparisons.by_name("schools")])


def of_own_pictures() -> str:
    """Return what random halves do to pictures of the text-to-image demo, with and without the picture of their prompt.

    p: share of the permutations of the models that part the two as far, T = mean over targets of the difference.
    """
    found = comparisons.by_name("schools")
    learned = by_caption(catalogue.by_digest(found.settings.dataset))
    halves = list(dict.fromkeys(entry.removed for entry in found.entries if entry.method == "random"))
    shown = found.settings.targets
    own = [learned[found.settings.prompt_of(targets.seed_of(target))] for target in shown]
    out = np.array([[picture in half for picture in own] for half in halves])
    mixed = out.any(0) & ~out.all(0)  # targets whose picture some halves have and some have not
    out = out[:, mixed]
    order = permutations(len(halves), True, 0)
    lines = []
    for measure, digits in DIGITS.items():
        drawn = {(entry.removed, entry.target): getattr(entry, measure) for entry in found.entries}
        values = np.array([[drawn[half, target] for target in shown] for half in halves])[:, mixed]
        parted = [np.mean(np.where(out[one], values, 0).sum(0) / out.sum(0)
                          - np.where(out[one], 0, values).sum(0) / (~out).sum(0)) for one in order]  # fmt: skip
        p = np.mean(np.abs(parted) >= abs(parted[0]) - 1e-12)
        ends = (f"{number(part.min(), digits)} to {number(part.max(), digits)}" for part in (values[out], values[~out]))
        lines.append([measure, *ends, f"{p:.2g}"])
    heads = [f"without it ({out.sum()})", f"with it ({(~out).sum()})", f"p, {len(halves)} models"]
    return table(["", *heads], lines)


def named_first() -> str:
    """Return how often a method ranks the training picture of a drawn picture's prompt first, and in its first ten."""
    dataset = catalogue.by_name(schools.DATASET)
    checkpoint, how = checkpoints.by_name(schools.NAME, dataset.digest), schools.drawing(dataset)
    learned = by_caption(dataset)
    seeds = range(schools.SEEDS)
    own = np.array([learned[how.prompt_of(seed)] for seed in seeds])
    wanted = [targets.resolve(dataset, checkpoint.digest, f"seed:{seed}", how) for seed in seeds]
    rows = []
    for name in ("d-trak", "trak", "raw-pixel-cosine", "lite0-cosine"):
        method = METHODS[name]
        output = method.model_output
        base = None if output is None else schools.feature_settings(dataset.digest, checkpoint.digest, output)
        plan = scores.resolve(name, dataset, checkpoint.digest, wanted, base)
        family_of(method).compute(plan, quiet)
        found = scores.score(plan).values
        places = (found > found[np.arange(len(own)), own][:, None]).sum(1)
        rows.append([method.label, *(str((places < count).sum()) for count in (1, known_answers.TOP))])
    return table(["method", f"first, of {len(own)}", f"among the first {known_answers.TOP}"], rows)


def by_caption(dataset: Dataset) -> dict[str, int]:
    """Return the numbers of the training pictures by caption."""
    return {row["caption"]: place for place, row in enumerate(dataset.train.rows)}


def p_of(verdict: Verdict) -> str:
    return "" if verdict.specific_p is None else f"{verdict.specific_p:.2g}"


def beyond(verdict: Verdict, measure: str) -> str:
    found, digits = verdict.beyond, DIGITS[measure]
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{number(found.difference, digits)} ({number(found.low, digits)} to {number(found.high, digits)})"


def judged(shown: Sequence[Comparison], measures: Sequence[str] = tuple(DIGITS)) -> str:
    rows = []
    for one in shown:
        if comparisons.unjudged(one):
            return ""
        for measure in measures:
            for method, told in comparisons.statistics(one, measure=measure).items():
                if told.own is None:
                    continue
                values = [
                    number(value, DIGITS[measure]) if value is not None else "" for value in (told.own, told.others)
                ]
                level = f"{one.settings.take_over:,}"
                rows.append([level, measure, arm_label(method), *values, p_of(told), beyond(told, measure)])
    return table(["τ", "measure", "removed", "own target", "other targets", "p", "beyond random"], rows)


def known() -> str:
    wanted = [targets.of_split(DATASET.held_out, "held-out", i) for i in range(portraits.HELD_OUT)]
    chosen = ("d-trak", "ek-fac", "das-squared", "trak", "raw-pixel-cosine", "lite0-cosine", "tracin-cp")
    held = {name: known_answers.stored(DATASET, CHECKPOINT, METHODS[name], wanted) for name in chosen}
    made = known_answers.tables(DATASET, wanted, {k: v for k, v in held.items() if v is not None}, known_answers.TOP)
    made = [one for one in made if one["fact"] in ("family", "label", "contributor")]
    rows: dict[str, list[str]] = {}
    for one in made:
        for row in one["rows"]:
            rows.setdefault(row["label"], []).append(
                f"{row['share']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if row["low"] is not None
                else f"{row['share']:.3f}"
            )  # fmt: skip
    ordered = sorted(rows.items(), key=lambda row: row[1][0], reverse=True)
    ends: list[Any] = [["by chance", *(f"{one['chance']:.3f}" for one in made)]]
    ends.append(["at most", *(f"{one['most']:.3f}" for one in made)])
    heads = [f"{one['fact']} ({one['count']} targets)" for one in made]
    return table(["method", *heads], [[name, *values] for name, values in ordered] + ends)


def better() -> str:
    """Return each point of `benchmarks/frontier.py`: what it cost, and its LDS."""
    found = frontier.find(DATASET.digest, CHECKPOINT.digest)
    if found is None:
        return ""
    ways = {"uniform": "", "low": ", low noise levels"}
    rows = []
    for one in found.points:
        name = METHODS[one.method].label + (", the authors' way" if one.authors else ways[one.strategy])
        seconds = f"{one.seconds:,.0f}" if one.seconds >= 100 else f"{one.seconds:.1f}"
        values = (one.lds.get(kind) for kind in KINDS)
        rows.append([name, str(one.timesteps), seconds, *("" if v is None else within(v) for v in values)])
    made = table(["", "timesteps", "s", *(f"LDS, {kind}" for kind in KINDS)], rows)
    return f"{made}\n{found.facts['how']}\n"


def one_level() -> str:
    """Return D-TRAK's LDS from a single noise level, of `benchmarks/frontier.py`."""
    found = frontier.find(DATASET.digest, CHECKPOINT.digest)
    if found is None:
        return ""
    levels = found.facts["by_level"]
    rows = [[f"LDS, {kind}", *(number(one[kind], 2) for one in levels.values())] for kind in KINDS]
    return table(["timestep", *levels], rows)


def target_draws() -> str:
    """Return what more noises of the target bring, of `benchmarks/target_draws.py`."""
    told = json.loads((PROJECT / "benchmarks" / "results" / "target_draws.json").read_text())
    rows = []
    for name, one in told.items():
        if not isinstance(one, dict):
            continue
        method, kind = name.split(", ")
        own = one["rows"][0]  # at the method's own damping
        gain = own["gain"]["8"]
        values = [number(value) for value in own["lds"].values()]
        more = f"{number(gain['mean'])} ({number(gain['low'])} to {number(gain['high'])})"
        rows.append([f"{METHODS[method].label}, {kind}", *values, more])
    return table(["method, targets", "R = 1", "2", "4", "8", "gain at 8"], rows)


def timesteps_of(recipe: Recipe) -> str:
    return str(recipe.features.num_timesteps) if recipe.features else ""


def width_of(recipe: Recipe) -> str:
    return f"{recipe.features.proj_dim:,}" if recipe.features else ""


def share_of(recipe: Recipe) -> str:
    return shares()[recipe.features.checkpoint] if recipe.features else ""


def first_rows() -> str:
    rows = [[METHODS[name].label, *both(recipes.usual(DATASET, CHECKPOINT, name))] for name in FIRST]
    return table(["method", "generated targets", "held-out targets"], rows)


PLACES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"lds": first_rows},
    "docs/findings.md": {
        "lds": lambda: of_methods(usual(), fitted()),
        "lds-facts": facts,
        "lds-few": lambda: of_methods(few()),
        "lds-squared": lambda: of_methods(usual(squared=True)),
        "lds-checkpoints": lambda: line("checkpoints", "share of the training, %", share_of),
        "lds-functions": lambda: line("functions", "function, 10 timesteps", lambda one: str(one.model_output)),
        "lds-eta": lambda: line("eta", "η", lambda one: f"{one.eta:.1f}"),
        "lds-mixtures": mixtures,
        "lds-weights": weights,
        "lds-timesteps": lambda: line("timesteps", "timesteps", timesteps_of),
        "lds-dimension": lambda: line("dimension", "dimension", width_of),
        "lds-damping": damping,
        "lds-ensembles": ensembles,
        "removals": medians,
        "removals-verdicts": verdict_rows,
        "removals-between": between,
        "removals-twice": twice,
        "removals-levels": over_levels,
        "removals-subjects": of_subjects,
        "removals-schools": of_schools,
        "removals-own": of_own_pictures,
        "named-first": named_first,
        "known-answers": known,
        "target-draws": target_draws,
        "better-answers": better,
        "one-level": one_level,
    },
}

if __name__ == "__main__":
    np.set_printoptions(precision=3)
    main()
