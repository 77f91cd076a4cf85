"""Statistics of the comparison: pure functions of arrays, lower delay is better.

S training seeds, E evaluation episodes of each. A training is what varies, so seeds are resampled first and episodes within
each seed after that (Agarwal et al. 2021, arXiv 2108.13264, whose strata are tasks; here one network is one task).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 10_000
SMOOTH = 10
"""Training episodes over which a learning curve is averaged before a level counts as reached."""

Interval = tuple[float, float]


def iqm(values: np.ndarray) -> np.ndarray:
    """Return the interquartile mean, that of the middle half, along the last axis."""
    return stats.trim_mean(values, 0.25, axis=-1)


def bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % percentile interval of a statistic of [S, E] over seeds and episodes.

    `statistic` reduces the last axis, on which all of a sample's values lie. With one seed there is none: (nan, nan).
    """
    n_seeds, n_episodes = values.shape
    if n_seeds < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    seeds = rng.integers(n_seeds, size=(resamples, n_seeds, 1))
    episodes = rng.integers(n_episodes, size=(resamples, n_seeds, n_episodes))
    low, high = np.percentile(statistic(values[seeds, episodes].reshape(resamples, -1)), [2.5, 97.5])
    return float(low), float(high)


def probability_of_improvement(values: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """Return the probability that a training ends with less delay than one of the reference, and its 95 % interval.

    P = mean over pairs of 1 (less), 0.5 (equal) or 0 (more): the Mann-Whitney statistic. No interval for a single training.
    """
    mine, theirs = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    wins = (mine[:, None] < theirs) + 0.5 * (mine[:, None] == theirs)
    if min(wins.shape) < 2:
        return float(wins.mean()), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    rows = rng.integers(len(mine), size=(RESAMPLES, len(mine), 1))
    columns = rng.integers(len(theirs), size=(RESAMPLES, 1, len(theirs)))
    low, high = np.percentile(wins[rows, columns].mean(axis=(1, 2)), [2.5, 97.5])
    return float(wins.mean()), float(low), float(high)


def permutation_p_value(values: Sequence[float], reference: Sequence[float]) -> float:
    """Return how often two groups that are alike would come out at least as far apart (Mann-Whitney by permutation, two-sided).

    It answers what `improvement`'s interval cannot: whether so few trainings can show anything. Undefined (nan) for a single
    training.
    """
    if min(len(values), len(reference)) < 2:
        return float("nan")
    method: Any = stats.PermutationMethod(rng=0)  # the stubs know names only
    return float(stats.mannwhitneyu(values, reference, method=method).pvalue)


def smoothed(episode: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """Return the mean delay of the last `SMOOTH` training episodes at each point of a learning curve.

    A point stands for the episodes since the one before it; before `SMOOTH` episodes have been played there is no mean (nan).
    """
    spans = np.diff(episode, prepend=0)
    mean = np.full(len(delay), np.nan)
    for i in range(len(delay)):
        first = int(np.searchsorted(episode, episode[i] - SMOOTH, side="right"))
        if episode[i] >= SMOOTH:
            mean[i] = np.average(delay[first : i + 1], weights=spans[first : i + 1])
    return mean


def episodes_to_threshold(x: np.ndarray, episode: np.ndarray, delay: np.ndarray, level: float) -> float:
    """Return `x` (episodes, minutes) where the smoothed training delay first is at a level or below; infinity if it never is."""
    below = np.flatnonzero(smoothed(episode, delay) <= level)
    return float(x[below[0]]) if len(below) else float("inf")


def mean_training_delay(episode: np.ndarray, delay: np.ndarray) -> float:
    """Return the mean delay over all training episodes: the area under the learning curve, over its length."""
    return float(np.average(delay, weights=np.diff(episode, prepend=0)))


def final_slope(episode: np.ndarray, delay: np.ndarray) -> float:
    """Return by how much the training delay changes over its last quarter [s], along a straight line; near 0 it is flat."""
    last = episode >= 0.75 * episode[-1]
    if last.sum() < 2:
        return float("nan")
    slope = np.polyfit(episode[last], delay[last], 1)[0]
    return float(slope * (episode[last][-1] - episode[last][0]))
