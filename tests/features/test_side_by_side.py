"""Stripes side by side: in order, each on one thread of linear algebra."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dtrak_core.features.side_by_side import side_by_side, stripes


def threads() -> int:
    return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


def test_stripes_are_worked_on_at_the_same_time_and_come_in_order() -> None:
    met = threading.Barrier(3)

    def work(stripe: slice) -> tuple[int, int, int]:
        met.wait(10)  # nobody goes on before all three have begun
        return stripe.start, stripe.stop, threads()

    with threadpool_limits(3, user_api="blas"):
        with side_by_side() as each:
            assert each(work, stripes(8, 3)) == [(0, 3, 1), (3, 6, 1), (6, 8, 1)]
        assert threads() == 3


def test_one_thread_works_here() -> None:
    with threadpool_limits(1, user_api="blas"), side_by_side() as each:
        assert each(lambda stripe: threading.get_ident(), stripes(8, 3)) == [threading.get_ident()] * 3


def test_a_failure_is_told_and_the_threads_are_given_back() -> None:
    def work(stripe: slice) -> float:
        return 1 / stripe.start

    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError), side_by_side() as each:
            each(work, stripes(8, 3))
        assert threads() == 2
