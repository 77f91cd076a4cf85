r"""Effects of phases from branches: their size beside chance, their reach, and how the own effect agrees with the team's.

One state and one forced signal are a *case*. x_k(a) is the change of some rewards after phase a in continuation k, summed
over the decisions up to a horizon, and less its mean over the legal phases. The expected product of x_k and y_l is the
covariance of the effects where k and l are different continuations, whose chance is independent: no noise is in it. With
k = l it has the noise too. So

- signal covariance = mean over cases of the sum over k != l and a of x_k(a) y_l(a), over K (K - 1) (A - 1). It has no
  bias, and a variance estimated so can come out negative;
- noise covariance = the same with k = l, over K (A - 1), less the signal covariance.

All legal phases count alike, or each by its probability under the policy: the variance is then that of the phases played,
without the factor A / (A - 1). Intervals are percentiles of a bootstrap over states. Axes: R resamples (row 0 is the sample
itself), C cases, S streams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tsc_marl.analysis.branch_file import Branches
from tsc_marl.analysis.gradient_statistics import Estimate

RESAMPLES = 2000
OWN, NEAR, OTHERS, TEAM = range(4)
"""Streams: rewards of the forced signal, of its neighbours, of all others, of all."""
HOPS = 4
"""Distances that `by_distance` tells apart: 0, 1, 2, and more."""


@dataclass(frozen=True)
class Covariances:
    """Covariances of streams over phases."""

    signal: np.ndarray
    """[R, S, S]"""
    noise: np.ndarray
    """[R, S, S] of one continuation."""


@dataclass(frozen=True)
class Effects:
    """Effects within a horizon, in the unit of the reward, or as ratios."""

    horizon_s: float
    own: Estimate
    """Standard deviation over phases of the expected change of the own reward."""
    near: Estimate
    """The same for the neighbours' rewards."""
    others: Estimate
    """The same for the rewards of all others."""
    noise_own: float
    """Standard deviation of chance in one continuation."""
    noise_near: float
    noise_others: float
    share: Estimate
    """Variance of the others' change over the sum of that and of the own change's."""
    correlation: Estimate
    """Of the own and the others' change."""
    per_own: Estimate
    """Change for the others that goes with one unit of the own change."""
    cosine_own: Estimate
    """Cosine of the own change with the team's: whether own rewards point where the team gains."""
    cosine_near: Estimate
    """The same for the change of the signal and its neighbours together."""


def streams(branches: Branches, begin: int, end: int) -> np.ndarray:
    """Return [C, A, K, 4]: changes of the four streams in decisions begin .. end - 1 after the branch."""
    total = branches.change[:, :, :, begin:end].sum(axis=3, dtype=float)
    own = np.take_along_axis(total, branches.signal[:, None, None, None], axis=3)[..., 0]
    near = (total * (branches.hops[branches.signal] == 1)[:, None, None, :]).sum(axis=3)
    team = total.sum(axis=3)
    return np.stack([own, near, team - own, team], axis=3)


def by_distance(branches: Branches, begin: int, end: int) -> np.ndarray:
    """Return [C, A, K, HOPS]: changes of the signals at each distance from the forced one; the last stands for all farther."""
    total = branches.change[:, :, :, begin:end].sum(axis=3, dtype=float)
    at = np.minimum(branches.hops, HOPS - 1)[branches.signal][..., None] == np.arange(HOPS)
    return np.einsum("cakn,cnh->cakh", total, at)


def probabilities(branches: Branches) -> np.ndarray:
    """Return [C, A]: probabilities of the forced signal's phases under the policy; 0 for those that are not legal."""
    legal = branches.avail[branches.place, branches.signal]
    probs = np.where(legal, branches.probs[branches.place, branches.signal], 0).astype(float)
    return probs / probs.sum(axis=1, keepdims=True)


