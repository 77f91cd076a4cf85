"""Tests of differences between two groups of trainings, on one network and over several: pure functions of final delays."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

SIGNIFICANCE = 0.05
"""A difference with a larger p-value decides nothing."""
POWER = 0.8
SPLITS = 20_000
"""Splits of one network's trainings into two groups: all of them, or this many random ones where there are more."""

Pair = tuple[Sequence[float], Sequence[float]]
"""Final delays of two groups on one network, one value per training."""


def p_value(*networks: Pair) -> float:
    """Return the two-sided p-value of a Mann-Whitney test by permutation of the trainings within each network.

    The statistic is the sum of the networks' Mann-Whitney statistics (a stratified rank test, Mehrotra et al. 2010). Few
    trainings cannot reach a small p-value, however far apart they are.

    Args:
        networks: the two groups on each network.

    Returns:
        p, nan where a group has a single training.
    """
    if min(min(map(len, pair)) for pair in networks) < 2:
        return float("nan")
    distribution, observed = np.ones(1), 0
    for values, reference in networks:
        wins = _doubled_wins(values, reference)
        distribution = np.convolve(distribution, np.bincount(wins, minlength=2 * len(values) * len(reference) + 1) / len(wins))
        observed += wins[0]
    return float(min(1.0, 2 * min(distribution[: observed + 1].sum(), distribution[observed:].sum())))


def _doubled_wins(values: Sequence[float], reference: Sequence[float]) -> np.ndarray:
    """Return twice the Mann-Whitney statistic of the trainings' splits into groups of these sizes, the real one first."""
    pooled, n = np.concatenate([values, reference]), len(values)
    scores = 2 * (pooled[:, None] < pooled) + (pooled[:, None] == pooled)
    if math.comb(len(pooled), n) <= SPLITS:
        chosen = np.array(list(combinations(range(len(pooled)), n)))
    else:
        rng = np.random.default_rng(0)
        others = rng.permuted(np.tile(np.arange(len(pooled)), (SPLITS - 1, 1)), axis=1)[:, :n]
        chosen = np.concatenate([np.arange(n)[None], others])
    member = np.zeros((len(chosen), len(pooled)), dtype=int)
    np.put_along_axis(member, chosen, 1, axis=1)
    return np.einsum("si,ij,sj->s", member, scores, 1 - member)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests, in their order (Holm 1979); nan stays, and counts as no test."""
    adjusted = np.asarray(p_values, dtype=float).copy()
    tests = np.flatnonzero(np.isfinite(adjusted))
    order = tests[np.argsort(adjusted[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * adjusted[order]))
    return adjusted.tolist()


def minimum_detectable_difference(values: Sequence[float], reference: Sequence[float]) -> float:
    """Return the least true difference of two groups' means that a test finds with probability `POWER` [unit of the values].

    It is that of a two-sided t-test at `SIGNIFICANCE` with the pooled standard deviation of trainings; a test by ranks needs a
    little more. Single trainings have none (nan).
    """
    from scipy import optimize, stats  # a training need not wait for it

    sizes = len(values), len(reference)
    if min(sizes) < 2:
        return float("nan")
    free = sum(sizes) - 2
    variance = sum((n - 1) * np.var(group, ddof=1) for n, group in zip(sizes, (values, reference), strict=True)) / free
    critical = stats.f.isf(SIGNIFICANCE, 1, free)  # t squared

    def lack(noncentrality: float) -> float:
        return float(stats.ncf.sf(critical, 1, free, noncentrality) - POWER)

    noncentrality: Any = optimize.brentq(lack, 1, 200)  # the stubs know a tuple too
    return math.sqrt(noncentrality * variance * sum(1 / n for n in sizes))
