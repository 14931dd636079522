"""Credit over a set of pictures with all that belongs to it, as pages, command line and library give it. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from dtrak_core.counterfactual import left_out
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.left_out import Check, LeftOut
from dtrak_core.methods import set_credit, set_scores
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.plans import Plan, Scores
from dtrak_core.methods.set_credit import By
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint


def sheet(
    plan: Plan, found: Scores, checkpoint: Checkpoint, by: By | None = None, comparisons: Sequence[Comparison] = ()
) -> Sheet:
    """Return the credit of a plan's targets, checked by what comparisons have left out.

    Args:
        plan: Method, dataset and targets.
        found: Their scores (M, N).
        checkpoint: The model that drew the targets.
        by: By what training pictures are grouped; None takes contributors where there are, else labels, then families.
        comparisons: Finished comparisons of the checkpoint.
    """
    rows = plan.dataset.train.rows
    chosen = by or set_credit.groupings(rows)[0]
    again = set_scores.repeats(plan, found)
    credit = set_credit.over(found.values, rows, chosen, checkpoints.learned(checkpoint), *again)
    groups = {group.name: group.members for group in credit.groups}
    checked = left_out.check(comparisons, groups, found.values, plan.targets)
    where = (plan.dataset, checkpoint, tuple(plan.targets))
    return Sheet(credit, plan.method.label, found, *where, _document(checked))


def _document(checked: Check) -> dict[str, Any]:
    """Return a check as plain JSON values, with its sentence."""
    rows = {
        name: [_row(one) for one in each] for name, each in (("groups", checked.groups), ("random", checked.random))
    }
    return {"sentence": left_out.sentence(checked)} | dataclasses.asdict(checked) | rows


def _row(one: LeftOut) -> dict[str, Any]:
    each = {"predicted_each": one.predicted_each, "measured_each": one.measured_each}
    return dataclasses.asdict(one) | each