def covariances(x: np.ndarray, place: np.ndarray, probs: np.ndarray | None = None, resamples: int = RESAMPLES) -> Covariances:
    """Return the signal and the noise of streams, and of their resamples.

    Args:
        x: [C, A, K, S] changes; nan for phases that are not legal.
        place: [C] number of the state of each case.
        probs: [C, A] how much each phase counts; None: all legal ones alike.
        resamples: of the states.
    """
    legal = np.any(~np.isnan(x[..., 0]), axis=2)
    count = legal.sum(axis=1, keepdims=True)
    weight = legal / (count - 1) if probs is None else probs
    n, x = x.shape[2], np.nan_to_num(x)
    mean = np.einsum("ca,caks->cks", legal / count if probs is None else probs, x)
    centred = np.where(legal[..., None, None], x - mean[:, None], 0)
    both = np.einsum("ca,caks,cakt->cst", weight, centred, centred)
    total = centred.sum(axis=2)
    signal = (np.einsum("ca,cas,cat->cst", weight, total, total) - both) / (n * (n - 1))
    noise = both / n - signal
    states, index = np.unique(place, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(states), np.full(len(states), 1 / len(states)), size=resamples)
    weights = np.concatenate([np.ones((1, len(states))), drawn])[:, index]
    weights = weights / weights.sum(axis=1, keepdims=True)
    return Covariances(*((weights @ each.reshape(len(each), -1)).reshape(-1, *each.shape[1:]) for each in (signal, noise)))


def estimate(samples: np.ndarray, clear: np.ndarray | bool = True) -> Estimate:
    """Return the number of row 0 [R] with its interval; nan for the number unless it is clear of noise."""
    drawn = samples[1:][~np.isnan(samples[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(samples[0]) if np.all(clear) else float("nan"), float(low), float(high))


def deviation(variance: np.ndarray) -> np.ndarray:
    """Return the root of variances, with the sign of those that come out negative."""
    return np.sign(variance) * np.sqrt(np.abs(variance))


def effects(branches: Branches, horizon: int, cases: np.ndarray | None = None, played: bool = False) -> Effects:
    """Return the effects within a number of decisions, of all cases or of some [C] bool; `played`: by the probabilities."""
    some = np.ones(len(branches.place), bool) if cases is None else cases
    probs = probabilities(branches)[some] if played else None
    parts = covariances(streams(branches, 0, horizon)[some], branches.place[some], probs)
    signal = parts.signal
    variance = signal[:, range(4), range(4)]
    joint = [[OWN], [OWN, NEAR]]
    sizes = [_sum(signal, group, group) for group in joint]
    with_team = [_sum(signal, group, [TEAM]) for group in joint]
    noise = deviation(parts.noise[0].diagonal())
    clear = np.percentile(variance[1:], 2.5, axis=0) > 0
    own, near, others = (estimate(deviation(variance[:, s])) for s in (OWN, NEAR, OTHERS))
    return Effects(
        horizon * branches.header.decision_s,
        own,
        near,
        others,
        float(noise[OWN]),
        float(noise[NEAR]),
        float(noise[OTHERS]),
        share=estimate(ratio(variance[:, OTHERS], variance[:, OWN] + variance[:, OTHERS])),
        correlation=estimate(_cosine(signal[:, OWN, OTHERS], variance[:, OWN], variance[:, OTHERS]), clear[[OWN, OTHERS]]),
        per_own=estimate(ratio(signal[:, OWN, OTHERS], variance[:, OWN]), clear[OWN]),
        cosine_own=estimate(_cosine(with_team[0], sizes[0], variance[:, TEAM]), clear[[OWN, TEAM]]),
        cosine_near=estimate(_cosine(with_team[1], sizes[1], variance[:, TEAM]), clear[[OWN, TEAM]]),
    )


def _sum(signal: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    return signal[:, rows][:, :, columns].sum(axis=(1, 2))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole; nan where the whole is not positive."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _cosine(product: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return product / sqrt(x y); nan where a variance is not positive."""
    return ratio(product, np.sqrt(np.clip(x, 0, None) * np.clip(y, 0, None)))


def reach(branches: Branches, edges: Sequence[int]) -> list[list[Estimate]]:
    """Return the standard deviation of the expected change at each distance in each stretch between edges, in decisions."""
    rows = []
    for begin, end in pairwise(edges):
        signal = covariances(by_distance(branches, begin, end), branches.place).signal
        rows.append([estimate(deviation(signal[:, h, h])) for h in range(HOPS)])
    return rows


def halves(branches: Branches) -> tuple[float, np.ndarray]:
    """Return the median occupancy behind the forced signals, and the cases above it [C] bool."""
    occupancy = branches.occupancy[branches.place, branches.signal]
    return float(np.median(occupancy)), occupancy > np.median(occupancy)
