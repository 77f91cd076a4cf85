"""Signal programs that SUMO runs by itself: cyclic plans with our timing, written as SUMO's own `tlLogic`.

A plan keeps the timing and the limits of its signal; what it cannot keep is refused where it is written (`xml`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim.longest_red import greedy_set_cover
from tsc_marl.sim.road_network import Signal
from tsc_marl.sim.signal_limits import FIXED
from tsc_marl.sim.signal_timing import CHANGE, GREEN, NEVER, PhaseChanges, Timing

NAME = "tsc_marl"
"""The programID of a plan."""


@dataclass(frozen=True)
class Plan:
    """Some phases of a signal, one after the other, again and again."""

    phases: tuple[int, ...]
    """Numbers in `Signal.phases`."""
    green_s: tuple[int, ...]
    """Duration of each green for vehicles; the shortest where SUMO chooses it. Crossings may turn red earlier."""
    offset_s: int = 0
    """The first green starts at this time, and every cycle later."""
    kind: str = "static"
    """SUMO's type: static, actuated or delay_based."""
    most_s: tuple[int, ...] = ()
    """Longest greens, where SUMO chooses them."""
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    """SUMO's parameters of that type, and by its name what detects on a lane."""

    def cycle_s(self, changes: PhaseChanges) -> int:
        """Return the cycle with these greens."""
        return sum(self.green_s) + sum(changes_s(changes, self.phases))


def starts_s(plan: Plan, changes: PhaseChanges) -> list[int]:
    """Return when each green starts, from the start of the first."""
    between_s = changes_s(changes, plan.phases)
    return [sum(plan.green_s[:k]) + sum(between_s[:k]) for k in range(len(plan.phases))]


def xml(signals: Sequence[Signal], plans: Sequence[Plan], timing: Timing) -> str:
    """Return SUMO's additional file with a program for each signal.

    Raises:
        UserError: for a plan that does not keep the timing or the limits of its signal.
    """
    return f"<additional>\n{''.join(_logic(*pair, timing) for pair in zip(signals, plans, strict=True))}</additional>\n"


def onwards(phases: Sequence[int]) -> list[tuple[int, int]]:
    """Return each phase of a cycle with the one after it."""
    return list(zip(phases, (*phases[1:], phases[0]), strict=True))


def changes_s(changes: PhaseChanges, phases: Sequence[int]) -> list[int]:
    """Return the seconds from the end of each green of a cycle to the start of the next."""
    return [changes.intergreen_s[phase][after] for phase, after in onwards(phases)]


def least_green_s(changes: PhaseChanges, phases: Sequence[int]) -> list[int]:
    """Return how long vehicles have green at least in each phase of a cycle: while a crossing is green, and while it clears."""
    return [changes.least_green_s[phase] + changes.early_s[phase][after] for phase, after in onwards(phases)]


def most_green_s(changes: PhaseChanges, phases: Sequence[int]) -> list[float]:
    """Return how long vehicles may have green in each phase of a cycle; a change that looks like the phase belongs to it."""
    most_s = []
    for (before, phase), (_, after) in zip(onwards((phases[-1], *phases[:-1])), onwards(phases), strict=True):
        looks_s = changes.shown_s(phase, after)[0] + changes.shown_s(before, phase)[1]
        most_s.append(changes.most_green_s[phase] - looks_s + changes.early_s[phase][after])
    return most_s


def cycle_bounds_s(changes: PhaseChanges, phases: Sequence[int]) -> tuple[int, float]:
    """Return the shortest and the longest cycle of these phases that keep greens and reds, whichever the splits."""
    timing, between_s = changes.timing, sum(changes_s(changes, phases))
    most_s = sum(most_green_s(changes, phases)) + between_s
    if timing.max_red_s is not None:  # a link that is green in one phase is red for the rest, less one yellow
        shown_s = (changes.least_green_s[phase] + changes.yellow_s(phase, after) for phase, after in onwards(phases))
        most_s = min(most_s, timing.max_red_s + min(shown_s))
    if changes.walks.any():  # and a crossing is red for all but its own green
        most_s = min(most_s, timing.max_crossing_red_s + timing.min_walk_s)
    return sum(least_green_s(changes, phases)) + between_s, most_s


def _logic(signal: Signal, plan: Plan, timing: Timing) -> str:
    changes = signal.changes(timing)
    _check(signal.name, plan, changes)
    rows = [f'    <param key="{key}" value="{value}"/>\n' for key, value in plan.parameters.items()]
    for k, (phase, after) in enumerate(onwards(plan.phases)):
        early_s = changes.early_s[phase][after]
        least_s = plan.green_s[k] - early_s
        bound = f' minDur="{least_s}" maxDur="{plan.most_s[k] - early_s}"' if plan.most_s else ""
        rows.append(f'    <phase duration="{least_s}" state="{signal.phases[phase]}"{bound}/>\n')
        for seconds, state in changes.stages(phase, after):
            rows.append(f'    <phase duration="{seconds}" state="{state}"/>\n')
    head = f'id={quoteattr(signal.name)} programID="{NAME}" type="{plan.kind}" offset="{plan.offset_s}"'
    return f"  <tlLogic {head}>\n{''.join(rows)}  </tlLogic>\n"


