"""How long work says how far it is.

Core functions call `progress(done, total, unit, message)` at least once a second or once a
batch. The caller may raise `Cancelled` from it; finished shards and checkpoints stay.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str, str], None]


def quiet(done: int, total: int, unit: str, message: str) -> None:
    """Say nothing: the progress of a caller who does not follow the work."""
