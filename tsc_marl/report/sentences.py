"""Verdicts in words, with the numbers behind them."""

import numpy as np

from tsc_marl.analysis.compare import THRESHOLD_CONTROLLER
from tsc_marl.analysis.summaries import Summary
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.significance import SIGNIFICANCE, p_value
from tsc_marl.report.network_data import NetworkResults
from tsc_marl.report.verdict import (
    ABLATION_ALGORITHM,
    FOCUS_ALGORITHM,
    Outcome,
    Verdict,
    VerdictKind,
    final_delays,
    smallest_p_value,
    speeds,
    threshold_reached,
)

GRIDLOCK_EFFECT = 0.05
"""Relative difference from the interquartile mean, above which the mean is given too."""
CREDIT_NOTE = " (same rewards, no credit)"
"""Behind `ABLATION_ALGORITHM`, where `FOCUS_ALGORITHM` is compared with it."""


def headline(results: NetworkResults, verdict: Verdict) -> str:
    """Return the verdict as one sentence."""
    group, other = verdict.group, verdict.reference
    if other is None:
        return f"On {results.network} there are trainings of {group} only, so there is no comparison."
    if verdict.kind is VerdictKind.TOO_FEW:
        counts = " and ".join(str(len(results.groups[name])) for name in (group, other))
        return f"On {results.network} there are too few trainings ({counts}) to compare {group} with {other}."
    if verdict.kind is VerdictKind.UNDECIDED:
        return f"On {results.network} the trainings show no difference between {group} and {other}."
    if threshold_reached(results, group, other):
        speed = {Outcome.BETTER: "learns faster", Outcome.WORSE: "learns more slowly"}
    else:
        speed = {Outcome.BETTER: "has less delay over training", Outcome.WORSE: "has more delay over training"}
    end = {Outcome.BETTER: "ends better", Outcome.WORSE: "ends worse"}
    decided = [words[outcome] for words, outcome in ((speed, verdict.speed), (end, verdict.end)) if outcome in words]
    open_criterion = end if verdict.speed in speed else speed
    rest = "" if len(decided) == 2 else f"; the trainings do not decide which of the two {open_criterion[Outcome.BETTER]}"
    return f"On {results.network} {group} {' and '.join(decided)} than {other}{rest}."


def evidence(results: NetworkResults, verdict: Verdict) -> str:
    """Return the numbers behind a verdict: final delays, speed of learning, probability of improvement."""
    group, other = verdict.group, verdict.reference
    if other is None:
        delay = results.comparison.baseline_delays.get(THRESHOLD_CONTROLLER)
        beside = f", max pressure at {delay:.1f} s" if delay is not None else ""
        return f"{group} ends at {_delay(results.summaries[group])}{beside}."
    algorithms = [results.groups[name][0].algorithm for name in (group, other)]
    note = CREDIT_NOTE if algorithms == [FOCUS_ALGORITHM, ABLATION_ALGORITHM] else ""
    delay, other_delay = (_delay(results.summaries[name]) for name in (group, other))
    ends = f"{group} ends at a delay of {delay}, {other}{note} at {other_delay}"
    return f"{ends}; {_speed(results, group, other)}; {_uncertainty(results, group, other)}."


def _speed(results: NetworkResults, name: str, other: str) -> str:
    summary, other_summary = results.summaries[name], results.summaries[other]
    threshold, episodes = results.comparison.threshold, results.first.curve["episode"][-1]
    test = _test(*speeds(results, name, other))
    test = f", {test}" if test else ""
    averages = f"{summary.training_delay:.1f} s against {other_summary.training_delay:.1f} s"
    mean = f"the delay averaged over all {episodes:.0f} training episodes is {averages}{test}"
    if not results.comparison.same_demand:
        return f"training had another demand than the evaluation, so no delay of the evaluation is a threshold; {mean}"
    if threshold is None:
        return f"max pressure was not measured with them; {mean}"
    if not threshold_reached(results, name, other):
        return f"neither gets down to max pressure's {threshold:.1f} s in training; {mean}"
    return f"{name} gets down to max pressure's {threshold:.1f} s {_after(summary)}, {other} {_after(other_summary)}{test}"


def _after(summary: Summary) -> str:
    """Return when the trainings of a group reached the threshold."""
    reached, n = sum(np.isfinite(summary.episodes)), summary.seeds
    if not reached:
        return f"never (0 of {n})" if n > 1 else "never"
    median = float(np.median(summary.episodes))
    if not np.isfinite(median):
        return f"in only {reached} of {n} trainings"
    return f"after {median:.0f} episodes" + (f" ({reached} of {n} trainings)" if n > 1 else "")


def _uncertainty(results: NetworkResults, name: str, other: str) -> str:
    counts = {group: len(results.groups[group]) for group in (name, other)}
    single = [group for group, count in counts.items() if count < 2]
    if single:
        have = "have one training seed each" if len(single) > 1 else "has one training seed"
        return f"{' and '.join(single)} {have}, so the variation of trainings is unknown: add seeds"
    ends, other_ends = final_delays(results, name, other)
    share, low, high = statistics.probability_of_improvement(ends, other_ends)
    smallest = smallest_p_value(results, name, other)
    few = f"; {counts[name]} and {counts[other]} trainings cannot show less than p = {smallest:.2g}, add seeds"
    probability = f"the probability that a training of {name} ends better than one of {other} is {share:.2f}"
    rest = few if smallest >= SIGNIFICANCE else ""
    return f"{probability} (95 % {low:.2f} .. {high:.2f}, {_test(ends, other_ends)}{rest})"


def _test(values: list[float], reference: list[float]) -> str:
    p = p_value((values, reference))
    return "" if np.isnan(p) else f"p = {p:.2g}"


def _delay(summary: Summary) -> str:
    """Return the interquartile mean with its interval, and the mean where gridlocks make it another.

    The mean matters since the p-values are about the mean delay of each training.
    """
    low, high = summary.interval
    notes = [] if np.isnan(low) else [f"95 % {low:.1f} .. {high:.1f}"]
    if abs(summary.mean - summary.delay) > GRIDLOCK_EFFECT * summary.delay:
        notes += [f"interquartile mean; that of the trainings' means {summary.seeds_delay:.1f} s, mean {summary.mean:.1f} s"]
    if summary.gridlock > 0:
        notes += [f"gridlock in {summary.gridlock:.0%} of the episodes"]
    return f"{summary.delay:.1f} s ({', '.join(notes)})" if notes else f"{summary.delay:.1f} s"
