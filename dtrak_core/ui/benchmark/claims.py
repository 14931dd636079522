"""The paper's findings in one table: what the paper found, what is found here, and whether both agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.lds import paper, recipes
from dtrak_core.lds.recipes import Recipe, Sweep
from dtrak_core.ui import questions
from dtrak_core.ui.benchmark import finding_words
from dtrak_core.ui.benchmark.finding_words import Point
from dtrak_core.ui.benchmark.method_list import STYLE
from dtrak_core.ui.questions import Question

Lines = Mapping[str, Sequence[Recipe]]


@dataclass(frozen=True)
class Claim:
    """A finding as a comparison of two recipes of its sweep, of which the paper has the first one higher."""

    words: str
    paper: Callable[[paper.Kind], str]
    both: Callable[[Lines], tuple[Recipe, Recipe]]


def _numbers(first: tuple[str, int], second: tuple[str, int]) -> Callable[[paper.Kind], str]:
    """Return the paper's two values, by method and timesteps."""

    def told(kind: paper.Kind) -> str:
        values = [f"{paper.LDS[method][kind][steps] / 100:.2f} with {steps}" for method, steps in (first, second)]
        return f"{values[0]} against {values[1]} timesteps, damping best by LDS"

    return told


def _drawn(figure: int) -> Callable[[paper.Kind], str]:
    return lambda kind: f"so it is drawn in its Figure {figure}"


CLAIMS: Mapping[Sweep, Claim] = {
    "functions": Claim(
        "Gradients of the squared output (D-TRAK) predict better than those of the loss (TRAK)",
        _numbers(("d-trak", 100), ("trak", 100)),
        lambda lines: (_of(lines[""], "squared-output"), _of(lines[""], "loss")),
    ),
    "eta": Claim(
        "Between the two the LDS falls, from D-TRAK (η = 0) to TRAK (η = 1)",
        _drawn(1),
        lambda lines: (lines["all timesteps"][0], lines["all timesteps"][-1]),
    ),
    "timesteps": Claim(
        "D-TRAK with few timesteps is above TRAK with many",
        _numbers(("d-trak", 10), ("trak", 100)),
        lambda lines: (next(one for one in lines["d-trak"] if _steps(one) == recipes.FEW), lines["trak"][-1]),
    ),
    "checkpoints": Claim(
        "The last checkpoint is better than the first (D-TRAK)",
        _drawn(2),
        lambda lines: (lines["d-trak"][-1], lines["d-trak"][0]),
    ),
    "dimension": Claim(
        "The largest projection is better than the smallest (D-TRAK)",
        _drawn(5),
        lambda lines: (lines["d-trak"][-1], lines["d-trak"][0]),
    ),
}


def show(question: Question, kind: str) -> None:
    """Draw the table for a kind of target."""
    rows = []
    for name, claim in CLAIMS.items():
        here, agrees = _here(question, kind, name, claim)
        theirs = claim.paper("generated" if kind == "generated" else "held-out")
        cells = "".join(
            f'<td data-of="{column}">{escape(words)}</td>'
            for column, words in (("The paper", theirs), ("Here", here), ("Agrees", agrees))
        )
        rows.append(f'<tr><th scope="row"><p>{escape(claim.words)}</p></th>{cells}</tr>')
    head = "".join(f'<th scope="col">{words}</th>' for words in ("Finding", "The paper", "Here", "Agrees?"))
    st.html(f'{STYLE}<table class="methods told"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>')
    st.caption(f"The paper: {paper.SETTING}. Here: {kind} targets, each method at its own damping, 95 % intervals.")


def _here(question: Question, kind: str, name: Sweep, claim: Claim) -> tuple[str, str]:
    """Return what is found here in words, and whether it is what the paper found."""
    lines = recipes.sweep(name, question.dataset, question.checkpoint)
    points, made = [], []
    for recipe in claim.both(lines):
        if (found := questions.find(recipe, question)) is None:
            return "not computed yet", "–"
        value = questions.evaluated(found, question, kind)
        points.append(Point("", value.mean, value.low, value.high))
        damping = f", effective rank {found.shares[found.place]:.0%}" if found.shares else ""
        made.append(f"{counted(_steps(recipe), 'timestep')}{damping}")
    first, second = points
    if made[0] == made[1]:
        told = f"{finding_words.spanned(first)} against {finding_words.spanned(second)}; {made[0]}"
    else:
        told = f"{finding_words.spanned(first)} ({made[0]}) against {finding_words.spanned(second)} ({made[1]})"
    return told, finding_words.agrees(first, second)


def _steps(recipe: Recipe) -> int:
    assert recipe.features is not None  # sweeps are of gradient methods
    return recipe.features.num_timesteps


def _of(line: Sequence[Recipe], output: str) -> Recipe:
    return next(one for one in line if one.model_output == output)
