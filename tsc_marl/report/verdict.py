"""The answer in words, whatever it is: sentences made from the figures of the comparison."""

from dataclasses import dataclass

import numpy as np

from tsc_marl.analysis import compare
from tsc_marl.analysis.compare import THRESHOLD_CONTROLLER, Summary
from tsc_marl.evaluation import statistics
from tsc_marl.report.network_data import NetworkResults

FOCUS_ALGORITHM = "jointq"
"""The algorithm that is asked about, where it was trained; else the best is."""
ABLATION_ALGORITHM = "mappo_ind"
"""That which has each agent's own reward too, but no credit for its effect on others."""
JAMS = 0.05
"""Share of the interquartile mean by which the mean must differ to be told."""
CHANCE = 0.05
"""What comes about by chance more often than this decides nothing."""


@dataclass(frozen=True)
class Verdict:
    """One comparison in words."""

    verdict: str
    figures: str

    def __str__(self) -> str:
        return f"{self.verdict} {self.figures}"


def verdicts(findings: NetworkResults) -> list[Verdict]:
    """Return an answer for each training of the question against the reference, then against that with the same rewards."""
    groups = findings.groups
    others = [name for name in groups if name != findings.reference]
    if not others:
        return [_alone(findings)]
    question = [name for name in others if groups[name][0].algorithm == FOCUS_ALGORITHM]
    asked, same = question or others[:1], findings.comparison.of(ABLATION_ALGORITHM)[:1] if question else []
    against = dict.fromkeys([findings.reference, *same])
    return [_answer(findings, name, other) for name in asked for other in against if name != other]


def _alone(findings: NetworkResults) -> Verdict:
    ((name, summary),) = findings.summaries.items()
    level = findings.comparison.baseline_delays.get(THRESHOLD_CONTROLLER)
    beside = f", max pressure at {level:.1f} s" if level is not None else ""
    return Verdict(
        f"On {findings.network} only {name} is chosen, or was trained, so there is nothing to compare it with.",
        f"It ends at {_delay(summary)}{beside}.",
    )


def _answer(findings: NetworkResults, name: str, other: str) -> Verdict:
    mine, theirs = findings.summaries[name], findings.summaries[other]
    algorithms = [findings.groups[group][0].algorithm for group in (name, other)]
    note = " (same rewards, no credit)" if algorithms == [FOCUS_ALGORITHM, ABLATION_ALGORITHM] else ""
    ends = f"{name} ends at {_delay(mine)} of delay against {_delay(theirs)} for {other}{note}"
    return Verdict(_verdict(findings, name, other), f"{ends}; {_soon(findings, name, other)}; {_sure(findings, name, other)}.")


def _verdict(findings: NetworkResults, name: str, other: str) -> str:
    on, counts = f"On {findings.network}", [len(findings.groups[group]) for group in (name, other)]
    if not _separate(*counts) < CHANCE:
        return f"{on} there are too few trainings ({counts[0]} and {counts[1]}) to tell {name} from {other}."
    if _reached(findings, name, other):
        faster, slower = "learns faster", "learns more slowly"
    else:
        faster, slower = "has less delay over training", "has more delay over training"
    speed = {1: faster, -1: slower, 0: ""}[_decided(*_speeds(findings, name, other))]
    end = {1: "ends better", -1: "ends worse", 0: ""}[_decided(*_ends(findings, name, other))]
    if not speed and not end:
        return f"{on} these trainings cannot tell {name} from {other}."
    untold = f"; which of the two {'ends better' if speed else faster}, these trainings cannot tell"
    return f"{on} {name} {' and '.join(filter(None, (speed, end)))} than {other}{'' if speed and end else untold}."


def _decided(mine: list[float], theirs: list[float]) -> int:
    """Return 1 where mine are smaller, -1 where they are larger, 0 where chance may have made it so."""
    if not statistics.permutation_p_value(mine, theirs) < CHANCE:
        return 0
    return 1 if statistics.probability_of_improvement(mine, theirs)[0] > 0.5 else -1


