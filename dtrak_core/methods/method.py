"""What a method is, and how the table of them takes in scores that users bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from dtrak_core.features.settings import ModelOutput, TargetSide
from dtrak_core.methods import own_scores
from dtrak_core.methods.settings import EmbeddingModel


@dataclass(frozen=True)
class Method:
    """One method of a family, whose row (`families.FAMILIES`) says how it works.

    `rank_share` is its default effective rank over N, None where nothing is damped. `side` says what differs for the
    target. `divided_by` is |A φ_i| (relative IF) or |φ_i| (renormalised IF); `residual` multiplies by r_i / (1 - h_i)
    (DAS); `squared` squares the score. `shares` are the checkpoints of the run in percent; `models` is the number of
    models trained on half of the set that an ensemble has, 0 for the checkpoint itself.
    """

    id: str
    label: str
    family: str
    summary: str
    model_output: ModelOutput | None = None
    damped: bool = False
    cosine: bool = False
    rank_share: float | None = None
    embedding: EmbeddingModel | None = None
    eta: float = 0.0
    side: TargetSide = field(default=TargetSide())
    normalise: Literal["none", "timestep"] = "none"
    divided_by: Literal["none", "preconditioned", "feature"] = "none"
    residual: bool = False
    squared: bool = False
    shares: tuple[int, ...] = (100,)
    models: int = 0

    @property
    def reads_kernel(self) -> bool:
        """Return whether its scores need the kernel: its decomposition, or the features' lengths that lie beside it."""
        return self.damped or self.cosine

    @property
    def generated_only(self) -> bool:
        """Return whether it explains only pictures that the model generated."""
        return self.side.trajectory


class Methods(dict[str, Method]):
    """The methods of the table, and after them the scores that users brought, which come and go (own_scores.py).

    Any id of such scores gives a method, also of scores that are gone, so that what was made of them can be shown. The
    id without a key gives the newest of the name, whose own id has one.
    """

    def __missing__(self, name: str) -> Method:
        if not name.startswith(own_scores.PREFIX):
            raise KeyError(name)
        named = own_scores.parse(name)
        summary = f"Scores that were brought from elsewhere as '{named.name}'; they are shown as they were given."
        return Method(named.id, f"{named.name} (own scores)", "own", summary)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith(own_scores.PREFIX)

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from (named.id for named in own_scores.every())

    def values(self) -> Any:
        """Return the methods, in order."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Return ids and methods, in order."""
        return [(name, self[name]) for name in self]
