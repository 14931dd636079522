"""Pieces of work side by side: in order, each on one thread of linear algebra."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dtrak_core.features.side_by_side import side_by_side


def threads() -> int:
    return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


def test_pieces_are_worked_on_at_the_same_time_and_come_in_order() -> None:
    met = threading.Barrier(3)

    def work(piece: int) -> tuple[int, int]:
        met.wait(10)  # nobody goes on before all three have begun
        return piece, threads()

    with threadpool_limits(3, user_api="blas"):
        assert side_by_side(work, range(3)) == [(0, 1), (1, 1), (2, 1)]
        assert threads() == 3


@pytest.mark.parametrize(("limit", "pieces"), [(1, 5), (4, 1), (4, 0)])
def test_what_cannot_be_shared_stays_here(limit: int, pieces: int) -> None:
    with threadpool_limits(limit, user_api="blas"):
        found = side_by_side(lambda piece: (threading.get_ident(), threads()), range(pieces))
        assert found == [(threading.get_ident(), threads())] * pieces


def test_a_failure_is_told_and_the_threads_are_given_back() -> None:
    def work(piece: int) -> float:
        return 1 / piece

    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError):
            side_by_side(work, (1, 0))
        assert threads() == 2
