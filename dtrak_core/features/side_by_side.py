"""Products of matrices side by side: stripes of a large one on as many threads as the linear algebra has.

A product of narrow matrices gains little from several threads, which wait for each other at the end of every one.
Stripes that know nothing of each other gain all: each is worked on by one thread alone, its products too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Piece = TypeVar("Piece")
Found = TypeVar("Found")


def side_by_side(work: Callable[[Piece], Found], pieces: Iterable[Piece]) -> list[Found]:
    """Return what work makes of each piece, in order, several at once, on one thread each."""
    each, blas = list(pieces), _blas()
    count = min(len(each), max((library["num_threads"] for library in blas.info()), default=1))
    if count < 2:
        return [work(piece) for piece in each]
    with blas.limit(limits=1), ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, each))


@functools.cache
def _blas() -> ThreadpoolController:
    """Return the libraries of linear algebra that this process has loaded."""
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401

    return ThreadpoolController().select(user_api="blas")
