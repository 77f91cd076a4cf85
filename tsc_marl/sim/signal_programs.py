"""Signal programs that SUMO runs by itself: cyclic plans with our timing, written as SUMO's own `tlLogic`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

import numpy as np

from tsc_marl.sim.road_network import Signal
from tsc_marl.sim.signal_timing import GREEN, Timing, greedy_set_cover, transition

NAME = "tsc_marl"
"""The programID of a plan."""


@dataclass(frozen=True)
class Plan:
    """Some phases of a signal, one after the other, again and again."""

    phases: tuple[int, ...]
    """Numbers in `Signal.phases`."""
    green_s: tuple[int, ...]
    """Duration of each green; the shortest where SUMO chooses it."""
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


def _logic(signal: Signal, plan: Plan, timing: Timing) -> str:
    rows = [f'    <param key="{key}" value="{value}"/>\n' for key, value in plan.parameters.items()]
    bounds = [f' minDur="{least}" maxDur="{most}"' for least, most in zip(plan.green_s, plan.most_s, strict=False)]
    onwards, bounds = (*plan.phases[1:], plan.phases[0]), bounds or [""] * len(plan.phases)
    for phase, green_s, after, bound in zip(plan.phases, plan.green_s, onwards, bounds, strict=True):
        state, onward = signal.phases[phase], signal.phases[after]
        rows.append(f'    <phase duration="{green_s}" state="{state}"{bound}/>\n')
        for seconds, char in ((timing.yellow_s, "y"), (timing.all_red_s, "r")):
            if seconds:
                rows.append(f'    <phase duration="{seconds}" state="{transition(state, onward, char)}"/>\n')
    head = f'id={quoteattr(signal.name)} programID="{NAME}" type="{plan.kind}" offset="{plan.offset_s}"'
    return f"  <tlLogic {head}>\n{''.join(rows)}  </tlLogic>\n"


def needed(phases: Sequence[str]) -> tuple[int, ...]:
    """Return a few phases that give every link its best green: one that yields to nobody, where there is one.

    Picked greedily, the phase with the most links that still miss theirs first; in program order.
    """
    best = np.array([["rgG".find(c) if c in GREEN else 0 for c in state] for state in phases])
    return tuple(sorted(greedy_set_cover((best == best.max(axis=0)) & (best > 0), [])))


def longest_green_s(n_phases: int, timing: Timing, most_s: int) -> int:
    """Return the longest green up to `most_s` with which no link stays red for longer than `max_red_s`."""
    if timing.max_red_s is None or n_phases < 2:
        return most_s
    return max(timing.min_green_s, min(most_s, (timing.max_red_s - timing.all_red_s) // (n_phases - 1) - timing.change_s))
