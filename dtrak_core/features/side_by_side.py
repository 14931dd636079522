"""Products of matrices side by side: stripes of a large one on as many threads as the linear algebra has.

A product of narrow matrices gains little from several threads, which wait for each other at the end of every one.
Stripes that know nothing of each other gain all: each is worked on by one thread alone, its products too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import ThreadpoolController

SideBySide = Callable[[Callable[[slice], Any], Sequence[slice]], list[Any]]


@contextlib.contextmanager
def side_by_side() -> Iterator[SideBySide]:
    """Give linear algebra one thread, and yield what does work for stripes, several at once, and returns its answers.

    The answers are in the order of the stripes. As many are worked on at once as linear algebra had threads.
    """
    blas = _blas()
    count = max((library["num_threads"] for library in blas.info()), default=1)
    if count == 1:
        yield lambda work, stripes: [work(stripe) for stripe in stripes]
        return
    with blas.limit(limits=1), ThreadPoolExecutor(count) as pool:
        yield lambda work, stripes: list(pool.map(work, stripes))


def stripes(count: int, each: int) -> list[slice]:
    """Return stripes of `each` rows of `count` in all, the last of what is left; an empty one of none."""
    return [slice(start, min(start + each, count)) for start in range(0, count or 1, each)]


@functools.cache
def _blas() -> ThreadpoolController:
    """Return the libraries of linear algebra of NumPy and SciPy."""
    import scipy.linalg  # noqa: F401 - only what is loaded is found

    return ThreadpoolController().select(user_api="blas")
