"""The first screen of the page: one number over all networks, what is not shown, and the algorithms of the question in rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.evaluation import significance
from tsc_marl.report.network_data import NetworkResults
from tsc_marl.report.plots import Style
from tsc_marl.report.sentences import CREDIT_NOTE
from tsc_marl.report.verdict import ABLATION_ALGORITHM, FOCUS_ALGORITHM, Outcome, Verdict, VerdictKind, final_delays

ASKED = ("jointq", "ippo", "mappo_ind", "mappo")
"""Algorithms of the report's question."""
Judged = tuple[NetworkResults, Sequence[Verdict]]
"""A network, and the verdicts on it."""
WIDEST = 1.5
"""Largest delay on the axis of the first figure, as a share of the best classical controller's."""


@dataclass(frozen=True)
class DelayRow:
    """One algorithm or controller on one network, in the first figure."""

    name: str
    colour: str
    """Empty for a controller."""
    delay: float
    """[s]"""
    change: str
    """Of the delay against the best classical controller's, or the reference's where none was measured."""
    at: float
    """Place of the delay on the axis [%]."""
    span: tuple[float, float] | None
    """Begin and end of its interval on the axis [%]."""


@dataclass(frozen=True)
class FirstFigure:
    """The first figure."""

    networks: dict[str, list[DelayRow]]
    """Rows of each network, best first."""
    zero: float
    """Place of the delay that the others are compared with on the axis [%]."""
    bases: dict[str, str]
    """Whose delay that is, by network."""


@dataclass(frozen=True)
class OverallAnswer:
    """Final delays over all networks, in words."""

    number: str
    """Such as `13 % less delay`; empty where there is no comparison."""
    before: str
    after: str
    """The sentence is `before`, the number, `after`."""
    support: str
    tests: str
    """P-values over all networks; empty for one network, and where trainings are too few."""
    not_shown: list[str]

    @property
    def sentence(self) -> str:
        return f"{self.before}{self.number}{self.after}"


def shown_first(results: NetworkResults, judged: Sequence[Verdict]) -> list[str]:
    """Return the groups that the page shows without a click, best first: those of the question, filled up with the best."""
    groups = list(results.groups)
    chosen = {results.reference} | {name for verdict in judged for name in (verdict.group, verdict.reference) if name}
    chosen |= {group for algorithm in ASKED for group in results.comparison.groups_of(algorithm)[:1]}
    best = [name for name in groups if name not in chosen][: max(0, len(ASKED) - len(chosen))]
    return [name for name in groups if name in {*chosen, *best}]


def answer(networks: Sequence[Judged]) -> OverallAnswer:
    """Return what the trainings show and do not show about the final delay over all networks."""
    group, reference = networks[0][1][0].group, networks[0][1][0].reference
    if reference is None:
        where = listed([results.network for results, _ in networks])
        return OverallAnswer(
            "", f"On {where} there are trainings of one algorithm only, so there is no comparison.", "", "", "", []
        )
    same = [(results, verdict) for results, (verdict, *_) in networks if (verdict.group, verdict.reference) == (group, reference)]
    logs = [np.log(results.summaries[group].delay / results.summaries[reference].delay) for results, _ in same]
    change = float(np.exp(np.mean(logs)) - 1)
    where = listed([results.network for results, _ in same])
    number = f"{abs(change):.0%} {'less' if change < 0 else 'more'} delay".replace("%", "\N{NO-BREAK SPACE}%")
    after = f" than {reference} {'on average over' if len(same) > 1 else 'on'} {where}."
    return OverallAnswer(number, f"{group} ends with ", after, _support(same, change), _tests(same), _not_shown(networks))


def _support(pairs: Sequence[tuple[NetworkResults, Verdict]], change: float) -> str:
    """Return on which networks the trainings decide for this change of the final delay, and on which against it."""
    good, bad = (Outcome.BETTER, Outcome.WORSE) if change < 0 else (Outcome.WORSE, Outcome.BETTER)
    by = {kind: [results.network for results, verdict in pairs if verdict.end is kind] for kind in (good, bad)}
    if len(by[good]) == len(pairs) > 1:
        return f"The trainings show the difference on each of the {len(pairs)} networks."
    if not by[good] and not by[bad]:
        few = all(verdict.kind is VerdictKind.TOO_FEW for _, verdict in pairs)
        return f"The trainings are too {'few to show it' if few else 'similar to show it'}."
    text = f"The trainings show the difference on {listed(by[good]) or 'none'}"
    return f"{text}, and the opposite on {listed(by[bad])}." if by[bad] else f"{text}."


