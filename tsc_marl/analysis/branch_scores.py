"""How well a critic's estimates of the effects of phases agree with branches."""

from dataclasses import dataclass

import numpy as np

from tsc_marl.analysis.branch_effects import OTHERS, OWN, RESAMPLES, estimate, probabilities, ratio
from tsc_marl.analysis.branch_file import Branches
from tsc_marl.analysis.gradient_statistics import Estimate

HEADS = {"own": OWN, "others": OTHERS}
"""Estimates of a critic, the instrument's check first, and the streams that they are of."""


@dataclass(frozen=True)
class Score:
    """Agreement of one estimate with the branches, within a horizon."""

    head: str
    horizon_s: float
    slope: Estimate
    """Factor of the estimates that brings them nearest to the effects: 1 is right, 0 says nothing."""
    sign: Estimate
    """Share of phases whose estimate has the sign of the measured effect, which has noise; 0.5 is chance."""
    explained: Estimate
    """Share of the effects' variance that the estimates explain, the noise of the branches left out; 0 or less: nothing."""


def scores(branches: Branches, horizon: int, played: bool = False) -> list[Score]:
    """Return the scores of the own head and, where there is one, of the head for others.

    Estimates and changes are centred over the legal phases under the behaviour policy. Every legal phase counts alike, or by its
    probability there (`played`). Rewards are discounted as the critic's returns.
    """
    gamma = branches.header.critic_gamma
    weight = gamma ** np.arange(horizon)
    total = np.einsum("cakti,t->caki", branches.change[:, :, :, :horizon].astype(float), weight)
    own = np.take_along_axis(total, branches.signal[:, None, None, None], axis=3)[..., 0]
    measured = {"own": own, "others": total.sum(axis=3) - own}
    return [
        _score(name, getattr(branches, name)[branches.place, branches.signal].astype(float), x, branches, horizon, played)
        for name, x in measured.items()
        if not np.isnan(getattr(branches, name)).all()
    ]


def _score(name: str, predicted: np.ndarray, x: np.ndarray, branches: Branches, horizon: int, played: bool) -> Score:
    """Score estimates [C, A] by changes [C, A, K]."""
    legal, probs = branches.avail[branches.place, branches.signal], probabilities(branches)
    weight = probs if played else legal.astype(float)
    p = np.where(legal, predicted, 0)
    p = np.where(legal, p - (probs * p).sum(axis=1, keepdims=True), 0)
    x = np.nan_to_num(x)
    x = np.where(legal[..., None], x - (probs[..., None] * x).sum(axis=1, keepdims=True), 0)
    n, mean = x.shape[2], x.mean(axis=2)
    size = (weight * (x.sum(axis=2) ** 2 - (x**2).sum(axis=2)) / (n * (n - 1))).sum(axis=1)
    sure = weight * (legal & (p != 0) & (mean != 0))
    same = (sure * (np.sign(p) == np.sign(mean))).sum(axis=1)
    product, square = (weight * p * mean).sum(axis=1), (weight * p**2).sum(axis=1)
    product, square, size, same, number = _resampled(np.stack([product, square, size, same, sure.sum(axis=1)]), branches.place)
    horizon_s = horizon * branches.header.decision_s
    return Score(
        name, horizon_s, estimate(ratio(product, square)), estimate(ratio(same, number)),
        estimate(ratio(2 * product - square, size)),
    )  # fmt: skip


def _resampled(sums: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the totals over the cases [Q, R] of quantities [Q, C], and of resamples of the states."""
    states, index = np.unique(place, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(states), np.full(len(states), 1 / len(states)), size=RESAMPLES)
    return sums @ np.concatenate([np.ones((1, len(states))), drawn])[:, index].T
