"""What better answers cost is stored for one checkpoint, and measured anew in its place."""

from __future__ import annotations

from pathlib import Path

from dtrak_core import store
from dtrak_core.lds import frontier
from dtrak_core.lds.frontier import FrontierSettings, Spent, Value

A, B = "a" * 16, "b" * 16


def test_points_are_stored_for_a_checkpoint_and_replaced(cache: Path) -> None:
    values = {"generated": Value(0.4, 0.3, 0.5), "held-out": Value(0.6, None, None)}
    point = Spent("d-trak", True, "uniform", 10, 1, 130, 2.5, values)
    settings = FrontierSettings(dataset=A, checkpoint=B)
    for spent in (2.5, 1.5):
        point = Spent(**vars(point) | {"seconds": spent})
        frontier.publish(settings, [point], {"how": "By hand."})
    found = frontier.find(A, B)
    assert found is not None
    assert (found.points, found.facts["how"]) == ((point,), "By hand.")
    assert frontier.find(A, A) is None
    assert len(store.listing("frontiers")) == 1
