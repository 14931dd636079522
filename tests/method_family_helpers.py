"""A family of methods that no module of the core knows: what a row and a file take."""

from __future__ import annotations

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.errors import NotFoundError
from dtrak_core.kinds import KINDS, Kind
from dtrak_core.methods import costs
from dtrak_core.methods.costs import Cost, Part
from dtrak_core.methods.families import FAMILIES, Family
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.methods.plans import Plan, Scores, scored
from dtrak_core.models import checkpoints
from dtrak_core.models.speeds import Speed
from dtrak_core.progress import Progress
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact

METHOD = Method("constant", "Constant", "constant", "Gives each training picture its index; the model plays no part.")


class ConstantSettings(Settings):
    """Whose constant scores."""

    dataset: str
    target: str


def parts(plan: Plan) -> list[tuple[str, Settings]]:
    return [("constants", ConstantSettings(dataset=plan.dataset.digest, target=one.id)) for one in plan.targets]


def models(method: Method, checkpoint: str, dataset: str = "", train: bool = False) -> list[str]:
    if checkpoints.by_digest(checkpoint, dataset).share != 100:
        raise NotFoundError(f"{method.label} is of whole trainings alone. Choose one.")
    return []


def score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    rows = [store.get(kind, key_of(kind, one)).array("scores.npy") for kind, one in parts(plan)]
    return scored(plan, np.stack(rows), {"counted": "from 0"})


def compute(plan: Plan, on_progress: Progress) -> list[Artifact]:
    made = []
    for kind, one in parts(plan):
        key = key_of(kind, one)
        with store.computing(kind, key) as found:
            if found is None:
                store.write_array(
                    store.partial(kind, key) / "scores.npy", np.arange(len(plan.dataset.train.rows), dtype=float)
                )
                found = store.publish(kind, key, one)
        made.append(found)
    return made


ROW = Family(
    score=score,
    parts=parts,
    models=models,
    compute=compute,
    job="scores",
    costs={"constants": costs.each(lambda here, one: Cost((Part("counting", Speed(7200.0, 1.0, "by hand")),), 8))},
    spent=lambda plan: (len(plan.targets), 0.0),
)


def add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the row of the family, of its method, and of the kind that it stores."""
    monkeypatch.setitem(KINDS, "constants", Kind("constants", "constant scores", recomputable=True, read_by_many=True))
    monkeypatch.setitem(FAMILIES, "constant", ROW)
    monkeypatch.setitem(METHODS, "constant", METHOD)