def _check(name: str, plan: Plan, changes: PhaseChanges) -> None:
    """Refuse a plan that does not keep the timing or the limits of a signal, whatever detectors make of it."""
    phases, longest_s = plan.phases, plan.most_s or plan.green_s
    begin = f"signal {name}: a cycle of its phases {', '.join(map(str, phases))}"
    end = f"loosen the limits of {name} in scenario.yaml or the timing, or use a controller that chooses phases"
    if len(phases) > 1 and any(after not in changes.onward.get(phase, ()) for phase, after in onwards(phases)):
        raise UserError(f"{begin} is not what its limits allow; {end}")
    bounds = zip(phases, plan.green_s, longest_s, least_green_s(changes, phases), most_green_s(changes, phases), strict=True)
    for phase, green_s, long_s, least_s, most_s in bounds:
        if green_s < least_s:
            raise UserError(f"{begin} gives phase {phase} a green of {green_s} s, and it needs {least_s} s; {end}")
        if long_s > most_s:
            raise UserError(f"{begin} gives phase {phase} a green of up to {long_s} s, and it may have {most_s:g} s; {end}")
    red_s = _longest_reds_s(changes, phases, longest_s)
    for setting, links in (("max_red_s", slice(None)), ("max_crossing_red_s", changes.is_crossing)):
        limit_s = getattr(changes.timing, setting)
        if limit_s is not None and (most_s := red_s[links].max(initial=0)) > limit_s:
            raise UserError(f"{begin} leaves a link red for {most_s} s, and timing.{setting} is {limit_s}; {end}")


def _longest_reds_s(changes: PhaseChanges, phases: Sequence[int], green_s: Sequence[int]) -> np.ndarray:
    """Return [L] the longest red of each link in a cycle; 0 for a link without green."""
    rows: list[tuple[int, str]] = []
    for (phase, after), seconds in zip(onwards(phases), green_s, strict=True):
        rows += [(seconds - changes.early_s[phase][after], changes.phases[phase]), *changes.stages(phase, after)]
    red_s = longest_s = np.zeros(len(changes.phases[0]), dtype=int)
    for seconds, state in rows * 2:
        red_s = np.where([char in GREEN | CHANGE for char in state], 0, red_s + seconds)
        longest_s = np.maximum(longest_s, red_s)
    return np.where(changes.green[list(phases)].any(axis=0), longest_s, 0)


def needed(changes: PhaseChanges) -> tuple[int, ...]:
    """Return a few phases that give every link its best green: one that yields to nobody, where there is one.

    Picked greedily among those allowed, the phase with the most links that still miss theirs first; in program order. In a fixed
    order all of them are needed, and where one is enough but has a longest green, the next one too.
    """
    if changes.limits.order == FIXED:
        return changes.allowed
    best = np.array([["rgG".find(c) if c in GREEN else 0 for c in changes.phases[phase]] for phase in changes.allowed])
    picked = [changes.allowed[k] for k in greedy_set_cover((best == best.max(axis=0)) & (best > 0), [])]
    if len(picked) == 1 and changes.most_green_s[picked[0]] < NEVER:
        picked.append(changes.onward[picked[0]][0])
    return tuple(sorted(picked))


def longest_green_s(changes: PhaseChanges, phases: Sequence[int], most_s: int) -> list[int]:
    """Return the longest green of each phase of a cycle, up to `most_s`, with which no link stays red for longer than it may."""
    bounds = [*zip(least_green_s(changes, phases), most_green_s(changes, phases), strict=True)]
    for longest_s in range(most_s, 0, -1):
        greens = [max(least, int(min(most, longest_s))) for least, most in bounds]
        if len(phases) < 2 or _keeps_reds(changes, phases, greens):
            return greens
    return [least for least, _ in bounds]


def _keeps_reds(changes: PhaseChanges, phases: Sequence[int], green_s: Sequence[int]) -> bool:
    """Return whether every link may be served by one phase of a cycle only."""
    timing, between_s = changes.timing, changes_s(changes, phases)
    cycle_s = sum(green_s) + sum(between_s)
    for k, (phase, after) in enumerate(onwards(phases)):
        rest_s = cycle_s - green_s[k]
        if timing.max_red_s is not None and rest_s - changes.yellow_s(phase, after) > timing.max_red_s:
            return False
        if changes.walks[phase].any() and rest_s + changes.early_s[phase][after] > timing.max_crossing_red_s:
            return False
    return True
