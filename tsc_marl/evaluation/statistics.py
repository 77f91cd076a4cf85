"""Statistics of evaluations and of trainings: pure functions; lower delay is better.

S training seeds, E evaluation episodes of each. Trainings vary more than episodes. So a bootstrap resamples seeds
first, then the episodes of each seed (after Agarwal et al. 2021, arXiv 2108.13264; their strata are tasks, here networks).
"""

from collections.abc import Callable, Sequence

import numpy as np

from tsc_marl.rollout.types import EpisodeMetrics

RESAMPLES = 10_000
SMOOTH = 10
"""Training episodes over which a learning curve is averaged before it is compared with a threshold."""

Interval = tuple[float, float]


def mean(episodes: Sequence[EpisodeMetrics], metric: str) -> float:
    """Return the mean of a metric over episodes."""
    return float(np.mean([episode[metric] for episode in episodes]))


def interval(values: Sequence[float]) -> Interval:
    """Return the 95 % bootstrap interval of the mean (percentile, 10 000 resamples, fixed seed).

    A single value has no interval: (nan, nan).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    sample = np.random.default_rng(0).choice(np.asarray(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(sample.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired(
    episodes: Sequence[EpisodeMetrics], baseline: Sequence[EpisodeMetrics], metric: str = "delay"
) -> tuple[float, float, float]:
    """Return the mean difference of a metric to a baseline's on the same SUMO seeds, with its 95 % bootstrap interval.

    Without a common seed all three are nan.
    """
    base = {episode.seed: episode[metric] for episode in baseline}
    differences = [episode[metric] - base[episode.seed] for episode in episodes if episode.seed in base]
    if not differences:
        return float("nan"), float("nan"), float("nan")
    return float(np.mean(differences)), *interval(differences)


def iqm(values: np.ndarray) -> np.ndarray:
    """Return the interquartile mean along the last axis: the mean of the middle half."""
    n = values.shape[-1]
    cut = n // 4
    return np.partition(values, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(axis=-1)


def bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES) -> Interval:
    """Return the 95 % percentile interval of a statistic over seeds and episodes; a single seed has none: (nan, nan).

    Args:
        values: [S, E].
        statistic: reduces the last axis; a resample is one row of S E values.
        resamples: how many resamples are drawn.
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

    The probability is the Mann-Whitney statistic: the mean over pairs of 1 (less delay), 0.5 (equal) or 0 (more). A single
    training has no interval.
    """
    ends, other_ends = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    wins = (ends[:, None] < other_ends) + 0.5 * (ends[:, None] == other_ends)
    if min(wins.shape) < 2:
        return float(wins.mean()), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    rows, columns = (_counts(rng.integers(size, size=(RESAMPLES, size))) for size in wins.shape)
    low, high = np.percentile(((rows @ wins) * columns).sum(axis=1) / wins.size, [2.5, 97.5])
    return float(wins.mean()), float(low), float(high)


def _counts(drawn: np.ndarray) -> np.ndarray:
    """Return how often each of n is drawn, [R, n], in draws [R, n]."""
    n = drawn.shape[1]
    flat = (drawn + n * np.arange(len(drawn))[:, None]).ravel()
    return np.bincount(flat, minlength=drawn.size).reshape(drawn.shape)


def smoothed(episode: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """Return the mean delay of the last `SMOOTH` training episodes at each point of a learning curve.

    A point of the curve stands for the episodes since the point before. The first `SMOOTH` episodes have no mean (nan).
    """
    spans = np.diff(episode, prepend=0)
    mean = np.full(len(delay), np.nan)
    for i in range(len(delay)):
        first = int(np.searchsorted(episode, episode[i] - SMOOTH, side="right"))
        if episode[i] >= SMOOTH:
            mean[i] = np.average(delay[first : i + 1], weights=spans[first : i + 1])
    return mean


def episodes_to_threshold(x: np.ndarray, episode: np.ndarray, delay: np.ndarray, threshold: float) -> float:
    """Return `x` (episodes, minutes) where the smoothed training delay first is at the threshold or below; infinity if never."""
    below = np.flatnonzero(smoothed(episode, delay) <= threshold)
    return float(x[below[0]]) if len(below) else float("inf")


def mean_training_delay(episode: np.ndarray, delay: np.ndarray) -> float:
    """Return the mean delay over all training episodes: the area under the learning curve, over its length."""
    return float(np.average(delay, weights=np.diff(episode, prepend=0)))


def final_slope(episode: np.ndarray, delay: np.ndarray) -> float:
    """Return the change of the training delay over its last quarter [s], along a straight line; near 0 the curve is flat."""
    last = episode >= 0.75 * episode[-1]
    if last.sum() < 2:
        return float("nan")
    slope = np.polyfit(episode[last], delay[last], 1)[0]
    return float(slope * (episode[last][-1] - episode[last][0]))
