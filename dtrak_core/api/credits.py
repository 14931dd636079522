"""Credit over a set of generated pictures: whose training pictures made them, as numbers, sentences and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.api import explaining, showing
from dtrak_core.api.inputs import Wanted, all_drawn, chosen_checkpoint, chosen_dataset, first_of_each
from dtrak_core.counterfactual import comparisons, credits
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.files import expanded
from dtrak_core.methods import credit_page, credit_sheet, crediting, defaults, scores, set_credit
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.methods import method_of
from dtrak_core.methods.plans import Scores
from dtrak_core.methods.set_credit import By, Group
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled

SHOWN = 20  # groups of the table in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Credits:
    """Who gets credit over a set: `sheet` holds the credit with all that it is of."""

    sheet: Sheet

    @property
    def groups(self) -> tuple[Group, ...]:
        """Return the groups, largest share first: share, set_share, lift with its interval (low, high), p, verdict."""
        return self.sheet.credit.groups

    @property
    def sentences(self) -> list[str]:
        """Return what the credit says, in words."""
        return self.sheet.sentences

    @property
    def checked(self) -> Mapping[str, Any]:
        """Return what stored comparisons that left groups out have measured, beside what scores predict."""
        return self.sheet.checked

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return credit_sheet.document(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write the credits as a file, by its ending: .html to print or send, with pictures, .csv or .json.

        Raises:
            SettingsError: If it has another ending.
        """
        place = expanded(path)
        store.write_bytes(place, credit_page.writer(place)(self.sheet))

    def __repr__(self) -> str:
        """Return in a line what is credited."""
        about = f"{counted(self.sheet.credit.targets, 'picture')} by {self.sheet.checkpoint.name}"
        return f"Credits({self.sheet.label}, {about}: {counted(len(self.groups), self.sheet.credit.by)})"

    def _repr_html_(self) -> str:
        """Return sentences and the table of groups, for a notebook."""
        told = self.document()
        names = ("name", "share", "pictures", "share_of_pictures", "lift", "lift_low", "lift_high", "p", "verdict")
        rows = [
            {name: group[name] for name in names}
            | {name: crediting.percent(group[name]) for name in ("share", "share_of_pictures")}
            for group in told["groups"][:SHOWN]
        ]
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.sentences)
        table = showing.table(rows, told["protocol"])
        return f"<div><ul>{lines}</ul>{table}<small>{escape(told['licence'])}</small></div>"


def credit(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    targets: Wanted | Sequence[Wanted] | None = None,
    method: str = "d-trak",
    by: By | None = None,
    *,
    features: Mapping[str, Any] | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
    sampled: Sampled | None = None,
    engine: bool = False,
    progress: bool = True,
) -> Credits:
    """Add up over a set of pictures what each contributor's training pictures have helped.

        share(g) = Σ_{i in g} max(s̄_i, 0) / Σ_i max(s̄_i, 0)        s̄_i = mean over targets of score(z, i)
        lift(g)  = share(g) / share of the training pictures

    Intervals resample targets, and are None below six of them. A target given several times counts once.

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name.
        targets: Seeds, ids or pictures, as of `explain`; None takes all pictures that the model drew as `sampled` says.
        method: Id of a method whose scores have a sign.
        by: "contributor", "label", "family" or "picture"; None takes the first that the training pictures have.
        features: As of `explain`, like all that follow.
        damping: λ.
        rank_share: Effective rank over N, instead of λ.
        sampled: How seeds are drawn; None is the model's own way.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset, checkpoint, method or target is not known.
        SettingsError: If the method squares its scores, the pictures cannot be grouped so, none is drawn, or a setting
            cannot work.
    """
    of, one = chosen_dataset(dataset), method_of(method)
    model = chosen_checkpoint(checkpoint, of)
    if reason := set_credit.refusal(one):
        raise SettingsError(reason)
    set_credit.check_grouping(of.train.rows, by)
    wanted: Any = targets
    if targets is None:
        wanted = all_drawn(of, model, sampled)
    how: dict[str, Any] = {"damping": damping, "rank_share": rank_share, "sampled": sampled}
    answer = explaining.explain(of, model, wanted, method, features=features, engine=engine, progress=progress, **how)
    base = defaults.base_for(of.digest, model.digest, one, features or {})
    once = first_of_each(answer.targets)
    plan = scores.resolve(one, of, model.digest, [answer.targets[place] for place in once], base)
    found = Scores(one.id, answer.scores[once], answer.damping, answer.effective_rank, answer.provenance)
    return Credits(credits.sheet(plan, found, model, by, comparisons.listing(of, model.digest)))
