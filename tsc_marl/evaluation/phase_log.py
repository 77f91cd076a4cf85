"""The phases in SUMO's log of a signal, and what breaks the limits that scenario.yaml sets for it.

As in `signal_log`, nothing that makes the lights is used.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tsc_marl.evaluation.signal_log import Violation, change_times
from tsc_marl.sim.signal_limits import FIXED, SignalLimits, each
from tsc_marl.sim.signal_timing import Timing


@dataclass(frozen=True)
class Visit:
    """A phase in the log."""

    phase: int
    begin: int
    """Index of its first second."""
    end: int
    """Index of the first second in which its state is not shown any more."""
    vehicles_end: int
    """The same for its vehicles: its crossings may turn red earlier."""


def limit_violations(
    states: Sequence[str], phases: Sequence[str], limits: SignalLimits, timing: Timing, crossings: Collection[int] = (),
    cut: bool = False,
) -> Iterator[Violation]:  # fmt: skip
    """Yield what breaks the limits of a signal: phases and their order, least and longest green, intergreen times.

    Args:
        states: one a second.
        phases: their states, by number.
        limits: what must be kept.
        timing: what holds where the limits have nothing.
        crossings: links that are pedestrian crossings.
        cut: the log starts in the middle of a cycle: what comes first may be the end of a phase, or of a change.
    """
    n = len(phases)
    least_s, longest_s = each(limits.min_green_s, n, timing.min_green_s), each(limits.max_green_s, n, len(states))
    seen = visits(states, phases, limits, timing, crossings)[cut:]
    for visit in seen:
        if limits.phases and visit.phase not in limits.phases:
            yield Violation(visit.begin, f"phase {visit.phase} is shown, which is not among limits.phases")
        shown_s = visit.vehicles_end - visit.begin
        if shown_s > longest_s[visit.phase]:
            yield Violation(visit.begin, f"phase {visit.phase} is shown for {shown_s} s, the most is {longest_s[visit.phase]} s")
        if visit.end < len(states) and visit.end - visit.begin < least_s[visit.phase]:
            lasts = f"phase {visit.phase} lasts {visit.end - visit.begin} s"
            yield Violation(visit.begin, f"{lasts}, the least is {least_s[visit.phase]} s")
    following = _following(limits, n)
    for before, after in itertools.pairwise(seen):
        p, q = before.phase, after.phase
        if limits.order == FIXED and following.get(p) != q:
            yield Violation(after.begin, f"phase {q} follows phase {p}, in the fixed order {following.get(p)} does")
        between_s, needed_s = _between_s(states, before, after), intergreen_s(p, q, limits, timing)
        if between_s is not None and between_s < needed_s:
            yield Violation(after.begin, f"phase {q} starts {between_s} s after the green of phase {p} ended, not {needed_s} s")


def intergreen_s(before: int, after: int, limits: SignalLimits, timing: Timing) -> int:
    """Return the seconds from the end of the green of one phase to the start of another."""
    given = limits.intergreen[before][after] if limits.intergreen else None
    all_red_s = timing.all_red_s if limits.all_red_s is None else limits.all_red_s
    return change_times(timing, limits)[0] + all_red_s if given is None else given


def visits(
    states: Sequence[str], phases: Sequence[str], limits: SignalLimits, timing: Timing, crossings: Collection[int] = ()
) -> list[Visit]:
    """Return the phases in the order in which the log has them.

    The red at the end of a change may look like a third phase, which serves what both have in common. It counts as one where it
    does not last exactly as long as that red, or where the fixed order has it there.
    """
    numbers, second = {state: phase for phase, state in enumerate(phases)}, 0
    runs: list[tuple[int, int, int]] = []
    for state, run in itertools.groupby(states):
        begin, second = second, second + len(list(run))
        if state in numbers:
            runs.append((numbers[state], begin, second))
    yellow_s, _ = change_times(timing, limits)
    following, n = _following(limits, len(phases)), len(runs)

    def is_change(i: int) -> bool:
        (p, _, _), (phase, begin, end), (q, started, _) = runs[i - 1 : i + 2]
        lasts_as_red = end == started and end - begin == intergreen_s(p, q, limits, timing) - yellow_s
        in_order = limits.order == FIXED and following.get(p) == phase
        return p != q and lasts_as_red and not in_order and _serves_both(phases[phase], phases[p], phases[q])

    kept = [run for i, run in enumerate(runs) if not (0 < i < n - 1 and is_change(i))]
    onwards = [begin for _, begin, _ in kept[1:]] + [len(states)]
    return [
        Visit(phase, begin, end, _vehicles_end(states, begin, following, crossings))
        for (phase, begin, end), following in zip(kept, onwards, strict=True)
    ]


def _following(limits: SignalLimits, n_phases: int) -> dict[int, int]:
    """Return the phase after each allowed one, in program order."""
    allowed = limits.phases or tuple(range(n_phases))
    return dict(zip(allowed, (*allowed[1:], allowed[0]), strict=True))


def _serves_both(state: str, before: str, after: str) -> bool:
    """Return whether a state's greens are those that two phases have in common."""
    greens = [[char in "Gg" for char in one] for one in (state, before, after)]
    return all(own == (old and new) for own, old, new in zip(*greens, strict=True))


def _vehicles_end(states: Sequence[str], begin: int, following: int, crossings: Collection[int]) -> int:
    """Return the first second in which vehicles see something else than at the start; the next phase ends it too."""
    for second in range(begin, following):
        for link, (first, now) in enumerate(zip(states[begin], states[second], strict=True)):
            if first != now and not (link in crossings and now not in "Gg"):
                return second
    return following


def _between_s(states: Sequence[str], before: Visit, after: Visit) -> int | None:
    """Return the seconds from the end of a phase's green to the start of the next; None where no vehicle sees one of both."""
    old, new = states[before.begin], states[after.begin]
    gains = any(a not in "Gg" and b in "Gg" for a, b in zip(old, new, strict=True))
    return after.begin - before.vehicles_end if gains and before.vehicles_end < after.begin else None