def _ends(findings: NetworkResults, *names: str) -> list[list[float]]:
    """Return the final delay of each training, per group."""
    return [compare.delays(findings.groups[name]).mean(axis=1).tolist() for name in names]


def _speeds(findings: NetworkResults, *names: str) -> list[list[float]]:
    """Return how soon each training was good, per group: episodes to the level; where none of them got there, the area."""
    if _reached(findings, *names):
        return [findings.summaries[name].episodes for name in names]
    curves = [[training.curve for training in findings.groups[name]] for name in names]
    return [[statistics.mean_training_delay(curve["episode"], curve["delay"]) for curve in group] for group in curves]


def _reached(findings: NetworkResults, *names: str) -> bool:
    """Return whether any training got down to the level."""
    return bool(np.isfinite([value for name in names for value in findings.summaries[name].episodes]).any())


def _soon(findings: NetworkResults, name: str, other: str) -> str:
    mine, theirs = findings.summaries[name], findings.summaries[other]
    level, played = findings.comparison.threshold, findings.first.curve["episode"][-1]
    chance = _p(*_speeds(findings, name, other))
    chance = f", {chance}" if chance else ""
    mean = f"the delay averaged over all {played:.0f} training episodes is {mine.area:.1f} s against {theirs.area:.1f} s{chance}"
    if not findings.comparison.same_demand:
        return f"training had another demand than the evaluation, so no delay of the evaluation is its level; {mean}"
    if level is None:
        return f"max pressure was not measured with them; {mean}"
    if not _reached(findings, name, other):
        return f"neither gets down to max pressure's {level:.1f} s in training; {mean}"
    return f"{name} gets down to max pressure's {level:.1f} s {_after(mine)}, {other} {_after(theirs)}{chance}"


def _after(summary: Summary) -> str:
    arrived, n = sum(np.isfinite(summary.episodes)), summary.n_seeds
    if not arrived:
        return f"never (0 of {n})" if n > 1 else "never"
    median = float(np.median(summary.episodes))
    if not np.isfinite(median):
        return f"in only {arrived} of {n} trainings"
    return f"after {median:.0f} episodes" + (f" ({arrived} of {n} trainings)" if n > 1 else "")


def _sure(findings: NetworkResults, name: str, other: str) -> str:
    counts = {group: len(findings.groups[group]) for group in (name, other)}
    single = [group for group, count in counts.items() if count < 2]
    if single:
        have = "have one training seed each" if len(single) > 1 else "has one training seed"
        return f"{' and '.join(single)} {have}, and how much trainings vary is unknown: add seeds"
    mine, theirs = _ends(findings, name, other)
    share, low, high = statistics.probability_of_improvement(mine, theirs)
    separate = _separate(counts[name], counts[other])
    few = f"; {counts[name]} and {counts[other]} trainings cannot show more than p = {separate:.2g}, add seeds"
    probability = f"the probability that a training of {name} ends better than one of {other} is {share:.2f}"
    return f"{probability} (95 % {low:.2f} .. {high:.2f}, {_p(mine, theirs)}{few if separate >= CHANCE else ''})"


def _separate(mine: int, theirs: int) -> float:
    """Return how often chance alone would make all of one group better than all of the other."""
    return statistics.permutation_p_value([0.0] * mine, [1.0] * theirs)


def _p(mine: list[float], theirs: list[float]) -> str:
    chance = statistics.permutation_p_value(mine, theirs)
    return f"p = {chance:.2g}" if chance == chance else ""


def _delay(summary: Summary) -> str:
    """Return the interquartile mean; where single jams make the mean another, that too, since the verdict is about means."""
    low, high = summary.interval
    told = [f"95 % {low:.1f} .. {high:.1f}"] if low == low else []
    if abs(summary.mean - summary.delay) > JAMS * summary.delay:
        told += [f"interquartile mean; mean {summary.mean:.1f} s"]
    if summary.gridlock > 0:
        told += [f"gridlock in {summary.gridlock:.0%} of the episodes"]
    return f"{summary.delay:.1f} s ({', '.join(told)})" if told else f"{summary.delay:.1f} s"