def _tests(pairs: Sequence[tuple[NetworkResults, Verdict]]) -> str:
    """Return the p-values of the final delays: of all networks together, and of each, adjusted for their number."""
    ends = [final_delays(results, verdict.group, verdict.reference or "") for results, verdict in pairs]
    together = significance.p_value(*((own, other) for own, other in ends))
    if len(pairs) < 2 or np.isnan(together):
        return ""
    single = significance.holm([significance.p_value((own, other)) for own, other in ends])
    of = listed([f"{p:.2g} on {results.network}" for p, (results, _) in zip(single, pairs, strict=True)])
    return f"All networks together: p = {together:.2g}. After Holm's correction for {len(pairs)} tests: {of}."


def _not_shown(networks: Sequence[Judged]) -> list[str]:
    """Return what the trainings leave open about the final delays, a sentence for each pair of groups."""
    pairs: dict[tuple[str, str], list[NetworkResults]] = {}
    for results, judged in networks:
        for verdict in judged:
            if verdict.reference is not None and verdict.end is Outcome.UNDECIDED:
                pairs.setdefault((verdict.group, verdict.reference), []).append(results)
    lines = []
    for (group, reference), left in pairs.items():
        algorithms = [left[0].groups[name][0].algorithm for name in (group, reference)]
        note = CREDIT_NOTE if algorithms == [FOCUS_ALGORITHM, ABLATION_ALGORITHM] else ""
        delays = [[of.summaries[name].delay for name in (group, reference)] for of in left]
        numbers = [f"{own:.1f} and {other:.1f} s on {of.network}" for of, (own, other) in zip(left, delays, strict=True)]
        ends = [final_delays(of, group, reference) for of in left]
        least = [
            f"{significance.minimum_detectable_difference(own, other):.1f}" for own, other in ends if len(own) > 1 < len(other)
        ]
        power = (
            f" A true difference of {listed(least)} s would be seen in {significance.POWER:.0%} of such studies." if least else ""
        )
        lines.append(f"that {group} and {reference}{note} end differently: {listed(numbers)}.{power}")
    return lines


def listed(words: Sequence[str]) -> str:
    """Return words as a list within a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def figure(networks: Sequence[tuple[NetworkResults, Sequence[str]]], styles: Mapping[str, Style]) -> FirstFigure:
    """Return the first figure: final delays against the best classical controller's, all networks on one axis.

    Args:
        networks: with the groups to show.
        styles: of the groups.
    """
    bases = {results.network: _base(results) for results, _ in networks}
    shares: list[float] = [1.0]
    for results, groups in networks:
        of = [results.summaries[name] for name in groups]
        shares += [value / bases[results.network][1] for s in of for value in (s.delay, *s.interval) if np.isfinite(value)]
    low, high = min(shares), min(max(shares), WIDEST)
    low, high = low - 0.06 * (high - low) - 0.01, high + 0.06 * (high - low) + 0.01

    def place(delay: float, base: float) -> float:
        return float(np.clip(100 * (delay / base - low) / (high - low), 0, 100))

    rows = {}
    for results, groups in networks:
        name, base = bases[results.network]
        own = []
        for group in groups:
            summary = results.summaries[group]
            begin, end = (place(edge, base) if np.isfinite(edge) else 0.0 for edge in summary.interval)
            span = (begin, end) if np.isfinite(summary.interval[0]) else None
            own.append(_row(group, styles[group]["color"], summary.delay, base, place(summary.delay, base), span))
        if name not in results.groups:
            own.append(_row(name, "", base, base, place(base, base), None))
        rows[results.network] = sorted(own, key=lambda row: row.delay)
    return FirstFigure(rows, place(1.0, 1.0), {network: name for network, (name, _) in bases.items()})


def _row(name: str, colour: str, delay: float, base: float, at: float, span: tuple[float, float] | None) -> DelayRow:
    change = f"{delay / base - 1:+.0%}".replace("-", "−").replace("%", "\N{NO-BREAK SPACE}%") if delay != base else ""
    return DelayRow(name, colour, delay, change, at, span)


def _base(results: NetworkResults) -> tuple[str, float]:
    """Return name and delay [s] of the best classical controller; of the reference where none was measured."""
    measured = results.comparison.baseline_delays
    if not measured:
        return results.reference, results.summaries[results.reference].delay
    return min(measured.items(), key=lambda entry: entry[1])
