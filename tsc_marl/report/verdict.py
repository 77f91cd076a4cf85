"""Verdicts of the report: comparison of the trainings of two groups, by a permutation test on each criterion."""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from tsc_marl.analysis import summaries
from tsc_marl.evaluation import significance, statistics
from tsc_marl.report.network_data import NetworkResults

FOCUS_ALGORITHM = "jointq"
"""The algorithm of the report's question; where it was not trained, the group with the least delay takes its place."""
ABLATION_ALGORITHM = "mappo_ind"
"""The algorithm with the rewards of `FOCUS_ALGORITHM`, but without credit for effects on others."""


class Outcome(Enum):
    """Result of one criterion."""

    BETTER = auto()
    WORSE = auto()
    UNDECIDED = auto()


class VerdictKind(Enum):
    """Result of both criteria together."""

    SINGLE = auto()
    """There is one group only."""
    TOO_FEW = auto()
    """There are so few trainings that no difference could be significant."""
    UNDECIDED = auto()
    BETTER = auto()
    """Better in one criterion at least, worse in none."""
    WORSE = auto()
    MIXED = auto()
    """Better in one criterion, worse in the other."""


@dataclass(frozen=True)
class Verdict:
    """Comparison of a group with a reference."""

    kind: VerdictKind
    group: str
    reference: str | None = None
    """None for a single group."""
    speed: Outcome = Outcome.UNDECIDED
    """Speed of learning, see `speeds`."""
    end: Outcome = Outcome.UNDECIDED
    """Final delay."""


def verdicts(results: NetworkResults) -> list[Verdict]:
    """Return the verdicts on a network.

    Each group of `FOCUS_ALGORITHM` is compared with the reference, then with `ABLATION_ALGORITHM` where it was trained.
    """
    groups = results.groups
    others = [name for name in groups if name != results.reference]
    if not others:
        return [Verdict(VerdictKind.SINGLE, results.reference)]
    focus = [name for name in others if groups[name][0].algorithm == FOCUS_ALGORITHM]
    ablation = results.comparison.groups_of(ABLATION_ALGORITHM)[:1] if focus else []
    references = dict.fromkeys([results.reference, *ablation])
    return [_verdict(results, name, other) for name in focus or others[:1] for other in references if name != other]


def _verdict(results: NetworkResults, name: str, reference: str) -> Verdict:
    if not smallest_p_value(results, name, reference) < significance.SIGNIFICANCE:
        return Verdict(VerdictKind.TOO_FEW, name, reference)
    speed, end = _outcome(*speeds(results, name, reference)), _outcome(*final_delays(results, name, reference))
    return Verdict(overall(speed, end), name, reference, speed, end)


def overall(speed: Outcome, end: Outcome) -> VerdictKind:
    """Return the result of both criteria together."""
    outcomes = {speed, end}
    if outcomes >= {Outcome.BETTER, Outcome.WORSE}:
        return VerdictKind.MIXED
    if Outcome.BETTER in outcomes:
        return VerdictKind.BETTER
    return VerdictKind.WORSE if Outcome.WORSE in outcomes else VerdictKind.UNDECIDED


def _outcome(values: list[float], reference: list[float]) -> Outcome:
    """Return whether the values are significantly smaller than the reference's (better) or larger (worse)."""
    if not significance.p_value((values, reference)) < significance.SIGNIFICANCE:
        return Outcome.UNDECIDED
    return Outcome.BETTER if statistics.probability_of_improvement(values, reference)[0] > 0.5 else Outcome.WORSE


def final_delays(results: NetworkResults, *names: str) -> list[list[float]]:
    """Return the mean final delay [s] of each training, per group."""
    return [summaries.delays(results.groups[name]).mean(axis=1).tolist() for name in names]


def speeds(results: NetworkResults, *names: str) -> list[list[float]]:
    """Return how slowly each training learned, per group.

    The measure is the number of episodes until the threshold. Where no training reached it, the measure is the mean delay over
    training [s].
    """
    if threshold_reached(results, *names):
        return [results.summaries[name].episodes for name in names]
    curves = [[training.curve for training in results.groups[name]] for name in names]
    return [[statistics.mean_training_delay(curve["episode"], curve["delay"]) for curve in group] for group in curves]


def threshold_reached(results: NetworkResults, *names: str) -> bool:
    """Return whether a training of these groups reached the threshold."""
    return bool(np.isfinite([value for name in names for value in results.summaries[name].episodes]).any())


def smallest_p_value(results: NetworkResults, name: str, reference: str) -> float:
    """Return the p-value if every training of one group were better than every training of the other; nan for one training."""
    counts = [len(results.groups[group]) for group in (name, reference)]
    return significance.p_value(([0.0] * counts[0], [1.0] * counts[1]))
