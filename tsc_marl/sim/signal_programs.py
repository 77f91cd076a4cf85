"""Signal programs that SUMO runs by itself: cyclic plans with our timing, written as SUMO's own `tlLogic`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np

from tsc_marl.sim.longest_red import greedy_set_cover
from tsc_marl.sim.road_network import Signal
from tsc_marl.sim.signal_timing import GREEN, PhaseChanges, Timing

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

    def cycle_s(self, timing: Timing) -> int:
        """Return the cycle with these greens."""
        return sum(self.green_s) + len(self.phases) * timing.change_s


def starts_s(plan: Plan, timing: Timing) -> list[int]:
    """Return when each green starts, from the start of the first."""
    return [sum(plan.green_s[:k]) + k * timing.change_s for k in range(len(plan.phases))]


def xml(signals: Sequence[Signal], plans: Sequence[Plan], timing: Timing) -> str:
    """Return SUMO's additional file with a program for each signal."""
    return f"<additional>\n{''.join(_logic(*pair, timing) for pair in zip(signals, plans, strict=True))}</additional>\n"


def onwards(phases: Sequence[int]) -> list[tuple[int, int]]:
    """Return each phase of a cycle with the one after it."""
    return list(zip(phases, (*phases[1:], phases[0]), strict=True))


def least_green_s(changes: PhaseChanges, phases: Sequence[int]) -> list[int]:
    """Return how long vehicles have green at least in each phase of a cycle: while a crossing is green, and while it clears."""
    return [changes.least_green_s[phase] + changes.early_s[phase][after] for phase, after in onwards(phases)]


def _logic(signal: Signal, plan: Plan, timing: Timing) -> str:
    changes = signal.changes(timing)
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


def needed(phases: Sequence[str]) -> tuple[int, ...]:
    """Return a few phases that give every link its best green: one that yields to nobody, where there is one.

    Picked greedily, the phase with the most links that still miss theirs first; in program order.
    """
    best = np.array([["rgG".find(c) if c in GREEN else 0 for c in state] for state in phases])
    return tuple(sorted(greedy_set_cover((best == best.max(axis=0)) & (best > 0), [])))


def longest_green_s(changes: PhaseChanges, phases: Sequence[int], most_s: int) -> list[int]:
    """Return the longest green of each phase of a cycle, up to `most_s`, with which no link stays red for longer than it may."""
    timing, least_s, n = changes.timing, least_green_s(changes, phases), len(phases)
    if n < 2:
        return [max(most_s, *least_s)]
    walks = [changes.change_s(phase, after) for phase, after in onwards(phases) if changes.walks[phase].any()]
    limits = [(timing.max_red_s, timing.all_red_s)] if timing.max_red_s is not None else []
    limits += [(timing.max_crossing_red_s, max(walks))] if walks else []
    longest_s = min([most_s, *((limit_s - own_s) // (n - 1) - timing.change_s for limit_s, own_s in limits)])
    return [max(least, longest_s) for least in least_s]
