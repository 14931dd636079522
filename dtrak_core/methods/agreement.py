"""How methods agree with each other, and which training pictures stand in many targets' lists. No torch here.

A picture that is among the first for many targets ("usual suspect", a hub) says little about any of them: its gradient
is large whatever is asked. `specific` takes off each picture's mean over the targets, so that what is left is what it
does for one target more than for the others.
"""

from __future__ import annotations

import numpy as np

from dtrak_core import statistics

TOP = 10  # pictures of a list that are compared
Rows = tuple[tuple[str, ...], np.ndarray]  # ids of the targets that a method explains, and its scores (M, N) of them


def top_of(count: int) -> int:
    """Return how many first pictures of N are told of: ten, of few at most half, for the first N would be all."""
    return min(TOP, max(1, count // 2))


def aligned(first: Rows, second: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (M, N) of two methods for the M targets that both explain, in the order of the first."""
    both = [name for name in first[0] if name in set(second[0])]
    return first[1][[first[0].index(name) for name in both]], second[1][[second[0].index(name) for name in both]]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Spearman correlation of two methods' scores (M, N) over training pictures, shape (M,)."""
    return statistics.spearman(first.T.astype(np.float64), second.T.astype(np.float64))


def overlap(first: np.ndarray, second: np.ndarray, top: int) -> np.ndarray:
    """Return which part of the first `top` pictures two methods share, for each target, shape (M,).

    Args:
        first: Scores (M, N) of one method.
        second: Of the other.
        top: 1 to N.
    """
    one, other = leading(first, top), leading(second, top)
    return np.array([len(np.intersect1d(a, b)) / top for a, b in zip(one, other, strict=True)])


def leading(scores: np.ndarray, top: int) -> np.ndarray:
    """Return the indices of each target's highest scores, highest first, equal ones by index, shape (M, top)."""
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]


def disagreement(first: np.ndarray, second: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return on which training pictures two methods differ most, over all targets.

    Args:
        first: Scores (M, N) of one method.
        second: Of the other.
        top: How many to return for each.

    Returns:
        Indices that the first ranks most above the second, and the other way round, by the mean difference of ranks.
    """
    above = (statistics.ranks(first.T.astype(np.float64)) - statistics.ranks(second.T.astype(np.float64))).mean(1)
    order = np.argsort(-above, kind="stable")
    return order[:top], order[::-1][:top]


def hubs(scores: np.ndarray, top: int) -> np.ndarray:
    """Return in how many targets' first `top` each training picture stands, shape (N,)."""
    return np.bincount(leading(scores, top).ravel(), minlength=scores.shape[1])


def specific(scores: np.ndarray) -> np.ndarray:
    """Return scores (M, N), each target's divided by its own spread, without each picture's mean over the targets."""
    values = scores.astype(np.float64)
    spread = values.std(1, keepdims=True)
    values = np.divide(values, spread, out=np.zeros_like(values), where=spread > 0)
    found: np.ndarray = values - values.mean(0)
    return found
